// Hand-made histories: every shape that is allowed must be accepted, and every anomaly must be
// named, and nothing else.
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/faults/history_reader.h"
#include "tests/faults/history_scene.h"

namespace outfall::test::history {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(GoodHistory, WithoutFaults) {
  const Verdict verdict = three_that_arrived().end({"a", "b", "c"}).judged();
  EXPECT_TRUE(verdict.ok());
  EXPECT_EQ(verdict.committed, 3U);
  EXPECT_EQ(verdict.delivered, 3U);
  EXPECT_EQ(verdict.dup_explained, 0U);
}

TEST(GoodHistory, UnorderedEntriesInAnyOrder) {
  Scene scene;
  scene.commit("a", 1, "", 1).commit("b", 2, "", 2).arrive("b", 10).arrive("a", 11);
  EXPECT_THAT(found(scene.end({"a", "b"})), IsEmpty());
}

TEST(GoodHistory, KeysOfAStreamWithoutOrder) {
  Scene scene;
  scene.add({{"f", "stream"}, {"stream", "orders"}, {"order", "none"}});
  scene.commit("a", 1, "k", 1).commit("b", 2, "k", 2).arrive("b", 10).arrive("a", 11);
  EXPECT_THAT(found(scene.end({"a", "b"})), IsEmpty());
}

TEST(GoodHistory, AKillWithADuplicate) {
  Scene scene = three_of_a_key();
  scene.claim("l1", {"a", "b", "c"}, 9).arrive("a", 10).arrive("b", 11);
  scene.fault("F1-sigkill", 12, 12, kTouchesWorker);
  scene.claim("l2", {"a", "b", "c"}, 1600, "w2")
      .arrive("a", 1601)
      .arrive("b", 1602)
      .arrive("c", 1603);
  const Verdict verdict =
      scene.settle("l2", {"a", "b", "c"}, 1700, "w2").end({"a", "b", "c"}).judged();
  EXPECT_THAT(names(verdict), IsEmpty());
  EXPECT_EQ(verdict.dup_explained, 2U);
  EXPECT_EQ(verdict.faults.at("F1-sigkill").copies, 2U);
  EXPECT_EQ(verdict.faults.at("F1-sigkill").longest_recovery, 1'591'000);
  EXPECT_EQ(verdict.takeovers, 3U);
}

// The lease that was known as the first one's had sent nothing that arrived, and the log of the one
// that had died with its worker.
TEST(GoodHistory, AKillWithADuplicateOfWhatHadBeenRefused) {
  Scene scene = three_of_a_key().poison("b");
  scene.claim("l1", {"b"}, 5).outcome("b", "failed", 6).note("replayed", "b", 8);
  scene.arrive("a", 10).arrive("b", 11).arrive("c", 12);
  scene.fault("F1-sigkill", 13, 13, {{"workers", boost::json::array{"w2"}}});
  scene.claim("l3", {"b"}, 1600).arrive("b", 1601).settle("l3", {"b"}, 1700);
  const Verdict verdict = scene.end({"a", "b", "c"}).judged();
  EXPECT_THAT(names(verdict), IsEmpty());
  EXPECT_EQ(verdict.dup_explained, 1U);
}

TEST(GoodHistory, AKeyThatStartsAgainInTheMiddle) {
  Scene scene = three_that_arrived();
  scene.fault("F1-sigkill", 13, 13, kTouchesWorker).arrive("b", 1600).arrive("c", 1601);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

TEST(GoodHistory, TwoKillsAndTwoCopies) {
  Scene scene = three_of_a_key();
  scene.arrive("a", 10).fault("F1-sigkill", 11, 11, kTouchesWorker).arrive("a", 1600);
  scene.fault("F1-sigkill", 1601, 1601, {{"workers", boost::json::array{"w2"}}});
  scene.arrive("a", 3200).arrive("b", 3201).arrive("c", 3202);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

TEST(GoodHistory, ADatabaseThatUndidASettle) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"c"}, 9)
      .settle("l1", {"c"}, 14)
      .fault("F7-immediate-stop", 15, 900, kTouchesDatabase, kUndoes);
  scene.arrive("c", 1000).claim("l2", {"c"}, 950).settle("l2", {"c"}, 1010);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

// Of its copies one is the crash's; the others are the sink's, which lost answers since before
// that.
TEST(GoodHistory, ASettleThatACrashUndidWhileASinkLostAnswers) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"c"}, 9).settle("l1", {"c"}, 14);
  scene.fault("F12-ack-lost", 20, 2000, kTouchesSink);
  scene.fault("F7-immediate-stop", 30, 900, kTouchesDatabase, kUndoes);
  scene.claim("l2", {"c"}, 950).arrive("c", 1000).arrive("c", 1020).arrive("c", 1040);
  const Verdict verdict = scene.settle("l2", {"c"}, 1050).end({"a", "b", "c"}).judged();
  EXPECT_THAT(names(verdict), IsEmpty());
  EXPECT_EQ(verdict.dup_explained, 3U);
}

