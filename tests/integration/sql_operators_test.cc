// Goal: every operator function does its one thing, leaves an audit row, and refuses, with a code
// and a hint, what it must not do: entries in a lease above all.

#include "tests/integration/sql_fixture.h"

namespace outfall::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kOperatorsWho = ", p_actor => 'ana', p_reason => 'it was stuck')";

class SqlOperators : public SqlTest {
 protected:
  // Calls FUNCTION(p_entry_id => id, …).
  PgRows on_entry(const std::string& function, EntryId id, const std::string& more = "") {
    return sql_.query(
        "SELECT action, actor, reason, stream, entry_id, envelope_id, database_user FROM " +
        function + "(p_entry_id => " + std::to_string(id) + more + kOperatorsWho);
  }
  PgRow audit_row(const std::string& action, EntryId id, const std::string& envelope) {
    return {action, "ana", "it was stuck", "orders", std::to_string(id), envelope, "postgres"};
  }
  std::string hold_due(const std::string& value) {
    return sql_.value("SELECT due_at FROM holds WHERE value = $1", {value});
  }
};

TEST_F(SqlOperators, EveryFunctionNeedsActorAndReason) {
  const EntryId id = enqueue("orders");
  const std::string entry = "p_entry_id => " + std::to_string(id);
  for (const std::string& call :
       {std::string("pause_stream(p_stream => 'orders'"),
        std::string("resume_stream(p_stream => 'orders'"),
        std::string("pause_destination(p_stream => 'orders', p_lane => 'a'"),
        std::string("resume_destination(p_stream => 'orders', p_lane => 'a'"),
        "retry_entry(" + entry, "dead_letter_entry(" + entry, "discard_entry(" + entry,
        std::string("replay_dead_letters(p_stream => 'orders'"),
        std::string("discard_dead_letters(p_stream => 'orders'")}) {
    for (const char* who :
         {", p_actor => ' ', p_reason => 'x')", ", p_actor => NULL, p_reason => 'x')"}) {
      const Refusal refused = refusal(sql_, "SELECT " + call + who);
      EXPECT_EQ(refused.sqlstate, "OF005") << call;
      EXPECT_THAT(refused.message, HasSubstr("the actor is missing"));
      EXPECT_THAT(refused.message, HasSubstr("HINT:  p_actor says who"));
    }
    const Refusal refused = refusal(sql_, "SELECT " + call + ", p_actor => 'ana', p_reason => '')");
    EXPECT_EQ(refused.sqlstate, "OF005") << call;
    EXPECT_THAT(refused.message, HasSubstr("the reason is missing"));
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM operations"), 0);
}

TEST_F(SqlOperators, MustRunInReadCommitted) {
  enqueue("orders");
  sql_.exec("BEGIN ISOLATION LEVEL REPEATABLE READ");
  const Refusal refused = refusal(sql_, "SELECT pause_stream('orders', 'ana', 'x')");
  sql_.exec("ROLLBACK");
  EXPECT_EQ(refused.sqlstate, "25000");
  EXPECT_THAT(refused.message, HasSubstr("REPEATABLE READ"));
}

TEST_F(SqlOperators, PausedStreamIsNotClaimedAndResumedOneIs) {
  Worker worker(database_.dsn());
  const EntryId id = enqueue("orders");
  EXPECT_EQ(sql_.query("SELECT action, actor, reason, stream, detail FROM pause_stream('orders', "
                       "'ana', 'sink moves')"),
            (PgRows{{"pause_stream", "ana", "sink moves", "orders", R"({"was_paused": false})"}}));
  EXPECT_THAT(ids_of(worker.claim("orders")), IsEmpty());
  sql_.exec("SELECT pause_stream('orders', 'bob', 'again')");
  EXPECT_EQ(sql_.query("SELECT paused, paused_by, paused_reason FROM streams"),
            (PgRows{{"t", "ana", "sink moves"}}));
  const std::string detail =
      sql_.value("SELECT detail FROM resume_stream('orders', 'bob', 'moved')");
  EXPECT_THAT(detail, HasSubstr(R"("paused_by": "ana")"));
  EXPECT_THAT(ids_of(worker.claim("orders")), ElementsAre(id));
}

TEST_F(SqlOperators, AStreamThatOnlyProducersKnowCanBePaused) {
  enqueue("orders");
  sql_.exec("SELECT pause_stream('orders', 'ana', 'x')");
  EXPECT_EQ(sql_.value("SELECT paused FROM streams WHERE name = 'orders'"), "t");
}

TEST_F(SqlOperators, AMistypedStreamIsRefusedAndTheOthersAreNamed) {
  Worker(database_.dsn()).claim("orders");
  const Refusal refused = refusal(sql_, "SELECT pause_stream('ordres', 'ana', 'x')");
  EXPECT_EQ(refused.sqlstate, "OF002");
  EXPECT_THAT(refused.message, HasSubstr("no stream is named 'ordres'"));
  EXPECT_THAT(refused.message, HasSubstr("There are: orders."));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM streams"), 1);
}

TEST_F(SqlOperators, PausedDestinationParksItsLaneOnly) {
  Worker worker(database_.dsn());
  worker.lane = "type";
  const EntryId a1 = enqueue("orders", {}, "a");
  const EntryId b1 = enqueue("orders", {}, "b");
  const EntryId a2 = enqueue("orders", {}, "a");
  sql_.exec("SELECT pause_destination('orders', 'a', 'ana', 'HTTP 410')");
  EXPECT_THAT(worker.drain("orders"), ElementsAre(b1));
  EXPECT_EQ(status_of(a1), "held");
  const std::string detail =
      sql_.value("SELECT detail FROM resume_destination('orders', 'a', 'ana', 'back')");
  EXPECT_THAT(detail, HasSubstr(R"("paused_reason": "HTTP 410")"));
  EXPECT_THAT(worker.drain("orders"), ElementsAre(a1, a2));
}

TEST_F(SqlOperators, RetryMakesAWaitingEntryDueAndKeepsItsAttempts) {
  Worker worker(database_.dsn());
  const EntryId id = enqueue("orders", "k");
  worker.settle_all(worker.claim("orders"), EntryStatus::retryable_failure, std::chrono::hours(1),
                    "http.503");
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  EXPECT_EQ(on_entry("retry_entry", id), (PgRows{audit_row("retry_entry", id, envelope_of(id))}));
  EXPECT_EQ(sql_.query("SELECT status, attempts, last_error_code, limits_from > created_at FROM "
                       "entries"),
            (PgRows{{"retryable_failure", "1", "http.503", "t"}}));
  EXPECT_THAT(worker.drain("orders"), ElementsAre(id));
}

TEST_F(SqlOperators, RetryOfAHeadReleasesWhatIsHeldBehindIt) {
  Worker worker(database_.dsn());
  const EntryId head = enqueue("orders", "k");
  worker.settle_all(worker.claim("orders"), EntryStatus::retryable_failure, std::chrono::hours(1),
                    "http.503");
  const EntryId second = enqueue("orders", "k");
  const EntryId third = enqueue("orders", "k");
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  ASSERT_EQ(status_of(second), "held");
  on_entry("retry_entry", head);
  EXPECT_THAT(worker.drain("orders"), ElementsAre(head, second, third));
}

// It is looked at again, and waits on: whoever asked must be told.
TEST_F(SqlOperators, RetryOfWhatIsHeldSaysSo) {
  Worker worker(database_.dsn());
  const EntryId head = enqueue("orders", "k");
  const EntryId second = enqueue("orders", "k");
  on_entry("dead_letter_entry", head, ", p_hold_key => true");
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  on_entry("retry_entry", second);
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  EXPECT_EQ(sql_.value("SELECT detail ->> 'held' FROM operations WHERE action = 'retry_entry'"),
            "true");
}

TEST_F(SqlOperators, WhatIsNullDoesNotHoldItsKey) {
  const EntryId id = enqueue("orders", "k");
  on_entry("dead_letter_entry", id, ", p_hold_key => NULL");
  EXPECT_EQ(sql_.value("SELECT holds_key FROM dead_letters"), "f");
  EXPECT_EQ(sql_.value("SELECT detail ->> 'hold_key' FROM operations"), "false");
}

TEST_F(SqlOperators, ADestinationNeedsItsLane) {
  enqueue("orders");
  for (const std::string function : {"pause_destination", "resume_destination"}) {
    const Refusal refused = refusal(sql_, "SELECT " + function + "('orders', NULL, 'ana', 'x')");
    EXPECT_EQ(refused.sqlstate, "OF005") << function;
    EXPECT_THAT(refused.message, HasSubstr("the lane is missing"));
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM operations"), 0);
}

TEST_F(SqlOperators, RetryOfAScheduledEntryDeliversItNow) {
  Worker worker(database_.dsn());
  const EntryId id = sql_.number(
      "INSERT INTO entries (stream, type, available_at) VALUES ('orders', 'a', now() + interval '1 "
      "day') RETURNING id");
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  on_entry("retry_entry", id);
  EXPECT_THAT(worker.drain("orders"), ElementsAre(id));
}

TEST_F(SqlOperators, RetryOfADueEntryIsRefused) {
  const EntryId id = enqueue("orders");
  const Refusal refused =
      refusal(sql_, "SELECT retry_entry(p_entry_id => " + std::to_string(id) + kOperatorsWho);
  EXPECT_EQ(refused.sqlstate, "OF004");
  EXPECT_THAT(refused.message, HasSubstr("is due already"));
}

TEST_F(SqlOperators, DeadLetteredEntryLeavesAndItsKeyGoesOn) {
  Worker worker(database_.dsn());
  const EntryId head = enqueue("orders", "k");
  worker.settle_all(worker.claim("orders"), EntryStatus::retryable_failure, std::chrono::hours(1),
                    "http.503");
  const EntryId next = enqueue("orders", "k");
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  EXPECT_EQ(on_entry("dead_letter_entry", head),
            (PgRows{audit_row("dead_letter_entry", head, envelope_of(head))}));
  EXPECT_EQ(
      sql_.query(
          "SELECT id, reason_code, reason, attempts, holds_key, last_error_code FROM dead_letters"),
      (PgRows{
          {std::to_string(head), "operator.dead_lettered", "it was stuck", "1", "f", "http.503"}}));
  EXPECT_THAT(worker.drain("orders"), ElementsAre(next));
}

TEST_F(SqlOperators, DeadLetterWithHoldKeyHoldsItsKeyUntilItIsDiscarded) {
  Worker worker(database_.dsn());
  const EntryId head = enqueue("orders", "k");
  const EntryId next = enqueue("orders", "k");
  const EntryId other = enqueue("orders", "other");
  on_entry("dead_letter_entry", head, ", p_hold_key => true");
  EXPECT_THAT(worker.drain("orders"), ElementsAre(other));
  EXPECT_EQ(status_of(next), "held");
  EXPECT_EQ(hold_due("k"), "infinity");
  EXPECT_EQ(sql_.value("SELECT discarded FROM discard_dead_letters(p_ids => ARRAY[" +
                       std::to_string(head) + "]" + kOperatorsWho),
            "1");
  EXPECT_THAT(worker.drain("orders"), ElementsAre(next));
}

TEST_F(SqlOperators, DiscardedEntryIsGoneAndItsKeyGoesOn) {
  Worker worker(database_.dsn());
  const EntryId head = enqueue("orders", "k");
  const std::string envelope = envelope_of(head);
  worker.settle_all(worker.claim("orders"), EntryStatus::retryable_failure, std::chrono::hours(1),
                    "http.503");
  const EntryId next = enqueue("orders", "k");
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  EXPECT_EQ(on_entry("discard_entry", head), (PgRows{audit_row("discard_entry", head, envelope)}));
  EXPECT_EQ(
      sql_.value(
          "SELECT detail ->> 'last_error_code' FROM operations WHERE action = 'discard_entry'"),
      "http.503");
  EXPECT_THAT(worker.drain("orders"), ElementsAre(next));
  EXPECT_EQ(
      sql_.number("SELECT count(*) FROM all_entries WHERE entry_id = $1", {std::to_string(head)}),
      0);
}

TEST_F(SqlOperators, AnEntryThatIsHeldItselfCanBeDiscarded) {
  Worker worker(database_.dsn());
  const EntryId head = enqueue("orders", "k");
  worker.settle_all(worker.claim("orders"), EntryStatus::retryable_failure, std::chrono::hours(1),
                    "http.503");
  const EntryId held = enqueue("orders", "k");
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  ASSERT_EQ(status_of(held), "held");
  on_entry("discard_entry", held);
  on_entry("retry_entry", head);
  EXPECT_THAT(worker.drain("orders"), ElementsAre(head));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM holds"), 0);
}

TEST_F(SqlOperators, WhatIsInALeaseIsRefusedWithItsHolderAndTime) {
  Worker worker(database_.dsn(), "shop-7");
  const EntryId id = enqueue("orders");
  const LeasedBatch batch = worker.claim("orders");
  ASSERT_THAT(ids_of(batch), ElementsAre(id));
  for (const std::string function : {"retry_entry", "dead_letter_entry", "discard_entry"}) {
    const Refusal refused = refusal(
        sql_, "SELECT " + function + "(p_entry_id => " + std::to_string(id) + kOperatorsWho);
    EXPECT_EQ(refused.sqlstate, "OF001") << function;
    EXPECT_THAT(refused.message, HasSubstr("leased by shop-7 until 20"));
    EXPECT_THAT(refused.message, HasSubstr("try again"));
  }
  worker.give_back(batch);
  on_entry("discard_entry", id);
}

// Claims would wait as long as this did.
TEST_F(SqlOperators, WhatAnotherTransactionHasLockedIsRefusedAtOnce) {
  const EntryId id = enqueue("orders");
  PgClient other = connect();
  other.exec("BEGIN");
  other.query("SELECT FROM entries FOR UPDATE");
  sql_.exec("SET statement_timeout = '30s'");
  for (const std::string function : {"retry_entry", "dead_letter_entry", "discard_entry"}) {
    const Refusal refused = refusal(
        sql_, "SELECT " + function + "(p_entry_id => " + std::to_string(id) + kOperatorsWho);
    EXPECT_EQ(refused.sqlstate, "OF001") << function;
    EXPECT_THAT(refused.message, HasSubstr("is locked by another transaction"));
  }
  other.exec("ROLLBACK");
  on_entry("discard_entry", id);
}

// Its worker may still settle it: only a claim, which takes the lease over, frees it.
TEST_F(SqlOperators, AnExpiredLeaseStillProtectsItsEntries) {
  Worker worker(database_.dsn());
  const EntryId id = enqueue("orders");
  worker.claim("orders", 100, Milliseconds{0});
  const Refusal expired =
      refusal(sql_, "SELECT discard_entry(p_entry_id => " + std::to_string(id) + kOperatorsWho);
  EXPECT_EQ(expired.sqlstate, "OF001");
  EXPECT_THAT(expired.message, HasSubstr("which has passed"));
  EXPECT_THAT(expired.message, HasSubstr("takes it over"));
  worker.session().release();
  const Refusal released =
      refusal(sql_, "SELECT discard_entry(p_entry_id => " + std::to_string(id) + kOperatorsWho);
  EXPECT_EQ(released.sqlstate, "OF001");
  EXPECT_THAT(released.message, HasSubstr("which has stopped"));
}

// The claim cannot lease what an operator is about to change, and the operator waits for a running
// claim.
TEST_F(SqlOperators, OperatorsAndClaimsExcludeEachOther) {
  Worker worker(database_.dsn());
  const EntryId id = enqueue("orders");
  worker.session().register_streams(std::vector<std::string>{"orders"});
  PgClient operator_session = connect();
  operator_session.exec("BEGIN");
  operator_session.query("SELECT discard_entry(p_entry_id => " + std::to_string(id) +
                         kOperatorsWho);
  EXPECT_THAT(ids_of(worker.claim("orders")), IsEmpty());

  PgClient other = connect();
  other.start("SELECT pause_stream('orders', 'bob', 'x')");
  wait_until([&] { return sql_.number("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0; },
             "the second to wait");
  EXPECT_TRUE(other.busy());
  operator_session.exec("ROLLBACK");
  other.finish();
  EXPECT_EQ(sql_.value("SELECT paused_by FROM streams"), "bob");
  EXPECT_EQ(status_of(id), "pending");
}

TEST_F(SqlOperators, AnEnvelopeInSeveralStreamsNeedsItsStream) {
  const EntryId id = enqueue("orders");
  const std::string envelope = envelope_of(id);
  sql_.query("SELECT enqueue('audit', 'a', p_envelope_id => $1)", {envelope});
  const std::string call = "SELECT discard_entry('" + envelope + "'";
  const Refusal refused = refusal(sql_, call + kOperatorsWho);
  EXPECT_EQ(refused.sqlstate, "OF003");
  EXPECT_THAT(refused.message, HasSubstr("is in 2 streams: audit, orders"));
  sql_.query(call + ", p_stream => 'audit'" + kOperatorsWho);
  EXPECT_EQ(sql_.query("SELECT stream FROM entries"), (PgRows{{"orders"}}));
}

TEST_F(SqlOperators, WhatIsNotALiveEntryIsRefusedWithWhereToLook) {
  const std::string nobody = "00000000-0000-4000-8000-000000000000";
  const Refusal unknown = refusal(sql_, "SELECT retry_entry('" + nobody + "'" + kOperatorsWho);
  EXPECT_EQ(unknown.sqlstate, "OF002");
  EXPECT_THAT(unknown.message, HasSubstr("explain_entry()"));
  const EntryId id = enqueue("orders");
  on_entry("dead_letter_entry", id);
  const Refusal dead =
      refusal(sql_, "SELECT retry_entry(p_entry_id => " + std::to_string(id) + kOperatorsWho);
  EXPECT_EQ(dead.sqlstate, "OF004");
  EXPECT_THAT(dead.message, HasSubstr("replay_dead_letters()"));
  EXPECT_EQ(refusal(sql_, "SELECT retry_entry(p_actor => 'a', p_reason => 'b')").sqlstate, "OF005");
  EXPECT_EQ(refusal(sql_, "SELECT retry_entry('" + nobody + "', 1" + kOperatorsWho).sqlstate,
            "OF005");
}

TEST_F(SqlOperators, WhatWasDecidedIsCommittedSynchronously) {
  enqueue("orders");
  sql_.exec("SET synchronous_commit = off; BEGIN; SELECT pause_stream('orders', 'ana', 'x')");
  EXPECT_EQ(sql_.value("SHOW synchronous_commit"), "on");
  sql_.exec("COMMIT");
  EXPECT_EQ(sql_.value("SHOW synchronous_commit"), "off");
}

}  // namespace
}  // namespace outfall::test
