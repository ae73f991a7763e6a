#include "tests/support/judges.h"

#include <filesystem>
#include <stdexcept>

#include "tests/support/cache_folder.h"
#include "tests/support/child_process.h"

namespace outfall::test {

std::string run_judge(const std::string& script, std::vector<std::string> arguments) {
  const std::filesystem::path python = cache_folder() / "judges/bin/python";
  if (!std::filesystem::exists(python)) {
    throw std::runtime_error(python.string() + " is missing: run ops/install-dependencies judges");
  }
  arguments.insert(arguments.begin(), {python.string(), "-B", script});
  const Finished finished = run(std::move(arguments));
  if (finished.status.code != 0) {
    throw std::runtime_error("the judge " + script + ": " + finished.error_output);
  }
  return finished.output;
}

}  // namespace outfall::test
