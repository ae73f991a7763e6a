// A name server that hangs must not keep what ends.
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include "emitters/kafka/kafka.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/hanging_lookups.h"

namespace outfall::test {
namespace {

using std::chrono::seconds;

TEST(KafkaLookups, ThatHangDoNotKeepTheEndOfAnEmitter) {
  const int before = rd_kafka_thread_cnt();
  HangingLookups lookups;
  // Where the end waits for the lookups, they do not hang for ever.
  std::jthread guard([&](const std::stop_token& stop) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any().wait_for(lock, stop, seconds{30}, [] { return false; });
    lookups.end();
  });
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
  guard = {};
  wait_until([&] { return rd_kafka_thread_cnt() == before; },
             "the producers end after the lookups");
}

}  // namespace
}  // namespace outfall::test
