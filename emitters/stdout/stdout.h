#pragma once

#include "emitter/emitter.h"

namespace outfall {

// The kind "stdout": one CloudEvents JSON line per entry, to standard output or a file; see
// README.md of this folder. Runs one thread.
[[nodiscard]] EmitterKind stdout_emitter_kind();

}  // namespace outfall
