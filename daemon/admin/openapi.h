#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>

#include "daemon/admin/route.h"

namespace outfall {

// The OpenAPI 3.1 document of a table of routes: what the rows say, so it can neither name what is
// not there nor leave out what is. `schemas` is a JSON object of the schemas that the rows' answers
// name; Error is added. Throws std::logic_error for a name that is not in it. Pure.
[[nodiscard]] std::string openapi_document(std::span<const Route> routes, std::string_view version,
                                           std::string_view schemas);

// Every status that a route documents: those of its row, and those that follow from it.
[[nodiscard]] std::set<int> documented_statuses(const Route& route);

}  // namespace outfall
