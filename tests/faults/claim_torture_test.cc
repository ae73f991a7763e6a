// Everything at once, judged by the history: see claim_torture_run.h. A failure prints its seed.
//   OUTFALL_TORTURE_SECONDS   how long in all (default 16)
//   OUTFALL_TORTURE_SEED      repeat one run
#include <cstdlib>
#include <iostream>
#include <random>

#include <gtest/gtest.h>

#include "tests/faults/claim_torture_run.h"

namespace outfall::test::torture {
namespace {

constexpr int kSecondsARun = 4;

std::optional<std::uint64_t> from_environment(const char* name) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): no thread runs yet
  if (text == nullptr) return std::nullopt;
  return std::stoull(text);
}

TEST(ClaimTorture, KeepsItsPromise) {
  const std::uint64_t seconds = from_environment("OUTFALL_TORTURE_SECONDS").value_or(16);
  const std::optional<std::uint64_t> only = from_environment("OUTFALL_TORTURE_SEED");
  const std::uint64_t first = only ? *only : std::random_device{}();
  const std::uint64_t runs = only ? 1 : std::max<std::uint64_t>(1, seconds / kSecondsARun);
  WorkerCounts all;
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    RunOptions options = options_from(seed);
    options.duration = std::chrono::seconds(kSecondsARun);
    std::cout << to_string(options) << std::endl;
    const RunResult result = run(options);
    std::cout << "  " << to_string(result) << std::endl;
    ASSERT_EQ(to_string(result.anomalies), "") << "OUTFALL_TORTURE_SEED=" << seed << "\n"
                                               << result.trace;
    all += result.workers;
  }
  if (only) return;
  // A run that never met a fault proves nothing.
  EXPECT_GT(all.leases, 200);
  EXPECT_GT(all.taken_over, 10);
  EXPECT_GT(all.stale, 2);
  EXPECT_GT(all.repicks, 2);
  EXPECT_GT(all.parked, 20);
  EXPECT_GT(all.repeated, 0);
  EXPECT_GT(all.deaths, 5);
}

struct LeftOut {
  const char* rule;
  std::vector<Patch> patches = {};
  WorkerFlaw worker = WorkerFlaw::none;
  FloorFlaw floor = FloorFlaw::none;
};

// Ends with the first run that shows it. On a busy machine many show nothing: a commit is late only
// for a worker that claims twice while its transaction is open.
bool seen(const LeftOut& left_out) {
  constexpr int kAttempts = 60;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    RunOptions options = options_from(std::random_device{}());
    options.duration = std::chrono::milliseconds(2000);
    options.patches.insert(options.patches.end(), left_out.patches.begin(), left_out.patches.end());
    options.worker.flaw = left_out.worker;
    options.worker.floor_flaw = left_out.floor;
    options.drain = false;
    if (!run(options).anomalies.empty()) return true;
  }
  return false;
}

// claim_torture_rules_test leaves out every rule, step by step. These are the ones that random runs
// break within seconds: they show that what such a run would do is done here, and judged.
TEST(ClaimTorture, SeesWhatIsLeftOut) {
  const LeftOut left_out[] = {
      {.rule = "one claim of a stream at a time",
       .patches = {{"0002_claim", "WHERE s.name = p_stream FOR NO KEY UPDATE SKIP LOCKED;",
                    "WHERE s.name = p_stream;"}}},
      {.rule = "what a claim parks blocks its key",
       .patches = {{"0002_claim", "least(left_behind.id,", "least(NULL,"}}},
      {.rule = "what a parking holds blocks its key",
       .patches = {{"0002_claim", "(SELECT min(g.from_id) FROM parked_keys g",
                    "(SELECT min(NULL::bigint) FROM parked_keys g"}}},
      {.rule = "later entries are given back", .worker = WorkerFlaw::keeps_later_entries},
      {.rule = "also those of claims under way", .worker = WorkerFlaw::trusts_claims_under_way},
      {.rule = "a lost claim is asked again", .worker = WorkerFlaw::forgets_lost_claims},
      {.rule = "late commits are tracked", .floor = FloorFlaw::never_looks_back},
  };
  for (const LeftOut& variant : left_out) EXPECT_TRUE(seen(variant)) << variant.rule;
}

}  // namespace
}  // namespace outfall::test::torture
