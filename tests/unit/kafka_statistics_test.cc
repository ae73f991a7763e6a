// What an operator sees of librdkafka's statistics, also of brokers that leave the cluster.
#include <gtest/gtest.h>

#include "emitters/kafka/statistics.h"
#include "tests/support/emitter_harness.h"

namespace outfall::kafka {
namespace {

class KafkaStatisticsTest : public testing::Test {
 protected:
  [[nodiscard]] double value(Metric metric, const std::string& broker = {}) const {
    return reporter_.value(metric, broker).value_or(-1);
  }

  test::TestReporter reporter_;
  Statistics statistics_{reporter_};
};

// As librdkafka 2.0.2 writes them, shortened.
constexpr std::string_view kTwoBrokers = R"({
  "name": "outfall#producer-1", "msg_cnt": 22710, "msg_size": 704010,
  "brokers": {
    "kafka-1:9092/bootstrap": {"nodeid": -1, "nodename": "", "state": "UP", "waitresp_cnt": 7,
      "rtt": {"p99": 9}, "throttle": {"max": 9}},
    "kafka-1:9092/1": {"nodeid": 1, "nodename": "kafka-1:9092", "state": "UP", "waitresp_cnt": 5,
      "rtt": {"p99": 12500}, "throttle": {"max": 250}},
    "kafka-2:9092/2": {"nodeid": 2, "nodename": "kafka-2:9092", "state": "CONNECT",
      "waitresp_cnt": 0, "rtt": {"p99": 0}, "throttle": {"max": 0}}}})";
constexpr std::string_view kOneBroker = R"({
  "msg_cnt": 0, "msg_size": 0,
  "brokers": {
    "kafka-2:9092/2": {"nodeid": 2, "nodename": "kafka-2:9092", "state": "UP"}}})";

TEST_F(KafkaStatisticsTest, SayHowMuchWaitsAndHowEachBrokerDoes) {
  statistics_.take(kTwoBrokers);
  EXPECT_EQ(value(kQueueMessages), 22'710);
  EXPECT_EQ(value(kQueueBytes), 704'010);
  EXPECT_EQ(value(kBrokerUp, "kafka-1:9092"), 1);
  EXPECT_EQ(value(kBrokerInFlight, "kafka-1:9092"), 5);
  EXPECT_EQ(value(kBrokerRttSeconds, "kafka-1:9092"), 0.0125);
  EXPECT_EQ(value(kBrokerThrottleSeconds, "kafka-1:9092"), 0.25);
  EXPECT_EQ(value(kBrokerUp, "kafka-2:9092"), 0);
  EXPECT_FALSE(reporter_.value(kBrokerUp, "")) << "an address of the configuration is no broker";
}

TEST_F(KafkaStatisticsTest, ABrokerThatIsGoneTakesItsSeriesAlong) {
  statistics_.take(kTwoBrokers);
  statistics_.take(kOneBroker);
  for (const Metric metric :
       {kBrokerUp, kBrokerInFlight, kBrokerRttSeconds, kBrokerThrottleSeconds}) {
    EXPECT_FALSE(reporter_.value(metric, "kafka-1:9092")) << metric;
  }
  EXPECT_EQ(value(kBrokerUp, "kafka-2:9092"), 1);
  EXPECT_EQ(value(kQueueMessages), 0);
}

TEST_F(KafkaStatisticsTest, WhatIsNotTheirsIsIgnored) {
  statistics_.take(kTwoBrokers);
  for (const std::string_view text : {"", "{", "[]", "null", "\xff"}) statistics_.take(text);
  EXPECT_EQ(value(kQueueMessages), 22'710);
  statistics_.take(R"({"msg_cnt": "many", "brokers": {"a": 7, "b": {"nodeid": 1}}})");
  EXPECT_EQ(value(kQueueMessages), 0);
  EXPECT_FALSE(reporter_.value(kBrokerUp, "kafka-1:9092"));
}

}  // namespace
}  // namespace outfall::kafka
