#pragma once

#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "emitter/reporter.h"

namespace outfall::kafka {

// The places of the rows of metric_specs().
enum Metric : std::size_t {
  kQueueMessages,
  kQueueBytes,
  kBrokerUp,
  kBrokerInFlight,
  kBrokerRttSeconds,
  kBrokerThrottleSeconds,
  kProducersTotal,
  kIsolatedTotal,
};

[[nodiscard]] std::span<const EmitterMetricSpec> metric_specs() noexcept;

// Turns librdkafka's statistics, a JSON document every few seconds, into metrics. Brokers that are
// no more lose their series. One thread at a time.
class Statistics {
 public:
  explicit Statistics(EmitterReporter& reporter) : reporter_(reporter) {}

  // Text that is not what librdkafka writes is ignored. Throws std::bad_alloc only.
  void take(std::string_view text);

 private:
  EmitterReporter& reporter_;
  std::set<std::string> brokers_;
};

}  // namespace outfall::kafka
