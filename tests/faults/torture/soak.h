#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/faults/torture/gauges.h"
#include "tests/faults/torture/run.h"
#include "tests/faults/torture/soak_faults.h"
#include "tests/faults/torture/tally.h"

namespace outfall::torture {

// A long time under load with a fault now and then, to see that nothing grows. Producers write at a
// steady rate, several workers deliver into one file, and everything that must stay bounded is
// looked at every few seconds: memory and descriptors of the workers, connections, dead rows,
// sizes, the oldest snapshot and the oldest entry. In the end all must have arrived, by a Tally.
struct SoakOptions {
  std::chrono::seconds lasts{1800};
  double rate = 5000;  // entries a second
  int workers = 3;
  std::uint64_t seed = 1;
  std::string kind;  // only faults with this in their name
};

struct SoakResult {
  Tally::Findings findings;
  std::vector<Gauges::Line> gauges;
  SoakFaults faults;
  std::vector<std::string> problems;  // anything else that is wrong, and why it could not be played
  double seconds = 0;                 // of load
  double drained_after_s = 0;         // since the end of the load
  bool growth_judged = false;
  std::filesystem::path kept;  // where the history and the logs are, if it is not ok
  [[nodiscard]] bool ok() const;
  [[nodiscard]] double committed_per_second() const;  // 0 where there was no load
};

// Blocks for as long as it lasts, and two minutes more at most. Failures are problems of the
// result; throws std::invalid_argument where no fault of a soak has the kind, and
// std::runtime_error where no server can be started.
[[nodiscard]] SoakResult play_soak(const Settings& settings, const SoakOptions& options);

// One table of the bounds, and what became of the entries.
[[nodiscard]] std::string soak_table(const SoakOptions& options, const SoakResult& result);
void write_soak_json(const SoakOptions& options, const SoakResult& result,
                     const std::filesystem::path& file);

}  // namespace outfall::torture
