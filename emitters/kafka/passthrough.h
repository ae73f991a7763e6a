#pragma once

#include <string>
#include <string_view>

namespace outfall::kafka {

// Why a property of [emitters.NAME.librdkafka] is refused; an empty message where it is not. Knows
// what the promise of delivery rests on and what has a setting of outfall's own; whether librdkafka
// knows the property at all is for librdkafka to say. Pure.
struct PassthroughProblem {
  std::string message;
  std::string hint;
};
[[nodiscard]] PassthroughProblem passthrough_problem(std::string_view name, std::string_view value);

}  // namespace outfall::kafka
