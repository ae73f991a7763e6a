#pragma once

#include <vector>

#include <prometheus/metric_family.h>

#include "telemetry/database_sample.h"

namespace outfall {

// The metrics of scope `database` as they stand in `sample`. A pure function.
[[nodiscard]] std::vector<prometheus::MetricFamily> sample_families(const DatabaseSample& sample);

}  // namespace outfall
