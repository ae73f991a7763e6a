// A broker that hangs, dies and comes back, connections that are cut before the answer, and a topic
// that is made again.
#include <map>
#include <set>
#include <thread>

#include "tests/integration/kafka_fixture.h"

namespace outfall::test {
namespace {

using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

class KafkaOutageTest : public KafkaTest {
 protected:
  ~KafkaOutageTest() override {
    emitter_.reset();
    shared_kafka().gate().traffic(Traffic::pass);
    shared_kafka().gate().admit(Admission::accept);
    shared_kafka().gate().cut_after(Direction::to_server, std::nullopt);
  }

  TestSettings gated(const std::string& topic) {
    return kafka_settings(topic).text("brokers", shared_kafka().gated_brokers());
  }

  // Nothing of these may have cost an attempt or be a dead letter.
  void expect_outage(const std::vector<std::uint64_t>& tokens) {
    for (const std::uint64_t token : tokens) {
      const Outcome& outcome = *drain_.item(token).outcome;
      if (outcome.kind == OutcomeKind::possibly_delivered) {
        EXPECT_TRUE(outcome.connection_lost) << error_code(token);
        continue;
      }
      EXPECT_TRUE(outcome.kind == OutcomeKind::destination_unavailable ||
                  outcome.kind == OutcomeKind::blocked)
          << to_string(outcome.kind) << " " << error_code(token);
    }
  }

