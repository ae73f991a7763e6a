// Goal: dead letters come back with everything they had, in order, in chunks that can be resumed,
// and with hold-key they release their key in order.

#include "tests/integration/sql_fixture.h"

namespace outfall::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kReplayWho = ", p_actor => 'ana', p_reason => 'fixed')";

class SqlReplay : public SqlTest {
 protected:
  // Dead-letters all that can be claimed of a stream.
  void fail_all(const std::string& stream, const std::string& code = "http.400",
                bool hold_key = false) {
    worker_.settle_all(worker_.claim(stream), EntryStatus::dead_lettered, Milliseconds{0}, code,
                       hold_key);
  }
  // replayed, skipped, last_id, more
  PgRow replay(const std::string& filter) {
    return sql_.query("SELECT * FROM replay_dead_letters(" + filter + kReplayWho).at(0);
  }
  // Five dead letters of the stream `big`, each of 30 MB in this column.
  void fail_five_big(const std::string& column, const std::string& value) {
    for (int i = 0; i < 5; ++i)
      sql_.exec("INSERT INTO entries (stream, type, " + column + ") VALUES ('big', 'a', " + value +
                ")");
    worker_.session().register_streams(std::vector<std::string>{"big"});
    sql_.exec(
        std::string("DO $$ BEGIN FOR i IN 1..5 LOOP PERFORM dead_letter_entry(p_entry_id => i") +
        kReplayWho + "; END LOOP; END; $$");
  }
  // What a statement raises that waits for nobody for long.
  Refusal bounded(const std::string& sql) {
    sql_.exec("SET statement_timeout = '30s'");
    return refusal(sql_, sql);
  }
  Worker worker_{database_.dsn()};
};

TEST_F(SqlReplay, KeepsIdEnvelopeAttemptsAndEveryAttribute) {
  sql_.exec(
      "SELECT enqueue('orders', 'a', '{ \"x\":1}', p_key => 'k', p_headers => '{\"h\": \"1\"}', "
      "p_source => '/s', "
      "p_subject => 'u', p_content_type => 'application/json', p_data_schema => 'd', p_occurred_at "
      "=> now())");
  const std::string columns =
      "id, envelope_id, created_at, occurred_at, stream, type, key, source, subject, content_type, "
      "data_schema, "
      "headers, payload::text, payload_binary";
  const PgRows before = sql_.query("SELECT " + columns + " FROM entries");
  fail_all("orders");
  EXPECT_EQ(sql_.query("SELECT " + columns + " FROM dead_letters"), before);
  const PgRow result = replay("p_stream => 'orders'");
  EXPECT_EQ(result[0], "1");
  EXPECT_EQ(result[3], "f");
  EXPECT_EQ(sql_.query("SELECT " + columns + " FROM entries"), before);
  EXPECT_EQ(
      sql_.query(
          "SELECT status, attempts, attempts_base, replays, available_at <= clock_timestamp(), "
          "deferred_since IS NOT NULL, last_error_code, limits_from = deferred_since FROM "
          "entries"),
      (PgRows{{"deferred", "1", "1", "1", "t", "t", "http.400", "t"}}));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  EXPECT_EQ(sql_.query("SELECT actor, reason, stream, reason_code, database_user FROM replays"),
            (PgRows{{"ana", "fixed", "orders", "http.400", "postgres"}}));
}

TEST_F(SqlReplay, ChunksResumeWhereTheLastOneEndedInAscendingOrder) {
  std::vector<EntryId> ids;
  for (int i = 0; i < 25; ++i) ids.push_back(enqueue("orders", "key-" + std::to_string(i % 3)));
  fail_all("orders");
  EXPECT_EQ(replay("p_stream => 'orders', p_limit => 10"),
            (PgRow{"10", "0", std::to_string(ids[9]), "t"}));
  EXPECT_EQ(replay("p_stream => 'orders', p_limit => 10, p_after => " + std::to_string(ids[9])),
            (PgRow{"10", "0", std::to_string(ids[19]), "t"}));
  EXPECT_EQ(replay("p_stream => 'orders', p_limit => 10, p_after => " + std::to_string(ids[19])),
            (PgRow{"5", "0", std::to_string(ids[24]), "f"}));
  EXPECT_EQ(replay("p_stream => 'orders', p_after => " + std::to_string(ids[24])),
            (PgRow{"0", "0", std::to_string(ids[24]), "f"}));
  EXPECT_EQ(worker_.drain("orders"), ids);
}

// Free space in the table must not reorder them: equal times would leave the order to chance.
TEST_F(SqlReplay, DueTimesAscendWithTheIds) {
  for (int i = 0; i < 50; ++i) enqueue("orders", "k");
  fail_all("orders");
  replay("p_stream => 'orders'");
  EXPECT_EQ(sql_.value("SELECT array_agg(id ORDER BY available_at) = array_agg(id ORDER BY id) "
                       "AND count(DISTINCT available_at) = 50 AND max(available_at) <= "
                       "clock_timestamp() FROM entries"),
            "t");
}

