#include "tests/integration/java_judge.h"

#include <sstream>

#include <gtest/gtest.h>

#include "core/text.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_kafka.h"

namespace outfall::test {

std::string java_word(const std::optional<std::string>& bytes) {
  if (!bytes) return "-";
  std::string text = "b";
  append_base64(text, *bytes);
  return text;
}

std::vector<JavasRecord> read_by_java(const std::string& brokers, const std::string& topic) {
  const Finished judge =
      run({"java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", TempKafka::class_path(),
           OUTFALL_SOURCE_FOLDER "/tests/judges/KafkaJudge.java", brokers, topic},
          {}, std::chrono::minutes(2));
  EXPECT_EQ(judge.status.code, 0) << judge.error_output;
  std::vector<JavasRecord> all;
  std::istringstream lines(judge.output);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    JavasRecord& one = all.emplace_back();
    words >> one.partition >> one.javas_partition >> one.timestamp_ms >> one.key >> one.value;
    for (std::string name, value; words >> name >> value;) one.headers[name] = value;
  }
  return all;
}

}  // namespace outfall::test
