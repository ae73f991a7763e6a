#pragma once

#include <string>

#include "daemon/commands.h"

// Whether what the configuration names can be used, for `check-config --connect` and `doctor`. One
// thread, as every command.

namespace outfall {

// What one connection was found to be like; `problem` has a message where it would not work.
struct Connected {
  std::string what;  // "database", "emitters.log"
  std::string detail;
  SettingProblem problem;
  bool unsuited = false;  // no later try mends it: schema, rights, an emitter that cannot be built
};

// Connects as a worker would, and looks whether the schema suits this outfall. Blocks for as long
// as the configured timeouts say; throws nothing that the database does.
[[nodiscard]] Connected ask_database(const Config& config);

// Builds the emitter and asks whether its destination answers, for at most five seconds.
[[nodiscard]] Connected ask_emitter(const Context& context, const Config& config,
                                    const EmitterConfig& emitter);

}  // namespace outfall
