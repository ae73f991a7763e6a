#pragma once

// Places at which a test kills this process, to see that whoever comes next loses nothing: at
// every step of a delivery there is one. Only in builds with OUTFALL_CRASH_POINTS (CMake: the debug
// and sanitizer presets); in others nothing is left of them.
//
// The names are <part>.<moment>, and tests/faults/crash_points_test.cc knows all of them.
// Environment: OUTFALL_CRASH_AT=NAME:N kills by SIGKILL when the point NAME is reached for the Nth
// time, counted over all threads from 1; OUTFALL_CRASH_LOG=FILE gets the name of each reached
// point, a line each, before anything else happens. Without them a point does nothing. Any thread;
// never fails.

#ifdef OUTFALL_CRASH_POINTS

#include <string_view>

namespace outfall {
void crash_point(std::string_view part, std::string_view moment) noexcept;
}

#define OUTFALL_CRASH_POINT(part, moment) ::outfall::crash_point(part, moment)

#else

#define OUTFALL_CRASH_POINT(part, moment) static_cast<void>(0)

#endif
