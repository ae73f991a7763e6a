// Goal: what a claim and a settle decide about entries that wait, workers that died and servers
// that were switched. Method: the real SQL through the store, one call at a time; what happens
// beside each other is played by claim_torture_test.
#include "tests/integration/sql_fixture.h"

namespace outfall::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class SqlClaims : public SqlTest {
 protected:
  // What died with workers so often that it is tried alone.
  EntryId suspected(const std::string& stream) {
    const EntryId id = enqueue(stream, "k");
    sql_.exec(
        "UPDATE entries SET abandoned = 4, status = 'deferred', available_at = now(), "
        "deferred_since = now() WHERE id = " +
        std::to_string(id));
    return id;
  }
};

TEST_F(SqlClaims, KeysThatWaitForAPausedDestinationDoNotStarveAKeyThatFailedOnce) {
  Worker worker(database_.dsn());
  worker.lane = "type";
  EXPECT_THAT(worker.drain("orders"), IsEmpty());  // registers the stream
  sql_.exec("SELECT pause_destination('orders', 'a', 'ana', 'it is away')");
  sql_.exec(
      "INSERT INTO entries (stream, type, key, payload) SELECT 'orders', t, 'key-' || k, '1' "
      "FROM generate_series(1, 450) k, (VALUES ('a'), ('b')) v (t) ORDER BY k, t");
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  std::vector<EntryId> innocent;
  for (int i = 0; i < 5; ++i) innocent.push_back(enqueue("orders", "innocent", "b"));
  const LeasedBatch batch = worker.claim("orders");
  ASSERT_EQ(ids_of(batch), innocent);
  SettleRequest failed;
  failed.lease_id = batch.lease_id;
  failed.others.push_back({innocent[0], EntryStatus::retryable_failure, true, std::chrono::hours(1),
                           "http.500", "it said no"});
  failed.returned.assign(innocent.begin() + 1, innocent.end());
  (void)worker.session().settle(failed);
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  sql_.exec("UPDATE entries SET available_at = now() WHERE status = 'retryable_failure'");
  sql_.exec("UPDATE holds SET due_at = now() WHERE value = 'innocent'");
  EXPECT_EQ(worker.drain("orders"), innocent);

  sql_.exec("SELECT resume_destination('orders', 'a', 'ana', 'it is back')");
  sql_.exec("UPDATE holds SET due_at = now()");
  EXPECT_EQ(worker.drain("orders").size(), 900U);
}

TEST_F(SqlClaims, ALeaseIsToldOfBeforeItsEntriesAreReadAndTheNextClaimGoesOnBehindIt) {
  for (const char* key : {"a", "b", "a", "c", "a"}) enqueue("orders", key);
  Worker worker(database_.dsn());
  const std::unique_ptr<StoreSession> beside = worker.another_session();
  ClaimRequest first = worker.request("orders", 4);
  ClaimRequest second = worker.request("orders", 4);
  std::vector<LeasedSoon> told;
  ClaimResult next;
  const auto note = [&](const LeasedSoon& leased) {
    told.push_back(leased);
    next = beside->claim(second);
  };
  const ClaimResult result = worker.session().claim(first, note);
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].entries, 4);
  EXPECT_EQ(told[0].largest_key, 2);
  EXPECT_TRUE(told[0].more);
  EXPECT_THAT(ids_of(result.batch), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(ids_of(next.batch), ElementsAre(5));

  // The same claim once more finds its lease, of which everything was told.
  EXPECT_THAT(ids_of(worker.session().claim(first, note).batch), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(told.size(), 1U);
}

// The next claim leaves room for a key that may come; of entries without one it must not.
TEST_F(SqlClaims, ALeaseOfEntriesWithoutAKeyTakesNoRoomOfAKey) {
  for (int i = 0; i < 4; ++i) sql_.exec("SELECT enqueue('orders', 'placed')");
  Worker worker(database_.dsn());
  ClaimRequest request = worker.request("orders", 4);
  std::vector<LeasedSoon> told;
  const ClaimResult result =
      worker.session().claim(request, [&](const LeasedSoon& leased) { told.push_back(leased); });
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].entries, 4);
  EXPECT_EQ(told[0].largest_key, 0);
}

