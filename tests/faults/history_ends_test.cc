// Hand-made histories of entries that had ended and came again, and of settles by leases that did
// not hold what they settled.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/faults/history_scene.h"

namespace outfall::test::history {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// c arrives again, 7 s after its settle was confirmed.
Scene late_copy() {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"c"}, 9).settle("l1", {"c"}, 20).arrive("c", 7020).end({"a", "b", "c"});
  return scene;
}

TEST(Resurrect, AFaultThatUndoesNothingAndFreezesNobodyExplainsNoLateCopy) {
  EXPECT_THAT(found(late_copy().fault("F10-read-only", 10, 7000, kTouchesDatabase)),
              ElementsAre("resurrect"));
  EXPECT_THAT(found(late_copy().fault("F1-sigkill", 30, 30, kTouchesWorker)),
              ElementsAre("resurrect"));
  EXPECT_THAT(found(late_copy().fault("F15-http", 10, 7000, {{"sinks", "all"}}, {{"late", false}})),
              ElementsAre("resurrect"));
}

TEST(GoodHistory, ALateCopyBesideWhatUndoesItsSettleOrKeepsASendOnItsWay) {
  EXPECT_THAT(found(late_copy().fault("F7-restart", 30, 900, kTouchesDatabase, kUndoes)),
              IsEmpty());
  EXPECT_THAT(found(late_copy().fault("F3-freeze", 10, 7000, kTouchesWorker)), IsEmpty());
  EXPECT_THAT(found(late_copy().fault("F12-sink", 10, 7000, {{"sinks", "all"}})), IsEmpty());
}

Scene& give_up_c(Scene& scene) {
  scene.poison("c").claim("l1", {"c"}, 9).settle("l1", {"c"}, 20);
  scene.records.back()["status"] = "dead_lettered";
  return scene.end({"a", "b"}, {"c"});
}

TEST(Resurrect, ADeadLetterArrivesWithoutAReplay) {
  Scene scene = three_of_a_key();
  give_up_c(scene.arrive("a", 10).arrive("b", 11).arrive("c", 5000));
  EXPECT_THAT(found(scene), ElementsAre("resurrect"));
}

TEST(Resurrect, ADeadLetterArrivesAgainWithoutAReplay) {
  Scene scene = three_that_arrived();
  give_up_c(scene.arrive("c", 5000)).fault("F10-read-only", 10, 5000, kTouchesDatabase);
  EXPECT_THAT(found(scene), ElementsAre("resurrect"));
}

TEST(GoodHistory, WhatArrivedBeforeItWasGivenUp) {
  Scene scene = three_that_arrived();
  EXPECT_THAT(found(give_up_c(scene)), IsEmpty());
}

TEST(Resurrect, ADeadLetterArrivesLongAfterItsLastOutcome) {
  Scene scene = three_of_a_key();
  scene.poison("c").arrive("a", 10).arrive("b", 11).arrive("c", 5000).end({"a", "b"}, {"c"});
  EXPECT_THAT(found(scene), IsEmpty());
  scene.outcome("c", "failed", 13);
  EXPECT_THAT(found(scene), ElementsAre("resurrect"));
  // It may have had another one that nobody logged.
  EXPECT_THAT(found(scene.fault("F1-sigkill", 4000, 4000, kTouchesWorker)), IsEmpty());
}

TEST(ZombieWrite, SettledByALeaseThatWasNeverClaimed) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"b"}, 9).settle("l1", {"b"}, 20).settle("l2", {"c"}, 20);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("zombie-write"));
}

TEST(ZombieWrite, SettledByALeaseThatDidNotHoldIt) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"b"}, 9).settle("l1", {"b", "c"}, 20);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("zombie-write"));
}

TEST(ZombieWrite, CountedByALeaseThatWasNeverClaimed) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"b"}, 9).settle("l1", {"b"}, 20);
  scene.add(
      {{"f", "settled"}, {"at_us", 20'000}, {"worker", "w1"}, {"lease", "l2"}, {"delivered", 1}});
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("zombie-write"));
}

TEST(GoodHistory, SettlesOfAWorkerThatTellsNoClaims) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"b"}, 9).settle("l1", {"b"}, 20).settle("l2", {"c"}, 20, "w2");
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

}  // namespace
}  // namespace outfall::test::history
