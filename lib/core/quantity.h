#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"

namespace outfall {

// The literals of durations and sizes in the configuration: digits and one unit, nothing between or
// around them. Pure functions. A number without a unit, a sign, a fraction, an unknown unit or a
// value beyond int64 is nullopt; bounds beyond that are the business of the setting's row.

// "250ms", "30s", "5m", "2h", "7d".
[[nodiscard]] std::optional<Milliseconds> parse_duration(std::string_view text) noexcept;

// "512B", "64KiB", "16MiB", "2GiB", and a plain number of bytes.
[[nodiscard]] std::optional<std::int64_t> parse_bytes(std::string_view text) noexcept;

// The shortest literal of exactly that value: 90 s is "90s", 120 s is "2m", 0 is "0s". Takes values
// that are not negative.
[[nodiscard]] std::string format_duration(Milliseconds duration);

// 1024 is "1KiB", 1000 is "1000B", 0 is "0B". Takes values that are not negative.
[[nodiscard]] std::string format_bytes(std::int64_t bytes);

}  // namespace outfall
