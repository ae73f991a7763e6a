#pragma once

#include <string>

#include "core/ids.h"
#include "drain/drain.h"
#include "store/sampling.h"

namespace outfall {

// The worker's own view of itself as JSON, for /status: what it holds, its breakers, its
// connection; and, where this worker samples, its last look at the backlog. What the database knows
// beyond it is `outfall status`.
[[nodiscard]] std::string status_json(const Drain::Snapshot& snapshot, const Uuid& worker,
                                      const DatabaseLook* look);

}  // namespace outfall
