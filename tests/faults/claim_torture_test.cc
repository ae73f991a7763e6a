// Everything at once, judged by the history: see claim_torture_run.h. A failure prints its seed.
//   OUTFALL_TORTURE_SECONDS   how long in all (default 24)
//   OUTFALL_TORTURE_SEED      repeat one run
#include <cstdlib>
#include <iostream>
#include <random>

#include <gtest/gtest.h>

#include "tests/faults/claim_torture_run.h"

namespace outfall::test::torture {
namespace {

constexpr int kSecondsARun = 5;

std::optional<std::uint64_t> from_environment(const char* name) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): no thread runs yet
  if (text == nullptr) return std::nullopt;
  return std::stoull(text);
}

TEST(ClaimTorture, KeepsItsPromise) {
  const std::uint64_t seconds = from_environment("OUTFALL_TORTURE_SECONDS").value_or(24);
  const std::optional<std::uint64_t> only = from_environment("OUTFALL_TORTURE_SEED");
  const std::uint64_t first = only ? *only : std::random_device{}();
  const std::uint64_t runs = only ? 1 : std::max<std::uint64_t>(1, seconds / kSecondsARun);
  WorkerCounts all;
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    RunOptions options = options_from(seed);
    options.duration = std::chrono::seconds(kSecondsARun);
    const RunResult result = run(options);
    std::cout << "seed " << seed << ": " << to_string(result) << std::endl;
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

}  // namespace
}  // namespace outfall::test::torture
