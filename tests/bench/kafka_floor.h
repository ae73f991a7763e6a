#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "tests/bench/producers.h"

namespace outfall::bench {

// The least work with which librdkafka can write: one thread that produces and reads the delivery
// reports, with the properties that the emitter sets, and with records of the same size, keys and
// headers as its own.
struct KafkaFloor {
  double seconds = 0;  // from the first record to the last report
  double cpu = 0;      // of this process, that is of its thread and of librdkafka's
  std::int64_t records = 0;

  [[nodiscard]] double rate() const { return static_cast<double>(records) / seconds; }
  [[nodiscard]] double cpu_us() const { return cpu / static_cast<double>(records) * 1e6; }
};

struct KafkaLoad {
  std::int64_t records = 0;
  int payload_bytes = 450;
  int keys = 10'000;
};

// Blocks until all records are acknowledged; throws when one is not.
[[nodiscard]] KafkaFloor produce_with_librdkafka(const std::string& brokers,
                                                 const std::string& topic, const KafkaLoad& load);

// The same with one record after the other on a schedule, `per_second` of them, each with a
// `ce_id` of its own; with the linger of the emitter unless another is given. Tells when each was
// handed to librdkafka.
[[nodiscard]] std::vector<Commit> produce_on_schedule(const std::string& brokers,
                                                      const std::string& topic,
                                                      std::optional<Milliseconds> linger,
                                                      double per_second, double seconds);

}  // namespace outfall::bench
