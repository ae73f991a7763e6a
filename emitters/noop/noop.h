#pragma once

#include "emitter/emitter.h"

namespace outfall {

// The kind "noop": acknowledges without delivering; see README.md of this folder. Without `latency`
// it completes inside emit() and allocates nothing for an entry that it delivers.
[[nodiscard]] EmitterKind noop_emitter_kind();

}  // namespace outfall
