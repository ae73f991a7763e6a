// How long a committed entry waits until its delivery is in the database, and until a webhook's
// endpoint has it, at a steady 1,000 transactions a second: of one entry each, and up to the
// database also of ten, which is 10,000 entries a second. The yardstick is a client that looks into
// the table every 3 ms, as a busy worker does, and takes what it finds.
//
// The first second counts apart: it begins with an idle worker, whose pause between two looks has
// grown to drain.poll_idle.
#include <array>
#include <cstring>
#include <endian.h>

#include <fmt/format.h>
#include <libpq-fe.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/clock.h"
#include "tests/bench/producers.h"
#include "tests/bench/server.h"
#include "tests/bench/settled_latency.h"
#include "tests/bench/sql_floor.h"
#include "tests/bench/usage.h"
#include "tests/bench/webhook_latency.h"

namespace outfall::bench {

namespace {

using std::chrono::steady_clock;
using std::chrono::system_clock;

constexpr double kRate = 1000;
constexpr std::chrono::milliseconds kPollEvery{3};
constexpr int kFloorBatch = 1000;

void take_all(SqlFloor& floor, Arrivals& arrivals) {
  while (true) {
    const SqlFloor::Result rows = floor.take();
    const auto now = system_clock::now();
    for (int row = 0; row < PQntuples(rows.get()); ++row) {
      std::uint64_t id = 0;
      std::memcpy(&id, PQgetvalue(rows.get(), row, 0), sizeof id);
      arrivals.at[static_cast<std::int64_t>(be64toh(id))] = now;
    }
    if (PQntuples(rows.get()) < kFloorBatch) return;
  }
}

Arrivals poll_by_hand(Server& server, const Load& load) {
  const auto database = server.create();
  SqlFloor floor(database->dsn(), kFloorBatch);
  Arrivals arrivals;
  const double client_cpu = thread_cpu_seconds();
  const double server_cpu = server.cpu_seconds();
  const auto commits = produce(database->dsn(), load, [&](const auto& done) {
    while (!done()) {
      take_all(floor, arrivals);
      wait_until_time(steady_clock::now() + kPollEvery);
    }
    take_all(floor, arrivals);
  });
  arrivals.client_cpu = thread_cpu_seconds() - client_cpu;
  arrivals.server_cpu = server.cpu_seconds() - server_cpu;
  compute_waits(commits, arrivals);
  return arrivals;
}

constexpr std::array kShares{std::pair{"p50", 0.5}, std::pair{"p95", 0.95}, std::pair{"p99", 0.99},
                             std::pair{"maximum", 1.0}};

// `prefix`: of the names, which tells the load.
void add_round(const std::string& prefix, const Load& load, const Arrivals& floor,
               const Arrivals& settled, Rounds& rounds) {
  const double entries = load.transactions_per_second * load.seconds * load.entries;
  const Measurement common{.benchmark = "latency",
                           .unit = "ms",
                           .worker_cpu_us = settled.client_cpu / entries * 1e6,
                           .server_cpu_us = settled.server_cpu / entries * 1e6,
                           .rss_bytes = settled.peak_rss};
  for (const auto& [label, share] : kShares) {
    Measurement one = common;
    one.name = fmt::format("{}commit to settled, {}", prefix, label);
    one.value = percentile(settled.milliseconds, share);
    one.floor = percentile(floor.milliseconds, share);
    rounds.add(std::move(one));
  }
  Measurement idle = common;
  idle.name = prefix + "commit to settled, from idle, maximum";
  idle.value = settled.from_idle;
  rounds.add(std::move(idle));
  Measurement cpu = common;
  cpu.name = prefix + "CPU of worker and server";
  cpu.value = settled.client_cpu + settled.server_cpu;
  cpu.unit = fmt::format("s in {:.0f} s", load.seconds);
  cpu.floor = floor.client_cpu + floor.server_cpu;
  cpu.note = fmt::format("worker {:.2f} s", settled.client_cpu);
  rounds.add(std::move(cpu));
  Report::progress(
      fmt::format("{}p50 {:.2f} ms, p99 {:.2f} ms; by hand {:.2f} and {:.2f} ms", prefix,
                  percentile(settled.milliseconds, 0.5), percentile(settled.milliseconds, 0.99),
                  percentile(floor.milliseconds, 0.5), percentile(floor.milliseconds, 0.99)));
}

}  // namespace

void run_latency(const Options& options, Report& report) {
  const double seconds = options.pick(31.0, 11.0, 2.0);
  Server server(options);
  Rounds rounds;
  std::vector<double> floor_waits;
  for (int round = 0; round < options.rounds(); ++round) {
    for (const int entries : {1, 10}) {
      const Load load{.transactions_per_second = kRate, .seconds = seconds, .entries = entries};
      const Arrivals floor = poll_by_hand(server, load);
      const Arrivals settled = deliver_settled(options, server, load);
      add_round(entries == 1 ? "" : fmt::format("{} entries a transaction: ", entries), load, floor,
                settled, rounds);
      if (entries == 1) floor_waits = floor.milliseconds;
    }
  }
  rounds.report(report, median_by_value);
  measure_webhook_latency(options, server, floor_waits, seconds, report);
}

}  // namespace outfall::bench
