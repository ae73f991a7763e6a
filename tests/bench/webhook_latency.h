#pragma once

#include <vector>

#include "tests/bench/benchmark.h"
#include "tests/bench/server.h"

namespace outfall::bench {

// A part of the benchmark `latency`: from commit to an HTTP endpoint's receipt. `floor` are the
// waits of its yardstick in milliseconds, sorted.
void measure_webhook_latency(const Options& options, Server& server,
                             const std::vector<double>& floor, double seconds, Report& report);

}  // namespace outfall::bench
