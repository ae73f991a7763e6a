#include "tests/support/mock_cluster.h"

#include <array>
#include <stdexcept>

namespace outfall::test {

MockCluster::MockCluster() {
  std::array<char, 256> error{};
  host_ = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), error.data(), error.size());
  if (host_ == nullptr) throw std::runtime_error(std::string("no Kafka client: ") + error.data());
  cluster_ = rd_kafka_mock_cluster_new(host_, 1);
  rd_kafka_mock_topic_create(cluster_, "orders", 1, 1);
}

MockCluster::~MockCluster() {
  rd_kafka_mock_cluster_destroy(cluster_);
  rd_kafka_destroy(host_);
}

void MockCluster::push_errors(std::int16_t request, const std::vector<int>& errors) {
  std::vector<rd_kafka_resp_err_t> all;
  for (const int error : errors) all.push_back(static_cast<rd_kafka_resp_err_t>(error));
  rd_kafka_mock_push_request_errors_array(cluster_, request, all.size(), all.data());
}

void MockCluster::clear_errors(std::int16_t request) {
  rd_kafka_mock_clear_request_errors(cluster_, request);
}

void MockCluster::set_rtt_ms(int rtt_ms) {
  rd_kafka_mock_broker_set_rtt(cluster_, kBroker, rtt_ms);
}

}  // namespace outfall::test
