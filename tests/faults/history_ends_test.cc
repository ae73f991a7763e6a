// Hand-made histories of entries that had ended and came again, and of settles by leases that did
// not hold what they settled.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/faults/history_scene.h"

namespace outfall::test::history {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const boost::json::object kItsWorker = {{"workers", boost::json::array{"w1"}}};
const boost::json::object kItsDatabase = {{"database", true}};
const boost::json::object kUndoing = {{"undoes_commits", true}};

// Three entries of one key.
Scene committed() {
  Scene scene;
  scene.commit("a", 1, "k", 1).commit("b", 2, "k", 2).commit("c", 3, "k", 3);
  return scene;
}

Scene all_delivered() {
  Scene scene = committed();
  scene.arrive("a", 10).arrive("b", 11).arrive("c", 12);
  return scene;
}

std::set<std::string> guilty_of(const Scene& scene) {
  return names(scene.judged());
}

// c arrives again, 7 s after its settle was confirmed.
Scene late_copy() {
  Scene scene = all_delivered();
  scene.claim("l1", {"c"}, 9).settle("l1", {"c"}, 20).arrive("c", 7020).end({"a", "b", "c"});
  return scene;
}

TEST(Resurrect, AFaultThatUndoesNothingAndFreezesNobodyExplainsNoLateCopy) {
  EXPECT_THAT(guilty_of(late_copy().fault("F10-read-only", 10, 7000, kItsDatabase)),
              ElementsAre("resurrect"));
  EXPECT_THAT(guilty_of(late_copy().fault("F1-sigkill", 30, 30, kItsWorker)),
              ElementsAre("resurrect"));
  EXPECT_THAT(
      guilty_of(late_copy().fault("F15-http", 10, 7000, {{"sinks", "all"}}, {{"late", false}})),
      ElementsAre("resurrect"));
}

TEST(GoodHistory, ALateCopyBesideWhatUndoesItsSettleOrKeepsASendOnItsWay) {
  EXPECT_THAT(guilty_of(late_copy().fault("F7-restart", 30, 900, kItsDatabase, kUndoing)),
              IsEmpty());
  EXPECT_THAT(guilty_of(late_copy().fault("F3-freeze", 10, 7000, kItsWorker)), IsEmpty());
  EXPECT_THAT(guilty_of(late_copy().fault("F12-sink", 10, 7000, {{"sinks", "all"}})), IsEmpty());
}

Scene& give_up_c(Scene& scene) {
  scene.poison("c").claim("l1", {"c"}, 9).settle("l1", {"c"}, 20);
  scene.records.back()["status"] = "dead_lettered";
  return scene.end({"a", "b"}, {"c"});
}

TEST(Resurrect, ADeadLetterArrivesWithoutAReplay) {
  Scene scene = committed();
  give_up_c(scene.arrive("a", 10).arrive("b", 11).arrive("c", 5000));
  EXPECT_THAT(guilty_of(scene), ElementsAre("resurrect"));
}

TEST(Resurrect, ADeadLetterArrivesAgainWithoutAReplay) {
  Scene scene = all_delivered();
  give_up_c(scene.arrive("c", 5000)).fault("F10-read-only", 10, 5000, kItsDatabase);
  EXPECT_THAT(guilty_of(scene), ElementsAre("resurrect"));
}

TEST(GoodHistory, WhatArrivedBeforeItWasGivenUp) {
  Scene scene = all_delivered();
  EXPECT_THAT(guilty_of(give_up_c(scene)), IsEmpty());
}

TEST(Resurrect, ADeadLetterArrivesLongAfterItsLastOutcome) {
  Scene scene = committed();
  scene.poison("c").arrive("a", 10).arrive("b", 11).arrive("c", 5000).end({"a", "b"}, {"c"});
  EXPECT_THAT(guilty_of(scene), IsEmpty());
  scene.add({{"f", "outcome"},
             {"at_us", 13'000},
             {"worker", "w1"},
             {"lease", "l1"},
             {"id", "c"},
             {"outcome", "failed"}});
  EXPECT_THAT(guilty_of(scene), ElementsAre("resurrect"));
  // It may have had another one that nobody logged.
  EXPECT_THAT(guilty_of(scene.fault("F1-sigkill", 4000, 4000, kItsWorker)), IsEmpty());
}

TEST(ZombieWrite, SettledByALeaseThatWasNeverClaimed) {
  Scene scene = all_delivered();
  scene.claim("l1", {"b"}, 9).settle("l1", {"b"}, 20).settle("l2", {"c"}, 20);
  EXPECT_THAT(guilty_of(scene.end({"a", "b", "c"})), ElementsAre("zombie-write"));
}

TEST(ZombieWrite, SettledByALeaseThatDidNotHoldIt) {
  Scene scene = all_delivered();
  scene.claim("l1", {"b"}, 9).settle("l1", {"b", "c"}, 20);
  EXPECT_THAT(guilty_of(scene.end({"a", "b", "c"})), ElementsAre("zombie-write"));
}

TEST(ZombieWrite, CountedByALeaseThatWasNeverClaimed) {
  Scene scene = all_delivered();
  scene.claim("l1", {"b"}, 9).settle("l1", {"b"}, 20);
  scene.add(
      {{"f", "settled"}, {"at_us", 20'000}, {"worker", "w1"}, {"lease", "l2"}, {"delivered", 1}});
  EXPECT_THAT(guilty_of(scene.end({"a", "b", "c"})), ElementsAre("zombie-write"));
}

TEST(GoodHistory, SettlesOfAWorkerThatTellsNoClaims) {
  Scene scene = all_delivered();
  scene.claim("l1", {"b"}, 9).settle("l1", {"b"}, 20).settle("l2", {"c"}, 20, "w2");
  EXPECT_THAT(guilty_of(scene.end({"a", "b", "c"})), IsEmpty());
}

}  // namespace
}  // namespace outfall::test::history
