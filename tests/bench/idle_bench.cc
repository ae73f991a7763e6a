// What a worker costs that has nothing to do. The yardstick is a client that asks an empty table
// for entries every 250 ms, the longest pause of a worker as shipped. A server without a worker has
// work of its own (its background processes, autovacuum), which is no worker's cost.
#include <array>
#include <map>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/clock.h"
#include "tests/bench/idle.h"
#include "tests/bench/server.h"
#include "tests/bench/sql_floor.h"
#include "tests/bench/usage.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

using std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPollEvery{250};

double transactions_of(test::PgClient& admin, const Database& database) {
  return static_cast<double>(
      admin.number("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1",
                   {database.name()}));
}

void wait_seconds(double seconds) {
  wait_until_time(steady_clock::now() + std::chrono::duration_cast<steady_clock::duration>(
                                            std::chrono::duration<double>(seconds)));
}

}  // namespace

Use measure_idle(const Options& options, Server& server, int count, double seconds) {
  const auto database = server.create();
  test::PgClient admin = server.postgres().connect();
  Worker worker(options, *database, noop_streams(count));
  // By then it is connected and its pauses have grown to their full length.
  wait_seconds(options.pick(5.0, 3.0, 1.0));
  const auto begun = steady_clock::now();
  Use use;
  use.transactions = -transactions_of(admin, *database);
  use.client_cpu = -worker.cpu_seconds();
  use.server_cpu = -server.cpu_seconds();
  wait_seconds(seconds);
  use.client_cpu += worker.cpu_seconds();
  use.server_cpu += server.cpu_seconds();
  use.transactions += transactions_of(admin, *database);
  use.seconds = std::chrono::duration<double>(steady_clock::now() - begun).count();
  use.peak_rss = worker.peak_rss_bytes();
  worker.stop();
  return use;
}

namespace {

Use poll_by_hand(Server& server, double seconds) {
  const auto database = server.create();
  SqlFloor floor(database->dsn(), 1000);
  static_cast<void>(floor.take());
  const auto begun = steady_clock::now();
  Use use;
  use.client_cpu = -thread_cpu_seconds();
  use.server_cpu = -server.cpu_seconds();
  while (use.seconds < seconds) {
    wait_until_time(steady_clock::now() + kPollEvery);
    static_cast<void>(floor.take());
    use.seconds = std::chrono::duration<double>(steady_clock::now() - begun).count();
  }
  use.client_cpu += thread_cpu_seconds();
  use.server_cpu += server.cpu_seconds();
  return use;
}

// The server alone, with a database that nobody asks anything.
Use server_alone(Server& server, double seconds) {
  const auto database = server.create();
  const auto begun = steady_clock::now();
  Use use;
  use.server_cpu = -server.cpu_seconds();
  wait_seconds(seconds);
  use.server_cpu += server.cpu_seconds();
  use.seconds = std::chrono::duration<double>(steady_clock::now() - begun).count();
  return use;
}

}  // namespace

void run_idle(const Options& options, Report& report) {
  const double seconds = options.pick(30.0, 10.0, 1.0);
  Server server(options);
  std::map<std::string, std::vector<Measurement>> rounds;
  for (int round = 0; round < options.rounds(); ++round) {
    const Use floor = poll_by_hand(server, seconds);
    const Use alone = server_alone(server, seconds);
    for (const int count : {1, 200}) {
      const Use use = measure_idle(options, server, count, seconds);
      const std::string label = fmt::format("{} stream{}", count, count == 1 ? "" : "s");
      Report::progress(fmt::format("{}: {:.2f} % of a core, {:.1f} queries/s", label, use.percent(),
                                   use.transactions / use.seconds));
      rounds["CPU, " + label].push_back(
          {.benchmark = "idle",
           .name = "CPU, " + label,
           .value = use.percent(),
           .unit = "% of a core",
           .floor = floor.percent(),
           .rss_bytes = use.peak_rss,
           .note =
               fmt::format("worker {:.2f} %, both beyond the server alone {:.2f} %",
                           use.client_cpu / use.seconds * 100, use.percent() - alone.percent())});
      rounds["queries, " + label].push_back({.benchmark = "idle",
                                             .name = "queries, " + label,
                                             .value = use.transactions / use.seconds,
                                             .unit = "queries/s"});
    }
  }
  for (auto& [name, measurements] : rounds) report.add(median_by_value(std::move(measurements)));
}

}  // namespace outfall::bench
