// Goal: a soak that goes beyond a bound, or grows, is called so. Method: hand-made series.

#include "tests/faults/torture/gauges.h"

#include <algorithm>
#include <string>
#include <unistd.h>

#include <gtest/gtest.h>

#include "tests/faults/torture/soak_bounds.h"

namespace outfall::torture {
namespace {

constexpr int kLooks = 100;

Gauges::Line line_of(const std::function<double(double)>& value, bool judge_growth = true) {
  Gauges gauges({{.name = "rows", .unit = "", .most = 100, .growth = 1.5, .growth_room = 5}});
  for (int i = 0; i <= kLooks; ++i) {
    const double share = static_cast<double>(i) / kLooks;
    gauges.add("rows", share, value(share));
  }
  return gauges.lines(judge_growth).at(0);
}

TEST(TortureGauges, WhatStaysIsFine) {
  const auto line = line_of([](double) { return 40; });
  EXPECT_TRUE(line.ok());
  EXPECT_EQ(line.first, 40);
  EXPECT_EQ(line.last, 40);
  EXPECT_EQ(line.most, 40);
}

TEST(TortureGauges, OneLookBeyondTheBoundIsTooMuch) {
  const auto line = line_of([](double share) { return share == 0.5 ? 101 : 40; });
  EXPECT_TRUE(line.too_much);
  EXPECT_FALSE(line.grows);
  EXPECT_FALSE(line.ok());
}

TEST(TortureGauges, WhatGrowsIsCalledSoBeforeItReachesItsBound) {
  const auto grows = [](double share) { return 20 + 60 * share; };
  EXPECT_TRUE(line_of(grows).grows);
  EXPECT_FALSE(line_of(grows).too_much);
  EXPECT_TRUE(line_of(grows, false).ok());
}

TEST(TortureGauges, WhatNeverGetsSmallerIsShownAndOnlyItsBoundJudged) {
  Gauges gauges({{.name = "size", .unit = "MiB", .most = 100, .growth = 0}});
  for (int i = 0; i <= kLooks; ++i) gauges.add("size", i / 100.0, i < 50 ? 20 : 90);
  const auto lines = gauges.lines(true);
  EXPECT_TRUE(lines.at(0).ok());
  EXPECT_EQ(Gauges::tenths(lines),
            "size by tenths of the time: 20.0 20.0 20.0 20.0 20.0 90.0 90.0 90.0 90.0 90.0 MiB\n");
  gauges.add("size", 1, 101);
  EXPECT_TRUE(gauges.lines(true).at(0).too_much);
}

TEST(TortureGauges, ASessionMoreForEachWorkerIsItsPoolsLastOneAndTwoAreALeak) {
  const auto grows = [](double at_last) {
    Gauges gauges(soak_bounds(5000, 3));
    const std::string connections = kSoakOfDatabase[0];
    for (int i = 0; i <= kLooks; ++i) gauges.add(connections, i / 100.0, i < 50 ? 15 : at_last);
    const auto lines = gauges.lines(true);
    return std::find_if(lines.begin(), lines.end(),
                        [&](const Gauges::Line& line) { return line.bound.name == connections; })
        ->grows;
  };
  EXPECT_FALSE(grows(18));
  EXPECT_TRUE(grows(19));
}

TEST(TortureGauges, ALeakOfAByteForEachEntryOfHalfAnHourShowsInTheOldestWorker) {
  const auto grows = [](double mebibytes_in_all) {
    Gauges gauges(soak_bounds(5000, 3));
    for (int i = 0; i <= kLooks; ++i)
      gauges.add(kOldestMemory, i / 100.0, 21 + mebibytes_in_all * i / kLooks);
    const auto lines = gauges.lines(true);
    return std::find_if(lines.begin(), lines.end(),
                        [](const Gauges::Line& line) { return line.bound.name == kOldestMemory; })
        ->grows;
  };
  EXPECT_FALSE(grows(1));
  EXPECT_TRUE(grows(5000.0 * 1800 / 3 / (1 << 20)));
}

TEST(TortureGauges, ASpikeIsNoGrowth) {
  EXPECT_TRUE(line_of([](double share) { return share > 0.9 ? 90 : 20; }).ok());
}

TEST(TortureGauges, WhatWasNeverSeenIsNotFine) {
  const Gauges gauges({{.name = "rows", .unit = "", .most = 100}});
  EXPECT_FALSE(gauges.lines(true).at(0).ok());
}

TEST(TortureGauges, AGaugeWithoutABoundIsAMistake) {
  Gauges gauges({});
  EXPECT_THROW(gauges.add("rows", 0, 1), std::logic_error);
}

TEST(TortureGauges, TheTableNamesWhatIsWrong) {
  const std::string table = Gauges::table({line_of([](double) { return 200; })});
  EXPECT_NE(table.find("rows"), std::string::npos);
  EXPECT_NE(table.find("TOO MUCH"), std::string::npos);
}

TEST(TortureGauges, AProcessHasMemoryAndFiles) {
  EXPECT_GT(rss_bytes(::getpid()), 1 << 20);
  EXPECT_GE(open_files(::getpid()), 3);
  EXPECT_EQ(rss_bytes(0), 0);
  EXPECT_EQ(open_files(0), 0);
}

}  // namespace
}  // namespace outfall::torture
