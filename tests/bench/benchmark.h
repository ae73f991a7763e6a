#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "tests/bench/report.h"

// The benchmarks of outfall. Each starts a PostgreSQL of its own, runs the real binary against it
// and measures its yardstick in the same run: machines are shared and differ, so that only ratios
// within one run say something. docs/internals/performance.md tells what each one means.

namespace outfall::bench {

enum class Scale : std::uint8_t {
  full,   // medians of three, runs of ten seconds and more
  quick,  // each case once, and less data
  smoke,  // does it run at all: seconds, and figures without meaning
};

struct Options {
  Scale scale = Scale::full;
  std::int64_t entries = 0;       // to preload; 0: what the benchmark thinks right
  std::string only;               // of hold: the cases whose names contain it
  std::filesystem::path outfall;  // the binary under test

  template <typename Value>
  [[nodiscard]] Value pick(Value full, Value quick, Value smoke) const {
    return scale == Scale::full ? full : scale == Scale::quick ? quick : smoke;
  }
  [[nodiscard]] int rounds() const { return pick(3, 1, 1); }
  [[nodiscard]] std::int64_t entries_or(std::int64_t full, std::int64_t quick) const {
    return scale == Scale::smoke ? 3000 : entries > 0 ? entries : pick(full, quick, quick);
  }
};

// Each takes seconds to minutes and throws when something went wrong that makes its figures
// worthless, such as an entry that was not delivered.
void run_drain(const Options& options, Report& report);
void run_latency(const Options& options, Report& report);
void run_idle(const Options& options, Report& report);
void run_memory(const Options& options, Report& report);
void run_hold(const Options& options, Report& report);
void run_parked(const Options& options, Report& report);
void run_receipts(const Options& options, Report& report);
void run_webhook(const Options& options, Report& report);
void run_neighbours(const Options& options, Report& report);
void run_outage(const Options& options, Report& report);
void run_kafka(const Options& options, Report& report);
void run_kafka_latency(const Options& options, Report& report);
void run_kafka_memory(const Options& options, Report& report);
void run_backlog(const Options& options, Report& report);
void run_streams(const Options& options, Report& report);
void run_workers(const Options& options, Report& report);

struct Benchmark {
  std::string_view name;
  std::string_view summary;
  void (*run)(const Options&, Report&);
};
[[nodiscard]] std::span<const Benchmark> benchmarks();

}  // namespace outfall::bench
