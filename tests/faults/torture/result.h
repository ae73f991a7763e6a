#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tests/faults/history_judge.h"
#include "tests/faults/torture/plan.h"

namespace outfall::torture {

// What came of one run. A value.
struct Result {
  Case of;
  test::history::Verdict verdict;
  std::vector<std::string> injected;  // kinds, those that took place
  std::vector<std::string> missed;    // those that did not, and where they should have
  std::string problem;                // why the run could not be played or judged
  std::string skipped;                // why it was not tried
  double seconds = 0;
  std::filesystem::path kept;
  // A run whose fault never struck has shown nothing.
  [[nodiscard]] bool ok() const { return problem.empty() && missed.empty() && verdict.ok(); }
};

// What the report says of a run, as one line for another process of the same torture.
[[nodiscard]] std::string to_line(const Result& result);
[[nodiscard]] Result result_of_line(std::string_view line);  // throws std::invalid_argument

}  // namespace outfall::torture
