#include "tests/bench/sink_away.h"

#include <chrono>
#include <stdexcept>

#include <fmt/format.h>

#include "tests/bench/clock.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

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

Measurement measure_sink_away(const Options& options, Server& server, const Sink& sink) {
  const auto waiting = options.pick<std::int64_t>(300'000, 300'000, 3000);
  const std::int64_t before = waiting / 10;
  const double seconds = options.pick(20.0, 8.0, 1.0);
  const auto database = server.create();
  preload(*database, {.entries = waiting + before});
  Worker worker(options, *database, sink.settings);
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
    throw std::runtime_error("entries paid for their sink");
  }
  return {.benchmark = "memory",
          .name = fmt::format("{} away, {} entries wait", sink.name, left),
          .value = static_cast<double>(peak) / (1 << 20),
          .unit = "MiB",
          .rss_bytes = whole_peak,
          .note = fmt::format("back: first after {:.2f} s, all after {:.1f} s", first, all)};
}

}  // namespace outfall::bench
