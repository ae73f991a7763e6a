// A backlog of ten million entries on disk: does the rate fall with its size, or while it drains?
// The yardstick is a backlog of half a million, drained before and after it in the same run. Both
// are put out of the system's page cache first, so that what the server's buffers cannot hold comes
// from the disk.
#include <cmath>
#include <fcntl.h>
#include <filesystem>
#include <stdexcept>
#include <unistd.h>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/server.h"
#include "tests/bench/server_use.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

constexpr int kParts = 10;

double mebibytes(double bytes) {
  return bytes / (1 << 20);
}

// Clean pages only, and a checkpoint has just written all of them.
void forget_pages(const std::filesystem::path& folder) {
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder)) {
    std::error_code gone;
    if (!file.is_regular_file(gone)) continue;
    const int descriptor = ::open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) continue;
    ::fdatasync(descriptor);
    ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    ::close(descriptor);
  }
}

struct Sizes {
  double table = 0;
  double indexes = 0;
};

Sizes sizes_of(const Database& database) {
  test::PgClient client = database.connect();
  return {static_cast<double>(client.number("SELECT pg_table_size('outbox.entries')")),
          static_cast<double>(client.number("SELECT pg_indexes_size('outbox.entries')"))};
}

struct Drained {
  DrainRun run;
  Sizes before;
  Sizes after;
  double wal_bytes = 0;  // an entry
  double commits = 0;    // an entry
};

Drained drain(const Options& options, Server& server, std::int64_t entries) {
  const auto database = server.create();
  preload(*database, {.entries = entries});
  Drained drained;
  drained.before = sizes_of(*database);
  forget_pages(server.postgres().folder() / "data" / "base");
  ServerUse use(server, *database);
  Worker worker(options, *database, noop_streams(1));
  drained.run = watch_drain(worker, server, entries);
  worker.stop();
  drained.wal_bytes = use.wal_bytes() / drained.run.delivered;
  drained.commits = use.commits() / drained.run.delivered;
  drained.after = sizes_of(*database);
  const auto left = database->connect().number("SELECT count(*) FROM outbox.entries");
  if (left != 0) throw std::runtime_error(fmt::format("{} entries are left", left));
  Report::progress(fmt::format("{} entries: {:.0f}/s over {:.1f} s", entries, drained.run.rate(),
                               drained.run.seconds));
  return drained;
}

Measurement measurement(const Drained& of, std::string name, double value, std::string unit) {
  return {.benchmark = "backlog",
          .name = std::move(name),
          .value = value,
          .unit = std::move(unit),
          .worker_cpu_us = of.run.worker_cpu_us(),
          .server_cpu_us = of.run.server_cpu_us(),
          .rss_bytes = of.run.peak_rss};
}

void report_parts(const DrainRun& run, Report& report) {
  const auto part = [](int number) { return static_cast<double>(number) / kParts; };
  for (int i = 0; i < kParts; ++i) {
    const double stolen = run.stolen_between(part(i), part(i + 1)) * 100;
    report.add({.benchmark = "backlog",
                .name = fmt::format("tenth {}", i + 1),
                .value = run.rate_between(part(i), part(i + 1)),
                .unit = "entries/s",
                .note = fmt::format("the host kept {:.1f} % of the CPU", stolen)});
    // A small backlog is claimed whole before its last parts are delivered.
    const double claim_ms = run.claim_ms_between(part(i), part(i + 1));
    if (!std::isfinite(claim_ms)) continue;
    report.add({.benchmark = "backlog",
                .name = fmt::format("mean claim of tenth {}", i + 1),
                .value = claim_ms,
                .unit = "ms"});
  }
  report.add({.benchmark = "backlog",
              .name = "last tenth to first",
              .value = run.rate_between(part(kParts - 1), 1),
              .unit = "entries/s",
              .floor = run.rate_between(0, part(1))});
}

void report_whole(const Drained& whole, const Drained& few_before, const Drained& few_after,
                  std::int64_t few, Report& report) {
  for (const Drained* each : {&few_before, &few_after}) {
    Measurement one =
        measurement(*each, fmt::format("{} entries", few), each->run.rate(), "entries/s");
    one.note = fmt::format("mean claim {:.2f} ms", each->run.claim_ms_between(0, 1));
    report.add(std::move(one));
  }
  Measurement all = measurement(whole, "whole", whole.run.rate(), "entries/s");
  all.floor = (few_before.run.rate() + few_after.run.rate()) / 2;
  all.note = fmt::format("{:.0f} entries in {:.1f} s, mean claim {:.2f} ms", whole.run.delivered,
                         whole.run.seconds, whole.run.claim_ms_between(0, 1));
  report.add(std::move(all));
  report.add(measurement(whole, "WAL", whole.wal_bytes, "bytes an entry"));
  report.add(measurement(whole, "commits", whole.commits * 1000, "a 1000 entries"));
  const auto size = [&](const char* name, double before, double after) {
    report.add({.benchmark = "backlog",
                .name = name,
                .value = mebibytes(after),
                .unit = "MiB",
                .floor = mebibytes(before)});
  };
  size("table after, of before", whole.before.table, whole.after.table);
  size("indexes after, of before", whole.before.indexes, whole.after.indexes);
}

}  // namespace

void run_backlog(const Options& options, Report& report) {
  const std::int64_t entries = options.entries_or(10'000'000, 1'000'000);
  const auto few = options.pick<std::int64_t>(500'000, 100'000, 1000);
  Server server(options);
  const Drained few_before = drain(options, server, few);
  const Drained whole = drain(options, server, entries);
  const Drained few_after = drain(options, server, few);
  report_parts(whole.run, report);
  report_whole(whole, few_before, few_after, few, report);
}

}  // namespace outfall::bench