TEST_F(SqlClaims, WhatIsTriedAloneIsAloneInAllStreamsOfItsWorker) {
  const EntryId orders = suspected("orders");
  const EntryId bills = suspected("bills");
  Worker worker(database_.dsn());
  const LeasedBatch first = worker.claim("orders");
  ASSERT_THAT(ids_of(first), ElementsAre(orders));
  EXPECT_TRUE(first.suspect);
  EXPECT_THAT(ids_of(worker.claim("bills")), IsEmpty());
  Worker other(database_.dsn(), "worker-2");
  const LeasedBatch elsewhere = other.claim("bills");
  EXPECT_THAT(ids_of(elsewhere), ElementsAre(bills));
  other.give_back(elsewhere);
  worker.deliver(first);
  EXPECT_THAT(ids_of(worker.claim("bills")), ElementsAre(bills));
}

TEST_F(SqlClaims, AWorkerThatIsBackIsNotTakenForDead) {
  const EntryId id = enqueue("orders");
  Worker living(database_.dsn());
  ASSERT_THAT(ids_of(living.claim("orders")), ElementsAre(id));
  const std::string name = sql_.value("SELECT worker FROM leases");
  PgClient presence = connect();
  ASSERT_EQ(presence.value("SELECT hold_presence($1)", {name}), "t");
  Worker other(database_.dsn(), "worker-2");
  ClaimRequest request;
  request.stream = "orders";
  request.lease_id = system_random().uuid();
  request.dead_workers = {*Uuid::parse(name)};
  EXPECT_EQ(other.session().claim(request).taken_over, 0);
  presence.exec("SELECT pg_advisory_unlock_all()");
  const ClaimResult after = other.session().claim(request);
  EXPECT_EQ(after.taken_over, 1);
  EXPECT_THAT(ids_of(after.batch), ElementsAre(id));
}

// A pooler that is led to another server keeps the connection. That server may hand out ids again.
TEST_F(SqlClaims, BehindAPoolerAnotherServerIsFoundBeforeAnythingOfItIsSent) {
  for (int i = 0; i < 20; ++i) enqueue("orders", "k");
  Worker worker(database_.dsn());
  EXPECT_EQ(worker.drain("orders").size(), 20U);
  const EntryId late = enqueue("orders", "k");
  sql_.exec("SELECT setval('entries_id_seq', 4)");
  sql_.exec("SELECT pg_stat_reset_shared('wal')");
  const EntryId early = enqueue("orders", "k");
  ASSERT_LT(early, late);
  EXPECT_THAT(worker.session().due_streams(std::vector<std::string>{"orders"}),
              ElementsAre("orders"));
  try {
    worker.claim("orders");
    FAIL() << "it was leased under the ids of another server";
  } catch (const StoreError& error) {
    EXPECT_EQ(error.kind(), StoreErrorKind::conflict);
  }
  worker.session().release();
  EXPECT_EQ(worker.drain("orders"), (std::vector<EntryId>{early, late}));
}

// Both are under way after a failover.
TEST_F(SqlClaims, ARenewalAfterTheReleaseDoesNotKeepTheLease) {
  const EntryId id = enqueue("orders", "k");
  Worker worker(database_.dsn());
  const Uuid lease = worker.claim("orders").lease_id;
  worker.session().release();
  EXPECT_THAT(worker.session().renew(std::vector{lease}, std::chrono::seconds(30)), IsEmpty());
  const EntryId later = enqueue("orders", "k");
  EXPECT_EQ(worker.drain("orders"), (std::vector<EntryId>{id, later}));
}

