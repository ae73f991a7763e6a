// Back-off: its bounds grow, the draw uses all of them, and nothing ever comes back at once.
#include <algorithm>

#include <gtest/gtest.h>

#include "core/retry.h"
#include "tests/support/random.h"

namespace outfall {
namespace {

using test::SeededRandom;

TEST(Retry, BoundDoublesUpToTheMaximum) {
  const Milliseconds initial{1000};
  const Milliseconds max{5000};
  EXPECT_EQ(doubled(initial, max, 0), Milliseconds{1000});
  EXPECT_EQ(doubled(initial, max, 1), Milliseconds{1000});
  EXPECT_EQ(doubled(initial, max, 2), Milliseconds{2000});
  EXPECT_EQ(doubled(initial, max, 3), Milliseconds{4000});
  EXPECT_EQ(doubled(initial, max, 4), Milliseconds{5000});
  EXPECT_EQ(doubled(initial, max, INT64_MAX), Milliseconds{5000});
  EXPECT_EQ(doubled(Milliseconds{9000}, max, 1), max);
  EXPECT_EQ(doubled(Milliseconds{1}, Milliseconds::max(), 1000), Milliseconds::max());
  EXPECT_EQ(doubled(Milliseconds{0}, max, 1000), Milliseconds{0});
}

TEST(Retry, JitterUsesTheWholeRangeAndNeverLeavesIt) {
  const RetryPolicy policy{.initial = Milliseconds{1000}, .max = Milliseconds{60'000}};
  SeededRandom random(3);
  Milliseconds lowest = Milliseconds::max();
  Milliseconds highest{0};
  for (int i = 0; i < 20'000; ++i) {
    const Milliseconds pause = back_off(policy, 4, random);
    lowest = std::min(lowest, pause);
    highest = std::max(highest, pause);
  }
  EXPECT_GE(lowest, Milliseconds{100});
  EXPECT_LE(lowest, Milliseconds{150});
  EXPECT_LE(highest, Milliseconds{8000});
  EXPECT_GE(highest, Milliseconds{7900});
}

TEST(Retry, NeverPausesForNothing) {
  SeededRandom random(4);
  for (const Milliseconds initial : {Milliseconds{0}, Milliseconds{1}, Milliseconds{5}}) {
    for (const Milliseconds max : {Milliseconds{0}, Milliseconds{1}, Milliseconds{1000}}) {
      const RetryPolicy policy{.initial = initial, .max = max};
      for (int failures = 0; failures < 50; ++failures) {
        EXPECT_GE(retry_pause(policy, failures, Milliseconds{0}, random), Milliseconds{1});
        EXPECT_LE(back_off(policy, failures, random), std::max(max, Milliseconds{1}));
      }
    }
  }
}

TEST(Retry, TheSinkMayAskForMoreButNotForLess) {
  const RetryPolicy policy{.initial = Milliseconds{1000},
                           .max = Milliseconds{1000},
                           .retry_after_max = Milliseconds{60'000}};
  SeededRandom random(5);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(retry_pause(policy, 1, Milliseconds{30'000}, random), Milliseconds{30'000});
    EXPECT_EQ(retry_pause(policy, 1, Milliseconds::max(), random), Milliseconds{60'000});
    EXPECT_GE(retry_pause(policy, 1, Milliseconds{0}, random), Milliseconds{100});
    EXPECT_GE(retry_pause(policy, 1, Milliseconds{-1}, random), Milliseconds{100});
    EXPECT_LE(retry_pause(policy, 1, Milliseconds{-1}, random), Milliseconds{1000});
  }
}

}  // namespace
}  // namespace outfall
