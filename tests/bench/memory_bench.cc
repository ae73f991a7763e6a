// The worker's peak memory, with small and with large payloads, and while its endpoint is away. The
// yardstick is a worker that has had nothing to do.
#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/http_sink.h"
#include "tests/bench/server.h"
#include "tests/bench/sink_away.h"
#include "tests/bench/webhook_stream.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

struct Case {
  std::string name;
  std::string_view ordering;
  std::int64_t entries = 0;
  int payload_bytes = 0;
};

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
  HttpSink sink;
  Measurement away = measure_sink_away(
      options, server,
      {.name = "webhook endpoint",
       .settings = webhook_stream(fmt::format("http://{}/hooks", sink.authority())),
       .go_away = [&] { sink.go_away(); },
       .come_back = [&] { sink.come_back(); }});
  away.floor = mebibytes(idle);
  report.add(std::move(away));
}

}  // namespace outfall::bench
