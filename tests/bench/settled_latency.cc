#include "tests/bench/settled_latency.h"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>

#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

using std::chrono::system_clock;

constexpr std::chrono::seconds kIdleStart{1};

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

}  // namespace

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

Arrivals deliver_settled(const Options& options, Server& server, const Load& load) {
  const auto database = server.create();
  Worker worker(options, *database, noop_streams(load.streams));
  // One entry ahead: when it is through, the worker is connected and its statements are prepared.
  static_cast<void>(database->connect().query(
      "INSERT INTO outbox.entries (stream, type, payload) VALUES ($1, 'first', '{}')",
      {stream_name(0, load.streams)}));
  worker.wait_for([](const Metrics& m) { return delivered_of(m) >= 1; }, "the first entry");
  Arrivals arrivals;
  const double client_cpu = worker.cpu_seconds();
  const double server_cpu = server.cpu_seconds();
  const auto commits = produce(database->dsn(), load);
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

}  // namespace outfall::bench
