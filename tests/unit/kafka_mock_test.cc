// Errors that a real broker cannot be made to give, from librdkafka's mock cluster; it also stands
// for a cluster that tells nothing about its topics.
#include <algorithm>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include "emitters/kafka/kafka.h"
#include "emitters/kafka/statistics.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/mock_cluster.h"

namespace outfall {
namespace {

using test::MockCluster;
using test::TestDrain;
using test::TestEntry;

class KafkaMockTest : public testing::Test {
 protected:
  KafkaMockTest() {
    test::test_reporter().clear();
    settings_.text("brokers", cluster_.brokers())
        .text("topic", "orders")
        .number("delivery_timeout", 2000)
        .number("linger", 0);
  }

  void start() {
    emitter_ = test::make_emitter(kafka_emitter_kind(), settings_, drain_);
    expect_delivered(send(1));
  }
  std::vector<std::uint64_t> send(int count, const std::string& key = "k") {
    std::vector<TestEntry> entries;
    for (int i = 0; i < count; ++i) entries.push_back({.key = key + std::to_string(i)});
    const auto tokens = drain_.emit(*emitter_, entries);
    drain_.wait_for_all();
    drain_.new_runs();
    return tokens;
  }
  void next_answers(const std::vector<int>& errors) {
    cluster_.push_errors(MockCluster::kProduce, errors);
  }
  void expect_delivered(const std::vector<std::uint64_t>& tokens) {
    for (const std::uint64_t token : tokens) {
      const auto& outcome = *drain_.item(token).outcome;
      EXPECT_EQ(outcome.kind, OutcomeKind::delivered) << (outcome.error ? outcome.error->code : "");
    }
  }

  // 20 keys by turns, each record in a request of few.
  std::vector<std::uint64_t> send_keys(int count) {
    std::vector<TestEntry> entries;
    for (int i = 0; i < count; ++i) entries.push_back({.key = "k" + std::to_string(i % 20)});
    auto tokens = drain_.emit(*emitter_, entries);
    drain_.wait_for_all();
    drain_.new_runs();
    return tokens;
  }
  // Hands over again what is not delivered, as another attempt does, and takes its place.
  void send_the_rest(std::vector<std::uint64_t>& tokens) {
    std::vector<TestEntry> rest;
    for (const std::uint64_t token : tokens) {
      if (drain_.kind(token) != OutcomeKind::delivered) rest.push_back(drain_.item(token).entry);
    }
    const auto again = drain_.emit(*emitter_, rest);
    drain_.wait_for_all();
    drain_.new_runs();
    std::size_t next = 0;
    for (std::uint64_t& token : tokens) {
      if (drain_.kind(token) != OutcomeKind::delivered) token = again[next++];
    }
  }
  // All are delivered, and those of each key in the order in which they were handed over.
  void expect_in_order(const std::vector<std::uint64_t>& tokens) {
    expect_delivered(tokens);
    std::map<std::string, int> last;
    for (const std::uint64_t token : tokens) {
      const auto& item = drain_.item(token);
      const std::string& place = item.outcome->record_id;
      if (place.empty()) continue;  // not delivered, which the expectation above tells
      const int offset = std::stoi(place.substr(place.rfind('/') + 1));
      const auto [found, first] = last.try_emplace(*item.entry.key, -1);
      EXPECT_LT(found->second, offset) << *item.entry.key;
      found->second = offset;
    }
  }

  // How many the emitters of this process have had, since the fixture was made.
  static double producers() {
    return test::test_reporter().value(kafka::kProducersTotal).value_or(0);
  }

