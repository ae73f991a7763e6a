#pragma once

namespace outfall::test {

// While one of these lives, librdkafka makes no client: rd_kafka_new() fails as where a TLS file
// cannot be read. For this the program's own rd_kafka_new() stands before librdkafka's, so that
// refused_producers.cc is a source of such a test and none of the library. One at a time; all
// functions can be called from any thread.
class RefusedProducers {
 public:
  RefusedProducers();
  ~RefusedProducers();
  RefusedProducers(const RefusedProducers&) = delete;
  RefusedProducers& operator=(const RefusedProducers&) = delete;

  // How many were refused since it was made.
  [[nodiscard]] int count() const;

  static constexpr const char* kReason = "ssl.ca.location failed: no such file";
};

}  // namespace outfall::test
