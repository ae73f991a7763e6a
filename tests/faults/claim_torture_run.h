#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/faults/claim_torture_history.h"
#include "tests/faults/claim_torture_traffic.h"
#include "tests/faults/claim_torture_worker.h"

namespace outfall::test::torture {

struct RunOptions {
  std::uint64_t seed = 1;
  std::chrono::milliseconds duration{5000};
  int workers = 4;
  int producers = 5;
  WorkerOptions worker = {};
  Producer::Options producer = {};
  std::vector<Patch> patches = {};
  bool drain = true;  // to the end; else nothing is said about what is lost or stuck
};

struct RunResult {
  std::vector<Anomaly> anomalies;
  std::string trace;  // of the first anomaly's entries
  WorkerCounts workers;
  Producer::Counts producers;
  Operator::Counts operators;
  std::size_t committed = 0;
  std::size_t dead_lettered = 0;
  std::size_t abandoned = 0;
};

// A run of everything at once on a database of its own: producers, workers that fail, sleep, die
// and stop, and an operator; then the faults end, all dead letters are replayed, everything must
// drain, and the history is judged. Repeatable as far as threads are: the seed decides what each
// does.
[[nodiscard]] RunResult run(const RunOptions& options);

[[nodiscard]] FinalState read_final_state(PgClient& sql);

// Makes parkings of what would else be marked at once, so that a few entries are enough to have
// some.
[[nodiscard]] std::vector<Patch> small_parkings();

// What a run draws from its seed: short leases, limits, rooms, lanes, keys, hold-key, small
// parkings.
[[nodiscard]] RunOptions options_from(std::uint64_t seed);

[[nodiscard]] std::string to_string(const RunOptions& options);
[[nodiscard]] std::string to_string(const RunResult& result);

}  // namespace outfall::test::torture
