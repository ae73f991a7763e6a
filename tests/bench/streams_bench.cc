// The same load over one stream, a hundred and a thousand: a backlog, a steady thousand
// transactions a second, and nothing at all. The yardstick is the one stream of the same round.
#include <array>
#include <map>
#include <stdexcept>
#include <string>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/idle.h"
#include "tests/bench/server.h"
#include "tests/bench/server_use.h"
#include "tests/bench/settled_latency.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

constexpr double kRate = 1000;

class StreamsBenchmark {
 public:
  explicit StreamsBenchmark(const Options& options)
      : options_(options), entries_(options.entries_or(1'000'000, 300'000)), server_(options) {}

  void run(Report& report) {
    Rounds rounds;
    for (int round = 0; round < options_.rounds(); ++round) {
      for (const int streams : counts()) {
        name_ = fmt::format("{} stream{}, ", streams, streams == 1 ? "" : "s");
        measure_backlog(streams, rounds);
        measure_steady(streams, rounds);
        measure_nothing(streams, rounds);
      }
      first_.clear();
    }
    rounds.report(report, median_by_value);
  }

 private:
  [[nodiscard]] std::array<int, 3> counts() const {
    return options_.scale == Scale::smoke ? std::array{1, 5, 20} : std::array{1, 100, 1000};
  }

  // With what the one stream had as its floor.
  void add(Measurement one, Rounds& rounds) {
    const auto [first, is_first] = first_.emplace(one.name, one.value);
    if (!is_first) one.floor = first->second;
    one.benchmark = "streams";
    one.name = name_ + one.name;
    rounds.add(std::move(one));
  }

  void measure_backlog(int streams, Rounds& rounds) {
    const auto database = server_.create();
    preload(*database, {.entries = entries_, .streams = streams});
    ServerUse use(server_, *database);
    Activity activity(server_, *database);
    Worker worker(options_, *database, noop_streams(streams));
    const DrainRun run = watch_receipts(worker, server_, *database, entries_);
    const Activity::Seen seen = activity.stop();
    const double before = worker.cpu_seconds();
    static_cast<void>(worker.metrics());
    const double look_ms = (worker.cpu_seconds() - before) * 1000;
    worker.stop();
    const auto left = database->connect().number("SELECT count(*) FROM outbox.entries");
    if (left != 0) throw std::runtime_error(fmt::format("{} entries are left", left));
    const auto figure = [&](const char* name, double value, const char* unit) {
      return Measurement{.name = name,
                         .value = value,
                         .unit = unit,
                         .worker_cpu_us = run.worker_cpu_us(),
                         .server_cpu_us = run.server_cpu_us(),
                         .rss_bytes = run.peak_rss};
    };
    Measurement rate = figure("backlog", run.rate(), "entries/s");
    rate.note = fmt::format("{:.1f} s, {:.0f} connections", run.seconds, seen.most_sessions);
    add(std::move(rate), rounds);
    add(figure("WAL", use.wal_bytes() / run.delivered, "bytes an entry"), rounds);
    add(figure("commits", use.commits() / run.delivered * 1000, "a 1000 entries"), rounds);
    add(figure("connections", seen.most_sessions, "connections"), rounds);
    add(figure("one look at /metrics", look_ms, "ms CPU"), rounds);
  }

  void measure_steady(int streams, Rounds& rounds) {
    const double seconds = options_.pick(31.0, 11.0, 2.0);
    const Arrivals arrivals =
        deliver_settled(options_, server_,
                        {.transactions_per_second = kRate, .seconds = seconds, .streams = streams});
    const double entries = kRate * seconds;
    for (const auto& [label, share] : {std::pair{"p50", 0.5}, std::pair{"p99", 0.99}}) {
      add({.name = fmt::format("commit to settled at {:.0f}/s, {}", kRate, label),
           .value = percentile(arrivals.milliseconds, share),
           .unit = "ms",
           .worker_cpu_us = arrivals.client_cpu / entries * 1e6,
           .server_cpu_us = arrivals.server_cpu / entries * 1e6,
           .rss_bytes = arrivals.peak_rss,
           .note = "the server's CPU with the producers' inserts"},
          rounds);
    }
  }

  void measure_nothing(int streams, Rounds& rounds) {
    const Use use = measure_idle(options_, server_, streams, options_.pick(20.0, 10.0, 1.0));
    add({.name = "idle",
         .value = use.percent(),
         .unit = "% of a core",
         .rss_bytes = use.peak_rss,
         .note = fmt::format("worker {:.2f} %, {:.1f} queries/s",
                             use.client_cpu / use.seconds * 100, use.transactions / use.seconds)},
        rounds);
  }

  const Options& options_;
  const std::int64_t entries_;
  Server server_;
  std::string name_;
  std::map<std::string, double> first_;  // what the fewest streams had in this round
};

}  // namespace

void run_streams(const Options& options, Report& report) {
  StreamsBenchmark(options).run(report);
}

}  // namespace outfall::bench