TEST_F(SqlReplay, DryRunCountsAndChangesNothing) {
  for (int i = 0; i < 5; ++i) enqueue("orders");
  fail_all("orders");
  const PgRows counted = sql_.query(
      "SELECT replayed, more FROM replay_dead_letters(p_stream => 'orders', p_limit => 3, "
      "p_dry_run => true)");
  EXPECT_EQ(counted, (PgRows{{"3", "t"}}));
  EXPECT_EQ(sql_.query("SELECT discarded, more FROM discard_dead_letters(p_stream => 'orders', "
                       "p_dry_run => true)"),
            (PgRows{{"5", "f"}}));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 5);
  EXPECT_EQ(
      sql_.number("SELECT (SELECT count(*) FROM replays) + (SELECT count(*) FROM operations)"), 0);
}

TEST_F(SqlReplay, EveryFilterNarrows) {
  enqueue("orders", "a", "type.1");
  enqueue("orders", "b", "type.2");
  fail_all("orders", "http.400");
  const std::string between = sql_.value("SELECT clock_timestamp()");
  const EntryId last = enqueue("orders", "a", "type.2");
  fail_all("orders", "http.422");
  enqueue("other", "a", "type.1");
  fail_all("other", "http.400");
  const auto matching = [this](const std::string& filter) {
    const std::string listed = sql_.value("SELECT count(*) FROM list_dead_letters(" + filter + ")");
    EXPECT_EQ(
        sql_.value("SELECT replayed FROM replay_dead_letters(p_dry_run => true, " + filter + ")"),
        listed);
    EXPECT_EQ(
        sql_.value("SELECT discarded FROM discard_dead_letters(p_dry_run => true, " + filter + ")"),
        listed);
    return listed;
  };
  EXPECT_EQ(matching("p_stream => 'orders'"), "3");
  EXPECT_EQ(matching("p_stream => 'orders', p_type => 'type.2'"), "2");
  EXPECT_EQ(matching("p_stream => 'orders', p_key => 'a'"), "2");
  EXPECT_EQ(matching("p_stream => 'orders', p_reason_code => 'http.400'"), "2");
  EXPECT_EQ(matching("p_stream => 'orders', p_from => '" + between + "'"), "1");
  EXPECT_EQ(matching("p_stream => 'orders', p_to => '" + between + "'"), "2");
  EXPECT_EQ(matching("p_ids => ARRAY[" + std::to_string(last) + "]"), "1");
  EXPECT_EQ(matching("p_envelope_ids => ARRAY['" + envelope_of(last) + "'::uuid]"), "1");
  EXPECT_EQ(matching("p_ids => ARRAY[" + std::to_string(last) + "], p_type => 'type.1'"), "0");
}

TEST_F(SqlReplay, AFilterThatNamesNothingIsRefused) {
  EXPECT_EQ(
      refusal(sql_, std::string("SELECT replay_dead_letters(p_type => 'a'") + kReplayWho).sqlstate,
      "OF005");
  EXPECT_EQ(
      refusal(sql_, std::string("SELECT discard_dead_letters(p_type => 'a'") + kReplayWho).sqlstate,
      "OF005");
  EXPECT_EQ(refusal(sql_, std::string("SELECT replay_dead_letters(p_stream => 'a', p_limit => 0") +
                              kReplayWho)
                .sqlstate,
            "OF005");
}

TEST_F(SqlReplay, HoldKeyReleasesTheKeyInOrder) {
  const EntryId poison = enqueue("orders", "k");
  fail_all("orders", "http.400", true);
  const EntryId second = enqueue("orders", "k");
  const EntryId third = enqueue("orders", "k");
  const EntryId other = enqueue("orders", "other");
  EXPECT_THAT(worker_.drain("orders", true), ElementsAre(other));
  EXPECT_EQ(status_of(second), "held");
  EXPECT_EQ(sql_.value("SELECT due_at FROM holds"), "infinity");
  replay("p_stream => 'orders'");
  EXPECT_THAT(worker_.drain("orders", true), ElementsAre(poison, second, third));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM holds"), 0);
}

TEST_F(SqlReplay, AHoldStaysWhileAnotherDeadLetterHoldsTheKey) {
  const EntryId first = enqueue("orders", "k");
  const EntryId second = enqueue("orders", "k");
  fail_all("orders", "http.400", true);
  const EntryId third = enqueue("orders", "k");
  EXPECT_THAT(worker_.drain("orders", true), IsEmpty());
  replay("p_ids => ARRAY[" + std::to_string(second) + "]");
  EXPECT_THAT(worker_.drain("orders", true), IsEmpty()) << "the first one still holds the key";
  replay("p_ids => ARRAY[" + std::to_string(first) + "]");
  EXPECT_THAT(worker_.drain("orders", true), ElementsAre(first, second, third));
}

