// The worker's peak memory, with small and with large payloads. The yardstick is a worker that has
// had nothing to do.
#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/server.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

struct Case {
  std::string name;
  std::string_view ordering;
  std::int64_t entries = 0;
  int payload_bytes = 0;
};

std::int64_t idle_peak(const Options& options, Server& server) {
  const auto database = server.create();
  Worker worker(options, *database, noop_stream("key", "on"));
  // Two turns of the main loop: by then the worker has connected and polled.
  const double started = worker.metrics().sum("outfall_heartbeat_timestamp_seconds");
  worker.wait_for(
      [&](const Metrics& m) { return m.sum("outfall_heartbeat_timestamp_seconds") > started + 1; },
      "the main loop");
  const std::int64_t peak = worker.peak_rss_bytes();
  worker.stop();
  return peak;
}

}  // namespace

void run_memory(const Options& options, Report& report) {
  Server server(options);
  const std::int64_t idle = idle_peak(options, server);
  const auto mebibytes = [](std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  report.add({.benchmark = "memory",
              .name = "idle",
              .value = mebibytes(idle),
              .unit = "MiB",
              .rss_bytes = idle});
  const auto small = options.pick<std::int64_t>(1'000'000, 300'000, 3000);
  const Case cases[] = {
      {"backlog of 450 B", "none", small, 450},
      {"backlog of 450 B", "key", small, 450},
      {"backlog of 1 MB", "key", options.pick<std::int64_t>(2000, 2000, 20), 1'000'000},
  };
  for (const Case& which : cases) {
    const auto database = server.create();
    preload(*database, {.entries = which.entries, .payload_bytes = which.payload_bytes});
    Worker worker(options, *database, noop_stream(which.ordering, "on"));
    const DrainRun run = watch_drain(worker, server, which.entries);
    worker.stop();
    report.add({.benchmark = "memory",
                .name = fmt::format("{}, ordering {}, {} entries", which.name, which.ordering,
                                    which.entries),
                .value = mebibytes(run.peak_rss),
                .unit = "MiB",
                .floor = mebibytes(idle),
                .worker_cpu_us = run.worker_cpu_us(),
                .server_cpu_us = run.server_cpu_us(),
                .rss_bytes = run.peak_rss,
                .note = fmt::format("{:.0f} entries/s", run.rate())});
  }
}

}  // namespace outfall::bench
