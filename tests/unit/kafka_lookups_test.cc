// A name server that hangs must not keep what ends.
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include "emitters/kafka/kafka.h"
#include "emitters/kafka/statistics.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/hanging_lookups.h"
#include "tests/support/mock_cluster.h"

namespace outfall::test {
namespace {

using std::chrono::seconds;

// Where something waits for the lookups, they do not hang for ever.
class EndOfLookups {
 public:
  explicit EndOfLookups(HangingLookups& lookups)
      : thread_([&lookups](const std::stop_token& stop) {
          std::mutex mutex;
          std::unique_lock lock(mutex);
          std::condition_variable_any().wait_for(lock, stop, seconds{30}, [] { return false; });
          lookups.end();
        }) {}

 private:
  std::jthread thread_;
};

TEST(KafkaLookups, ThatHangDoNotKeepTheEndOfAnEmitter) {
  const int before = rd_kafka_thread_cnt();
  HangingLookups lookups;
  std::optional<EndOfLookups> guard(lookups);
  TestSettings settings(kafka_emitter_kind());
  settings.text("brokers", "broker.hang.test:9092").text("topic", "orders");
  TestDrain drain;
  auto emitter = make_emitter(kafka_emitter_kind(), settings, drain);
  wait_until([&] { return lookups.waiting() > 0; }, "it looks the broker up");
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_FALSE(emitter->check(Milliseconds{100}).ok);
  emitter->stop(Milliseconds{0});
  emitter.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds{20});
  EXPECT_GT(lookups.waiting(), 0U);
  guard.reset();
  wait_until([&] { return rd_kafka_thread_cnt() == before; },
             "the producers end after the lookups");
}

// Taking a record back asks the thread of each broker, one of which is at its lookup.
TEST(KafkaLookups, ThatHangDoNotKeepARecordThatIsOut) {
  const int before = rd_kafka_thread_cnt();
  {
    MockCluster cluster;
    HangingLookups lookups;
    std::optional<EndOfLookups> guard(lookups);
    test_reporter().clear();
    TestSettings settings(kafka_emitter_kind());
    settings.text("topic", "orders")
        .text("brokers", cluster.brokers() + ",broker.hang.test:9092")
        .map("librdkafka",
             {{"statistics.interval.ms", "50"}, {"enable.sparse.connections", "false"}});
    TestDrain drain;
    auto emitter = make_emitter(kafka_emitter_kind(), settings, drain);
    drain.emit(*emitter, {{.key = "first"}});
    drain.wait_for_all();
    EXPECT_EQ(drain.kind(1), OutcomeKind::delivered);
    wait_until([&] { return lookups.waiting() > 0; }, "it looks the other broker up");
    cluster.set_rtt_ms(60'000);
    drain.emit(*emitter, {{.key = "second"}});
    wait_until([&] { return test_reporter().value(kafka::kQueueMessages).value_or(0) > 0; },
               "the record to be out");
    const auto begun = std::chrono::steady_clock::now();
    emitter->stop(Milliseconds{0});
    EXPECT_TRUE(drain.is_complete(2));
    emitter.reset();
    EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds{20});
    EXPECT_GT(lookups.waiting(), 0U);
  }
  wait_until([&] { return rd_kafka_thread_cnt() == before; },
             "the producers end after the lookups");
}

}  // namespace
}  // namespace outfall::test
