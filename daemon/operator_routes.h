#pragma once

#include <vector>

#include "config/config.h"
#include "daemon/admin/route.h"
#include "daemon/job_keeper.h"

namespace outfall {

// What the routes of operators work with; all of it outlives them. `config` is the one that the
// worker was started with: streams come and go with a restart only.
struct OperatorDesk {
  JobKeeper::Open open;  // a connection for each request: they are rare, and none stays open idle
  const Config& config;
  JobKeeper& jobs;
};

// The command line's operations below /v1, all with the token, all on the thread that asks the
// database. They answer the documents of the commands' --json.
[[nodiscard]] std::vector<Route> operator_routes(const OperatorDesk& desk);

// GET /openapi.json: the document of `routes` and of itself, with the schemas of all that they
// answer.
[[nodiscard]] Route openapi_route(const std::vector<Route>& routes);

// The schemas of what a worker answers, as a JSON object by their names.
extern const char* const kAnswerSchemas;

}  // namespace outfall
