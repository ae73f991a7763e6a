#pragma once

#include <string_view>
#include <vector>

#include <boost/json.hpp>

namespace outfall::torture {

// What a text of /metrics counts that the history checker compares with what happened: a `counter`
// line each, without time and worker. Series that differ in another label than stream and outcome
// are added up. Lines that are none of these are passed over. Pure.
[[nodiscard]] std::vector<boost::json::object> counters_in(std::string_view metrics);

// The sum of the series of this name, of those with this label (`kind="schema"`) where one is
// given; 0 where there is none. Pure.
[[nodiscard]] double sum_of(std::string_view metrics, std::string_view name,
                            std::string_view label = {});

// What a worker says that it has claimed and not settled: members of its `gauge` line. Pure.
inline constexpr const char* kInFlightEntries = "in_flight_entries";
inline constexpr const char* kInFlightBytes = "in_flight_bytes";
void add_in_flight(std::string_view metrics, boost::json::object& gauge);

}  // namespace outfall::torture
