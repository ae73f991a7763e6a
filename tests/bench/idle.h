#pragma once

#include <cstdint>

#include "tests/bench/benchmark.h"
#include "tests/bench/server.h"

namespace outfall::bench {

// What something that has nothing to do took meanwhile.
struct Use {
  double seconds = 0;
  double client_cpu = 0;
  double server_cpu = 0;
  double transactions = 0;
  std::int64_t peak_rss = 0;
  [[nodiscard]] double percent() const { return (client_cpu + server_cpu) / seconds * 100; }
};

// A worker as shipped with `count` empty streams in a database of its own, watched for `seconds`
// once it has come to rest. Blocks for a few seconds more than that.
[[nodiscard]] Use measure_idle(const Options& options, Server& server, int count, double seconds);

}  // namespace outfall::bench
