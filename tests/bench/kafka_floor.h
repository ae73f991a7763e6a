#pragma once

#include <cstdint>
#include <string>

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

}  // namespace outfall::bench
