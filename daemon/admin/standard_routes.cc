#include "daemon/admin/standard_routes.h"

#include <string_view>
#include <utility>

#include "core/text.h"
#include "telemetry/metrics.h"

namespace outfall {
namespace {

Response health_response(std::string_view member, const HealthReport& report) {
  Response response;
  response.status = report.ok ? 200 : 503;
  response.body = "{\"" + std::string(member) + "\":" + (report.ok ? "true" : "false");
  response.body += ",\"reasons\":[";
  for (std::size_t i = 0; i < report.reasons.size(); ++i) {
    if (i > 0) response.body += ',';
    append_json_string(response.body, report.reasons[i]);
  }
  response.body += "]}\n";
  return response;
}

Route get(std::string pattern, bool may_block, std::string summary,
          std::vector<RouteAnswer> answers, std::function<Response(const Request&)> handler) {
  return {.method = "GET",
          .pattern = std::move(pattern),
          .needs_token = false,
          .may_block = may_block,
          .summary = std::move(summary),
          .handler = std::move(handler),
          .answers = std::move(answers)};
}

}  // namespace

std::vector<Route> standard_routes(StandardHandlers handlers) {
  std::vector<Route> routes;
  routes.push_back(get("/metrics", false, "Metrics in the Prometheus text format.", {{200, "Text"}},
                       [metrics = std::move(handlers.metrics)](const Request&) {
                         Response response;
                         response.content_type = kMetricsContentType;
                         response.body = metrics();
                         return response;
                       }));
  routes.back().content_type = "text/plain";
  routes.push_back(get("/livez", false, "Whether the main loop still turns; if not, restart it.",
                       {{200, "Alive"}, {503, "Alive"}},
                       [live = std::move(handlers.live)](const Request&) {
                         return health_response("alive", live());
                       }));
  routes.push_back(get("/readyz", false, "Whether the process is able to work.",
                       {{200, "Ready"}, {503, "Ready"}},
                       [ready = std::move(handlers.ready)](const Request&) {
                         return health_response("ready", ready());
                       }));
  routes.push_back(get("/status", true, "Streams, backlog, breakers and leases as JSON.",
                       {{200, "WorkerStatus"}},
                       [status = std::move(handlers.status)](const Request&) {
                         Response response;
                         response.body = status();
                         return response;
                       }));
  return routes;
}

std::function<HealthReport()> alive_while_beating(const Heartbeat& heartbeat, Milliseconds bound) {
  return [&heartbeat, bound] {
    HealthReport report;
    const Milliseconds age = heartbeat.age();
    report.ok = age <= bound;
    if (!report.ok) {
      report.reasons.push_back("the main loop last turned " + std::to_string(age.count()) +
                               " ms ago, the bound is " + std::to_string(bound.count()) + " ms");
    }
    return report;
  };
}

}  // namespace outfall
