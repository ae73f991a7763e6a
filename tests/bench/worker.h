#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/benchmark.h"
#include "tests/bench/server.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_folder.h"

namespace outfall::bench {

// One answer of /metrics.
class Metrics {
 public:
  explicit Metrics(std::string text) : text_(std::move(text)) {}
  // The sum over all series of that name whose labels contain `label`, e.g. `outcome="delivered"`.
  [[nodiscard]] double sum(std::string_view name, std::string_view label = {}) const;

 private:
  std::string text_;
};

// The real binary as a child process, with its settings as shipped where `settings` (TOML without
// [database] and [admin]) says nothing else. One thread at a time.
class Worker {
 public:
  Worker(const Options& options, const Database& database, const std::string& settings);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  [[nodiscard]] Metrics metrics();
  // Waits, looking every millisecond at first, until `condition` holds for the metrics.
  Metrics wait_for(const std::function<bool(const Metrics&)>& condition, const std::string& what);
  [[nodiscard]] double cpu_seconds() const;
  [[nodiscard]] std::int64_t peak_rss_bytes() const;
  // As SIGTERM does. Throws when it ends in another way than it should.
  void stop();

 private:
  struct Http;
  test::TempFolder folder_;
  std::unique_ptr<Http> http_;
  std::unique_ptr<test::ChildProcess> process_;
};

// Settings of a worker with the stream `orders` and the emitter `noop`.
[[nodiscard]] std::string noop_stream(std::string_view ordering, std::string_view receipts,
                                      std::string_view stream_settings = {},
                                      std::string_view emitter_settings = {});

// `count` streams with the emitter `noop`, as shipped, with the names that Preload and producers
// give them.
[[nodiscard]] std::string noop_streams(int count);

// How a drain went.
struct Progress {
  double seconds = 0;    // since the first claim
  double delivered = 0;  // entries whose delivery is in the database
  double stolen = 0;     // CPU seconds that the host has kept from this machine since it started
  double pages = 0;      // that the server has read or found in memory, where they are watched
  double claims = 0;     // so far, and how long they took as the workers saw it
  double claim_seconds = 0;
};
struct DrainRun {
  double delivered = 0;
  double seconds = 0;     // from the first claim to the last settle
  double worker_cpu = 0;  // of all workers together
  double server_cpu = 0;
  std::int64_t peak_rss = 0;  // of the worker that took most
  std::vector<Progress> progress;

  [[nodiscard]] double rate() const { return delivered / seconds; }
  [[nodiscard]] double worker_cpu_us() const { return worker_cpu / delivered * 1e6; }
  [[nodiscard]] double server_cpu_us() const { return server_cpu / delivered * 1e6; }
  // The rate between two shares of the entries, e.g. 0.75 and 1.
  [[nodiscard]] double rate_between(double from, double to) const;
  // The share of the machine's CPU that its host kept from it meanwhile.
  [[nodiscard]] double stolen_between(double from, double to) const;
  // Pages an entry: what it takes of them depends on no machine.
  [[nodiscard]] double pages_between(double from, double to) const;
  // How long a claim took on average; not a number where none was made.
  [[nodiscard]] double claim_ms_between(double from, double to) const;

 private:
  [[nodiscard]] Progress at(double share) const;
};

struct WatchMore {
  std::function<double()> pages = {};  // so far; see ServerUse
  std::function<void()> at_half = {};  // called once, when half of the entries are delivered
};
// Watches workers that were just started until they have delivered `entries` entries together.
[[nodiscard]] DrainRun watch_drain(const std::vector<Worker*>& workers, const Server& server,
                                   std::int64_t entries, const WatchMore& more = {});
[[nodiscard]] DrainRun watch_drain(Worker& worker, const Server& server, std::int64_t entries,
                                   const WatchMore& more = {});

// The same by what is in the database, where /metrics are dear: each of a thousand streams has more
// than a hundred lines there. Knows nothing of claims, and begins with the first delivery.
[[nodiscard]] DrainRun watch_receipts(Worker& worker, const Server& server,
                                      const Database& database, std::int64_t entries);

// Entries of all streams whose delivery is in the database.
[[nodiscard]] double delivered_of(const Metrics& metrics);

}  // namespace outfall::bench
