// What may wait must not be forgotten, and what waits must not stop others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/faults/claim_torture_scene.h"

namespace outfall::test::torture {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Verdict kRetryInAnHour{.result = SendResult::retry, .delay_ms = 3'600'000};

// Claims until something was leased, as long as the answers ask for another claim.
std::vector<EntryId> claim_until_batch(TortureWorker& worker) {
  for (int i = 0; i < 20 && worker.unsent().empty(); ++i) {
    (void)worker.claim();
    if (!worker.expects_more()) break;
  }
  return worker.unsent();
}

// A transaction that the floor has passed by commits when nothing else happens any more.
void commit_below_the_floor(Scene& scene, bool seen) {
  Producing late(scene);
  const EntryId id = late.insert("k");
  scene.insert("other");
  TortureWorker& worker = scene.worker();
  worker.drain_once();
  worker.drain_once();
  EXPECT_FALSE(worker.due());
  late.commit();
  EXPECT_EQ(worker.due(), seen);
  if (seen) {
    EXPECT_THAT(claim_until_batch(worker), ElementsAre(id));
    worker.send_all();
    worker.settle();
    worker.drain_once();
    EXPECT_FALSE(worker.due());
  }
}

TEST(ClaimLiveness, TheIdlePollSeesCommitsBelowTheFloor) {
  Scene scene({});
  commit_below_the_floor(scene, true);
}

TEST(ClaimLiveness, ButNotWithoutTheTrackedTransactions) {
  Scene scene({.floor_flaw = FloorFlaw::never_looks_back});
  commit_below_the_floor(scene, false);
}

TEST(ClaimLiveness, SuspectsThatCannotGoDoNotHideOthers) {
  Scene scene({});
  scene.insert("k");
  (void)scene.sql().query(
      "SELECT dead_letter_entry(p_entry_id => 1, p_hold_key => true, p_actor => 'test', p_reason "
      "=> 'test')");
  for (int i = 0; i < 60; ++i) scene.insert("k");
  const EntryId other = scene.insert("other");
  scene.sql().exec(
      "UPDATE entries SET status = 'deferred', abandoned = 4,"
      " available_at = clock_timestamp() - interval '1 hour' + id * interval '1 second'");
  EXPECT_THAT(claim_until_batch(scene.worker()), ElementsAre(other));
}

// A key that is null must not become a range of all keys.
TEST(ClaimLiveness, AnEntryWithoutAKeyInAParkingBlocksNobody) {
  Scene scene({});
  scene.sql().exec(
      "INSERT INTO entries (stream, type, key, headers) SELECT 's', 't', "
      "CASE WHEN i <> 50 THEN 'k' || i END, '{\"lane\": \"closed\"}' FROM generate_series(1, 700) "
      "i");
  const EntryId open = scene.insert("other", "open");
  TortureWorker& worker = scene.worker({.lane = "header.lane", .lanes = {{"closed", 0}}});
  (void)worker.claim();
  EXPECT_EQ(scene.sql().number("SELECT count(*) FROM parkings"), 1);
  EXPECT_THAT(worker.unsent(), ElementsAre(open));
}

// Ids of two streams alternate, so that a parking has as many ranges as entries.
TEST(ClaimLiveness, ABacklogBesideAnotherStreamsIsPassedWithinTheTimeout) {
  Scene scene({});
  scene.sql().exec(
      "INSERT INTO entries (stream, type, key, headers) SELECT "
      "CASE i % 2 WHEN 0 THEN 's' ELSE 'z' END, 't', 'k' || i, '{\"lane\": \"closed\"}' "
      "FROM generate_series(1, 50000) i");
  const EntryId open = scene.insert("other", "open");
  // The worker's default claim_timeout; its session begins after this.
  scene.sql().exec(
      "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''2s''', "
      "current_database()); END $$");
  TortureWorker& worker = scene.worker({.lane = "header.lane", .lanes = {{"closed", 0}}});
  EXPECT_THAT(claim_until_batch(worker), ElementsAre(open));
}

// A claim walks past 4,000 entries of keys that others hold, and no further. What a worker has
// held for long is passed over by whoever meets it, or the others' keys would wait for that worker.
TEST(ClaimLiveness, ALongBacklogOfAnotherWorkersSlowKeyIsPassedOver) {
  Scene scene({});
  scene.sql().exec(
      "INSERT INTO entries (stream, type, key) SELECT 's', 't', 'hot' FROM generate_series(1, "
      "30000)");
  TortureWorker& holder = scene.worker({.limit = 10});
  ASSERT_EQ(claim_until_batch(holder).size(), 10);
  const EntryId other = scene.insert("other");
  TortureWorker& worker = scene.worker();
  (void)worker.claim();
  EXPECT_THAT(worker.unsent(), IsEmpty());
  scene.sql().exec("UPDATE leases SET claimed_at = claimed_at - interval '1 second'");
  EXPECT_THAT(claim_until_batch(worker), ElementsAre(other));
  // The holder goes on with what was passed over, in order.
  holder.send_all();
  holder.settle();
  EXPECT_THAT(claim_until_batch(holder), testing::Each(testing::Gt(10)));
  EXPECT_EQ(holder.unsent().front(), 11);
}

TEST(ClaimLiveness, AParkedLaneStaysClosedWhateverRoomTheWorkerReports) {
  Scene scene({});
  (void)scene.sql().query("SELECT pause_destination('s', 'a', 'test', 'gone')");
  const EntryId parked = scene.insert("k", "a");
  const EntryId free = scene.insert("j", "b");
  TortureWorker& worker = scene.worker({.lane = "header.lane", .lanes = {{"a", 5}, {"b", 5}}});
  EXPECT_THAT(claim_until_batch(worker), ElementsAre(free));
  worker.send_all();
  worker.settle();
  EXPECT_THAT(claim_until_batch(worker), IsEmpty());
  (void)scene.sql().query("SELECT resume_destination('s', 'a', 'test', 'back')");
  EXPECT_TRUE(worker.due());
  EXPECT_THAT(claim_until_batch(worker), ElementsAre(parked));
}

// A breaker lets one entry through to see whether its lane is well again. It must not be spent on
// an entry that waits for another lane.
TEST(ClaimLiveness, BlockedEntriesTakeNoRoomOfTheirLane) {
  Scene scene({});
  scene.insert("k", "closed");
  for (int i = 0; i < 5; ++i) scene.insert("k", "probed");
  const EntryId probe = scene.insert("j", "probed");
  TortureWorker& worker =
      scene.worker({.lane = "header.lane", .lanes = {{"closed", 0}, {"probed", 1}}});
  EXPECT_THAT(claim_until_batch(worker), ElementsAre(probe));
}

// The hold of a key sleeps until its failed head is due. An entry before that head need not wait.
TEST(ClaimLiveness, AnEarlierEntryWakesTheHold) {
  Scene scene({});
  Producing late(scene);
  const EntryId earlier = late.insert("k");
  scene.insert("k");
  scene.insert("k");
  TortureWorker& worker = scene.worker();
  (void)worker.claim();
  worker.send_next(kRetryInAnHour);
  worker.settle();
  EXPECT_THAT(claim_until_batch(worker), IsEmpty());
  EXPECT_EQ(
      scene.sql().number(
          "SELECT count(*) FROM holds WHERE due_at > clock_timestamp() + interval '1 minute'"),
      1);
  late.commit();
  EXPECT_TRUE(worker.due());
  EXPECT_THAT(claim_until_batch(worker), ElementsAre(earlier));
}

// One claim looks into a limited number of holds: into those whose entries are the oldest.
TEST(ClaimLiveness, ManyBusyHoldsDoNotStarveOne) {
  Scene scene({});
  const EntryId oldest = scene.insert("starved");
  for (int i = 0; i < 210; ++i) scene.insert("k" + std::to_string(i));
  scene.sql().exec(
      "INSERT INTO holds (stream, scope, value, due_at, reason)"
      " SELECT 's', 'key', key, clock_timestamp() - id * interval '1 second', 'test' FROM entries;"
      "UPDATE entries e SET status = 'held', hold_id = h.hold_id FROM holds h WHERE h.value = "
      "e.key");
  EXPECT_THAT(claim_until_batch(scene.worker({.limit = 1})), ElementsAre(oldest));
  scene.finish({.limit = 50});
}

// Deaths make an entry suspect, a suspect is leased alone, and only what kills alone is given up.
TEST(ClaimLiveness, OnlyThePoisonIsDeadLettered) {
  Scene scene({});
  for (int i = 0; i < 6; ++i) scene.insert(i % 2 == 0 ? "k" : "j");
  const EntryId poison = 3;
  std::vector<std::string> dead;
  int deaths = 0;
  const auto drained = [&] {
    TortureWorker& worker = scene.worker({.max_abandoned = 4, .dead = dead});
    for (int i = 0; i < 20; ++i) {
      const std::vector<EntryId> held = claim_until_batch(worker);
      if (std::find(held.begin(), held.end(), poison) != held.end()) {
        dead = {worker.id()};
        worker.die();
        ++deaths;
        return false;
      }
      worker.send_all();
      worker.settle();
    }
    return scene.sql().number("SELECT count(*) FROM entries") == 0;
  };
  wait_until(drained, "the others to be delivered");
  EXPECT_EQ(deaths, 4);
  EXPECT_EQ(scene.sql().value("SELECT string_agg(id || ' ' || reason_code, ',') FROM dead_letters"),
            "3 worker.abandoned");
  scene.history().add({.kind = Event::Kind::abandoned, .id = poison});
  scene.finish();
  EXPECT_EQ(to_string(scene.verdict()), "");
}

TEST(ClaimLiveness, CleanStopsCountAgainstNobody) {
  Scene scene({});
  const EntryId only = scene.insert("k");
  for (int i = 0; i < 6; ++i) {
    TortureWorker& worker = scene.worker();
    EXPECT_THAT(claim_until_batch(worker), ElementsAre(only));
    // As after a stop that ran out of time: the lease is left to the next claimer.
    (void)scene.sql().query("SELECT release($1)", {worker.id()});
  }
  EXPECT_EQ(scene.sql().number("SELECT abandoned FROM entries"), 0);
  EXPECT_EQ(scene.sql().number("SELECT count(*) FROM leases"), 1);
}

}  // namespace
}  // namespace outfall::test::torture
