#pragma once

#include <string_view>

namespace outfall {

// How every command ends (sysexits.h). docs/reference/exit-codes.md tells operators what to do.
enum class ExitCode : int {
  ok = 0,
  usage = 64,          // the command line is wrong
  unavailable = 69,    // something that was asked for is not there: server, entry, stream
  software = 70,       // a defect, or an error that no other code fits
  temporary = 75,      // it failed now and may succeed later
  configuration = 78,  // the configuration is wrong
};

// snake_case name, as in error objects.
[[nodiscard]] constexpr std::string_view to_string(ExitCode code) noexcept {
  switch (code) {
    case ExitCode::ok:
      return "ok";
    case ExitCode::usage:
      return "usage";
    case ExitCode::unavailable:
      return "unavailable";
    case ExitCode::software:
      return "software";
    case ExitCode::temporary:
      return "temporary";
    case ExitCode::configuration:
      return "configuration";
  }
  return "software";
}

}  // namespace outfall