  MockCluster cluster_;
  test::TestSettings settings_{kafka_emitter_kind()};
  TestDrain drain_;
  std::unique_ptr<Emitter> emitter_;
};

// They need a second broker, or a disk that fails, at the right moment. 19 that lasts is shown with
// two real brokers (kafka_replicas_test.cc).
TEST_F(KafkaMockTest, PassingTroubleIsLibrdkafkasToRetry) {
  settings_.number("linger", 50);  // so that all go in one request
  start();
  for (const int error : {3, 5, 6, 7, 16, 19, 20, 56, 59}) {
    SCOPED_TRACE(error);
    next_answers({error});
    expect_delivered(send(5));
  }
}

// What librdkafka is told each time it tells nobody, so that only the time-out shows. After 20 the
// record is written, and after the others it is not.
TEST_F(KafkaMockTest, TroubleThatDoesNotPassIsATimeOut) {
  settings_.number("delivery_timeout", 1000);
  start();
  for (const int error : {6, 19, 20, 56}) {
    SCOPED_TRACE(error);
    const OutcomeKind expected =
        error == 20 ? OutcomeKind::possibly_delivered : OutcomeKind::destination_unavailable;
    // The time may be over while an answer is on its way, which leaves any of them in doubt.
    test::wait_until(
        [&] {
          next_answers(std::vector<int>(200, error));
          const auto tokens = send(1);
          const Outcome& outcome = *drain_.item(tokens[0]).outcome;
          const OutcomeKind kind = outcome.kind;
          EXPECT_EQ(outcome.error ? outcome.error->code : "", "kafka.timed_out");
          cluster_.clear_errors(MockCluster::kProduce);
          test::wait_until([&] { return drain_.kind(send(1)[0]) == OutcomeKind::delivered; },
                           "the trouble to be over");
          return kind == expected || HasFailure();
        },
        "what is not written to be known as such");
    EXPECT_FALSE(HasFailure());
  }
}

// A broker that has the batch already does not say where.
TEST_F(KafkaMockTest, ARecordOfWhichNoAnswerSaysWhereItIsIsInDoubt) {
  start();
  next_answers({RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER});
  const auto tokens = send(1);
  EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::possibly_delivered);
  EXPECT_EQ(drain_.item(tokens[0]).outcome->error->code, "kafka.unconfirmed");
}

// A real broker gives 17, 29 and 31 (kafka_refusals_test.cc, kafka_errors_test.cc). The others it
// has no reason to give an idempotent producer: 21, 22 and 53 are about acks, groups and
// transactions that it does not use, 35, 74 and 76 come from brokers of other versions or of
// another epoch, 44 from a policy that Kafka itself has for topics only, and a produce quota holds
// answers back instead of giving 89.
TEST_F(KafkaMockTest, WhatNamesTheDestinationMakesItUnavailable) {
  start();
  for (const int error : {17, 21, 22, 29, 31, 35, 44, 53, 74, 76, 89}) {
    SCOPED_TRACE(error);
    next_answers({error, error, error, error, error, error, error, error});
    const auto tokens = send(5);
    for (const std::uint64_t token : tokens) {
      EXPECT_EQ(drain_.kind(token), OutcomeKind::destination_unavailable);
    }
    cluster_.clear_errors(MockCluster::kProduce);
    test::wait_until([&] { return drain_.kind(send(1)[0]) == OutcomeKind::delivered; },
                     "the destination to be back");
  }
}

// A real broker gives 10, 18, 32 and 87 (kafka_refusals_test.cc), but never takes such a record the
// second time; 43 is of formats that brokers from 4.0 on do not have.
TEST_F(KafkaMockTest, ARejectedBatchIsSentApartAndNothingOfItIsLost) {
  start();
  for (const int error : {10, 18, 32, 43, 87}) {
    SCOPED_TRACE(error);
    next_answers({error});
    expect_delivered(send(50));
  }
}

// librdkafka tried the batch again by itself, and may have written it before: that one record of it
// is bad is no less true, and the others are as good as without.
TEST_F(KafkaMockTest, APoisonousRecordTakesNoOthersAlongAfterAnUncertainTry) {
  settings_.number("linger", 50);  // so that all go in one request
  start();
  for (const int uncertain : {7, 20, -195}) {
    for (const int error : {10, 18, 32, 43, 87}) {
      SCOPED_TRACE(testing::Message() << uncertain << ", then " << error);
      next_answers({uncertain, error});
      expect_delivered(send(50));
    }
  }
}

// What was to be sent apart shares the destination's answer, which costs no attempt, and goes in
// order afterwards.
TEST_F(KafkaMockTest, ADestinationThatRefusesWhatIsSentApartSpendsNothing) {
  settings_.number("linger", 50);  // so that all go in one request
  start();
  next_answers({RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_POLICY_VIOLATION});
  auto tokens = send_keys(200);
  std::size_t left = 0;
  for (const std::uint64_t token : tokens) {
    const OutcomeKind kind = drain_.kind(token);
    EXPECT_THAT(kind, testing::AnyOf(OutcomeKind::delivered, OutcomeKind::blocked,
                                     OutcomeKind::destination_unavailable));
    left += kind != OutcomeKind::delivered ? 1 : 0;
  }
  EXPECT_GT(left, 0);
  send_the_rest(tokens);
  expect_in_order(tokens);
}

TEST_F(KafkaMockTest, ARecordThatIsRejectedAloneAsWellFails) {
  start();
  for (const int error : {10, 18, 32, 43, 87}) {
    SCOPED_TRACE(error);
    next_answers({error, error});
    const auto tokens = send(1);
    EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::failed);
    expect_delivered(send(3));
  }
}

