#pragma once

#include <vector>

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include "core/clock.h"
#include "telemetry/metric_table.h"

namespace outfall {

// A family with the name, help and type that the table has for `id`, without samples yet.
[[nodiscard]] prometheus::MetricFamily family_of(Metric id);

// The process_* metrics that every Prometheus client has, read from the kernel at each collection.
// What cannot be read (no /proc) is left out. Safe to call from any thread.
class ProcessMetrics final : public prometheus::Collectable {
 public:
  explicit ProcessMetrics(const Clock& clock);
  [[nodiscard]] std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  double start_time_seconds_ = 0;  // 0: unknown
};

}  // namespace outfall