TEST_F(SqlReplay, AnEnvelopeThatIsInTheStreamAgainIsSkipped) {
  const EntryId id = enqueue("orders");
  const EntryId other = enqueue("orders");
  const std::string envelope = envelope_of(id);
  fail_all("orders");
  sql_.query("SELECT enqueue('orders', 'a', p_envelope_id => $1)", {envelope});
  EXPECT_EQ(replay("p_stream => 'orders'"), (PgRow{"1", "1", std::to_string(other), "f"}));
  EXPECT_EQ(status_of(other), "deferred");
  EXPECT_EQ(sql_.query("SELECT id FROM dead_letters"), (PgRows{{std::to_string(id)}}));
}

// Claims of the stream are put off meanwhile: the producer may take as long as it likes.
TEST_F(SqlReplay, AProducerThatEnqueuesItAgainIsNotWaitedFor) {
  const EntryId id = enqueue("orders");
  const std::string envelope = envelope_of(id);
  fail_all("orders");
  PgClient producer = connect();
  producer.exec("BEGIN");
  producer.query("SELECT enqueue('orders', 'a', p_envelope_id => $1)", {envelope});
  const Refusal refused =
      bounded(std::string("SELECT replay_dead_letters(p_stream => 'orders'") + kReplayWho);
  EXPECT_EQ(refused.sqlstate, "OF001");
  EXPECT_THAT(refused.message, HasSubstr("envelope " + envelope + " is being enqueued again"));
  EXPECT_THAT(refused.message, HasSubstr("try again"));
  producer.exec("COMMIT");
  EXPECT_EQ(replay("p_stream => 'orders'"), (PgRow{"0", "1", std::to_string(id), "f"}));
}

TEST_F(SqlReplay, ADeadLetterThatSomebodyHasLockedIsNotWaitedFor) {
  const EntryId id = enqueue("orders");
  fail_all("orders");
  PgClient other = connect();
  other.exec("BEGIN");
  other.query("SELECT FROM dead_letters FOR UPDATE");
  for (const std::string function : {"replay_dead_letters", "discard_dead_letters"}) {
    const Refusal refused =
        bounded("SELECT " + function + "(p_stream => 'orders'" + std::string(kReplayWho));
    EXPECT_EQ(refused.sqlstate, "OF001") << function;
    EXPECT_THAT(refused.message, HasSubstr("is locked by another transaction"));
  }
  other.exec("COMMIT");
  EXPECT_EQ(replay("p_stream => 'orders'"), (PgRow{"1", "0", std::to_string(id), "f"}));
}

