#pragma once

#include "daemon/commands.h"

namespace outfall {

// Understands the command line, runs what it names, and reports every error on context.err: as
// "outfall: <what>" and "  hint: <what to change>", or as one JSON object where --json was given.
// Returns the exit code of the process. Throws nothing.
[[nodiscard]] int run_command_line(int argc, const char* const* argv, Context& context) noexcept;

}  // namespace outfall
