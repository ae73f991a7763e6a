#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <prometheus/family.h>

#include "core/mutex.h"
#include "emitter/emitter.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace outfall {

// One emitter's way to the log and the metrics of this process. May be used from any thread; a call
// costs a short mutex and a look into a map. Outlives the emitter; `metrics` and `log` outlive it.
class DaemonReporter final : public EmitterReporter {
 public:
  DaemonReporter(std::string emitter, const EmitterKind& kind, Metrics& metrics, Logger& log);

  void log(ReportLevel level, std::string_view id, std::string_view message,
           std::string_view detail) noexcept override;
  void set(std::size_t metric, double value, std::string_view label) noexcept override;
  void add(std::size_t metric, double amount, std::string_view label) noexcept override;
  void forget(std::size_t metric, std::string_view label) noexcept override;

 private:
  struct Family {
    std::string_view label;
    prometheus::Family<prometheus::Gauge>* gauges = nullptr;
    prometheus::Family<prometheus::Counter>* counters = nullptr;
    std::map<std::string, prometheus::Gauge*, std::less<>> gauge_series;
    std::map<std::string, prometheus::Counter*, std::less<>> counter_series;
  };

  [[nodiscard]] prometheus::Labels labels(const Family& family, std::string_view label) const;

  const std::string emitter_;
  Logger& log_;
  Mutex mutex_;
  std::vector<Family> families_ OUTFALL_GUARDED_BY(mutex_);
};

}  // namespace outfall
