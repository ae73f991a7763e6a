// Goal: what a soak counts in place of a history finds every kind of wrong, and nothing in what is
// allowed. Method: hand-made sequences, each with one thing wrong, by the rules of the history
// checker.

#include "tests/faults/torture/tally.h"

#include <limits>

#include <gtest/gtest.h>

namespace outfall::torture {
namespace {

constexpr std::int64_t kSendTimeoutUs = 1000;
constexpr std::int64_t kEver = std::numeric_limits<std::int64_t>::max();

Place place(std::int64_t n, const std::string& key = "k") {
  return {.id = key + std::to_string(n), .stream = "orders", .key = key, .n = n};
}

class TortureTally : public testing::Test {
 protected:
  void commit(std::int64_t from, std::int64_t to) {
    for (std::int64_t n = from; n <= to; ++n) {
      tally_.committing(place(n));
      tally_.committed(place(n).id);
    }
  }
  void arrive(const std::vector<std::int64_t>& places) {
    for (const std::int64_t n : places) tally_.arrived("sink", place(n));
  }
  [[nodiscard]] Tally::Findings judge(const std::vector<Tally::Disturbance>& by = {}) const {
    return tally_.judge(by, kSendTimeoutUs);
  }

  Tally tally_;
};

TEST_F(TortureTally, WhatArrivesOnceAndInOrderIsFine) {
  commit(1, 3);
  arrive({1, 2, 3});
  const auto found = judge();
  EXPECT_TRUE(found.ok());
  EXPECT_EQ(found.committed, 3);
  EXPECT_EQ(found.delivered, 3);
}

TEST_F(TortureTally, NothingAtAllIsNotFine) {
  EXPECT_FALSE(judge().ok());
}

TEST_F(TortureTally, ACommittedOneThatNeverArrivesIsLost) {
  commit(1, 3);
  arrive({1, 2});
  EXPECT_EQ(judge().lost, 1);
}

TEST_F(TortureTally, OneThatOvertakesAnEarlierOneOfItsKeyIsOutOfOrder) {
  commit(1, 3);
  arrive({1, 3, 2});
  const auto found = judge();
  EXPECT_EQ(found.reorder, 1);
  EXPECT_EQ(found.lost, 0);
}

TEST_F(TortureTally, KeysAreApart) {
  commit(1, 2);
  tally_.committing(place(1, "other"));
  tally_.committed(place(1, "other").id);
  tally_.arrived("sink", place(1, "other"));
  arrive({1, 2});
  EXPECT_TRUE(judge().ok());
}

TEST_F(TortureTally, ARolledBackOneIsNotWaitedForAndMustNotArrive) {
  commit(1, 1);
  tally_.committing(place(2));
  tally_.rolled_back(place(2).id);
  commit(3, 3);
  arrive({1, 3});
  EXPECT_TRUE(judge().ok());
  arrive({2});
  EXPECT_EQ(judge().phantom, 1);
}

TEST_F(TortureTally, OneThatArrivesBeforeItsRollbackIsTold) {
  commit(1, 1);
  arrive({1});
  tally_.committing(place(2));
  arrive({2});
  tally_.rolled_back(place(2).id);
  EXPECT_EQ(judge().phantom, 1);
}

TEST_F(TortureTally, APlaceThatFailedBeforeItsCommitIsNotWaitedFor) {
  commit(1, 1);
  commit(4, 4);
  arrive({1, 4});
  EXPECT_TRUE(judge().ok());
}

TEST_F(TortureTally, WhatNobodyCommittedIsAPhantom) {
  commit(1, 1);
  arrive({1, 2});
  tally_.arrived("sink", place(1, "unknown"));
  tally_.arrived("sink", {.id = "another", .stream = "orders", .key = "k", .n = 1});
  EXPECT_EQ(judge().phantom, 3);
}

TEST_F(TortureTally, ACommitInDoubtBindsNothing) {
  commit(1, 1);
  tally_.committing(place(2));
  tally_.commit_unknown(place(2).id);
  commit(3, 4);
  arrive({1, 3, 2, 4});
  EXPECT_TRUE(judge().ok()) << judge().gap << judge().reorder;
  EXPECT_TRUE(tally_.in_doubt().empty());
}

TEST_F(TortureTally, ACommitInDoubtThatDoesNotArriveIsNamed) {
  commit(1, 1);
  tally_.committing(place(2));
  tally_.commit_unknown(place(2).id);
  arrive({1});
  EXPECT_TRUE(judge().ok());
  EXPECT_EQ(tally_.in_doubt(), std::vector<std::string>{place(2).id});
}

TEST_F(TortureTally, ACopyNeedsADisturbanceOfItsTime) {
  commit(1, 3);
  arrive({1, 2, 3, 2, 3});
  EXPECT_EQ(judge().unexplained, 2);
  const std::int64_t now = now_us();
  EXPECT_EQ(judge({{.from_us = now + 60'000'000, .until_us = kEver}}).unexplained, 2);
  EXPECT_EQ(judge({{.from_us = 0, .until_us = now - 60'000'000}}).unexplained, 2);
  EXPECT_EQ(judge({{.from_us = 0, .until_us = kEver, .copies = 0}}).unexplained, 2);
  const auto found = judge({{.from_us = 0, .until_us = kEver}});
  EXPECT_TRUE(found.ok());
  EXPECT_EQ(found.explained, 2);
}

TEST_F(TortureTally, ADisturbanceExplainsSoManyCopiesOfAnEntry) {
  commit(1, 1);
  arrive({1, 1, 1});
  const Tally::Disturbance one{.from_us = 0, .until_us = kEver};
  EXPECT_EQ(judge({one}).unexplained, 1);
  EXPECT_EQ(judge({one, one}).unexplained, 0);
}

TEST_F(TortureTally, AKeyThatStartsAgainLeavesNothingOut) {
  commit(1, 4);
  arrive({1, 2, 3, 1, 3, 4});
  EXPECT_EQ(judge({{.from_us = 0, .until_us = kEver}}).gap, 1);
  // The copy of 1 may have been sent long before it came.
  EXPECT_EQ(judge({{.from_us = 0, .until_us = kEver, .late = true}}).gap, 0);
}

}  // namespace
}  // namespace outfall::torture
