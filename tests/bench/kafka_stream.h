#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/benchmark.h"
#include "tests/bench/http_sink.h"
#include "tests/support/temp_kafka.h"

namespace outfall::bench {

// A broker for one benchmark. What is deleted is gone at once, since every run has a topic of its
// own.
[[nodiscard]] test::KafkaOptions broker_options();

// Settings of a worker with the stream `orders` and the emitter `kafka`.
[[nodiscard]] std::string kafka_stream(const std::string& brokers, std::string_view topic,
                                       std::string_view emitter_settings = {});

// The settings that a topic needs for receipts_of().
[[nodiscard]] std::map<std::string, std::string> append_time();

// When the broker appended each record, by partition and offset. Its timestamps are in whole
// milliseconds. A record counts as appended at the end of its millisecond, so that no figure is
// better than what it measures.
[[nodiscard]] std::vector<Receipt> receipts_of(const test::TempKafka& kafka,
                                               const std::string& topic);

}  // namespace outfall::bench
