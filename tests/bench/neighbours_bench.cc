// What an endpoint notices of another one that is slow or gone and for which much waits in the same
// stream and emitter; and what other keys notice of one hot key whose entries are slow. The
// yardstick is the same worker without them.
#include <array>
#include <memory>
#include <stdexcept>
#include <vector>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/http_sink.h"
#include "tests/bench/producers.h"
#include "tests/bench/server.h"
#include "tests/bench/webhook_stream.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

using std::chrono::milliseconds;

constexpr double kRate = 1000;
constexpr milliseconds kSlow{1000};
// What was committed and has not come by then after the last commit does not come in time.
constexpr std::chrono::seconds kDeadline{30};
constexpr std::string_view kHotKey = "noise-0";
constexpr std::array kShares{std::pair{"p50", 0.5}, std::pair{"p95", 0.95}, std::pair{"p99", 0.99},
                             std::pair{"maximum", 1.0}};

enum class Noise { none, slow_endpoint, gone_endpoint, slow_key };

struct Case {
  std::string name;
  Noise noise = Noise::none;
  int workers = 1;
};

class NeighboursBenchmark {
 public:
  explicit NeighboursBenchmark(const Options& options)
      : options_(options),
        seconds_(options.pick(20.0, 10.0, 1.0)),
        noise_entries_(options.pick<std::int64_t>(100'000, 100'000, 1000)),
        server_(options),
        neighbour_({.records = true,
                    .delay_of =
                        [](const SinkRequest& request) {
                          return request.header("ce-partitionkey") == kHotKey ? kSlow
                                                                              : milliseconds{0};
                        }}),
        slow_({.delay_of = [](const SinkRequest&) { return kSlow; }}) {
    gone_.go_away();
  }

  void run(Report& report) {
    const Case cases[] = {
        {"nothing beside it", Noise::none},
        {"beside a slow endpoint", Noise::slow_endpoint},
        {"beside an endpoint that is gone", Noise::gone_endpoint},
        {"beside a slow hot key", Noise::slow_key},
        {"beside a slow hot key, 3 workers", Noise::slow_key, 3},
    };
    for (int round = 0; round < options_.rounds(); ++round) {
      Waits floor;
      for (const Case& which : cases) {
        Waits waits = measure(which, floor);
        if (which.noise == Noise::none) floor = std::move(waits);
      }
    }
    rounds_.report(report, median_by_value);
  }

 private:
  static std::string headers_to(const HttpSink& sink) {
    return fmt::format("{{\"endpoint\":\"{}\"}}", sink.authority());
  }

  void preload_noise(Database& database, Noise noise) const {
    if (noise == Noise::none) return;
    const HttpSink& sink = noise == Noise::slow_endpoint   ? slow_
                           : noise == Noise::gone_endpoint ? gone_
                                                           : neighbour_;
    preload(database, {.entries = noise_entries_,
                       .keys = noise == Noise::slow_key ? 1 : 10'000,
                       .key_prefix = "noise-",
                       .headers = headers_to(sink)});
  }

  Waits measure(const Case& which, const Waits& floor) {
    const auto database = server_.create();
    preload_noise(*database, which.noise);
    std::vector<std::unique_ptr<Worker>> workers;
    for (int i = 0; i < which.workers; ++i) {
      workers.push_back(std::make_unique<Worker>(options_, *database, webhook_lanes()));
    }
    const double server_before = server_.cpu_seconds();
    const auto commits = produce(
        database->dsn(),
        {.transactions_per_second = kRate, .seconds = seconds_, .headers = headers_to(neighbour_)});
    Waits waits = waits_of(commits, collect_receipts(neighbour_, commits, kDeadline));
    const double server_cpu = server_.cpu_seconds() - server_before;
    double worker_cpu = 0;
    std::int64_t peak_rss = 0;
    for (const auto& worker : workers) {
      worker_cpu += worker->cpu_seconds();
      peak_rss = std::max(peak_rss, worker->peak_rss_bytes());
    }
    for (const auto& worker : workers) worker->stop();
    check(*database);
    const auto entries = static_cast<double>(commits.size());
    for (const auto& [label, share] : kShares) {
      Measurement one{.benchmark = "neighbours",
                      .name = fmt::format("{}, {}", which.name, label),
                      .value = percentile(waits.milliseconds, share),
                      .unit = "ms",
                      .worker_cpu_us = worker_cpu / entries * 1e6,
                      .server_cpu_us = server_cpu / entries * 1e6,
                      .rss_bytes = peak_rss};
      if (!floor.milliseconds.empty()) one.floor = percentile(floor.milliseconds, share);
      if (waits.missing > 0) one.note = fmt::format("{} did not arrive", waits.missing);
      rounds_.add(std::move(one));
    }
    Report::progress(fmt::format("{}: p50 {:.2f} ms, p99 {:.2f} ms, {} of {} did not arrive",
                                 which.name, percentile(waits.milliseconds, 0.5),
                                 percentile(waits.milliseconds, 0.99), waits.missing,
                                 commits.size()));
    return waits;
  }

  // Neither slowness nor absence of an endpoint is an entry's own fault.
  static void check(const Database& database) {
    test::PgClient client = database.connect();
    if (client.number("SELECT count(*) FROM outbox.dead_letters") > 0 ||
        client.number("SELECT coalesce(max(attempts), 0) FROM outbox.entries") > 0) {
      throw std::runtime_error("entries paid for their endpoint");
    }
  }

  const Options& options_;
  const double seconds_;
  const std::int64_t noise_entries_;
  Server server_;
  HttpSink neighbour_;
  HttpSink slow_;
  HttpSink gone_;
  Rounds rounds_;
};

}  // namespace

void run_neighbours(const Options& options, Report& report) {
  NeighboursBenchmark(options).run(report);
}

}  // namespace outfall::bench
