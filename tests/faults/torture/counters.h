#pragma once

#include <string_view>
#include <vector>

#include <boost/json.hpp>

namespace outfall::torture {

// What a text of /metrics counts that the history checker compares with what happened: a `counter`
// line each, without time and worker. Series that differ in another label than stream and outcome
// are added up. Lines that are none of these are passed over. Pure.
[[nodiscard]] std::vector<boost::json::object> counters_in(std::string_view metrics);

}  // namespace outfall::torture
