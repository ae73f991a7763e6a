#pragma once

#include <string>
#include <string_view>

#include "core/clock.h"

namespace outfall {

// A moment on the command line: "2026-03-01", "2026-03-01T12:30[:15[.25]][Z|+02:00]" (UTC where no
// offset is given), or "2h" for two hours before `now`, in the units of the configuration. Pure;
// throws CommandError (usage) that names `option`.
[[nodiscard]] WallTime parse_moment(std::string_view option, const std::string& text, WallTime now);

// "10m", "1500ms": a length of time from `least` to 24 hours. Pure; throws CommandError (usage)
// that names `option`.
[[nodiscard]] Milliseconds parse_span(std::string_view option, const std::string& text,
                                      Milliseconds least);

// "50/s", "50" (a second), "600/m" as entries a second. Throws CommandError (usage).
[[nodiscard]] double parse_rate(const std::string& text);

}  // namespace outfall