TEST(GoodHistory, LostAnswersOfASink) {
  Scene scene = three_of_a_key();
  scene.fault("F12-ack-lost", 5, 500, kTouchesSink);
  scene.arrive("a", 10).arrive("a", 110).arrive("a", 310).arrive("a", 600).arrive("b", 601).arrive(
      "c", 602);
  const Verdict verdict = scene.end({"a", "b", "c"}).judged();
  EXPECT_THAT(names(verdict), IsEmpty());
  EXPECT_EQ(verdict.dup_explained, 3U);
}

// A frozen worker's request arrives after its successor has gone on.
TEST(GoodHistory, TheLastSendOfAFrozenWorkerArrivesLate) {
  Scene scene = three_of_a_key();
  scene.fault("F3-sigstop", 9, 2100, kTouchesWorker);
  scene.arrive("a", 1600).arrive("b", 1601).arrive("a", 2100).arrive("c", 2101);
  const Verdict verdict = scene.end({"a", "b", "c"}).judged();
  EXPECT_THAT(names(verdict), IsEmpty());
  EXPECT_EQ(verdict.late, 1U);
}

TEST(GoodHistory, ADeadLetterThatItsKeyGoesOnWithout) {
  Scene scene = three_of_a_key();
  scene.arrive("a", 10).arrive("c", 12);
  EXPECT_THAT(found(scene.poison("b").end({"a", "c"}, {"b"})), IsEmpty());
}

