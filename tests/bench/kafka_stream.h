#pragma once

#include <string>
#include <string_view>

#include "tests/bench/benchmark.h"
#include "tests/support/temp_kafka.h"

namespace outfall::bench {

// A broker for one benchmark. What is deleted is gone at once, since every run has a topic of its
// own.
[[nodiscard]] test::KafkaOptions broker_options();

// Settings of a worker with the stream `orders` and the emitter `kafka`.
[[nodiscard]] std::string kafka_stream(const std::string& brokers, std::string_view topic,
                                       std::string_view emitter_settings = {});

}  // namespace outfall::bench
