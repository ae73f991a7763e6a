#pragma once

#include "emitter/emitter.h"

namespace outfall {

// The kind "exec": hands entries to any program as CloudEvents JSON lines on its standard input and
// reads one answer per entry from its standard output; see README.md of this folder. Runs one
// thread, and the program as a child process from the first entry on.
[[nodiscard]] EmitterKind exec_emitter_kind();

}  // namespace outfall