TEST(GoodHistory, AReplay) {
  Scene scene = three_of_a_key().poison("b");
  scene.arrive("a", 10).arrive("c", 12).note("replayed", "b", 500).arrive("b", 510);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

// Its answer was lost before it became a dead letter: the replay explains the second copy.
TEST(GoodHistory, AReplayOfWhatHadArrived) {
  Scene scene = three_that_arrived().poison("b");
  scene.claim("l1", {"b"}, 9)
      .add({{"f", "settled"},
            {"at_us", 20'000},
            {"worker", "w1"},
            {"lease", "l1"},
            {"ids", list({"b"})},
            {"status", "dead_lettered"}});
  scene.note("replayed", "b", 500)
      .claim("l2", {"b"}, 505)
      .arrive("b", 510)
      .settle("l2", {"b"}, 520);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

TEST(GoodHistory, AKeyThatIsStillHeld) {
  Scene scene = three_of_a_key().poison("b");
  scene.add({{"f", "stream"}, {"stream", "orders"}, {"on_dead_letter", "hold-key"}});
  scene.arrive("a", 10);
  EXPECT_THAT(found(scene.end({"a"}, {"b"}, {{"held", list({"c"})}, {"holds", 1}})), IsEmpty());
}

TEST(GoodHistory, AKeyThatWasHeldUntilTheReplay) {
  Scene scene = three_of_a_key().poison("b");
  scene.add({{"f", "stream"}, {"stream", "orders"}, {"on_dead_letter", "hold-key"}});
  scene.arrive("a", 10).note("replayed", "b", 500).arrive("b", 510).arrive("c", 511);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

TEST(GoodHistory, AKeyThatWasHeldUntilTheDiscard) {
  Scene scene = three_of_a_key().poison("b");
  scene.add({{"f", "stream"}, {"stream", "orders"}, {"on_dead_letter", "hold-key"}});
  scene.arrive("a", 10).note("discarded", "b", 500).arrive("c", 511);
  EXPECT_THAT(found(scene.end({"a", "c"})), IsEmpty());
}

TEST(GoodHistory, ACommitInDoubtThatTookEffect) {
  Scene scene = three_that_arrived();
  scene.begin("d", 4, "k", 4).note("commit_unknown", "d", 5).arrive("d", 13);
  const Verdict verdict = scene.end({"a", "b", "c", "d"}).judged();
  EXPECT_THAT(names(verdict), IsEmpty());
  EXPECT_EQ(verdict.in_doubt, 1U);
}

TEST(GoodHistory, ACommitInDoubtThatDidNot) {
  Scene scene = three_that_arrived();
  scene.begin("d", 4, "k", 4).note("commit_unknown", "d", 5);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

TEST(GoodHistory, AProducerThatDiedInItsCommit) {
  Scene scene = three_that_arrived();
  scene.begin("d", 4, "k", 4).begin("e", 4, "k", 5).arrive("e", 14);
  EXPECT_THAT(found(scene.end({"a", "b", "c", "e"})), IsEmpty());
}

TEST(GoodHistory, ARollbackLeavesAGapInThePlaces) {
  Scene scene;
  scene.commit("a", 1, "k", 1)
      .begin("b", 2, "k", 2)
      .note("rolled_back", "b", 2)
      .commit("c", 3, "k", 3);
  EXPECT_THAT(found(scene.arrive("a", 10).arrive("c", 11).end({"a", "c"})), IsEmpty());
}

TEST(GoodHistory, AStreamWithoutReceipts) {
  Scene scene = three_that_arrived();
  scene.add({{"f", "stream"}, {"stream", "orders"}, {"receipts", false}});
  EXPECT_THAT(found(scene.end({})), IsEmpty());
}

TEST(GoodHistory, AnAsynchronousStandbyForgetsItsTail) {
  Scene scene = three_of_a_key();
  scene.arrive("a", 10).fault("F9-async-failover", 20, 2000, kTouchesDatabase,
                              {{"forgets_from_us", 2500}});
  const Verdict verdict = scene.arrive("b", 2100).end({"a", "b"}).judged();
  EXPECT_THAT(names(verdict), IsEmpty());
  EXPECT_EQ(verdict.forgotten, 1U);
}

TEST(GoodHistory, WhatAnAsynchronousStandbyForgotIsNoGapInARedelivery) {
  Scene scene = three_of_a_key();
  scene.arrive("a", 10).arrive("b", 11).fault("F9-async-failover", 20, 2000, kTouchesDatabase,
                                              {{"forgets_from_us", 1500}});
  EXPECT_THAT(found(scene.arrive("a", 2100).arrive("c", 2101).end({"a", "c"})), IsEmpty());
}

TEST(GoodHistory, AScheduledEntryBlocksNobody) {
  Scene scene = three_of_a_key();
  scene.records[2]["scheduled"] = true;  // b
  EXPECT_THAT(found(scene.arrive("a", 10).arrive("c", 11).arrive("b", 900).end({"a", "b", "c"})),
              IsEmpty());
}

TEST(GoodHistory, OneKeyInTwoStreamsAndTwoSinks) {
  Scene scene = three_that_arrived();
  scene.commit("x", 1, "k", 1, "bills").commit("y", 2, "k", 2, "bills");
  scene.arrive("x", 9, "other").arrive("y", 10, "other");
  EXPECT_THAT(found(scene.end({"a", "b", "c", "x", "y"})), IsEmpty());
}

TEST(GoodHistory, FinalRecordsAreMerged) {
  Scene scene = three_that_arrived();
  scene.end({"a"}).add(
      {{"f", "final"}, {"delivered", boost::json::array{{{"id", "b"}, {"attempts", 1}}}}});
  scene.add({{"f", "final"}, {"delivered", list({"c"})}, {"healed_us", 5}});
  EXPECT_THAT(found(scene), IsEmpty());
}

TEST(GoodHistory, CountersAndGauges) {
  Scene scene = three_that_arrived();
  scene.add({{"f", "counter"},
             {"at_us", 1},
             {"worker", "w1"},
             {"name", "outfall_attempts_total"},
             {"outcome", "delivered"},
             {"stream", "orders"},
             {"value", 1}});
  scene.add({{"f", "counter"},
             {"at_us", 2},
             {"worker", "w1"},
             {"name", "outfall_attempts_total"},
             {"outcome", "delivered"},
             {"stream", "orders"},
             {"value", 3}});
  scene.add({{"f", "bounds"}, {"rss_bytes", 1000}, {"in_flight", 10}});
  scene.add(
      {{"f", "gauge"}, {"at_us", 1}, {"worker", "w1"}, {"rss_bytes", 900}, {"in_flight", 10}});
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

TEST(Lost, CommittedAndNowhere) {
  Scene scene = three_of_a_key();
  scene.arrive("a", 10).arrive("c", 12);
  EXPECT_THAT(found(scene.end({"a", "c"})), ElementsAre("lost"));
}

TEST(Lost, AReceiptWithoutAnArrival) {
  Scene scene = three_of_a_key();
  scene.arrive("a", 10).arrive("b", 11);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("lost"));
}

TEST(Lost, GoneWithoutAReceipt) {
  EXPECT_THAT(found(three_that_arrived().end({"a", "b"})), ElementsAre("lost"));
}

TEST(Lost, ACommitInDoubtThatHasAReceiptAndNeverArrived) {
  Scene scene = three_that_arrived();
  scene.begin("d", 4, "k", 4).note("commit_unknown", "d", 5);
  EXPECT_THAT(found(scene.end({"a", "b", "c", "d"})), ElementsAre("lost"));
}

TEST(Lost, CommittedBeforeWhatTheFailoverForgot) {
  Scene scene = three_of_a_key();
  scene.fault("F9-async-failover", 20, 2000, kTouchesDatabase, {{"forgets_from_us", 2500}});
  EXPECT_THAT(found(scene.arrive("b", 2100).arrive("c", 2101).end({"b", "c"})),
              ElementsAre("lost"));
}

TEST(Phantom, ARolledBackEntryArrived) {
  Scene scene = three_that_arrived();
  scene.begin("d", 4, "k", 4).note("rolled_back", "d", 5).arrive("d", 13);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("phantom"));
}

TEST(Phantom, NobodyWroteIt) {
  EXPECT_THAT(found(three_that_arrived().arrive("z", 13).end({"a", "b", "c"})),
              ElementsAre("phantom"));
}

TEST(Phantom, ItArrivedBeforeItsCommit) {
  Scene scene = three_that_arrived();
  EXPECT_THAT(found(scene.commit("d", 20, "k", 4).arrive("d", 15).end({"a", "b", "c", "d"})),
              ElementsAre("phantom"));
}

TEST(Phantom, ADeadLetterThatWasRolledBack) {
  Scene scene = three_that_arrived();
  scene.begin("d", 4, "k", 4).note("rolled_back", "d", 5);
  EXPECT_THAT(found(scene.end({"a", "b", "c"}, {"d"})), ElementsAre("phantom"));
}

TEST(Phantom, AnotherKeyThanCommitted) {
  Scene scene = three_that_arrived();
  scene.add({{"f", "arrived"},
             {"at_us", 13'000},
             {"sink", "sink"},
             {"seq", 999},
             {"id", "d"},
             {"stream", "orders"},
             {"key", "other"},
             {"n", 4}});
  EXPECT_THAT(found(scene.commit("d", 4, "k", 4).end({"a", "b", "c", "d"})),
              ElementsAre("phantom"));
}

TEST(DupUnexplained, WithoutAnyFault) {
  EXPECT_THAT(found(three_that_arrived().arrive("c", 13).end({"a", "b", "c"})),
              ElementsAre("dup-unexplained"));
}

// Two attempts of libcurl's six sends each, and one copy more or not.
Scene many_copies(int arrivals) {
  Scene scene = three_of_a_key();
  scene.fault("F12-ack-lost", 5, 500, kTouchesSink);
  scene.outcome("a", "possibly_delivered", 100).outcome("a", "delivered", 300);
  for (int i = 0; i < arrivals; ++i) scene.arrive("a", 10 + i);
  return scene.arrive("b", 601).arrive("c", 602).end({"a", "b", "c"});
}

TEST(DupUnexplained, MoreCopiesThanTheAttemptsCanHaveMade) {
  EXPECT_THAT(found(many_copies(14)), ElementsAre("dup-unexplained"));
  EXPECT_THAT(found(many_copies(13)), IsEmpty());
}

TEST(DupUnexplained, AfterTheFaultWasLongOver) {
  Scene scene = three_of_a_key();
  scene.fault("F1-sigkill", 1, 1, kTouchesWorker)
      .arrive("a", 5000)
      .arrive("b", 5001)
      .arrive("c", 5002);
  EXPECT_THAT(found(scene.arrive("c", 5003).end({"a", "b", "c"})), ElementsAre("dup-unexplained"));
}

TEST(DupUnexplained, BeforeTheFault) {
  Scene scene = three_that_arrived();
  scene.arrive("c", 13).fault("F1-sigkill", 14, 14, kTouchesWorker);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("dup-unexplained"));
}

TEST(DupUnexplained, TheSettleWasUndoneOnlyAfterTheCopy) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"c"}, 9).settle("l1", {"c"}, 14).fault("F12-ack-lost", 20, 2000, kTouchesSink);
  scene.arrive("c", 25).fault("F7-immediate-stop", 30, 900, kTouchesDatabase, kUndoes);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("dup-unexplained"));
}