// Since when the age of an entry counts for limits. What is scheduled begins at its time, which
// every way to another status writes over.
TEST_F(SqlClaims, TheAgeOfAScheduledEntryCountsFromItsTime) {
  Worker worker(database_.dsn());
  worker.lane = "type";
  EXPECT_THAT(worker.drain("orders"), IsEmpty());  // registers the stream
  const std::string hour_ago = "'" + sql_.value("SELECT now() - interval '1 hour'") + "'";
  const std::string of_hour_ago = "SELECT count(*) FROM entries WHERE limits_from = " + hour_ago;
  const auto schedule = [&] {
    sql_.exec(
        "INSERT INTO entries (stream, type, created_at, available_at) VALUES ('orders', 'a', "
        "timestamptz " +
        hour_ago + " - interval '23 hours', " + hour_ago + ")");
    // Dated back, it would be found within a second.
    sql_.exec("UPDATE streams SET floor_epoch = floor_epoch + 1");
  };
  const auto fail = [&] {
    const LeasedBatch batch = worker.claim("orders");
    worker.settle_all(batch, EntryStatus::retryable_failure, Milliseconds{0}, "http.503");
    return batch.entries.size();
  };
  schedule();
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(fail(), 1U);
    EXPECT_EQ(sql_.number(of_hour_ago), 1);
  }
  const LeasedBatch leased = worker.claim("orders");
  EXPECT_EQ(leased.entries[0].limits_from - leased.entries[0].envelope.created_at,
            std::chrono::hours(23));
  worker.deliver(leased);

  schedule();
  sql_.exec("SELECT pause_destination('orders', 'a', 'ana', 'it is away')");
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  ASSERT_EQ(sql_.value("SELECT status FROM entries"), "held");
  sql_.exec("SELECT resume_destination('orders', 'a', 'ana', 'it is back')");
  ASSERT_EQ(fail(), 1U);
  EXPECT_EQ(sql_.number(of_hour_ago), 1);
  worker.drain("orders");

  schedule();
  sql_.exec("UPDATE entries SET abandoned = 2");
  ASSERT_EQ(worker.claim("orders", 1, Milliseconds{1}).entries.size(), 1U);
  sql_.exec("UPDATE leases SET expires_at = now() - interval '1 second'");
  Worker other(database_.dsn(), "worker-2");
  ASSERT_EQ(other.claim("orders").entries.size(), 1U);
  EXPECT_EQ(sql_.value("SELECT status FROM entries"), "deferred");
  EXPECT_EQ(sql_.number(of_hour_ago), 1);
}

TEST_F(SqlClaims, TheAgeOfOthersCountsFromTheirCreation) {
  Worker worker(database_.dsn());
  enqueue("orders");
  sql_.exec("INSERT INTO entries (stream, type, available_at) VALUES ('orders', 'a', 'epoch')");
  for (int i = 0; i < 2; ++i) {
    const LeasedBatch batch = worker.claim("orders");
    ASSERT_EQ(batch.entries.size(), 2U);
    for (const LeasedEntry& leased : batch.entries)
      EXPECT_EQ(leased.limits_from, leased.envelope.created_at);
    worker.settle_all(batch, EntryStatus::retryable_failure, Milliseconds{0}, "http.503");
  }
  EXPECT_EQ(sql_.number("SELECT count(limits_from) FROM entries"), 0);
}

