// What only a real broker says: that a record, a topic or the whole cluster is not fit to be
// written to, where outfall could not know before.
#include <algorithm>

#include "emitters/kafka/statistics.h"
#include "tests/integration/kafka_fixture.h"

namespace outfall::test {
namespace {

class KafkaRefusalsTest : public KafkaTest {
 protected:
  static TestSettings settings_of(const std::string& user, const std::string& topic) {
    return kafka_settings(topic)
        .text("brokers", shared_kafka().sasl_brokers())
        .text("sasl.mechanism", "PLAIN")
        .text("sasl.username", user)
        .text("sasl.password", TempKafka::kPassword);
  }
  // All of them are the destination's fault, for this reason.
  void expect_unavailable(const std::vector<std::uint64_t>& tokens, const std::string& code) {
    for (const std::uint64_t token : tokens) {
      const Outcome& outcome = *drain_.item(token).outcome;
      EXPECT_EQ(outcome.kind, OutcomeKind::destination_unavailable);
      EXPECT_EQ(error_code(token), code) << (outcome.error ? outcome.error->message : "");
    }
  }
};

// The answer is the broker's own, though the topic is there and has a leader.
TEST_F(KafkaRefusalsTest, ATopicOfTheClustersOwnIsUnavailable) {
  const std::string topic = "__transaction_state";
  shared_kafka().create_topic(topic, 1);
  start(kafka_settings(topic));
  const auto tokens = emit(numbered(10, 10));
  drain_.wait_for_all();
  expect_unavailable(tokens, "kafka.invalid_topic");
  EXPECT_EQ(shared_kafka().count(topic), 0);
}

TEST_F(KafkaRefusalsTest, ABrokerWhoseNameDoesNotResolveIsNotFound) {
  start(kafka_settings("orders").text("brokers", "no-such-broker.invalid:9092"));
  const auto tokens = emit(numbered(10, 10));
  drain_.wait_for_all();
  expect_unavailable(tokens, "kafka.broker_not_found");
}

TEST_F(KafkaRefusalsTest, WithoutTheTopicsSettingsTheBrokerFindsWhatItDoesNotTake) {
  const std::string topic = fresh_topic(1, {{"cleanup.policy", "compact"},
                                            {"max.message.bytes", "10000"},
                                            {"message.timestamp.before.max.ms", "3600000"}});
  shared_kafka().allow_writing("bob", topic);
  start(settings_of("bob", topic));
  std::vector<TestEntry> entries = numbered(200, 200);
  entries[50].payload = "\"" + std::string(20'000, 'x') + "\"";
  entries[100].key.reset();
  std::vector<std::uint64_t> tokens;
  EmitBatch batch = drain_.batch(entries, tokens);
  std::vector<Envelope> envelopes;
  for (const EmitItem& item : batch.items) envelopes.push_back(*item.envelope);
  const WallTime now = system_clock().wall();
  for (std::size_t i = 0; i < envelopes.size(); ++i) {
    envelopes[i].occurred_at = now - std::chrono::hours(i == 150 ? 48 : 0);
    batch.items[i].envelope = &envelopes[i];
  }
  emitter_->emit(std::move(batch));
  drain_.wait_for_all();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const bool bad = i == 50 || i == 100 || i == 150;
    EXPECT_EQ(drain_.kind(tokens[i]), bad ? OutcomeKind::failed : OutcomeKind::delivered)
        << i << " " << error_code(tokens[i]);
  }
  EXPECT_EQ(error_code(tokens[50]), "kafka.msg_size_too_large");
  EXPECT_EQ(error_code(tokens[100]), "kafka.invalid_record");
  EXPECT_EQ(error_code(tokens[150]), "kafka.invalid_timestamp");
  EXPECT_EQ(shared_kafka().count(topic), 197);
  EXPECT_GT(test_reporter().value(kafka::kIsolatedTotal).value_or(0), 0);
}

// Its limit on records lets this one pass, but no segment has room for it.
TEST_F(KafkaRefusalsTest, ARecordLargerThanASegmentFailsAlone) {
  const std::string topic =
      fresh_topic(1, {{"max.message.bytes", "5000000"}, {"segment.bytes", "1048576"}});
  start(kafka_settings(topic));
  std::vector<TestEntry> entries = numbered(50, 50);
  entries[25].payload = "\"" + std::string(2'000'000, 'x') + "\"";
  const auto tokens = emit(entries);
  drain_.wait_for_all();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(drain_.kind(tokens[i]), i == 25 ? OutcomeKind::failed : OutcomeKind::delivered)
        << i << " " << error_code(tokens[i]);
  }
  EXPECT_EQ(error_code(tokens[25]), "kafka.record_list_too_large");
  const std::string& message = drain_.item(tokens[25]).outcome->error->message;
  EXPECT_NE(message.find("segment.bytes"), std::string::npos) << message;
  EXPECT_EQ(shared_kafka().count(topic), 49);
}

}  // namespace
}  // namespace outfall::test
