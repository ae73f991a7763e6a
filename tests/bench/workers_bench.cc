// Several workers on one database: how the rate grows with them or stops growing, and what they and
// the server do meanwhile. The yardstick is one worker on the same streams in the same round.
#include <array>
#include <stdexcept>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/producers.h"
#include "tests/bench/server.h"
#include "tests/bench/server_use.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

constexpr double kInsertsASecond = 2000;

struct Case {
  int workers = 1;
  int streams = 1;
  [[nodiscard]] std::string name() const {
    return fmt::format("{} worker{}, {} stream{}", workers, workers == 1 ? "" : "s", streams,
                       streams == 1 ? "" : "s");
  }
};

struct Seen {
  DrainRun run;
  Activity::Seen activity = {};
  double wal_bytes = 0;    // an entry
  double commits = 0;      // an entry
  double claims = 0;       // an entry
  double busy_claims = 0;  // the share of them that found another worker at the stream
  // Of all CPU time that there was, what workers and server had.
  [[nodiscard]] double machine() const {
    return (run.worker_cpu + run.server_cpu) / run.seconds / std::thread::hardware_concurrency();
  }
};

class WorkersBenchmark {
 public:
  explicit WorkersBenchmark(const Options& options)
      : options_(options),
        entries_(options.entries_or(1'000'000, 300'000)),
        streams_(options.pick(8, 8, 2)),
        server_(options) {}

  void run(Report& report) {
    Rounds rounds;
    for (int round = 0; round < options_.rounds(); ++round) {
      add_inserts(rounds);
      for (const int streams : {1, streams_}) {
        const auto loaded = server_.create();
        preload(*loaded, {.entries = entries_, .streams = streams});
        double alone = 0;
        for (const int workers : {1, 2, 4, 8}) {
          if (workers > 2 && options_.scale == Scale::smoke) continue;
          const Case which{workers, streams};
          const Seen seen = measure(*loaded, which);
          if (workers == 1) alone = seen.run.rate();
          add(which, seen, alone, rounds);
        }
      }
    }
    rounds.report(report, median_by_value);
  }

 private:
  // What the entries cost before any worker sees them: one row a transaction, at a rate that leaves
  // the machine room.
  void add_inserts(Rounds& rounds) {
    const double seconds = options_.pick(10.0, 5.0, 1.0);
    const auto database = server_.create();
    ServerUse use(server_, *database);
    const double before = server_.cpu_seconds();
    const auto count = static_cast<double>(
        produce(database->dsn(), {.transactions_per_second = kInsertsASecond, .seconds = seconds})
            .size());
    const double cpu = (server_.cpu_seconds() - before) / count * 1e6;
    rounds.add({.benchmark = "workers",
                .name = "inserts, one row a transaction",
                .value = cpu,
                .unit = "us CPU a row",
                .server_cpu_us = cpu});
    rounds.add({.benchmark = "workers",
                .name = "inserts, one row a transaction, WAL",
                .value = use.wal_bytes() / count,
                .unit = "bytes a row"});
  }

  // The streams are paused until all workers are there: the first ones would be half done.
  std::vector<std::unique_ptr<Worker>> start(const Database& database, const Case& which) const {
    test::PgClient admin = database.connect();
    admin.exec("UPDATE outbox.streams SET paused = true");
    std::vector<std::unique_ptr<Worker>> workers;
    for (int i = 0; i < which.workers; ++i) {
      workers.push_back(std::make_unique<Worker>(options_, database, noop_streams(which.streams)));
    }
    for (const auto& worker : workers) {
      worker->wait_for([](const Metrics& m) { return m.sum("outfall_database_connected") > 0; },
                       "the worker to connect");
    }
    admin.exec("UPDATE outbox.streams SET paused = false");
    return workers;
  }

  Seen measure(const Database& loaded, const Case& which) {
    const auto database = server_.copy(loaded);
    const auto workers = start(*database, which);
    std::vector<Worker*> all;
    for (const auto& worker : workers) all.push_back(worker.get());
    ServerUse use(server_, *database);
    Activity activity(server_, *database);
    Seen seen{.run = watch_drain(all, server_, entries_)};
    seen.activity = activity.stop();
    double busy = 0;
    for (const auto& worker : workers) {
      const Metrics metrics = worker->metrics();
      seen.claims += metrics.sum("outfall_claims_total");
      busy += metrics.sum("outfall_claims_total", "result=\"busy\"");
      worker->stop();
    }
    seen.busy_claims = busy / seen.claims;
    seen.claims /= seen.run.delivered;
    seen.wal_bytes = use.wal_bytes() / seen.run.delivered;
    seen.commits = use.commits() / seen.run.delivered;
    const auto left = database->connect().number("SELECT count(*) FROM outbox.entries");
    if (left != 0) throw std::runtime_error(fmt::format("{} entries are left", left));
    tell(which, seen);
    return seen;
  }

  static void tell(const Case& which, const Seen& seen) {
    Report::progress(fmt::format(
        "{}: {:.0f}/s; CPU us/entry: worker {:.2f}, server {:.2f}; {:.0f} % of the machine; "
        "sessions: {}",
        which.name(), seen.run.rate(), seen.run.worker_cpu_us(), seen.run.server_cpu_us(),
        seen.machine() * 100, seen.activity.summary()));
  }

  static void add(const Case& which, const Seen& seen, double alone, Rounds& rounds) {
    const auto figure = [&](const char* what, double value, std::string unit) {
      return Measurement{.benchmark = "workers",
                         .name = which.name() + what,
                         .value = value,
                         .unit = std::move(unit),
                         .worker_cpu_us = seen.run.worker_cpu_us(),
                         .server_cpu_us = seen.run.server_cpu_us(),
                         .rss_bytes = seen.run.peak_rss};
    };
    Measurement rate = figure("", seen.run.rate(), "entries/s");
    rate.floor = alone;
    rate.note = "sessions: " + seen.activity.summary();
    rounds.add(std::move(rate));
    rounds.add(figure(", of the machine's CPU", seen.machine() * 100, "%"));
    rounds.add(
        figure(", waiting for locks", seen.activity.share("Lock") * 100, "% of the sessions"));
    rounds.add(
        figure(", waiting for latches", seen.activity.share("LWLock") * 100, "% of the sessions"));
    rounds.add(
        figure(", waiting for the disk", seen.activity.share("IO") * 100, "% of the sessions"));
    rounds.add(figure(", claims at a busy stream", seen.busy_claims * 100, "% of the claims"));
    rounds.add(figure(", claims", seen.claims * 1000, "a 1000 entries"));
    rounds.add(figure(", commits", seen.commits * 1000, "a 1000 entries"));
    rounds.add(figure(", WAL", seen.wal_bytes, "bytes an entry"));
    rounds.add(figure(", connections", seen.activity.most_sessions, "connections"));
  }

  const Options& options_;
  const std::int64_t entries_;
  const int streams_;
  Server server_;
};

}  // namespace

void run_workers(const Options& options, Report& report) {
  WorkersBenchmark(options).run(report);
}

}  // namespace outfall::bench
