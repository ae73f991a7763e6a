#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

namespace outfall::test {

// librdkafka's mock cluster of one broker with the topic "orders" of one partition, for errors that
// a real broker cannot be made to give. It tells nothing about its topics' settings. Its threads
// end with it; an emitter that speaks to it must be gone before.
//
// Any thread; nothing here blocks.
class MockCluster {
 public:
  static constexpr int kBroker = 1;
  static constexpr std::int16_t kProduce = 0;
  static constexpr std::int16_t kInitProducerId = 22;

  MockCluster();
  ~MockCluster();
  MockCluster(const MockCluster&) = delete;
  MockCluster& operator=(const MockCluster&) = delete;

  [[nodiscard]] std::string brokers() const { return rd_kafka_mock_cluster_bootstraps(cluster_); }
  // The answers to the next requests of that kind: one of Kafka's error codes each, 0 for none.
  void push_errors(std::int16_t request, const std::vector<int>& errors);
  void clear_errors(std::int16_t request);
  void set_rtt_ms(int rtt_ms);
  // For what else librdkafka/rdkafka_mock.h has.
  [[nodiscard]] rd_kafka_mock_cluster_t* handle() const noexcept { return cluster_; }

 private:
  rd_kafka_t* host_;  // the client whose threads the cluster lives in
  rd_kafka_mock_cluster_t* cluster_;
};

}  // namespace outfall::test