TEST(DupUnexplained, MoreCopiesThanKills) {
  Scene scene = three_that_arrived();
  scene.fault("F1-sigkill", 13, 13, kTouchesWorker).arrive("c", 1600).arrive("c", 1601);
  const Verdict verdict = scene.end({"a", "b", "c"}).judged();
  EXPECT_THAT(names(verdict), ElementsAre("dup-unexplained"));
  EXPECT_EQ(verdict.count(Anomaly::dup_unexplained), 1U);
  EXPECT_EQ(verdict.dup_explained, 1U);
}

// As of an endpoint that answered with a status: the worker knows that nothing was taken.
TEST(DupUnexplained, TheFaultOfTheSinkExcusesNone) {
  Scene scene = three_that_arrived().arrive("c", 13).end({"a", "b", "c"});
  EXPECT_THAT(found(Scene(scene).fault("F15-http", 1, 100, {{"sinks", "all"}})), IsEmpty());
  EXPECT_THAT(
      found(scene.fault("F15-http", 1, 100, {{"sinks", "all"}}, {{"copies", 0}, {"late", false}})),
      ElementsAre("dup-unexplained"));
}

TEST(DupUnexplained, TheFaultTouchedAnotherSink) {
  Scene scene = three_that_arrived();
  scene.fault("F12-ack-lost", 1, 100, {{"sinks", boost::json::array{"other"}}}).arrive("c", 13);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("dup-unexplained"));
}