// Deaths of workers added up over an outage: one probe is on its way all the time, so whatever
// ended a worker ended one "with" the entry, which was dead-lettered although nobody had refused
// it.
TEST_F(SqlClaims, WhatComesBackAloneFromADestinationThatIsAwayHasKilledNobody) {
  enqueue("orders", "k");
  for (int death = 1; death <= 8; ++death) {
    Worker worker(database_.dsn(), "worker-" + std::to_string(death));
    SettleRequest back;
    const LeasedBatch probe = worker.claim("orders");
    ASSERT_EQ(probe.entries.size(), 1U) << "dead-lettered after " << death - 1 << " deaths";
    back.lease_id = probe.lease_id;
    back.returned = {probe.entries[0].envelope.entry_id};
    (void)worker.session().settle(back);
    sql_.exec("UPDATE entries SET available_at = now() WHERE available_at IS NOT NULL");
    ASSERT_EQ(worker.claim("orders").entries.size(), 1U);
    sql_.exec("UPDATE leases SET expires_at = now() - interval '1 second'");
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  EXPECT_LT(sql_.number("SELECT abandoned FROM entries"), 5);
}

// A paused stream took nothing over, so that what a dead worker had left could be neither discarded
// nor dead-lettered without resuming the stream, which hands it to the next worker.
TEST_F(SqlClaims, WhatADeadWorkerHasLeftOfAPausedStreamIsFree) {
  const EntryId poison = enqueue("orders", "k");
  Worker dead(database_.dsn());
  ASSERT_EQ(dead.claim("orders").entries.size(), 1U);
  sql_.exec("SELECT pause_stream('orders', 'ana', 'it kills workers')");
  sql_.exec("UPDATE leases SET expires_at = now() - interval '1 second'");
  Worker other(database_.dsn(), "worker-2");
  const ClaimResult claim = other.try_claim("orders");
  EXPECT_EQ(claim.status, ClaimStatus::paused);
  EXPECT_EQ(claim.taken_over, 1);
  sql_.exec("SELECT discard_entry(p_entry_id => " + std::to_string(poison) +
            ", p_actor => 'ana', p_reason => 'poison')");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries"), 0);
}

TEST_F(SqlClaims, ASettleReturnsOnlyWhatItsLeaseHolds) {
  const EntryId first = enqueue("orders");
  enqueue("orders");
  Worker worker(database_.dsn());
  SettleRequest request;
  request.lease_id = worker.claim("orders").lease_id;
  request.returned = {first};
  (void)worker.session().settle(request);
  // The same call again, as from a connection that stood still.
  try {
    (void)worker.session().settle(request);
    FAIL() << "an entry was returned twice";
  } catch (const StoreError& error) {
    EXPECT_THAT(error.what(), HasSubstr("returns entries that it does not hold"));
  }
  EXPECT_EQ(sql_.number("SELECT remaining FROM leases"), 1);
}

TEST_F(SqlClaims, AReceiptTakesAnEntryOfAnyAge) {
  enqueue("orders");
  enqueue("orders");
  sql_.exec(
      "UPDATE entries SET created_at = now() + CASE id % 2 WHEN 0 THEN 1 ELSE -1 END * "
      "interval '90 days'");
  Worker worker(database_.dsn());
  EXPECT_EQ(worker.drain("orders").size(), 2U);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM delivered"), 2);
}

// 5,000 dead entries of the index of what is due, in another order than their rows and kept by an
// open snapshot: one claim in a second reads them, the others and the idle poll a handful of
// buffers.
TEST_F(SqlClaims, WhatWasDueAndHasGoneIsNotWalkedOver) {
  sql_.exec(
      "SELECT register_streams('{orders}');"
      "INSERT INTO entries (stream, type, payload, available_at) "
      "SELECT 'orders', 'created', '1', now() - (i * 7919 % 5000 + 1) * interval '1 second' "
      "FROM generate_series(1, 5000) i");
  PgClient old_snapshot = connect();
  old_snapshot.exec("BEGIN ISOLATION LEVEL REPEATABLE READ");
  old_snapshot.query("SELECT count(*) FROM streams");
  sql_.exec("DELETE FROM entries");
  const auto claim = [](const std::string& due_floor) {
    return "claim('orders', gen_random_uuid(), 'i', gen_random_uuid(), 1000, 10, 1000000, true, "
           "false, NULL, 5, 0, 1, 0, 0, '{}', '{}', '{}', '{}', '{}', 1000, '{}', '{}', 1000, "
           "NULL, " +
           due_floor + ")";
  };
  const auto poll = [](const std::string& due_floor) {
    return "due_streams('{orders}', '{1000000}', '{}', '{}', '{}', NULL, ARRAY[" + due_floor + "])";
  };
  const auto buffers = [&](const std::string& call) {
    const std::string plan =
        sql_.value("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM " + call);
    return sql_.number("SELECT ($1::json #>> '{0,Plan,Shared Hit Blocks}')::bigint", {plan});
  };
  const std::string none = "NULL::timestamptz";
  const std::string floor =
      "'" + sql_.value("SELECT next_due_floor FROM " + claim(none)) + "'::timestamptz";
  EXPECT_GT(buffers(claim(none)), 4000);
  EXPECT_GT(buffers(poll(none)), 4000);
  EXPECT_LT(buffers(claim(floor)), 500);
  EXPECT_LT(buffers(poll(floor)), 100);
  EXPECT_EQ(sql_.value("SELECT next_due_floor IS NULL FROM " + claim(floor)), "t");
}

TEST_F(SqlClaims, WhatAProducerDatesBackIsFoundAllTheSame) {
  Worker worker(database_.dsn());
  const EntryId first = enqueue("orders");
  EXPECT_THAT(worker.drain("orders"), ElementsAre(first));
  sql_.exec(
      "INSERT INTO entries (stream, type, payload, available_at) "
      "VALUES ('orders', 'created', '1', now() - interval '1 year')");
  std::vector<EntryId> found;
  wait_until(
      [&] {
        found = worker.drain("orders");
        return !found.empty();
      },
      "the next look at all that is due");
  EXPECT_THAT(found, ElementsAre(first + 1));
}

}  // namespace
}  // namespace outfall::test
