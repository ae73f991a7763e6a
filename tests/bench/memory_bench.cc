// The worker's peak memory, with small and with large payloads, and while its endpoint is away. The
// yardstick is a worker that has had nothing to do.
#include <stdexcept>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/clock.h"
#include "tests/bench/http_sink.h"
#include "tests/bench/server.h"
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

// The endpoint goes away in the middle of a backlog, so that the worker holds all that it may hold
// when the rest begins to wait; and it comes back.
Measurement endpoint_away(const Options& options, Server& server) {
  const auto waiting = options.pick<std::int64_t>(300'000, 300'000, 3000);
  const std::int64_t before = waiting / 10;
  const double seconds = options.pick(20.0, 8.0, 1.0);
  const auto database = server.create();
  preload(*database, {.entries = waiting + before});
  HttpSink sink;
  Worker worker(options, *database,
                webhook_stream(fmt::format("http://{}/hooks", sink.authority())));
  worker.wait_for(
      [&](const Metrics& m) { return delivered_of(m) >= static_cast<double>(before) / 2; },
      "half of what comes before");
  sink.go_away();
  const auto away = std::chrono::steady_clock::now();
  wait_until_time(away + std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000)));
  const std::int64_t peak = worker.peak_rss_bytes();
  const std::int64_t left = database->connect().number("SELECT count(*) FROM outbox.entries");
  sink.come_back();
  const auto back = std::chrono::steady_clock::now();
  const auto since_return = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - back).count();
  };
  const auto delivered = static_cast<double>(waiting + before - left);
  worker.wait_for([&](const Metrics& m) { return delivered_of(m) > delivered; }, "the return");
  const double first = since_return();
  worker.wait_for(
      [&](const Metrics& m) { return delivered_of(m) >= static_cast<double>(waiting + before); },
      "all of it");
  const double all = since_return();
  const std::int64_t whole_peak = worker.peak_rss_bytes();
  worker.stop();
  if (database->connect().number("SELECT count(*) FROM outbox.dead_letters") > 0) {
    throw std::runtime_error("entries paid for their endpoint");
  }
  return {.benchmark = "memory",
          .name = fmt::format("webhook endpoint away, {} entries wait", left),
          .value = static_cast<double>(peak) / (1 << 20),
          .unit = "MiB",
          .rss_bytes = whole_peak,
          .note = fmt::format("back: first after {:.2f} s, all after {:.1f} s", first, all)};
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
  Measurement away = endpoint_away(options, server);
  away.floor = mebibytes(idle);
  report.add(std::move(away));
}

}  // namespace outfall::bench