  const std::string topic_ = fresh_topic();
};

TEST_F(KafkaOutageTest, ABrokerThatHangsIsUnavailableWithinItsTimeAndUsedAgainAtOnce) {
  start(kafka_settings(topic_));
  deliver_all(numbered(1000, 50));
  shared_kafka().freeze();
  const auto begun = Steady::now();
  const auto stuck = emit(numbered(1000, 50, 1000));
  drain_.wait_for_all();
  EXPECT_LT(Steady::now() - begun, milliseconds(5000));
  expect_outage(stuck);
  drain_.new_runs();
  // The drain's probe waits for the broker.
  const auto probe = emit(numbered(1, 50, 1000));
  shared_kafka().thaw();
  const auto back = Steady::now();
  drain_.wait_for_all();
  expect_delivered(probe);
  drain_.new_runs();
  deliver_all(numbered(999, 50, 1001));
  EXPECT_LT(Steady::now() - back, milliseconds(5000));
  expect_in_order(topic_);
  // The next test begins with a broker to which nothing has happened: one that was frozen has left
  // a new topic without partitions for half a minute.
  emitter_.reset();
  shared_kafka().kill();
  shared_kafka().start();
}

TEST_F(KafkaOutageTest, ABrokerThatIsKilledAndComesBackGetsEverythingInOrderAndOnce) {
  start(kafka_settings(topic_).number("delivery_timeout", 20'000));
  deliver_all(numbered(2000, 50));
  const auto around = emit(numbered(5000, 50, 2000));
  wait_until([&] { return drain_.completed() > 2000; }, "some of them to be written");
  shared_kafka().kill();
  shared_kafka().start();
  drain_.wait_for_all();
  expect_delivered(around);
  expect_in_order(topic_);
  EXPECT_EQ(duplicates(topic_), 0U);
}

TEST_F(KafkaOutageTest, ALongOutageEndsInOrderAndWithoutDeadLetters) {
  start(kafka_settings(topic_));
  deliver_all(numbered(1000, 50));
  shared_kafka().kill();
  const auto refused = emit(numbered(3000, 50, 1000));
  drain_.wait_for_all();
  expect_outage(refused);
  EXPECT_EQ(error_code(refused[0]), "kafka.broker_unavailable");
  drain_.new_runs();
  const auto more = emit(numbered(1, 50, 1000));
  drain_.wait_for_all();
  expect_outage(more);
  drain_.new_runs();
  shared_kafka().start();
  const auto back = Steady::now();
  deliver_all(numbered(3000, 50, 1000));
  EXPECT_LT(Steady::now() - back, milliseconds(5000));
  expect_in_order(topic_);
}

TEST_F(KafkaOutageTest, ANetworkThatSwallowsEverythingIsFoundOutAndLeftBehind) {
  start(gated(topic_));
  deliver_all(numbered(500, 20));
  shared_kafka().gate().traffic(Traffic::drop);
  const auto lost = emit(numbered(500, 20, 500));
  drain_.wait_for_all();
  expect_outage(lost);
  drain_.new_runs();
  shared_kafka().gate().traffic(Traffic::pass);
  const auto back = Steady::now();
  deliver_all(numbered(500, 20, 500));
  EXPECT_LT(Steady::now() - back, milliseconds(5000));
  expect_in_order(topic_);
}

// As by a balancer or a firewall in front of brokers that are gone: it takes every connection and
// ends it with the first byte.
TEST_F(KafkaOutageTest, ConnectionsThatAreResetOneAfterTheOtherAreAnOutageToo) {
  start(gated(topic_));
  deliver_all(numbered(500, 20));
  TcpGate& gate = shared_kafka().gate();
  gate.cut_after(Direction::to_server, 1);
  gate.end_connections(Ending::reset);
  const auto lost = emit(numbered(500, 20, 500));
  drain_.wait_for_all();
  expect_outage(lost);
  drain_.new_runs();
  gate.cut_after(Direction::to_server, std::nullopt);
  const auto back = Steady::now();
  deliver_all(numbered(500, 20, 500));
  EXPECT_LT(Steady::now() - back, milliseconds(5000));
  expect_in_order(topic_);
  EXPECT_EQ(duplicates(topic_), 0U);
}

// The broker has written them, and nobody has heard of it: librdkafka asks again by sequence
// number.
TEST_F(KafkaOutageTest, AConnectionThatIsCutBeforeTheAnswerDoublesNothing) {
  // So long that the records share few requests: no more than five may be without an answer.
  start(gated(topic_).number("delivery_timeout", 20'000).number("linger", 300));
  deliver_all(numbered(500, 20));
  shared_kafka().gate().traffic(Direction::to_client, Traffic::drop);
  const auto unanswered = emit(numbered(500, 20, 500));
  wait_until([&] { return shared_kafka().count(topic_) == 1000; }, "the broker to have them");
  EXPECT_EQ(drain_.completed(), 500U);
  shared_kafka().gate().end_connections(Ending::reset);
  shared_kafka().gate().traffic(Direction::to_client, Traffic::pass);
  drain_.wait_for_all();
  expect_delivered(unanswered);
  EXPECT_EQ(duplicates(topic_), 0U);
  expect_in_order(topic_);
}

TEST_F(KafkaOutageTest, WhatMayHaveBeenWrittenIsSaidToBeInDoubt) {
  start(gated(topic_));
  deliver_all(numbered(20, 20));
  shared_kafka().gate().traffic(Direction::to_client, Traffic::drop);
  const auto unanswered = emit(numbered(20, 20, 20));
  drain_.wait_for_all();
  for (const std::uint64_t token : unanswered) {
    const Outcome& outcome = *drain_.item(token).outcome;
    EXPECT_EQ(outcome.kind, OutcomeKind::possibly_delivered) << error_code(token);
    EXPECT_TRUE(outcome.connection_lost);
  }
  EXPECT_EQ(shared_kafka().count(topic_), 40);
}

TEST_F(KafkaOutageTest, NothingIsSentOnceTheLeaseIsOver) {
  start(gated(topic_).number("delivery_timeout", 60'000));
  deliver_all(numbered(1, 1));
  shared_kafka().gate().admit(Admission::refuse);
  shared_kafka().gate().end_connections(Ending::reset);
  std::vector<std::uint64_t> tokens;
  EmitBatch batch = drain_.batch(numbered(100, 100, 1), tokens);
  const auto deadline = std::make_shared<SendDeadline>(Steady::now() + milliseconds(30'000));
  batch.deadline = deadline;
  emitter_->emit(std::move(batch));
  EXPECT_FALSE(holds_within([&] { return drain_.completed() > 1; }, milliseconds(300)));
  deadline->move(Steady::now());
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(100, OutcomeKind::shutdown));
  shared_kafka().gate().admit(Admission::accept);
  drain_.new_runs();
  deliver_all(numbered(1, 1, 101));
  EXPECT_EQ(shared_kafka().count(topic_), 2);
}

// What the producer holds for a partition that is gone is placed anew, and nobody's fault.
TEST_F(KafkaOutageTest, ATopicMadeAgainWithFewerPartitionsCostsNoEntry) {
  const std::string topic = fresh_topic(12);
  start(gated(topic).number("delivery_timeout", 20'000));
  deliver_all(numbered(1000, 200));
  shared_kafka().gate().admit(Admission::refuse);
  shared_kafka().gate().end_connections(Ending::reset);
  const auto tokens = emit(numbered(2000, 200, 1000));
  shared_kafka().delete_topic(topic);
  shared_kafka().create_topic(topic, 2);
  shared_kafka().gate().admit(Admission::accept);
  drain_.wait_for_all();
  std::vector<TestEntry> left;
  for (const std::uint64_t token : tokens) {
    ASSERT_NE(drain_.kind(token), OutcomeKind::failed) << error_code(token);
    if (drain_.kind(token) != OutcomeKind::delivered) left.push_back(drain_.item(token).entry);
  }
  drain_.new_runs();
  deliver_all(left);
  std::map<std::string, int> last;
  std::set<std::string> seen;
  for (const KafkaRecord& record : shared_kafka().records(topic)) {
    if (!seen.insert(*record.value).second) continue;
    EXPECT_LT(std::exchange(last[*record.key], std::stoi(*record.value)), std::stoi(*record.value));
  }
  EXPECT_EQ(seen.size(), 2000U);
}

TEST_F(KafkaOutageTest, AnEmitterStartsAndStopsWhileNoBrokerIsThere) {
  shared_kafka().gate().admit(Admission::refuse);
  start(gated(topic_));
  const auto begun = Steady::now();
  const auto health = emitter_->check(milliseconds(1000));
  EXPECT_LT(Steady::now() - begun, milliseconds(2000));
  EXPECT_FALSE(health.ok);
  EXPECT_NE(health.detail.find("Connection refused"), std::string::npos) << health.detail;
  const auto tokens = emit(numbered(100, 100));
  emitter_->stop(milliseconds(300));
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(100, OutcomeKind::shutdown));
}

}  // namespace
}  // namespace outfall::test
