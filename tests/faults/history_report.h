#pragma once

#include <string>

#include "tests/faults/history_judge.h"

namespace outfall::test::history {

// For people: figures, invariants with what was found, faults with what they explain, and samples.
[[nodiscard]] std::string to_table(const Verdict& verdict);

// For programs, one object; README.md lists its members.
[[nodiscard]] std::string to_json(const Verdict& verdict);

}  // namespace outfall::test::history