TEST_F(KafkaMockTest, AFatalErrorReplacesTheProducerAndNothingIsLost) {
  start();
  next_answers({45});
  expect_delivered(send(200));
  expect_delivered(send(200));
  EXPECT_GE(producers(), 2);
}

// As a broker does, all that is under way is refused once one is. What is under way differs: where
// a fourth request is answered well, the record of a refused one is in doubt and its key waits.
TEST_F(KafkaMockTest, AProducerThatIsReplacedKeepsTheOrderOfEveryKey) {
  settings_.number("batch_bytes", 1000).map("librdkafka", {{"max.in.flight", "3"}});
  start();
  cluster_.set_rtt_ms(20);
  next_answers({45, 45, 45});
  auto tokens = send_keys(200);
  for (const std::uint64_t token : tokens) {
    EXPECT_THAT(drain_.kind(token),
                testing::AnyOf(OutcomeKind::delivered, OutcomeKind::possibly_delivered,
                               OutcomeKind::blocked));
  }
  send_the_rest(tokens);
  expect_in_order(tokens);
  EXPECT_GE(producers(), 2);
}

TEST_F(KafkaMockTest, AFullQueueOfLibrdkafkaHoldsRecordsBackInOrder) {
  settings_.map("librdkafka", {{"queue.buffering.max.messages", "10"}});
  start();
  expect_in_order(send_keys(500));
  EXPECT_EQ(producers(), 1);
}

// librdkafka reports the first one as delivered although it was refused: it takes the answer to the
// second one, which a broker gives to a producer that it does not know yet, for a proof.
TEST_F(KafkaMockTest, ARecordThatOnlyALaterOneVouchesForIsInDoubt) {
  settings_.number("batch_bytes", 1000);  // so that each has a request of its own
  start();
  // The second one is under way before the first one's answer is there.
  cluster_.set_rtt_ms(300);
  next_answers({RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION});
  const std::string payload = '"' + std::string(700, 'x') + '"';
  const auto tokens =
      drain_.emit(*emitter_, {{.key = "a", .payload = payload}, {.key = "b", .payload = payload}});
  drain_.wait_for_all();
  const Outcome& first = *drain_.item(tokens[0]).outcome;
  EXPECT_EQ(first.kind, OutcomeKind::possibly_delivered);
  ASSERT_TRUE(first.error);
  EXPECT_EQ(first.error->code, "kafka.unconfirmed");
  EXPECT_EQ(drain_.kind(tokens[1]), OutcomeKind::delivered);
}

