#pragma once

#include <functional>
#include <string>
#include <vector>

#include "daemon/admin/route.h"
#include "telemetry/heartbeat.h"

namespace outfall {

struct HealthReport {
  bool ok = true;
  std::vector<std::string> reasons;  // one sentence each; may be there also when ok
};

// What the standard routes show. `metrics`, `live` and `ready` run on the I/O thread and must not
// block beyond a short mutex; `status` may ask the database.
struct StandardHandlers {
  std::function<std::string()> metrics;  // Prometheus text
  std::function<HealthReport()> live;
  std::function<HealthReport()> ready;
  std::function<std::string()> status;  // a JSON document
};

// GET /metrics, /livez, /readyz and /status, all without a token. A failed health check answers
// 503.
[[nodiscard]] std::vector<Route> standard_routes(StandardHandlers handlers);

// Alive while the main loop has turned within `bound`. The heartbeat outlives the function.
[[nodiscard]] std::function<HealthReport()> alive_while_beating(const Heartbeat& heartbeat,
                                                                Milliseconds bound);

}  // namespace outfall
