#pragma once

#include <chrono>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "tests/bench/producers.h"
#include "tests/bench/server.h"

namespace outfall::bench {

// When entries that were committed at a steady rate were out of the table, and what that took.
struct Arrivals {
  std::unordered_map<std::int64_t, std::chrono::system_clock::time_point> at;  // by entry id
  double client_cpu = 0;
  double server_cpu = 0;
  std::int64_t peak_rss = 0;
  std::vector<double> milliseconds = {};  // sorted, after the first second
  double from_idle = 0;                   // the longest of the first second
};

// From the commits to the arrivals. The first second counts apart: it begins with an idle worker,
// whose pause between two looks has grown to drain.poll_idle. Throws where one did not arrive.
void compute_waits(const std::vector<Commit>& commits, Arrivals& arrivals);

// Starts a worker as shipped, commits the load, and reads from the receipts when each entry was
// settled. Blocks for about `seconds`.
[[nodiscard]] Arrivals deliver_settled(const Options& options, Server& server, const Load& load);

}  // namespace outfall::bench