// What of the key waits behind the record in doubt must not go before it is sent again.
TEST_F(KafkaMockTest, WhatIsBehindARecordInDoubtIsTakenBack) {
  settings_.number("batch_bytes", 1000).map("librdkafka", {{"max.in.flight", "2"}});
  start();
  cluster_.set_rtt_ms(50);
  next_answers({RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION});
  const std::string payload = '"' + std::string(700, 'x') + '"';
  std::vector<TestEntry> entries(20, {.key = "a", .payload = payload});
  entries[1].key = "b";
  entries.back().key = "c";
  const auto tokens = drain_.emit(*emitter_, entries);
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::possibly_delivered);
  EXPECT_EQ(drain_.kind(tokens[1]), OutcomeKind::delivered);
  EXPECT_EQ(drain_.kind(tokens[18]), OutcomeKind::blocked);
  EXPECT_EQ(drain_.kind(tokens[19]), OutcomeKind::delivered);
}

// The mock cluster takes any sequence, as a broker does that knows nothing of the producer.
TEST_F(KafkaMockTest, TheFirstRecordsOfAProducerKeepTheirOrder) {
  settings_.number("batch_bytes", 1000);
  emitter_ = test::make_emitter(kafka_emitter_kind(), settings_, drain_);
  next_answers({RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION});
  const std::string payload = '"' + std::string(700, 'x') + '"';
  const auto tokens =
      drain_.emit(*emitter_, std::vector<TestEntry>(20, {.key = "a", .payload = payload}));
  drain_.wait_for_all();
  expect_delivered(tokens);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(drain_.item(tokens[i]).outcome->record_id, "orders/0/" + std::to_string(i));
  }
}

TEST_F(KafkaMockTest, WhatWaitsForAFirstRecordThatIsRefusedSharesItsAnswer) {
  emitter_ = test::make_emitter(kafka_emitter_kind(), settings_, drain_);
  next_answers({RD_KAFKA_RESP_ERR_POLICY_VIOLATION});
  for (const std::uint64_t token : send(50)) {
    EXPECT_EQ(drain_.kind(token), OutcomeKind::destination_unavailable);
  }
}

TEST_F(KafkaMockTest, WhatWaitsForAFirstRecordThatNoProducerDeliversIsGivenUpWithIt) {
  emitter_ = test::make_emitter(kafka_emitter_kind(), settings_, drain_);
  next_answers(std::vector<int>(200, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER));
  for (const std::uint64_t token : send(50)) {
    EXPECT_THAT(drain_.kind(token), testing::AnyOf(OutcomeKind::destination_unavailable,
                                                   OutcomeKind::possibly_delivered));
  }
  EXPECT_LT(producers(), 10);
}

TEST_F(KafkaMockTest, ABrokerThatNeverGivesAProducersIdIsUnavailable) {
  cluster_.push_errors(MockCluster::kInitProducerId,
                       std::vector<int>(100, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE));
  emitter_ = test::make_emitter(kafka_emitter_kind(), settings_, drain_);
  const auto tokens = send(3);
  for (const std::uint64_t token : tokens) {
    EXPECT_EQ(drain_.kind(token), OutcomeKind::destination_unavailable);
  }
  cluster_.clear_errors(MockCluster::kInitProducerId);
  test::wait_until([&] { return drain_.kind(send(1)[0]) == OutcomeKind::delivered; },
                   "the broker to give one");
}

