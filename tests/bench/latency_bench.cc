// How long a committed entry waits until its delivery is in the database, and until a webhook's
// endpoint has it, at a steady 1,000 transactions a second. The yardstick is a client that looks
// into the table every 3 ms, as a busy worker does, and takes what it finds.
//
// The first second counts apart: it begins with an idle worker, whose pause between two looks has
// grown to drain.poll_idle.
#include <algorithm>
#include <array>
#include <cstring>
#include <endian.h>
#include <map>
#include <stdexcept>
#include <unordered_map>

#include <fmt/format.h>
#include <libpq-fe.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/clock.h"
#include "tests/bench/producers.h"
#include "tests/bench/server.h"
#include "tests/bench/sql_floor.h"
#include "tests/bench/usage.h"
#include "tests/bench/webhook_latency.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

using std::chrono::steady_clock;
using std::chrono::system_clock;

constexpr double kRate = 1000;
constexpr std::chrono::milliseconds kPollEvery{3};
constexpr int kFloorBatch = 1000;
constexpr std::chrono::seconds kIdleStart{1};

struct Arrivals {
  std::unordered_map<std::int64_t, system_clock::time_point> at;  // by entry id
  double client_cpu = 0;
  double server_cpu = 0;
  std::int64_t peak_rss = 0;
  std::vector<double> milliseconds = {};  // sorted, after the first second
  double from_idle = 0;                   // the longest of the first second
};

void compute_waits(const std::vector<Commit>& commits, Arrivals& arrivals) {
  system_clock::time_point first = system_clock::time_point::max();
  for (const Commit& commit : commits) first = std::min(first, commit.at);
  for (const Commit& commit : commits) {
    const auto arrived = arrivals.at.find(commit.entry_id);
    if (arrived == arrivals.at.end()) {
      throw std::runtime_error(fmt::format("entry {} did not arrive", commit.entry_id));
    }
    const double wait =
        std::chrono::duration<double, std::milli>(arrived->second - commit.at).count();
    if (commit.at < first + kIdleStart) {
      arrivals.from_idle = std::max(arrivals.from_idle, wait);
    } else {
      arrivals.milliseconds.push_back(wait);
    }
  }
  std::sort(arrivals.milliseconds.begin(), arrivals.milliseconds.end());
}

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

Arrivals poll_by_hand(Server& server, double seconds) {
  const auto database = server.create();
  SqlFloor floor(database->dsn(), kFloorBatch);
  Arrivals arrivals;
  const double client_cpu = thread_cpu_seconds();
  const double server_cpu = server.cpu_seconds();
  const auto commits = produce(database->dsn(), kRate, seconds, [&](const auto& done) {
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

// The settle's own clock says when an entry was settled; server and producers share the machine's.
void read_receipts(const Database& database, Arrivals& arrivals) {
  const auto rows = database.connect().query(
      "SELECT first_id + u.id_offset, (extract(epoch FROM delivered_at) * 1000000)::bigint "
      "  FROM outbox.receipts CROSS JOIN LATERAL unnest(id_offsets) AS u (id_offset)");
  for (const test::PgRow& row : rows) {
    arrivals.at[std::stoll(*row[0])] =
        system_clock::time_point(std::chrono::microseconds(std::stoll(*row[1])));
  }
}

Arrivals deliver(const Options& options, Server& server, double seconds) {
  const auto database = server.create();
  Worker worker(options, *database, noop_stream("key", "on"));
  // One entry ahead: when it is through, the worker is connected and its statements are prepared.
  database->connect().exec(
      "INSERT INTO outbox.entries (stream, type, payload) VALUES ('orders', 'first', '{}')");
  worker.wait_for([](const Metrics& m) { return delivered_of(m) >= 1; }, "the first entry");
  Arrivals arrivals;
  const double client_cpu = worker.cpu_seconds();
  const double server_cpu = server.cpu_seconds();
  const auto commits = produce(database->dsn(), kRate, seconds, [](const auto&) {});
  worker.wait_for(
      [&](const Metrics& m) { return delivered_of(m) > static_cast<double>(commits.size()); },
      "the last entry");
  arrivals.client_cpu = worker.cpu_seconds() - client_cpu;
  arrivals.server_cpu = server.cpu_seconds() - server_cpu;
  arrivals.peak_rss = worker.peak_rss_bytes();
  worker.stop();
  read_receipts(*database, arrivals);
  compute_waits(commits, arrivals);
  return arrivals;
}

constexpr std::array kShares{std::pair{"p50", 0.5}, std::pair{"p95", 0.95}, std::pair{"p99", 0.99},
                             std::pair{"maximum", 1.0}};

}  // namespace

void run_latency(const Options& options, Report& report) {
  const double seconds = options.pick(31.0, 11.0, 2.0);
  Server server(options);
  std::map<std::string, std::vector<Measurement>> rounds;
  std::vector<double> floor_waits;
  for (int round = 0; round < options.rounds(); ++round) {
    const Arrivals floor = poll_by_hand(server, seconds);
    const Arrivals settled = deliver(options, server, seconds);
    const double entries = kRate * seconds;
    Measurement common{.benchmark = "latency",
                       .worker_cpu_us = settled.client_cpu / entries * 1e6,
                       .server_cpu_us = settled.server_cpu / entries * 1e6,
                       .rss_bytes = settled.peak_rss};
    for (const auto& [label, share] : kShares) {
      Measurement one = common;
      one.name = fmt::format("commit to settled, {}", label);
      one.value = percentile(settled.milliseconds, share);
      one.unit = "ms";
      one.floor = percentile(floor.milliseconds, share);
      rounds[one.name].push_back(one);
    }
    Measurement idle = common;
    idle.name = "commit to settled, from idle, maximum";
    idle.value = settled.from_idle;
    idle.unit = "ms";
    rounds[idle.name].push_back(idle);
    Measurement cpu = common;
    cpu.name = "CPU of worker and server";
    cpu.value = settled.client_cpu + settled.server_cpu;
    cpu.unit = fmt::format("s in {:.0f} s", seconds);
    cpu.floor = floor.client_cpu + floor.server_cpu;
    cpu.note = fmt::format("worker {:.2f} s", settled.client_cpu);
    rounds[cpu.name].push_back(cpu);
    Report::progress(
        fmt::format("p50 {:.2f} ms, p99 {:.2f} ms; by hand {:.2f} and {:.2f} ms",
                    percentile(settled.milliseconds, 0.5), percentile(settled.milliseconds, 0.99),
                    percentile(floor.milliseconds, 0.5), percentile(floor.milliseconds, 0.99)));
    floor_waits = floor.milliseconds;
  }
  for (auto& [name, measurements] : rounds) report.add(median_by_value(std::move(measurements)));
  measure_webhook_latency(options, server, floor_waits, seconds, report);
}

}  // namespace outfall::bench
