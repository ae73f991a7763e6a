// Every rule of claiming, played step by step: once as it is, and once with the rule left out,
// which the checker must see. docs/internals/claiming.md explains each interleaving.
#include <csignal>
#include <fstream>
#include <functional>
#include <iterator>
#include <ostream>

#include <gtest/gtest.h>

#include "tests/faults/claim_torture_scene.h"

namespace outfall::test::torture {
namespace {

constexpr int kShortLease = 300;  // milliseconds
constexpr Verdict kRetry{.result = SendResult::retry};
constexpr Verdict kRetryLater{.result = SendResult::retry, .delay_ms = 3'600'000};
constexpr Verdict kDead{.result = SendResult::dead_lettered};
constexpr Verdict kNotSent{.result = SendResult::not_sent};

WorkerOptions leasing(int lease_ms, int limit = 10) {
  return {.lease_ms = lease_ms, .limit = limit};
}

WorkerOptions knowing_dead(const TortureWorker& worker, int limit = 10) {
  return {.limit = limit, .dead = {worker.id()}};
}

// Two claims of a stream at once would both lease what both see.
void two_claims_at_once(Scene& scene) {
  for (int i = 0; i < 3; ++i) scene.insert("k");
  TortureWorker& first = scene.worker();
  TortureWorker& second = scene.worker();
  Stop stop(scene.database(), kAfterLeases);
  first.stop_claims_at(kAfterLeases);
  first.begin_claim();
  stop.wait_until_reached();
  (void)second.claim();
  second.send_all();
  stop.release();
  (void)first.end_claim();
  first.send_all();
  second.settle();
  first.settle();
  scene.finish();
}

// The lease is taken from what a later snapshot shows, the entries from an earlier one: what its
// worker settled in between is leased again.
void settle_during_takeover(Scene& scene) {
  scene.insert("k");
  scene.insert("k");
  TortureWorker& slow = scene.worker({.lease_ms = kShortLease, .hold_key = true});
  TortureWorker& taker = scene.worker({.hold_key = true});
  (void)slow.claim();
  slow.send_next(kDead);
  scene.wait_until_expired(slow);
  Stop stop(scene.database(), kAfterPick);
  taker.stop_claims_at(kAfterPick);
  taker.begin_claim();
  stop.wait_until_reached();
  std::future<void> settled = scene.settle_beside(slow);
  stop.release();
  (void)taker.end_claim();
  settled.get();
  taker.send_all();
  taker.settle();
}

// A worker that lost its older lease only goes on with its younger one.
void takeover_of_one_lease_of_two(Scene& scene) {
  for (int i = 0; i < 4; ++i) scene.insert("k");
  TortureWorker& owner = scene.worker(leasing(kShortLease, 2));
  TortureWorker& taker = scene.worker();
  (void)owner.claim();
  owner.options().lease_ms = 60000;
  (void)owner.claim();
  owner.send_all();
  scene.wait_until_expired(owner);
  (void)taker.claim();
  owner.settle();
  scene.insert("k");
  scene.finish();
}

// An expired lease may still settle until somebody has taken it over.
void settle_after_expiry(Scene& scene) {
  scene.insert("k");
  TortureWorker& slow = scene.worker(leasing(kShortLease));
  TortureWorker& taker = scene.worker();
  (void)slow.claim();
  slow.send_all();
  scene.wait_until_expired(slow);
  (void)taker.claim();
  taker.send_all();
  slow.settle();
  taker.settle();
  scene.finish();
}

// The head's lease still counts and hides it, its key does not count any more and lets the next go.
void settle_between_leases_and_keys(Scene& scene) {
  scene.insert("k");
  scene.insert("k");
  TortureWorker& owner = scene.worker(leasing(60000, 1));
  TortureWorker& other = scene.worker();
  (void)owner.claim();
  Stop stop(scene.database(), kAfterLeases);
  other.stop_claims_at(kAfterLeases);
  other.begin_claim();
  stop.wait_until_reached();
  owner.send_next(kRetry);
  owner.settle();
  stop.release();
  (void)other.end_claim();
  other.send_all();
  other.settle();
  scene.finish();
}

// Waiting keys from before the leases: the failure in between is neither waiting nor leased.
void settle_between_waiting_keys_and_leases(Scene& scene) {
  scene.insert("k");
  scene.insert("k");
  TortureWorker& owner = scene.worker(leasing(60000, 1));
  TortureWorker& other = scene.worker();
  (void)owner.claim();
  Stop stop(scene.database(), kAfterStreamLock);
  other.stop_claims_at(kAfterStreamLock);
  other.begin_claim();
  stop.wait_until_reached();
  owner.send_next(kRetryLater);
  owner.settle();
  stop.release();
  (void)other.end_claim();
  other.send_all();
  other.settle();
  (void)scene.sql().query(
      "SELECT retry_entry(p_entry_id => 1, p_actor => 'test', p_reason => 'enough')");
  scene.finish();
}

// Entries from an earlier snapshot than the leases: what was settled in between looks free.
void settle_between_entries_and_leases(Scene& scene) {
  scene.insert("k");
  TortureWorker& owner = scene.worker();
  TortureWorker& other = scene.worker();
  (void)owner.claim();
  scene.insert("k");
  Stop stop(scene.database(), kAfterStreamLock);
  other.stop_claims_at(kAfterStreamLock);
  other.begin_claim();
  stop.wait_until_reached();
  owner.send_all();
  owner.settle();
  stop.release();
  (void)other.end_claim();
  other.send_all();
  other.settle();
  scene.finish();
}

void failure_of_a_held_key(Scene& scene) {
  scene.insert("k");
  scene.insert("k");
  TortureWorker& worker = scene.worker();
  (void)worker.claim();
  worker.send_next(kRetry);
  worker.send_all();
  worker.settle();
  scene.finish();
}

// A claim read the leases while the head was in one, and the entries after its failure was written.
void claim_under_way_during_a_failure(Scene& scene) {
  scene.insert("k");
  scene.insert("k");
  TortureWorker& worker = scene.worker(leasing(60000, 1));
  (void)worker.claim();
  Stop stop(scene.database(), kAfterLeases);
  worker.stop_claims_at(kAfterLeases);
  worker.begin_claim();
  stop.wait_until_reached();
  worker.send_next(kRetry);
  worker.settle();
  stop.release();
  (void)worker.end_claim();
  worker.send_all();
  worker.settle();
  scene.finish();
}

// The younger outcome was written, the older one is repeated: the consumer misses one after it.
void death_between_two_settles(Scene& scene) {
  scene.insert("k");
  scene.insert("k");
  TortureWorker& worker = scene.worker(leasing(60000, 1));
  (void)worker.claim();
  (void)worker.claim();
  worker.send_all();
  worker.settle(1);
  const std::string dead = worker.id();
  worker.die();
  scene.insert("k");
  scene.finish({.limit = 1, .dead = {dead}});
}

void stale_settle(Scene& scene) {
  for (int i = 0; i < 3; ++i) scene.insert("k");
  TortureWorker& loser = scene.worker(leasing(60000, 1));
  (void)loser.claim();
  loser.options().limit = 2;
  (void)loser.claim();
  loser.send_next({});
  TortureWorker& taker = scene.worker(knowing_dead(loser));
  taker.drain_once();
  scene.insert("k");
  taker.drain_once();
  (void)loser.settle_lease(0);
  loser.send_all();
  loser.settle();
  scene.insert("k");
  scene.finish();
}

void lost_claim(Scene& scene) {
  for (int i = 0; i < 4; ++i) scene.insert("k");
  TortureWorker& worker = scene.worker(leasing(60000, 2));
  worker.begin_claim();
  worker.lose_claim();
  (void)worker.claim();
  (void)worker.claim();
  worker.send_all();
  worker.settle();
  scene.finish();
}

// The lost claim read the leases while the head was in one; its failure was written before the
// claim is asked again.
void lost_claim_during_a_failure(Scene& scene) {
  scene.insert("k");
  scene.insert("k");
  TortureWorker& worker = scene.worker(leasing(60000, 1));
  (void)worker.claim();
  Stop stop(scene.database(), kAfterLeases);
  worker.stop_claims_at(kAfterLeases);
  worker.begin_claim();
  stop.wait_until_reached();
  worker.send_next(kRetry);
  worker.settle();
  stop.release();
  worker.lose_claim();
  (void)worker.claim();
  worker.send_all();
  worker.settle();
  scene.finish();
}

// Entry 1 commits when the floor has long been above it.
void late_commit(Scene& scene) {
  Producing late(scene);
  late.insert("k");
  scene.insert("other");
  TortureWorker& worker = scene.worker();
  worker.drain_once();
  worker.drain_once();
  late.commit();
  scene.insert("k");
  worker.drain_once();
  scene.finish();
}

// The pick sees entry 3 of a key. Entry 1 of it was committed after the worker had looked for ended
// transactions, and before 3 was.
void late_commit_before_the_pick(Scene& scene) {
  Producing late(scene);
  late.insert("k");
  scene.insert("other");
  TortureWorker& worker = scene.worker();
  worker.drain_once();
  worker.drain_once();
  Stop stop(scene.database(), kBeforePick);
  worker.stop_claims_at(kBeforePick);
  worker.begin_claim();
  stop.wait_until_reached();
  late.commit();
  scene.insert("k");
  stop.release();
  (void)worker.end_claim();
  worker.send_all();
  worker.settle();
  scene.finish();
}

// The transaction ended between the pick and the probe: nothing to pick again for, but the next
// pick must read from its bound.
void late_commit_after_the_pick(Scene& scene) {
  Producing late(scene);
  late.insert("k");
  scene.insert("other");
  TortureWorker& worker = scene.worker();
  worker.drain_once();
  Stop stop(scene.database(), kAfterPick);
  worker.stop_claims_at(kAfterPick);
  worker.begin_claim();
  stop.wait_until_reached();
  late.commit();
  stop.release();
  (void)worker.end_claim();
  scene.insert("k");
  worker.drain_once();
  scene.finish();
}

// An id that is taken and committed between the pick and its probe is seen by neither.
void commit_between_pick_and_probe(Scene& scene) {
  scene.insert("other");
  TortureWorker& worker = scene.worker();
  worker.drain_once();
  worker.drain_once();
  Stop stop(scene.database(), kAfterPick);
  worker.stop_claims_at(kAfterPick);
  worker.begin_claim();
  stop.wait_until_reached();
  scene.insert("k");
  stop.release();
  (void)worker.end_claim();
  scene.insert("k");
  worker.drain_once();
  scene.finish();
}

// During COMMIT PREPARED a transaction is visible before its locks go away. It lasts long enough to
// be caught when tables are dropped in it; the backend is stopped in that state.
void visible_and_still_shown(Scene& scene) {
  PgClient watcher = scene.database().connect();
  constexpr int kTables = 1500;
  watcher.exec("DO $$ BEGIN FOR i IN 1.." + std::to_string(kTables) +
               " LOOP EXECUTE 'CREATE TABLE public.dropped' || i || ' ()'; END LOOP; END; $$");
  Producing late(scene);
  const EntryId first = late.insert("k");
  late.session().exec("DO $$ BEGIN FOR i IN 1.." + std::to_string(kTables) +
                      " LOOP EXECUTE 'DROP TABLE public.dropped' || i; END LOOP; END; $$");
  scene.insert("other");
  TortureWorker& worker = scene.worker();
  worker.drain_once();
  worker.drain_once();
  late.prepare();
  const int backend = late.session().backend_pid();
  late.session().start("COMMIT PREPARED 'torture'");
  // The server itself looks for it, with no round trip in between.
  watcher.exec("SET statement_timeout = '60s'");
  watcher.exec("DO $$ BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM outbox.entries WHERE id = " +
               std::to_string(first) + "); END LOOP; END; $$");
  ASSERT_EQ(::kill(backend, SIGSTOP), 0);
  const bool shown = watcher.number(
                         "SELECT count(*) FROM pg_locks WHERE relation = 'entries'::regclass"
                         " AND mode = 'RowExclusiveLock' AND pid IS NULL") == 1;
  if (shown) {
    scene.insert("k");
    (void)worker.claim();
  }
  ::kill(backend, SIGCONT);
  (void)late.session().finish();
  late.note_committed();
  worker.send_all();
  worker.settle();
  scene.finish();
  ASSERT_TRUE(shown) << "the commit was over too soon to be caught";
}

// 1 and 2 are leased, 3 and 4 wait in a hold because the key is full; then 1 and 2 come back.
void leased_entries_before_held_ones(Scene& scene) {
  for (int i = 0; i < 4; ++i) scene.insert("k");
  TortureWorker& worker = scene.worker({.limit = 2, .key_room = 2});
  (void)worker.claim();
  worker.options().limit = 10;
  (void)worker.claim();
  TortureWorker& taker = scene.worker(knowing_dead(worker));
  worker.die();
  taker.drain_once();
  taker.drain_once();
  scene.finish();
}

// Entry 1 goes to a closed lane, entry 2 of the same key to an open one.
void closed_lane_in_the_middle_of_a_key(Scene& scene) {
  scene.insert("k", "closed");
  scene.insert("k", "open");
  TortureWorker& worker = scene.worker({.lane = "header.lane", .lanes = {{"closed", 0}}});
  worker.drain_once();
  worker.drain_once();
  worker.options().lanes.clear();
  worker.drain_once();
  worker.drain_once();
  scene.finish({.lane = "header.lane"});
}

// One more fits into the lane of the first two entries. The second one's key has another for an
// open lane.
void full_lane_in_the_middle_of_a_key(Scene& scene) {
  scene.insert("first", "narrow");
  scene.insert("k", "narrow");
  scene.insert("k", "open");
  TortureWorker& worker = scene.worker({.lane = "header.lane", .lanes = {{"narrow", 1}}});
  worker.drain_once();
  worker.options().lanes.clear();
  worker.drain_once();
  worker.drain_once();
  scene.finish({.lane = "header.lane"});
}

// One more fits into the lane of two entries that are due. The second one's key has a fresh one for
// an open lane.
void full_lane_of_what_is_due(Scene& scene) {
  scene.insert("first", "narrow");
  scene.insert("k", "narrow");
  scene.insert("k", "open");
  TortureWorker& worker = scene.worker({.limit = 2, .lane = "header.lane"});
  (void)worker.claim();
  worker.send_next(kRetry);
  worker.send_next(kRetry);
  worker.settle();
  worker.options().limit = 10;
  worker.options().lanes = {{"narrow", 1}};
  worker.drain_once();
  worker.options().lanes.clear();
  worker.drain_once();
  worker.drain_once();
  scene.finish({.lane = "header.lane"});
}

// Of entries 1 to 600, which go to a closed lane, all are passed over at once, and some of them not
// yet marked when the key of the last one has another for an open lane.
void passed_over_entry_before_a_fresh_one(Scene& scene) {
  constexpr int kMoreThanAreMarked = 600;
  for (int i = 1; i < kMoreThanAreMarked; ++i) scene.insert("other", "closed");
  scene.insert("k", "closed");
  scene.insert("k", "open");
  TortureWorker& worker = scene.worker({.lane = "header.lane", .lanes = {{"closed", 0}}});
  worker.drain_once();
  worker.drain_once();
  worker.options().lanes.clear();
  worker.drain_once();
  scene.finish({.lane = "header.lane"});
}

// The pick of fresh entries ended at its limit, below an entry of the key whose later ones are
// held.
void unread_entry_before_a_held_one(Scene& scene) {
  scene.insert("x");
  TortureWorker& worker = scene.worker({.key_room = 1});
  (void)worker.claim();
  worker.send_next(kRetryLater);
  worker.settle();
  Producing late(scene);
  late.insert("x");  // will be visible, first in line, and blocked
  scene.insert("k");
  (void)worker.claim();
  scene.insert("k");
  (void)worker.claim();  // parks it: its key is full
  worker.send_all(kNotSent);
  worker.settle();
  late.commit();
  worker.options().limit = 1;
  worker.options().key_room = 10;
  for (int i = 0; i < 4; ++i) worker.drain_once();
  (void)scene.sql().query(
      "SELECT retry_entry(p_entry_id => 1, p_actor => 'test', p_reason => 'enough')");
  scene.finish();
}

// A worker gave entry 1 back and died with entry 2, which is a suspect now and leased alone.
void suspect_behind_a_fresh_entry(Scene& scene) {
  scene.insert("k");
  scene.insert("k");
  TortureWorker& worker = scene.worker({.limit = 1, .max_abandoned = 1});
  (void)worker.claim();
  (void)worker.claim();
  worker.send_next(kNotSent);
  (void)worker.settle_lease(0);
  const std::string dead = worker.id();
  worker.die();
  TortureWorker& taker = scene.worker({.limit = 1, .max_abandoned = 1, .dead = {dead}});
  for (int i = 0; i < 3; ++i) taker.drain_once();
  scene.finish();
}

struct Rule {
  const char* name;
  std::function<void(Scene&)> play;
  LeftOut left_out;
  const char* caught_as;
};

std::ostream& operator<<(std::ostream& out, const Rule& rule) {
  return out << rule.name;
}

// The failure is dated before a claim that looks at all that is due, and written after it.
void failure_written_after_a_full_look(Scene& scene) {
  scene.insert("k");
  scene.insert("k");
  TortureWorker& owner = scene.worker(leasing(60000, 1));
  TortureWorker& other = scene.worker({.full_look = std::chrono::hours(1)});
  (void)owner.claim();
  owner.send_next(kRetry);
  PgClient holder = scene.database().connect();
  holder.exec("BEGIN; SELECT FROM leases FOR UPDATE");
  std::future<void> settled = scene.settle_beside(owner);
  (void)other.claim();
  holder.exec("COMMIT");
  settled.get();
  (void)other.claim();
  other.send_all();
  other.settle();
  scene.finish();
}

const std::string kLeasesRead =
    "      INTO next_lease_floor, v_oldest, v_active, others, v_expired, v_my_suspect, v_busy\n"
    "      FROM leases l WHERE l.stream = p_stream AND l.lease_no >= p_lease_floor";
const std::string kBusyKeysRead =
    "WHERE o.stream = p_stream AND o.lease_no >= p_lease_floor AND o.worker <> p_worker)";
const std::string kTakeover =
    "    SELECT * INTO taken_over, abandoned\n"
    "      FROM take_over(p_stream, p_worker, v_now, p_lease_floor, p_dead, p_max_abandoned, "
    "p_hold_key);\n";
const std::string kUndisturbedPick =
    "      SELECT * INTO v_pick FROM pick_fresh(p_stream, v_start, v_scan, v_active, v_busy, "
    "p_limit, p_max_bytes, p_by_key,\n        v_waiting_keys);";

// Rule, scene, what is left out of it, and the anomaly that shows it.
const Rule kRules[] = {
    {"StreamLock",
     two_claims_at_once,
     {.patches = {{"0002_claim", "WHERE s.name = p_stream FOR NO KEY UPDATE SKIP LOCKED;",
                   "WHERE s.name = p_stream;"}}},
     "defect"},
    {"TakeoverInAnEarlierStatement",
     settle_during_takeover,
     {.patches =
          {{"0002_claim", kLeasesRead,
            kLeasesRead + " AND NOT (l.worker <> p_worker AND l.expires_at <= v_now)"},
           {"0002_claim", kBusyKeysRead,
            kBusyKeysRead.substr(0, kBusyKeysRead.size() - 1) + " AND o.expires_at > v_now)"},
           {"0002_claim", "  picked_from := v_start;", kTakeover + "  picked_from := v_start;"}}},
     "hold_broken"},
    {"TakeoverOfAllLeasesOrNone",
     takeover_of_one_lease_of_two,
     {.patches = {{"0002_claim", "HAVING bool_and(CASE WHEN l.worker = p_worker",
                   "HAVING bool_or(CASE WHEN l.worker = p_worker"},
                  {"0002_claim", "CONTINUE WHEN v_locked.leases IS DISTINCT FROM",
                   "CONTINUE WHEN v_locked.leases = 0 AND 0 <>"}}},
     "gap"},
    {"ALeaseIsActiveWhileItsRowExists",
     settle_after_expiry,
     {.patches = {{"0002_claim", kLeasesRead, kLeasesRead + " AND l.expires_at > v_now"},
                  {"0002_claim", kBusyKeysRead,
                   kBusyKeysRead.substr(0, kBusyKeysRead.size() - 1) +
                       " AND o.expires_at > v_now)"}}},
     "zombie_write"},
    {"OneSnapshotForLeasesAndKeys",
     settle_between_leases_and_keys,
     {.patches = {{"0002_claim",
                   "(SELECT array_agg(DISTINCT k.h) FROM leases o CROSS JOIN LATERAL "
                   "unnest(o.keys) AS k (h)\n"
                   "             WHERE o.stream = p_stream AND o.lease_no >= p_lease_floor AND "
                   "o.worker <> p_worker)",
                   "NULL::int[]"},
                  {"0002_claim", "  SELECT count(*) AS live, ",
                   "  SELECT array_agg(DISTINCT k.h) INTO v_busy FROM leases o CROSS JOIN LATERAL "
                   "unnest(o.keys) AS k (h)\n"
                   "   WHERE o.stream = p_stream AND o.worker <> p_worker;\n"
                   "  SELECT count(*) AS live, "}}},
     "reorder"},
    {"WaitingKeysAreReadAfterTheLeases",
     settle_between_waiting_keys_and_leases,
     {.patches = {{"0002_claim", "  -- 2. Leases: who else",
                   "  v_waiting_keys := waiting_keys(p_stream, v_now, '{}');\n"
                   "  -- 2. Leases: who else"},
                  {"0002_claim", "  IF p_by_key THEN\n    v_waiting_keys :=",
                   "  IF false THEN\n    v_waiting_keys :="}}},
     "reorder"},
    {"LeasesAreNotReadAfterTheEntries",
     settle_between_entries_and_leases,
     {.patches = {{"0002_claim", "  v_waiting    bigint[];\n",
                   "  v_waiting    bigint[];\n  v_old        bigint[];\n"},
                  {"0002_claim", "  -- 2. Leases: who else",
                   "  v_old := (SELECT array_agg(e.id ORDER BY e.id) FROM entries e WHERE e.stream "
                   "= p_stream);\n"
                   "  -- 2. Leases: who else"},
                  {"0002_claim", kUndisturbedPick,
                   "      SELECT range_agg(int8range(i, i, '[]')) AS picked, NULL::int[] AS keys, "
                   "count(*) AS entries,\n"
                   "             false AS more, pg_current_snapshot() AS snapshot, NULL::bigint AS "
                   "live_min, false AS waits\n"
                   "        INTO v_pick FROM unnest(v_old) i WHERE NOT i <@ v_active;"}}},
     "defect"},
    {"LaterEntriesAreGivenBack",
     failure_of_a_held_key,
     {.worker_flaw = WorkerFlaw::keeps_later_entries},
     "reorder"},
    {"AlsoThoseOfClaimsUnderWay",
     claim_under_way_during_a_failure,
     {.worker_flaw = WorkerFlaw::trusts_claims_under_way},
     "reorder"},
    {"OutcomesOfAKeyAreSettledInOrder",
     death_between_two_settles,
     {.worker_flaw = WorkerFlaw::settles_out_of_order},
     "gap"},
    {"AStaleSettleEndsTheKey",
     stale_settle,
     {.worker_flaw = WorkerFlaw::ignores_lost_leases},
     "resurrected"},
    {"OnlyTheLeasesHolderSettles",
     settle_after_expiry,
     {.patches =
          {{"0003_settle",
            "FROM leases l WHERE l.lease_id = p_lease_id AND l.worker = p_worker FOR UPDATE;",
            "FROM leases l WHERE l.ids @> coalesce(p_delivered[1], p_ids[1], p_returned[1]) FOR "
            "UPDATE;"}}},
     "zombie_write"},
    {"ALostClaimIsAskedAgain",
     lost_claim,
     {.worker_flaw = WorkerFlaw::forgets_lost_claims},
     "reorder"},
    {"ARepeatedClaimFindsItsLease",
     lost_claim,
     {.patches = {{"0002_claim",
                   "   WHERE l.lease_id = p_lease_id AND l.worker = p_worker AND NOT l.released\n  "
                   "RETURNING l.remaining",
                   "   WHERE false\n  RETURNING l.remaining"}}},
     "defect"},
    {"ARepeatedClaimIsAsOldAsItsFirstAsking",
     lost_claim_during_a_failure,
     {.worker_flaw = WorkerFlaw::trusts_repeated_claims},
     "reorder"},
    {"LateCommitsAreTracked", late_commit, {.floor_flaw = FloorFlaw::never_looks_back}, "reorder"},
    {"TheBoundIsTheProbeBefore",
     late_commit,
     {.floor_flaw = FloorFlaw::bound_of_this_probe},
     "reorder"},
    {"ThePickIsProbedAfterwards",
     late_commit_before_the_pick,
     {.patches = {{"0002_claim",
                   "    EXIT WHEN NOT EXISTS (SELECT FROM unnest(p_bounds) b WHERE b < v_start);",
                   "    EXIT;"}}},
     "reorder"},
    {"TheNextStartIsTheProbeBeforeThePick",
     commit_between_pick_and_probe,
     {.floor_flaw = FloorFlaw::start_of_this_probe},
     "reorder"},
    {"WhatEndedAfterThePickCarriesOver",
     late_commit_after_the_pick,
     {.floor_flaw = FloorFlaw::forgets_ended},
     "reorder"},
    {"WhatIsShownMayBeVisible",
     visible_and_still_shown,
     {.patches = {{"0002_claim",
                   "            OR NOT EXISTS (SELECT FROM pg_locks x\n"
                   "                            WHERE x.locktype = 'transactionid' AND "
                   "x.virtualtransaction = t.vxid AND x.granted\n"
                   "                              AND NOT xid_visible_in(x.transactionid, "
                   "v_pick.snapshot)));",
                   "            );"}}},
     "reorder"},
    {"WhatAClaimParksBlocksItsKey",
     leased_entries_before_held_ones,
     {.patches = {{"0002_claim", "           least(left_behind.id,\n",
                   "           least(NULL,\n"}}},
     "reorder"},
    {"WhatAClosedLaneKeepsBlocksItsKey",
     closed_lane_in_the_middle_of_a_key,
     {.patches = {{"0002_claim", "           least(left_behind.id,\n",
                   "           least(NULL,\n"}}},
     "reorder"},
    {"WhatAParkingHoldsBlocksItsKey",
     passed_over_entry_before_a_fresh_one,
     {.patches = {{"0002_claim", "(SELECT min(g.from_id) FROM parked_keys g",
                   "(SELECT min(NULL::bigint) FROM parked_keys g"}}},
     "reorder"},
    {"NothingIsPickedAboveTheUnread",
     unread_entry_before_a_held_one,
     {.patches = {{"0002_claim", "AND c.id > (SELECT f.id FROM frontier f) AS unread",
                   "AND false AS unread"}}},
     "reorder"},
    {"WhatAClosedLaneKeepsConcernsItsKey",
     closed_lane_in_the_middle_of_a_key,
     {.patches = {{"0002_claim", "    UNION ALL SELECT b.key FROM left_behind b\n", ""}}},
     "reorder"},
    {"WhatAFullLaneKeepsConcernsItsKey",
     full_lane_in_the_middle_of_a_key,
     {.patches = {{"0002_claim",
                   "    UNION ALL SELECT f.key FROM fresh f WHERE f.key IS NOT NULL AND f.lane IN "
                   "(SELECT unnest(p_lanes))\n",
                   ""}}},
     "reorder"},
    {"WhatIsDueConcernsItsKey",
     full_lane_of_what_is_due,
     {.patches = {{"0002_claim", "    UNION ALL SELECT d.key FROM due d WHERE d.key IS NOT NULL\n",
                   ""}}},
     "reorder"},
    {"TheDueFloorMindsTheLeases",
     failure_written_after_a_full_look,
     {.patches = {{"0002_claim", "next_due_floor := least(v_now, v_oldest,",
                   "next_due_floor := least(v_now,"}}},
     "reorder"},
    {"ASuspectOvertakesNothing",
     suspect_behind_a_fresh_entry,
     {.patches = {{"0002_claim", "WHERE p_only_suspects\n               AND (f.stream, f.id) >=",
                   "WHERE false\n               AND (f.stream, f.id) >="}}},
     "reorder"},
};

class ClaimTortureRules : public ::testing::TestWithParam<Rule> {};

TEST_P(ClaimTortureRules, Holds) {
  Scene scene({});
  GetParam().play(scene);
  EXPECT_EQ(to_string(scene.verdict()), "");
}

TEST_P(ClaimTortureRules, IsMissedWhenLeftOut) {
  Scene scene(GetParam().left_out);
  GetParam().play(scene);
  const std::vector<Anomaly> anomalies = scene.verdict();
  EXPECT_TRUE(contains(anomalies, GetParam().caught_as)) << to_string(anomalies);
}

TEST(ClaimTortureRulesPage, ExplainsEachOfThem) {
  std::ifstream file(OUTFALL_CLAIMING_PAGE);
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  for (const Rule& rule : kRules) EXPECT_NE(page.find(rule.name), std::string::npos) << rule.name;
}

INSTANTIATE_TEST_SUITE_P(All, ClaimTortureRules, ::testing::ValuesIn(kRules),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace outfall::test::torture