// A right is missing: whatever was handed over is told so, and no producer is made for nothing.
TEST_F(KafkaMockTest, AUserWhoGetsNoProducersIdIsToldOfTheMissingRight) {
  cluster_.push_errors(MockCluster::kInitProducerId,
                       std::vector<int>(1000, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED));
  emitter_ = test::make_emitter(kafka_emitter_kind(), settings_, drain_);
  for (const std::uint64_t token : send(3)) {
    const Outcome& outcome = *drain_.item(token).outcome;
    EXPECT_EQ(outcome.kind, OutcomeKind::destination_unavailable);
    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(outcome.error->code, "kafka.cluster_authorization_failed");
  }
  EXPECT_LT(producers(), 5);
  cluster_.clear_errors(MockCluster::kInitProducerId);
  test::wait_until([&] { return drain_.kind(send(1)[0]) == OutcomeKind::delivered; },
                   "the brokers to give one");
}

// With nothing to send: what it died of may be long over when the next entry comes, which is not
// told of it.
TEST_F(KafkaMockTest, AProducerThatDiedWhileIdleCostsTheNextEntriesNothing) {
  cluster_.push_errors(MockCluster::kInitProducerId,
                       std::vector<int>(1000, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED));
  emitter_ = test::make_emitter(kafka_emitter_kind(), settings_, drain_);
  test::wait_until(
      [] {
        return std::ranges::any_of(test::test_reporter().lines(), [](const std::string& line) {
          return line.starts_with("the producer must be replaced: ") &&
                 line.find("authorization failed") != std::string::npos;
        });
      },
      "the producer to die");
  EXPECT_EQ(producers(), 1) << "no producer is made before something is to be sent";
  cluster_.clear_errors(MockCluster::kInitProducerId);
  expect_in_order(send_keys(100));
  EXPECT_EQ(producers(), 2);
}

// When the time of a stop is over, only what a broker may have is in doubt.
TEST_F(KafkaMockTest, WhatIsGivenUpByAStopIsInDoubtOnlyWhereItWasSent) {
  settings_.number("batch_bytes", 1000)
      .map("librdkafka", {{"max.in.flight", "1"}, {"statistics.interval.ms", "50"}});
  start();
  cluster_.set_rtt_ms(60'000);
  const std::string payload = '"' + std::string(700, 'x') + '"';
  std::vector<TestEntry> entries;
  for (int i = 0; i < 20; ++i) entries.push_back({.key = std::to_string(i), .payload = payload});
  const auto tokens = drain_.emit(*emitter_, entries);
  test::wait_until(
      [&] { return test::test_reporter().value(kafka::kBrokerInFlight, cluster_.brokers()) == 1; },
      "the first request to be out");
  emitter_->stop(Milliseconds{0});
  ASSERT_EQ(drain_.completed(), drain_.emitted());
  EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::possibly_delivered);
  EXPECT_TRUE(drain_.item(tokens[0]).outcome->connection_lost);
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    EXPECT_EQ(drain_.kind(tokens[i]), OutcomeKind::shutdown) << i;
  }
}

TEST_F(KafkaMockTest, APartitionWithoutALeaderIsUnavailableUntilItHasOne) {
  start();
  rd_kafka_mock_partition_set_leader(cluster_.handle(), "orders", 0, -1);
  next_answers({6, 6, 6, 6, 6, 6});
  const auto tokens = send(3);
  for (const std::uint64_t token : tokens) {
    EXPECT_EQ(drain_.kind(token), OutcomeKind::destination_unavailable);
  }
  cluster_.clear_errors(MockCluster::kProduce);
  rd_kafka_mock_partition_set_leader(cluster_.handle(), "orders", 0, 1);
  test::wait_until([&] { return drain_.kind(send(1)[0]) == OutcomeKind::delivered; },
                   "the partition to have a leader");
}

TEST_F(KafkaMockTest, ACorruptMessageIsTriedAgainAndCounted) {
  start();
  next_answers({2});
  const auto tokens = send(1);
  const Outcome& outcome = *drain_.item(tokens[0]).outcome;
  EXPECT_EQ(outcome.kind, OutcomeKind::retryable_failure);
  EXPECT_TRUE(outcome.destination_suspect);
  expect_delivered(send(1));
}

}  // namespace
}  // namespace outfall
