#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace outfall::test {

// A record of a topic as Java's own consumer reads it, with the partition that Java's own
// partitioner would have chosen. Texts are in the words of KafkaJudge.java: see java_word().
struct JavasRecord {
  int partition = 0;
  int javas_partition = 0;  // -1 without a key
  std::int64_t timestamp_ms = 0;
  std::string key;
  std::string value;
  std::map<std::string, std::string> headers;
};

// How KafkaJudge.java writes bytes, or none.
[[nodiscard]] std::string java_word(const std::optional<std::string>& bytes);

// Everything in the topic. Fails the test where Java cannot read it.
[[nodiscard]] std::vector<JavasRecord> read_by_java(const std::string& brokers,
                                                    const std::string& topic);

}  // namespace outfall::test
