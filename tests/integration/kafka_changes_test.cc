// What changes beside a running emitter: files that its producers read.
#include <filesystem>
#include <fstream>

#include "emitters/kafka/statistics.h"
#include "tests/integration/kafka_fixture.h"

namespace outfall::test {
namespace {

class KafkaChangesTest : public KafkaTest {};

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
