// A producer that is to be replaced where no new one can be made, at librdkafka's mock cluster; and
// what no producer knows of its topic.
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include "emitters/kafka/kafka.h"
#include "emitters/kafka/statistics.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/mock_cluster.h"
#include "tests/support/refused_producers.h"

namespace outfall::test {
namespace {

constexpr int kLongRttMs = 60'000;

class KafkaProducersTest : public testing::Test {
 protected:
  KafkaProducersTest() {
    test_reporter().clear();
    settings_.text("brokers", cluster_.brokers())
        .text("topic", "orders")
        .text("partition", "header.shard")
        .number("delivery_timeout", 1000)
        .number("linger", 0)
        .number("batch_bytes", 1000);
    emitter_ = make_emitter(kafka_emitter_kind(), settings_, drain_);
    expect_in_order(deliver({"first"}));
  }

  // Records of one key.
  std::vector<std::uint64_t> emit(const std::vector<std::string>& values,
                                  MonotonicTime deadline = MonotonicTime::max()) {
    std::vector<TestEntry> entries;
    for (const std::string& value : values) {
      entries.push_back({.key = "k", .payload = '"' + value + '"'});
    }
    return drain_.emit(*emitter_, entries, deadline);
  }
  std::vector<std::uint64_t> deliver(const std::vector<std::string>& values) {
    auto tokens = emit(values);
    drain_.wait_for_all();
    drain_.new_runs();
    return tokens;
  }

  // Delivered, each behind the one before it.
  void expect_in_order(const std::vector<std::uint64_t>& tokens) {
    int last = -1;
    for (const std::uint64_t token : tokens) {
      const Outcome& outcome = *drain_.item(token).outcome;
      ASSERT_EQ(outcome.kind, OutcomeKind::delivered) << (outcome.error ? outcome.error->code : "");
      const int offset = std::stoi(outcome.record_id.substr(outcome.record_id.rfind('/') + 1));
      EXPECT_GT(offset, last);
      last = offset;
    }
  }
  // No attempt is counted of any of them, and they say why.
  void expect_held_up(const std::vector<std::uint64_t>& tokens) {
    for (const std::uint64_t token : tokens) {
      const Outcome& outcome = *drain_.item(token).outcome;
      if (outcome.kind != OutcomeKind::destination_unavailable) {
        EXPECT_EQ(outcome.kind, OutcomeKind::possibly_delivered);
        EXPECT_TRUE(outcome.connection_lost);
      }
      ASSERT_TRUE(outcome.error);
      EXPECT_EQ(outcome.error->code, "kafka.no_producer");
      EXPECT_THAT(outcome.error->message, testing::HasSubstr(RefusedProducers::kReason));
    }
  }
  // With `lost` given back and no producer to be had: nothing of the key goes past it, and all goes
  // in order once there is one.
  void expect_nothing_passes(const std::vector<std::uint64_t>& lost) {
    drain_.wait_for_all();
    expect_held_up(lost);
    EXPECT_GT(refused_->count(), 0);
    drain_.new_runs();
    cluster_.clear_errors(MockCluster::kProduce);
    cluster_.set_rtt_ms(0);
    for (int i = 0; i < 3; ++i) expect_held_up(deliver({"b1", "b2"}));
    EXPECT_EQ(test_reporter().value(kafka::kProducersTotal), 1);
    refused_.reset();
    expect_in_order(deliver({"b1", "b2", "b3"}));
    EXPECT_EQ(test_reporter().value(kafka::kProducersTotal), 2);
  }

  MockCluster cluster_;
  TestSettings settings_{kafka_emitter_kind()};
  TestDrain drain_;
  std::unique_ptr<Emitter> emitter_;
  std::optional<RefusedProducers> refused_;
};

// The answer to the first request takes back the second.
TEST_F(KafkaProducersTest, ThatCannotBeMadeAfterARejectionLetNothingPass) {
  rd_kafka_mock_broker_push_request_error_rtts(
      cluster_.handle(), MockCluster::kBroker, MockCluster::kProduce, 2,
      RD_KAFKA_RESP_ERR_INVALID_MSG, 200, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, kLongRttMs);
  refused_.emplace();
  const std::string payload = '"' + std::string(700, 'x') + '"';  // so that each has a request
  const auto tokens =
      drain_.emit(*emitter_, {{.key = "a", .payload = payload}, {.key = "k", .payload = payload}});
  expect_nothing_passes({tokens[1]});
}

TEST_F(KafkaProducersTest, ThatCannotBeMadeAfterATimeOutLetNothingPass) {
  cluster_.set_rtt_ms(kLongRttMs);
  refused_.emplace();
  expect_nothing_passes(emit({"b1", "b2"}));
}

TEST_F(KafkaProducersTest, ThatCannotBeMadeAtTheEndOfALeaseLetNothingPass) {
  cluster_.set_rtt_ms(kLongRttMs);
  refused_.emplace();
  expect_nothing_passes(emit({"b1", "b2"}, system_clock().monotonic() + Milliseconds{300}));
}

TEST_F(KafkaProducersTest, ThatCannotBeMadeAfterAFatalErrorLetNothingPass) {
  // For the second record, too, where it has a request of its own: the mock cluster would take it
  // behind a gap.
  cluster_.push_errors(MockCluster::kProduce,
                       std::vector<int>(10, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER));
  refused_.emplace();
  expect_nothing_passes(emit({"b1", "b2"}));
}

TEST_F(KafkaProducersTest, ThatCannotBeMadeKeepNoStop) {
  cluster_.set_rtt_ms(kLongRttMs);
  refused_.emplace();
  emit({"b1"});
  drain_.wait_for_all();
  emitter_->stop(Milliseconds{60'000});
  EXPECT_EQ(drain_.completed(), drain_.emitted());
}

// Whether the topic has it only the brokers know.
TEST_F(KafkaProducersTest, ThatGetNoAnswerFailNoEntryForItsPartition) {
  const TestEntry entry{.key = "k", .headers_json = R"({"shard": "7"})"};
  const auto refused = drain_.emit(*emitter_, {entry});
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(refused[0]), OutcomeKind::failed);
  EXPECT_EQ(drain_.item(refused[0]).outcome->error->code, "kafka.unknown_partition");
  drain_.new_runs();
  rd_kafka_mock_broker_set_down(cluster_.handle(), MockCluster::kBroker);
  for (int i = 0; i < 3; ++i) {
    const auto unknown = drain_.emit(*emitter_, {entry, entry, entry});
    drain_.wait_for_all();
    EXPECT_EQ(drain_.kind(unknown[0]), OutcomeKind::destination_unavailable);
    drain_.new_runs();
  }
  rd_kafka_mock_broker_set_up(cluster_.handle(), MockCluster::kBroker);
  wait_until(
      [&] {
        const auto again = drain_.emit(*emitter_, {entry});
        drain_.wait_for_all();
        drain_.new_runs();
        return drain_.kind(again[0]) == OutcomeKind::failed;
      },
      "the broker to tell");
  EXPECT_EQ(test_reporter().value(kafka::kProducersTotal), 1);
}

}  // namespace
}  // namespace outfall::test