TEST(DupUnexplained, TheFaultTouchedAWorkerThatNeverHadIt) {
  Scene scene = three_that_arrived();
  scene.fault("F1-sigkill", 13, 13, {{"workers", boost::json::array{"w3"}}}).arrive("c", 1600);
  scene.claim("l1", {"c"}, 9, "w1").claim("l2", {"c"}, 1599, "w2");
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("dup-unexplained"));
}

TEST(Reorder, ALaterEntryFirst) {
  Scene scene = three_of_a_key();
  EXPECT_THAT(found(scene.arrive("a", 10).arrive("c", 11).arrive("b", 12).end({"a", "b", "c"})),
              ElementsAre("reorder"));
}

TEST(Reorder, AlsoUnderAFault) {
  Scene scene = three_of_a_key();
  scene.fault("F3-sigstop", 9, 2000, kTouchesWorker);
  EXPECT_THAT(found(scene.arrive("b", 10).arrive("a", 11).arrive("c", 12).end({"a", "b", "c"})),
              ElementsAre("reorder"));
}

TEST(Reorder, PastADeadLetterThatHoldsItsKey) {
  Scene scene = three_of_a_key().poison("b");
  scene.add({{"f", "stream"}, {"stream", "orders"}, {"on_dead_letter", "hold-key"}});
  EXPECT_THAT(found(scene.arrive("a", 10).arrive("c", 11).end({"a", "c"}, {"b"})),
              ElementsAre("reorder"));
}

TEST(Reorder, BeforeTheDiscardOfWhatHoldsItsKey) {
  Scene scene = three_of_a_key().poison("b");
  scene.add({{"f", "stream"}, {"stream", "orders"}, {"on_dead_letter", "hold-key"}});
  scene.arrive("a", 10).arrive("c", 400).note("discarded", "b", 500);
  EXPECT_THAT(found(scene.end({"a", "c"})), ElementsAre("reorder"));
}

TEST(Reorder, BeforeTheReplayOfWhatHoldsItsKey) {
  Scene scene = three_of_a_key().poison("b");
  scene.add({{"f", "stream"}, {"stream", "orders"}, {"on_dead_letter", "hold-key"}});
  scene.arrive("a", 10).arrive("c", 400).note("replayed", "b", 500).arrive("b", 510);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("reorder"));
}

TEST(Gap, ARestartThatLeavesOneOut) {
  Scene scene = three_that_arrived();
  scene.fault("F1-sigkill", 13, 13, kTouchesWorker).arrive("a", 1600).arrive("c", 1601);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("gap"));
}

TEST(Gap, ARestartThatStopsAndGoesOnWithNewOnes) {
  Scene scene = three_that_arrived();
  scene.commit("d", 4, "k", 4);
  scene.fault("F1-sigkill", 13, 13, kTouchesWorker)
      .arrive("a", 1600)
      .arrive("b", 1601)
      .arrive("d", 1602);
  EXPECT_THAT(found(scene.end({"a", "b", "c", "d"})), ElementsAre("gap"));
}

TEST(Gap, AFreezeOfAnotherTimeIsNoExcuse) {
  Scene scene = three_that_arrived();
  scene.fault("F3-sigstop", 30'000, 40'000, kTouchesWorker);
  scene.fault("F1-sigkill", 13, 13, kTouchesWorker).arrive("a", 1600).arrive("c", 1601);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("gap"));
}

TEST(DoubleTerminal, TwoReceipts) {
  EXPECT_THAT(found(three_that_arrived().end({"a", "b", "c", "c"})),
              ElementsAre("double-terminal"));
}

TEST(DoubleTerminal, DeliveredAndADeadLetter) {
  EXPECT_THAT(found(three_that_arrived().end({"a", "b", "c"}, {"c"})),
              ElementsAre("double-terminal"));
}

TEST(DoubleTerminal, SettledTwiceByOneLease) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"c"}, 9).settle("l1", {"c"}, 20).settle("l1", {"c"}, 30);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("double-terminal"));
}

