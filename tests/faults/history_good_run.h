#pragma once

#include <cstdint>

#include "tests/faults/history_scene.h"

namespace outfall::test::history {

// A history that breaks nothing: 200 entries of eight keys and of none, with rollbacks, doubtful
// commits, workers that are killed and succeeded, dead letters and replays.
[[nodiscard]] Scene good_run(std::uint64_t seed);

}  // namespace outfall::test::history
