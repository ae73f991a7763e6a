// Goal: what is played at a step strikes while its worker stands there. Method: its own program,
// real servers, a run of each fault that once came later; each run compares the times of its own
// fault (struck_at_its_step()) and fails where they are not in order.

#include <gtest/gtest.h>

#include "tests/support/child_process.h"

namespace outfall::torture {
namespace {

#ifdef OUTFALL_CRASH_POINTS

TEST(TortureSteps, AFailoverALateCommitAndADeadlockStrikeWhileTheWorkerStandsThere) {
  const test::Finished finished =
      test::run({OUTFALL_TORTURE, "--quick", "--run", "stdout/F9-failover-async/S5/1", "--run",
                 "stdout/F18-late/S0/1", "--run", "stdout/F23-deadlock/S5/1"},
                {}, std::chrono::minutes(8));
  EXPECT_EQ(finished.status.code, 0) << finished.error_output << finished.output;
}

#endif

}  // namespace
}  // namespace outfall::torture