TEST(DoubleTerminal, ADatabaseFaultThatUndoesNothingIsNoExcuse) {
  Scene scene = three_that_arrived();
  scene.fault("F6-terminate", 15, 900, kTouchesDatabase);
  scene.claim("l1", {"c"}, 9).settle("l1", {"c"}, 20).settle("l1", {"c"}, 30);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("double-terminal"));
}

TEST(Resurrect, DeliveredAndStillThere) {
  EXPECT_THAT(found(three_that_arrived().end({"a", "b", "c"}, {}, {{"entries", list({"c"})}})),
              ElementsAre("resurrect", "stuck"));
}

TEST(Resurrect, ClaimedAfterItWasSettled) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"c"}, 9).settle("l1", {"c"}, 20).claim("l2", {"c"}, 30, "w2");
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("resurrect"));
}

TEST(Resurrect, ArrivedLongAfterItWasSettled) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"c"}, 9).settle("l1", {"c"}, 20).arrive("c", 5000);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("resurrect"));
}

TEST(Resurrect, ADatabaseFaultOfAnotherTimeIsNoExcuse) {
  Scene scene = three_that_arrived();
  scene.fault("F7-immediate-stop", 1, 2, kTouchesDatabase, kUndoes);
  scene.claim("l1", {"c"}, 9).settle("l1", {"c"}, 20).claim("l2", {"c"}, 30, "w2");
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("resurrect"));
}

TEST(Resurrect, ADatabaseFaultThatUndoesNothingIsNoExcuse) {
  Scene scene = three_that_arrived();
  scene.fault("F10-read-only", 15, 900, kTouchesDatabase);
  scene.claim("l1", {"c"}, 9).settle("l1", {"c"}, 20).claim("l2", {"c"}, 30, "w2");
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("resurrect"));
}

TEST(Stuck, AnEntryIsLeft) {
  Scene scene = three_of_a_key();
  scene.arrive("a", 10).arrive("b", 11);
  EXPECT_THAT(found(scene.end({"a", "b"}, {}, {{"entries", list({"c"})}})), ElementsAre("stuck"));
}

TEST(Stuck, ALeaseIsLeft) {
  EXPECT_THAT(found(three_that_arrived().end({"a", "b", "c"}, {}, {{"leases", 1}})),
              ElementsAre("stuck"));
  EXPECT_THAT(found(three_that_arrived().end({"a", "b", "c"}, {}, {{"expired_leases", 1}})),
              ElementsAre("stuck"));
}

TEST(Stuck, AHoldIsLeft) {
  EXPECT_THAT(found(three_that_arrived().end({"a", "b", "c"}, {}, {{"holds", 1}})),
              ElementsAre("stuck"));
}

TEST(Stuck, HeldBehindNothing) {
  Scene scene = three_of_a_key();
  scene.add({{"f", "stream"}, {"stream", "orders"}, {"on_dead_letter", "hold-key"}});
  scene.arrive("a", 10).arrive("b", 11);
  EXPECT_THAT(found(scene.end({"a", "b"}, {}, {{"held", list({"c"})}, {"holds", 1}})),
              ElementsAre("stuck"));
}

TEST(Stuck, ARecoveryThatTookTooLong) {
  Scene scene = three_of_a_key();
  scene.fault("F1-sigkill", 5, 5, kTouchesWorker, {{"recover_within_us", 1'500'000}});
  scene.arrive("a", 1600).arrive("b", 1601).arrive("c", 1602);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("stuck"));
}

TEST(Unbounded, AGaugeAboveItsBound) {
  Scene scene = three_that_arrived();
  scene.add({{"f", "bounds"}, {"rss_bytes", 1000}})
      .add({{"f", "bounds"}, {"worker", "w1"}, {"rss_bytes", 100}});
  scene.add({{"f", "gauge"}, {"at_us", 1}, {"worker", "w1"}, {"rss_bytes", 101}});
  scene.add({{"f", "gauge"}, {"at_us", 2}, {"worker", "w1"}, {"rss_bytes", 50}});
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("unbounded"));
}

