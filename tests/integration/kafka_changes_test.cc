// What changes beside a running emitter: partitions of its topic, files that its producers read.
#include <filesystem>
#include <fstream>

#include "emitters/kafka/statistics.h"
#include "tests/integration/kafka_fixture.h"

namespace outfall::test {
namespace {

class KafkaChangesTest : public KafkaTest {
 protected:
  static TestEntry to_partition(const std::string& partition) {
    return {.key = "k", .headers_json = R"({"shard": ")" + partition + R"("})"};
  }
};

TEST_F(KafkaChangesTest, APartitionThatIsAddedIsTakenAtOnce) {
  const std::string topic = fresh_topic(2);
  start(kafka_settings(topic).text("partition", "header.shard"));
  deliver_all({to_partition("1")});
  shared_kafka().grow_topic(topic, 4);
  const auto tokens = emit({to_partition("3"), to_partition("2"), to_partition("3")});
  drain_.wait_for_all();
  expect_delivered(tokens);
  EXPECT_EQ(drain_.item(tokens[0]).outcome->record_id, topic + "/3/0");
  EXPECT_EQ(drain_.item(tokens[1]).outcome->record_id, topic + "/2/0");
  EXPECT_EQ(drain_.item(tokens[2]).outcome->record_id, topic + "/3/1");
  const auto missing = emit({to_partition("99")});
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(missing[0]), OutcomeKind::failed);
  EXPECT_EQ(error_code(missing[0]), "kafka.unknown_partition");
  drain_.new_runs();
  shared_kafka().grow_topic(topic, 5);
  deliver_all({to_partition("4")});
  EXPECT_EQ(test_reporter().value(kafka::kProducersTotal), 1);
}

// As by somebody who copies a new one over it, while the broker hangs.
TEST_F(KafkaChangesTest, ATlsFileThatCannotBeReadHoldsEverythingBackInOrder) {
  const TempFolder folder;
  const std::string ca_file = folder / "ca.pem";
  const auto copy = [&] {
    constexpr auto kOver = std::filesystem::copy_options::overwrite_existing;
    std::filesystem::copy_file(shared_kafka().tls_file("ca.pem"), ca_file, kOver);
  };
  copy();
  const std::string topic = fresh_topic(2);
  start(kafka_settings(topic)
            .text("brokers", shared_kafka().tls_brokers())
            .number("tls.enabled", 1)
            .text("tls.ca_file", ca_file)
            .text("tls.certificate_file", shared_kafka().tls_file("client.pem"))
            .text("tls.key_file", shared_kafka().tls_file("client.key")));
  deliver_all(numbered(100, 10));
  std::ofstream(ca_file) << "half of a file";
  shared_kafka().freeze();
  const auto tokens = emit(numbered(100, 10, 100));
  drain_.wait_for_all();
  shared_kafka().thaw();
  for (const std::uint64_t token : tokens) EXPECT_EQ(error_code(token), "kafka.no_producer");
  drain_.new_runs();
  const auto next = emit(numbered(100, 10, 100));
  drain_.wait_for_all();
  for (const std::uint64_t token : next) {
    EXPECT_EQ(drain_.kind(token), OutcomeKind::destination_unavailable);
    EXPECT_EQ(error_code(token), "kafka.no_producer");
  }
  drain_.new_runs();
  copy();
  deliver_all(numbered(200, 10, 100));
  expect_in_order(topic);
  EXPECT_EQ(test_reporter().value(kafka::kProducersTotal), 2);
}

}  // namespace
}  // namespace outfall::test
