#include "tests/bench/webhook_latency.h"

#include <array>
#include <map>
#include <stdexcept>

#include <fmt/format.h>

#include "tests/bench/http_sink.h"
#include "tests/bench/producers.h"
#include "tests/bench/webhook_stream.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

constexpr double kRate = 1000;
constexpr std::chrono::seconds kIdleStart{1};
constexpr std::chrono::seconds kDeadline{30};
constexpr std::array kShares{std::pair{"p50", 0.5}, std::pair{"p95", 0.95}, std::pair{"p99", 0.99}};

struct Case {
  std::string_view name;
  std::string_view drain_settings;
};
constexpr std::array kCases{Case{"as shipped", ""},
                            Case{"poll_active 1 ms", "[drain]\npoll_active = \"1ms\"\n"}};

struct Delivery {
  Waits waits;
  Measurement common;
};

Delivery deliver(const Options& options, Server& server, const Case& which, double seconds) {
  const auto database = server.create();
  HttpSink sink({.records = true});
  Worker worker(options, *database,
                fmt::format("{}{}", which.drain_settings,
                            webhook_stream(fmt::format("http://{}/hooks", sink.authority()))));
  // One entry ahead: when it is through, the worker is connected to both sides.
  database->connect().exec(
      "INSERT INTO outbox.entries (stream, type, payload) VALUES ('orders', 'first', '{}')");
  worker.wait_for([](const Metrics& m) { return delivered_of(m) >= 1; }, "the first entry");
  const double worker_before = worker.cpu_seconds();
  const double server_before = server.cpu_seconds();
  const double sink_before = sink.cpu_seconds();
  const auto commits =
      produce(database->dsn(), {.transactions_per_second = kRate, .seconds = seconds});
  Delivery done{.waits = waits_of(commits, collect_receipts(sink, commits, kDeadline), kIdleStart),
                .common = {.benchmark = "latency"}};
  if (done.waits.missing > 0) throw std::runtime_error("entries did not arrive");
  const auto per_entry = [&](double cpu) {
    return cpu / static_cast<double>(commits.size()) * 1e6;
  };
  done.common.worker_cpu_us = per_entry(worker.cpu_seconds() - worker_before);
  done.common.server_cpu_us = per_entry(server.cpu_seconds() - server_before);
  done.common.rss_bytes = worker.peak_rss_bytes();
  done.common.note =
      fmt::format("endpoint {:.1f} us; from idle at most {:.1f} ms",
                  per_entry(sink.cpu_seconds() - sink_before), done.waits.skipped_longest);
  worker.stop();
  return done;
}

}  // namespace

void measure_webhook_latency(const Options& options, Server& server,
                             const std::vector<double>& floor, double seconds, Report& report) {
  for (const Case& which : kCases) {
    std::map<std::string, std::vector<Measurement>> rounds;
    for (int round = 0; round < options.rounds(); ++round) {
      const Delivery done = deliver(options, server, which, seconds);
      for (const auto& [label, share] : kShares) {
        Measurement one = done.common;
        one.name = fmt::format("to a webhook, {}, {}", which.name, label);
        one.value = percentile(done.waits.milliseconds, share);
        one.unit = "ms";
        one.floor = percentile(floor, share);
        rounds[one.name].push_back(std::move(one));
      }
    }
    for (auto& [name, measurements] : rounds) report.add(median_by_value(std::move(measurements)));
  }
}

}  // namespace outfall::bench
