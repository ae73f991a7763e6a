#pragma once

#include <string>
#include <vector>

namespace outfall::test {

// Runs a program of tests/judges with the Python packages that `ops/install-dependencies judges`
// has fetched, and returns what it wrote to standard output. Throws where they are missing or the
// judge fails. `script` is the whole path.
[[nodiscard]] std::string run_judge(const std::string& script, std::vector<std::string> arguments);

}  // namespace outfall::test
