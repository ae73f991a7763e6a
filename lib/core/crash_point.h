#pragma once

// Places at which a test kills this process, to see that whoever comes next loses nothing: at
// every step of a delivery there is one. Only in builds with OUTFALL_CRASH_POINTS (CMake: the
// presets debug, asan, tsan and torture); in others nothing is left of them.
//
// The names are <part>.<moment>, and tests/faults/crash_points_test.cc knows all of them.
// Environment: OUTFALL_CRASH_AT=NAME:N kills by SIGKILL when the point NAME is reached for the Nth
// time, counted over all threads from 1; OUTFALL_CRASH_LOG=FILE gets the name of each reached
// point, a line each, before anything else happens; OUTFALL_CRASH_SIGNAL=STOP or TERM stops the
// process there, or asks it to end, in place of the kill. Without them a point does nothing. Any
// thread; never fails.
//
// OUTFALL_BROKEN=NAME leaves out one rule, to see that tests notice: OUTFALL_RULE_BROKEN(name) is
// true where it is this one.

#ifdef OUTFALL_CRASH_POINTS

#include <string_view>

namespace outfall {
void crash_point(std::string_view part, std::string_view moment) noexcept;
[[nodiscard]] bool rule_broken(std::string_view name) noexcept;
}  // namespace outfall

#define OUTFALL_CRASH_POINT(part, moment) ::outfall::crash_point(part, moment)
#define OUTFALL_RULE_BROKEN(name) ::outfall::rule_broken(name)

#else

#define OUTFALL_CRASH_POINT(part, moment) static_cast<void>(0)
#define OUTFALL_RULE_BROKEN(name) false

#endif
