#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tests/bench/benchmark.h"
#include "tests/bench/server.h"

namespace outfall::bench {

// What entries go to, and how it can be taken away and brought back.
struct Sink {
  std::string name;
  std::string settings;  // of a worker that delivers to it
  std::function<void()> go_away;
  std::function<void()> come_back;
};

// The worker's peak memory while its sink is away and 300,000 entries wait. The sink goes away in
// the middle of a backlog, so that the worker holds all that it may hold when the rest begins to
// wait; and it comes back.
[[nodiscard]] Measurement measure_sink_away(const Options& options, Server& server,
                                            const Sink& sink);

// The peak of a worker that has nothing to do: the yardstick.
[[nodiscard]] std::int64_t idle_peak(const Options& options, Server& server);

}  // namespace outfall::bench