// Between its choice and the lock of the stream, which it waits for as long as its caller lets it.
TEST_F(SqlReplay, WhatIsEnqueuedAgainSinceItWasChosenIsSkipped) {
  const std::string envelope = envelope_of(enqueue("orders"));
  enqueue("orders");
  fail_all("orders");
  PgClient other = connect();
  other.exec("BEGIN");
  other.query("SELECT FROM streams WHERE name = 'orders' FOR UPDATE");
  PgClient replaying = connect();
  replaying.exec("BEGIN; SET LOCAL lock_timeout = '1min'");
  replaying.start(
      std::string("SELECT replayed, skipped FROM replay_dead_letters(p_stream => 'orders'") +
      kReplayWho);
  wait_until([&] { return sql_.number("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0; },
             "the replay to wait for the stream");
  sql_.query("SELECT enqueue('orders', 'a', p_envelope_id => $1)", {envelope});
  other.exec("COMMIT");
  EXPECT_EQ(replaying.finish(), (PgRows{{"1", "1"}}));
  EXPECT_EQ(replaying.value("SHOW lock_timeout"), "1min");
  replaying.exec("COMMIT");
  EXPECT_EQ(sql_.query("SELECT envelope_id FROM dead_letters"), (PgRows{{envelope}}));
}

// A client that binds a flag which nobody has set must not delete payloads by it.
TEST_F(SqlReplay, WhetherItIsADryRunMustBeSaid) {
  const std::string envelope = envelope_of(enqueue("orders"));
  fail_all("orders");
  for (const std::string& call :
       {std::string("replay_dead_letters(p_stream => 'orders', p_dry_run => NULL"),
        std::string("discard_dead_letters(p_stream => 'orders', p_dry_run => NULL"),
        "mend_dead_letter('" + envelope +
            "', NULL, NULL, '{payload}', NULL, NULL, NULL, NULL, NULL, NULL"}) {
    const Refusal refused = refusal(sql_, "SELECT " + call + kReplayWho);
    EXPECT_EQ(refused.sqlstate, "OF005") << call;
    EXPECT_THAT(refused.message, HasSubstr("p_dry_run is null"));
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 1);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM operations"), 0);
}

TEST_F(SqlReplay, ADryRunOfAMendLocksNothing) {
  const EntryId id = enqueue("orders");
  const std::string mend = "SELECT changed FROM mend_dead_letter('" + envelope_of(id) +
                           "', NULL, NULL, '{payload}', '[1]', NULL, NULL, NULL, NULL, true";
  fail_all("orders");
  PgClient other = connect();
  other.exec("BEGIN");
  EXPECT_EQ(other.value(mend + kReplayWho), "{payload}");
  sql_.exec("SET statement_timeout = '30s'");
  EXPECT_EQ(replay("p_stream => 'orders'"), (PgRow{"1", "0", std::to_string(id), "f"}));
}

TEST_F(SqlReplay, AMendOfWhatCannotBeReplacedIsRefused) {
  const std::string mend =
      "SELECT changed FROM mend_dead_letter('" + envelope_of(enqueue("orders")) + "', NULL, NULL, ";
  fail_all("orders");
  for (const std::string fields : {"'{payloda,key}'", "NULL", "'{NULL}'", "'{headers,id}'"}) {
    const Refusal refused =
        refusal(sql_, mend + fields + ", NULL, NULL, NULL, NULL, NULL, false" + kReplayWho);
    EXPECT_EQ(refused.sqlstate, "OF005") << fields;
    EXPECT_THAT(refused.message, HasSubstr("p_fields names what cannot be replaced"));
  }
}

TEST_F(SqlReplay, TwoAtOnceReplayEachDeadLetterOnce) {
  for (int i = 0; i < 20; ++i) enqueue("orders");
  fail_all("orders");
  PgClient one = connect();
  PgClient two = connect();
  one.exec("BEGIN");
  one.query(std::string("SELECT replay_dead_letters(p_stream => 'orders'") + kReplayWho);
  two.start(std::string("SELECT replayed, skipped FROM replay_dead_letters(p_stream => 'orders'") +
            kReplayWho);
  wait_until([&] { return sql_.number("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0; },
             "the second to wait");
  one.exec("COMMIT");
  EXPECT_EQ(two.finish(), (PgRows{{"0", "20"}}));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM replays"), 20);
  EXPECT_EQ(worker_.drain("orders").size(), 20U);
}

TEST_F(SqlReplay, AChunkIsBoundedByBytes) {
  fail_five_big("payload_binary", "decode(repeat('00', 30000000), 'hex')");
  EXPECT_EQ(replay("p_stream => 'big'"), (PgRow{"3", "0", "3", "t"}));
  EXPECT_EQ(
      sql_.value("SELECT replayed FROM replay_dead_letters(p_stream => 'big', p_dry_run => true)"),
      "2");
}

// They counted for nothing, so that a chunk of 10,000 was as large as its headers are.
TEST_F(SqlReplay, HeadersCountAsBytesOfAChunk) {
  fail_five_big("headers", "jsonb_build_object('text', repeat('compressible', 2500000))");
  EXPECT_EQ(replay("p_stream => 'big'"), (PgRow{"3", "0", "3", "t"}));
  EXPECT_EQ(sql_.value("SELECT discarded FROM discard_dead_letters(p_stream => 'big'" +
                       std::string(kReplayWho)),
            "2");
}

TEST_F(SqlReplay, DiscardRecordsEachDeadLetter) {
  const EntryId id = enqueue("orders", "k");
  const std::string envelope = envelope_of(id);
  fail_all("orders");
  EXPECT_EQ(
      sql_.query("SELECT discarded, last_id, more FROM discard_dead_letters(p_stream => 'orders'" +
                 std::string(kReplayWho)),
      (PgRows{{"1", std::to_string(id), "f"}}));
  EXPECT_EQ(sql_.query("SELECT action, actor, reason, stream, entry_id, envelope_id, detail ->> "
                       "'reason_code' FROM operations"),
            (PgRows{{"discard_dead_letter", "ana", "fixed", "orders", std::to_string(id), envelope,
                     "http.400"}}));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
}

// The attempts stay; the limit counts from the replay on, and a second failure can be replayed
// again.
TEST_F(SqlReplay, CanBeRepeated) {
  const EntryId id = enqueue("orders");
  for (int round = 1; round <= 3; ++round) {
    fail_all("orders");
    replay("p_stream => 'orders'");
    EXPECT_EQ(sql_.query("SELECT id, attempts, attempts_base, replays FROM entries"),
              (PgRows{{std::to_string(id), std::to_string(round), std::to_string(round),
                       std::to_string(round)}}));
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM replays WHERE entry_id = $1", {std::to_string(id)}),
            3);
}

}  // namespace
}  // namespace outfall::test
