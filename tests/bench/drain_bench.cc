// How fast a backlog drains, against the SQL floor.
#include <algorithm>
#include <array>
#include <map>
#include <stdexcept>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/server.h"
#include "tests/bench/server_use.h"
#include "tests/bench/sql_floor.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

constexpr std::array kBatches{500, 1000, 2000};

struct Case {
  std::string_view ordering;
  std::string_view receipts;
  [[nodiscard]] std::string name() const {
    return fmt::format("ordering {}, receipts {}", ordering, receipts);
  }
};
// Those that are compared with each other run one after the other.
constexpr std::array kCases{Case{"none", "off"}, Case{"key", "on"}, Case{"none", "on"},
                            Case{"key", "off"}};

class DrainBenchmark {
 public:
  explicit DrainBenchmark(const Options& options)
      : options_(options),
        entries_(options.entries_or(2'000'000, 500'000)),
        server_(options),
        loaded_(server_.create()) {
    preload(*loaded_, {.entries = entries_});
  }

  void run(Report& report) {
    for (int round = 0; round < options_.rounds(); ++round) {
      const double floor = measure_floor(round);
      double unordered = 0;
      for (const Case& which : kCases) {
        const DrainRun run = measure(which);
        if (unordered == 0) unordered = run.rate();
        rounds_[which.name()].push_back(measurement(which.name(), run, floor));
        if (which.ordering == "key" && which.receipts == "on") {
          const std::string name = "ordering key, receipts on, to none, off";
          rounds_[name].push_back(measurement(name, run, unordered));
        }
      }
    }
    report.add({.benchmark = "drain",
                .name = "SQL floor",
                .value = floors_[floors_.size() / 2],
                .unit = "entries/s",
                .note = fmt::format("{} entries a batch", batch_)});
    for (const auto& [name, rounds] : rounds_) report.add(median_by_ratio(rounds));
    uses_.report(report, median_by_value);
  }

 private:
  double floor_with(int batch) {
    const auto database = server_.copy(*loaded_);
    const double rate = SqlFloor(database->dsn(), batch).drain(entries_);
    Report::progress(fmt::format("SQL floor, {} a batch: {:.0f} entries/s", batch, rate));
    return rate;
  }

  // The first round finds the best batch, the later ones repeat it.
  double measure_floor(int round) {
    double best = 0;
    if (round == 0) {
      for (const int batch : kBatches) {
        const double rate = floor_with(batch);
        if (rate > best) batch_ = batch;
        best = std::max(best, rate);
      }
    } else {
      best = floor_with(batch_);
    }
    floors_.insert(std::upper_bound(floors_.begin(), floors_.end(), best), best);
    return best;
  }

  DrainRun measure(const Case& which) {
    const auto database = server_.copy(*loaded_);
    ServerUse use(server_, *database);
    Worker worker(options_, *database, noop_stream(which.ordering, which.receipts));
    const DrainRun run = watch_drain(worker, server_, entries_);
    worker.stop();
    add_use(which.name() + ", WAL", use.wal_bytes() / run.delivered, "bytes an entry");
    add_use(which.name() + ", commits", use.commits() / run.delivered * 1000, "a 1000 entries");
    Report::progress(fmt::format(
        "{}: {:.0f} entries/s over {:.1f} s; CPU us/entry: worker {:.2f}, server {:.2f}",
        which.name(), run.rate(), run.seconds, run.worker_cpu_us(), run.server_cpu_us()));
    check(*database, which.receipts == "on");
    return run;
  }

  void add_use(std::string name, double value, std::string unit) {
    uses_.add(
        {.benchmark = "drain", .name = std::move(name), .value = value, .unit = std::move(unit)});
  }

  // A figure counts only when everything was delivered, and once.
  void check(const Database& database, bool receipts) const {
    test::PgClient client = database.connect();
    const auto left = client.number("SELECT count(*) FROM outbox.entries");
    const auto kept = client.number("SELECT coalesce(sum(entries), 0) FROM outbox.receipts");
    if (left != 0 || kept != (receipts ? entries_ : 0)) {
      throw std::runtime_error(
          fmt::format("{} entries are left and {} have a receipt", left, kept));
    }
  }

  [[nodiscard]] static Measurement measurement(const std::string& name, const DrainRun& run,
                                               double floor) {
    return {.benchmark = "drain",
            .name = name,
            .value = run.rate(),
            .unit = "entries/s",
            .floor = floor,
            .worker_cpu_us = run.worker_cpu_us(),
            .server_cpu_us = run.server_cpu_us(),
            .rss_bytes = run.peak_rss,
            .note = fmt::format("{:.1f} s", run.seconds)};
  }

  const Options& options_;
  const std::int64_t entries_;
  Server server_;
  std::unique_ptr<Database> loaded_;
  int batch_ = 1000;
  std::vector<double> floors_;  // sorted
  std::map<std::string, std::vector<Measurement>> rounds_;
  Rounds uses_;  // what the server writes and commits
};

}  // namespace

void run_drain(const Options& options, Report& report) {
  DrainBenchmark(options).run(report);
}

}  // namespace outfall::bench
