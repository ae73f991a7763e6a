#pragma once

#include <span>
#include <string>
#include <string_view>

namespace outfall {

// The candidate that a person probably meant by `given`, by edit distance without regard to case;
// empty when none is near. Pure.
[[nodiscard]] std::string_view nearest(std::string_view given,
                                       std::span<const std::string_view> candidates);

// "a, b and c"; for lists in messages.
[[nodiscard]] std::string enumerate(std::span<const std::string_view> items);

}  // namespace outfall
