#include "tests/bench/kafka_stream.h"

#include <fmt/format.h>

namespace outfall::bench {

test::KafkaOptions broker_options() {
  return {.settings = {{"log.segment.delete.delay.ms", "0"}}};
}

std::string kafka_stream(const std::string& brokers, std::string_view topic,
                         std::string_view emitter_settings) {
  return fmt::format(
      "[streams.orders]\nemitter = \"bus\"\nordering = \"key\"\n"
      "[emitters.bus]\nkind = \"kafka\"\nbrokers = \"{}\"\ntopic = \"{}\"\n{}\n",
      brokers, topic, emitter_settings);
}

std::map<std::string, std::string> append_time() {
  return {{"message.timestamp.type", "LogAppendTime"}};
}

std::vector<Receipt> receipts_of(const test::TempKafka& kafka, const std::string& topic) {
  std::vector<Receipt> receipts;
  for (const test::KafkaRecord& record : kafka.records(topic)) {
    receipts.push_back(
        {record.header("ce_id"), std::chrono::system_clock::time_point(
                                     std::chrono::milliseconds(record.timestamp_ms + 1))});
  }
  return receipts;
}

}  // namespace outfall::bench
