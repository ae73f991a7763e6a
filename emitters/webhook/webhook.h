#pragma once

#include "emitter/emitter.h"

namespace outfall {

// The kind "webhook": entries as signed HTTP requests to one or many endpoints; see README.md of
// this folder. Runs one thread.
[[nodiscard]] EmitterKind webhook_emitter_kind();

}  // namespace outfall
