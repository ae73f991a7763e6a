#pragma once

#include <array>
#include <vector>

#include "tests/faults/torture/gauges.h"

namespace outfall::torture {

inline constexpr auto kWorkerMemory = "memory of a worker";
inline constexpr auto kOldestMemory = "memory of the oldest worker";
inline constexpr auto kWorkerFiles = "descriptors of a worker";
inline constexpr std::array kSoakOfDatabase{"connections of the workers",
                                            "dead rows of entries",
                                            "dead rows of the other tables",
                                            "table entries",
                                            "indexes of entries",
                                            "the other tables, without receipts",
                                            "oldest snapshot, transactions",
                                            "oldest snapshot, time",
                                            "idle in a transaction, longest",
                                            "age of the oldest entry"};

// The bounds of a soak with this load, entries a second: what each stands on is said where they
// are.
[[nodiscard]] std::vector<Bound> soak_bounds(double rate, int workers);

}  // namespace outfall::torture