TEST(Unbounded, MoreInFlightThanIsConfigured) {
  for (const std::int64_t entries : {200, 201}) {
    Scene scene = three_that_arrived();
    scene.add({{"f", "bounds"}, {"in_flight_entries", 200}, {"in_flight_bytes", 65'536}});
    scene.add({{"f", "gauge"},
               {"at_us", 1},
               {"worker", "w1"},
               {"in_flight_entries", entries},
               {"in_flight_bytes", 65'536}});
    EXPECT_EQ(found(scene.end({"a", "b", "c"})).contains("unbounded"), entries == 201);
  }
}

TEST(NotIsolated, ASlowSinkDelaysAnother) {
  Scene scene = three_of_a_key();
  scene.fault("F13-slow", 1, 1000, {{"sinks", boost::json::array{"other"}}},
              {{"isolate_within_us", 100'000}});
  scene.arrive("a", 10).arrive("b", 11).arrive("c", 500);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("not-isolated"));
}

TEST(NotIsolated, UnlessSomethingElseWasWrong) {
  Scene scene = three_of_a_key();
  scene.fault("F13-slow", 1, 1000, {{"sinks", boost::json::array{"other"}}},
              {{"isolate_within_us", 100'000}});
  scene.fault("F7-immediate-stop", 20, 490, kTouchesDatabase);
  scene.arrive("a", 10).arrive("b", 11).arrive("c", 500);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

// An entry for the sink aside that takes half a second beside a fault, when one before took so long
// to that sink: the first of all, or one when others had arrived there.
std::set<std::string> beside_a_fault(std::int64_t slow_by, const std::string& sink,
                                     bool after_the_first) {
  Scene scene;
  std::vector<std::string> all = {"z", "a"};
  if (after_the_first) {
    scene.commit("y", 1, "k2", 1).arrive("y", 2, sink);
    all.emplace_back("y");
  }
  scene.commit("z", 3, "k0", 1).arrive("z", 3 + slow_by, sink);
  scene.commit("a", 502, "k1", 1);
  scene.fault("F13-slow-sink", 500, 1490, {{"sinks", boost::json::array{"sink"}}},
              {{"isolate_within_us", 100'000}});
  scene.arrive("a", 1000, "aside");
  return found(scene.end(all));
}

TEST(NotIsolated, UnlessTheMachineWasAsSlowBefore) {
  EXPECT_TRUE(beside_a_fault(20, "aside", true).contains("not-isolated"));
  EXPECT_FALSE(beside_a_fault(300, "aside", true).contains("not-isolated"));
}

// A program that starts within three seconds excused whatever the file beside it suffered.
TEST(NotIsolated, ThatAnotherSinkWasSlowBeforeExcusesNothing) {
  EXPECT_TRUE(beside_a_fault(300, "sink", true).contains("not-isolated"));
}

TEST(NotIsolated, WhatTheStartOfTheWorkersTookExcusesNothing) {
  EXPECT_TRUE(beside_a_fault(300, "aside", false).contains("not-isolated"));
}

TEST(Miscounted, MoreThanThereWere) {
  Scene scene = three_that_arrived();
  scene.add({{"f", "counter"},
             {"at_us", 2},
             {"worker", "w1"},
             {"name", "outfall_attempts_total"},
             {"outcome", "delivered"},
             {"stream", "orders"},
             {"value", 4}});
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("miscounted"));
}

TEST(Miscounted, FewerThanThereWereWithoutAFault) {
  Scene scene = three_that_arrived();
  scene.add({{"f", "counter"},
             {"at_us", 2},
             {"worker", "w1"},
             {"name", "outfall_attempts_total"},
             {"outcome", "delivered"},
             {"stream", "orders"},
             {"value", 2}});
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("miscounted"));
}

Scene& count(Scene& scene, const std::string& worker, const std::string& outcome, int value,
             std::int64_t at) {
  return scene.add({{"f", "counter"},
                    {"at_us", at * 1000},
                    {"worker", worker},
                    {"name", "outfall_attempts_total"},
                    {"outcome", outcome},
                    {"stream", "orders"},
                    {"value", value}});
}

Scene& end_worker(Scene& scene, const std::string& worker, std::int64_t at) {
  return scene.add(
      {{"f", "worker"}, {"at_us", at * 1000}, {"worker", worker}, {"event", "terminated"}});
}

TEST(Miscounted, FewerThanThereWereByAWorkerThatToldInTimeBeforeItEnded) {
  Scene scene = three_that_arrived();
  scene.fault("F17-duplicate", 1, 20, {});
  count(scene, "w1", "delivered", 2, 30);
  EXPECT_THAT(found(end_worker(scene, "w1", 40).end({"a", "b", "c"})), ElementsAre("miscounted"));
}

TEST(GoodHistory, FewerWereCountedByAWorkerThatEndedBeforeItCouldTell) {
  Scene scene = three_that_arrived();
  end_worker(scene, "w1", 11);
  count(scene, "w1", "delivered", 2, 30);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

TEST(GoodHistory, FewerWereCountedWhereAFaultLostAnswers) {
  Scene scene = three_that_arrived();
  scene.fault("F12-sink", 1, 20, {{"sinks", "all"}});
  count(scene, "w1", "delivered", 2, 30);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

TEST(Miscounted, RetriesThatTheLogDoesNotHave) {
  Scene scene = three_that_arrived();
  scene.outcome("a", "retryable_failure", 9);
  count(scene, "w1", "retryable_failure", 2, 30);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("miscounted"));
}

TEST(Miscounted, FewerRetriesThanTheLogHasWhateverTheFault) {
  Scene scene = three_that_arrived();
  scene.fault("F15-http", 1, 20, {{"sinks", "all"}});
  scene.outcome("a", "retryable_failure", 8);
  scene.outcome("a", "retryable_failure", 9);
  count(scene, "w1", "retryable_failure", 1, 30);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("miscounted"));
}

TEST(GoodHistory, RetriesAreCountedAsLogged) {
  Scene scene = three_that_arrived();
  scene.fault("F15-http", 1, 20, {{"sinks", "all"}});
  scene.outcome("a", "retryable_failure", 9);
  count(scene, "w1", "retryable_failure", 1, 30);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), IsEmpty());
}

TEST(Miscounted, MoreDeadLettersThanThereAreUnlessTheDatabaseForgot) {
  for (const bool forgot : {false, true}) {
    Scene scene = three_that_arrived();
    scene.commit("d", 5, "l", 1).poison("d");
    if (forgot) scene.fault("F7-restart", 1, 20, kTouchesDatabase);
    scene.add({{"f", "counter"},
               {"at_us", 30'000},
               {"worker", "w1"},
               {"name", "outfall_dead_lettered_total"},
               {"stream", "orders"},
               {"value", 2}});
    scene.end({"a", "b", "c"}, {"d"});
    EXPECT_EQ(found(scene).contains("miscounted"), !forgot);
  }
}

std::string refusal(const Scene& scene) {
  try {
    static_cast<void>(scene.judged());
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(BadHistory, SaysWhyNothingCanBeDecided) {
  EXPECT_THAT(refusal(three_that_arrived()), HasSubstr("no final record"));
  EXPECT_THAT(refusal(Scene().end({})), HasSubstr("nothing was committed"));
  EXPECT_THAT(refusal(three_that_arrived().note("committed", "z", 5).end({})),
              HasSubstr("not begun"));
  EXPECT_THAT(refusal(three_that_arrived().commit("z", 5, "k", 3).end({})),
              HasSubstr("two entries with n 3"));
  Scene twice = three_that_arrived();
  twice.records.push_back(twice.records.back());
  EXPECT_THAT(refusal(twice.end({})), HasSubstr("two arrivals with seq 30"));
}

std::string complaint(const std::string& text) {
  History history;
  std::istringstream in(text);
  try {
    read_records(in, "file", history);
  } catch (const BadRecord& error) {
    return error.what();
  }
  return "accepted";
}

TEST(BadRecord, NamesFileLineAndField) {
  EXPECT_EQ(complaint("\n{"), "file:2: no JSON: incomplete JSON");
  EXPECT_EQ(complaint("[]"), "file:1: no JSON object");
  EXPECT_EQ(complaint("{}"), "file:1: \"f\" is missing");
  EXPECT_EQ(complaint(R"({"f":"arived"})"), "file:1: \"f\" is no kind of record: arived");
  EXPECT_EQ(complaint(R"({"f":"committed","id":"a"})"), "file:1: \"at_us\" is missing");
  EXPECT_EQ(complaint(R"({"f":"committed","id":7,"at_us":1})"), "file:1: \"id\" is no string");
  EXPECT_EQ(complaint(R"({"f":"committed","id":"a","at_us":1.5})"),
            "file:1: \"at_us\" is no whole number");
  EXPECT_EQ(complaint(R"({"f":"committing","id":"a","at_us":1,"stream":"s","n":1})"),
            "file:1: \"key\" is missing");
  EXPECT_EQ(complaint(R"({"f":"fault","at_us":2,"until_us":1,"kind":"F1","touches":{}})"),
            "file:1: \"until_us\" is before at_us");
  EXPECT_EQ(complaint(R"({"f":"fault","at_us":2,"kind":"F1","touches":{"sinks":"some"}})"),
            "file:1: \"sinks\" is neither \"all\" nor a list");
  EXPECT_EQ(complaint(R"({"f":"fault","at_us":2,"kind":"F7","touches":{},"undoes_commits":true})"),
            "file:1: \"undoes_commits\" needs a touched database");
  EXPECT_EQ(complaint(R"({"f":"fault","at_us":2,"kind":"F15","touches":{},"attempts":1})"),
            "file:1: \"attempts\" needs a touched sink");
  EXPECT_EQ(complaint(R"({"f":"final","entries":{"a":1}})"), "file:1: \"entries\" is no list");
  EXPECT_EQ(complaint(R"({"f":"worker","worker":"w","at_us":1,"event":"gone"})"),
            "file:1: \"event\" is none of started, killed, terminated, exited, frozen, thawed");
}

}  // namespace
}  // namespace outfall::test::history
