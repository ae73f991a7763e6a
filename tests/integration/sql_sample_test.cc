// Goal: what the metrics sampler reads is right, ends at its cap, and touches no more rows than
// that, also when the head of the index is dead under a held snapshot.

#include "tests/integration/sql_fixture.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class SqlSample : public SqlTest {
 protected:
  PgRow counts(const std::string& stream, int cap = 1000) {
    return sql_
        .query(
            "SELECT pending, deferred, retryable_failure, held, dead_letters, leases_active, "
            "leases_expired "
            "FROM sample_streams(ARRAY[$1], ARRAY[0], $2)",
            {stream, std::to_string(cap)})
        .at(0);
  }
  double age(const std::string& column, const std::string& stream = "orders") {
    return std::stod(
        sql_.value("SELECT " + column + " FROM sample_streams(ARRAY[$1], ARRAY[0])", {stream}));
  }
  // Inserts n entries that are `age` old.
  void insert(int n, const std::string& stream = "orders", const std::string& age = "0") {
    sql_.exec("INSERT INTO entries (stream, type, created_at) SELECT '" + stream +
              "', 'a', clock_timestamp() - interval '" + age + "' FROM generate_series(1, " +
              std::to_string(n) + ")");
  }
  Worker worker_{database_.dsn()};
};

TEST_F(SqlSample, CountsByStatusAndLeases) {
  const std::string no_error;
  for (int i = 0; i < 3; ++i) enqueue("orders", "dead");
  worker_.settle_all(worker_.claim("orders"), EntryStatus::dead_lettered, Milliseconds{0},
                     "http.400");
  for (int i = 0; i < 2; ++i) enqueue("orders");
  worker_.settle_all(worker_.claim("orders"), EntryStatus::deferred, std::chrono::hours(1),
                     no_error);
  enqueue("orders", "k");
  worker_.settle_all(worker_.claim("orders"), EntryStatus::retryable_failure, std::chrono::hours(1),
                     "http.503");
  for (int i = 0; i < 4; ++i) enqueue("orders", "k");
  EXPECT_TRUE(worker_.drain("orders").empty());
  insert(5);
  sql_.exec("SELECT enqueue('orders', 'a', p_available_at => now() + interval '1 day')");
  EXPECT_EQ(counts("orders"), (PgRow{"6", "2", "1", "4", "3", "0", "0"}));
  worker_.claim("orders", 2);
  worker_.claim("orders", 2, Milliseconds{0});
  EXPECT_EQ(counts("orders"), (PgRow{"6", "2", "1", "4", "3", "1", "1"}));
  EXPECT_EQ(counts("nothing"), (PgRow{"0", "0", "0", "0", "0", "0", "0"}));
}

TEST_F(SqlSample, CountsEndAtTheCap) {
  insert(50);
  EXPECT_EQ(counts("orders", 10)[0], "10");
  EXPECT_EQ(counts("orders", 50)[0], "50");
}

TEST_F(SqlSample, AgesOfDueBlockedAndOldest) {
  EXPECT_EQ(age("oldest_due_seconds"), 0);
  EXPECT_EQ(age("oldest_blocked_seconds"), 0);
  insert(2, "orders", "100 seconds");
  EXPECT_NEAR(age("oldest_due_seconds"), 100, 20);
  sql_.exec("UPDATE entries SET status = 'deferred', available_at = now() + interval '1 hour'");
  EXPECT_EQ(age("oldest_due_seconds"), 0) << "it waits for a time";
  EXPECT_NEAR(age("oldest_created_seconds"), 100, 20);
  sql_.exec("UPDATE entries SET available_at = now() - interval '30 seconds'");
  EXPECT_NEAR(age("oldest_due_seconds"), 30, 20);
  sql_.exec(
      "INSERT INTO holds (stream, scope, value, due_at, reason) VALUES ('orders', 'key', 'k', "
      "now(), 'x');"
      "UPDATE entries SET status = 'held', hold_id = (SELECT hold_id FROM holds), available_at = "
      "NULL");
  EXPECT_EQ(age("oldest_due_seconds"), 0);
  EXPECT_NEAR(age("oldest_blocked_seconds"), 100, 20);
}

// The stream's backlog looks young meanwhile: what waits for its next attempt is not due.
TEST_F(SqlSample, AgeOfTheOldestThatFailedAndIsTriedAgain) {
  insert(2, "orders", "100 seconds");
  const auto retried = [this] { return age("oldest_retried_seconds"); };
  EXPECT_EQ(retried(), 0) << "nothing has failed";
  worker_.settle_all(worker_.claim("orders", 1), EntryStatus::retryable_failure,
                     std::chrono::hours(1), "http.404");
  worker_.settle_all(worker_.claim("orders", 1), EntryStatus::deferred, std::chrono::hours(1), {});
  EXPECT_NEAR(retried(), 100, 20);
  EXPECT_EQ(age("oldest_due_seconds"), 0);
  sql_.exec("UPDATE entries SET status = 'deferred' WHERE status = 'retryable_failure'");
  EXPECT_EQ(retried(), 0) << "what was deferred has an age of its own";

  sql_.exec("UPDATE entries SET status = 'retryable_failure', available_at = now()");
  worker_.claim("orders");
  EXPECT_NEAR(retried(), 100, 20) << "it still counts while it is tried";
  sql_.exec("UPDATE entries SET limits_from = now() - interval '50 seconds'");
  EXPECT_NEAR(retried(), 50, 20) << "a replay begins anew";
  sql_.exec("DELETE FROM entries");
  EXPECT_EQ(retried(), 0);
}

// Each deferral renews its time, so that it is never due for long, and it never becomes a dead
// letter: nothing told that it starves.
TEST_F(SqlSample, WhatIsDeferredAgainAndAgainHasAnAge) {
  insert(2, "orders", "100 seconds");
  const auto deferred = [this] { return age("oldest_deferred_seconds"); };
  EXPECT_EQ(deferred(), 0);
  for (int time = 0; time < 2; ++time) {
    worker_.settle_all(worker_.claim("orders"), EntryStatus::deferred, Milliseconds{0}, {});
    EXPECT_NEAR(deferred(), 100, 20);
    EXPECT_NEAR(age("oldest_due_seconds"), 0, 20) << "it looks young";
  }
  worker_.claim("orders");
  EXPECT_NEAR(deferred(), 100, 20) << "it still counts while it is tried";
  sql_.exec("UPDATE entries SET limits_from = now() - interval '50 seconds'");
  EXPECT_NEAR(deferred(), 50, 20) << "a replay begins anew";
  sql_.exec("DELETE FROM entries");
  EXPECT_EQ(deferred(), 0);
}

// It was to wait until then, and nobody has put it off.
TEST_F(SqlSample, WhatWasScheduledIsAsOldAsItsTime) {
  sql_.exec(
      "INSERT INTO entries (stream, type, created_at, available_at) VALUES ('orders', 'a', now() - "
      "interval '1 hour', now() + interval '1 hour')");
  EXPECT_EQ(age("oldest_deferred_seconds"), 0) << "its time has not come";
  sql_.exec("UPDATE entries SET available_at = now() - interval '50 seconds'");
  EXPECT_EQ(age("oldest_deferred_seconds"), 0) << "nobody has deferred it";
  worker_.settle_all(worker_.claim("orders"), EntryStatus::deferred, std::chrono::hours(1), {});
  EXPECT_NEAR(age("oldest_deferred_seconds"), 50, 20);
}

// Those that wait for their next attempt are not all read to know the age of one.
TEST_F(SqlSample, WhatWaitsIsReadUpToTheCap) {
  insert(100'000, "orders", "100 seconds");
  sql_.exec(
      "UPDATE entries SET status = CASE id % 2 WHEN 0 THEN 'retryable_failure' ELSE 'deferred' "
      "END::entry_status, available_at = now() + interval '1 hour'");
  sql_.exec("VACUUM ANALYZE entries");
  sql_.query("SELECT * FROM sample_streams(ARRAY['orders'], ARRAY[0], 1000)");
  const std::string plan = sql_.value(
      "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM sample_streams(ARRAY['orders'], "
      "ARRAY[0], 1000)");
  EXPECT_LT(sql_.number("SELECT ($1::json #>> '{0,Plan,Shared Hit Blocks}')::bigint + "
                        "($1::json #>> '{0,Plan,Shared Read Blocks}')::bigint",
                        {plan}),
            1500);
  EXPECT_NEAR(age("oldest_retried_seconds"), 100, 30);
  EXPECT_NEAR(age("oldest_deferred_seconds"), 100, 30);
}

TEST_F(SqlSample, PausedStream) {
  insert(1);
  sql_.exec("SELECT pause_stream('orders', 'ana', 'x')");
  EXPECT_EQ(sql_.value("SELECT paused FROM sample_streams(ARRAY['orders'], ARRAY[0])"), "t");
}

TEST_F(SqlSample, PausedDestinations) {
  insert(1);
  insert(1, "mails");
  for (const std::string lane : {"a", "b", "c"}) {
    sql_.query("SELECT pause_destination('orders', $1, 'ana', 'x')", {lane});
  }
  sql_.exec("SELECT pause_destination('mails', '', 'ana', 'x')");
  sql_.exec("SELECT resume_destination('orders', 'b', 'ana', 'x')");
  const auto sampled = [this](int cap) {
    return sql_.query(
        "SELECT stream, paused, paused_destinations FROM sample_streams(ARRAY['orders', 'mails', "
        "'nothing'], NULL, $1)",
        {std::to_string(cap)});
  };
  EXPECT_EQ(sampled(1000),
            (PgRows{{"orders", "f", "2"}, {"mails", "f", "1"}, {"nothing", "f", "0"}}));
  EXPECT_EQ(sampled(1).at(0).at(2), "1") << "it ends at the cap";
}

// 100,000 dead entries at the head of the index, kept by an open snapshot: from the floor on, a
// sample reads a handful of buffers; without one it would read them all.
TEST_F(SqlSample, AFloorSkipsWhatIsDeadAtTheHead) {
  insert(100'000);
  PgClient old_snapshot = connect();
  old_snapshot.exec("BEGIN ISOLATION LEVEL REPEATABLE READ");
  old_snapshot.query("SELECT count(*) FROM streams");
  sql_.exec("DELETE FROM entries");
  const EntryId live = enqueue("orders");
  const auto buffers = [&](EntryId floor) {
    const std::string plan = sql_.value(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM sample_streams(ARRAY['orders'], "
        "ARRAY[" +
        std::to_string(floor) + "])");
    PgClient reader = connect();
    return reader.number(
        "SELECT ($1::json #>> '{0,Plan,Shared Hit Blocks}')::bigint + "
        "($1::json #>> '{0,Plan,Shared Read Blocks}')::bigint",
        {plan});
  };
  buffers(live);  // fills the caches of the catalog
  EXPECT_LT(buffers(live), 200);
  EXPECT_GT(buffers(0), 1000);
  EXPECT_EQ(counts("orders")[0], "1");
}

TEST_F(SqlSample, UnboundStreamsAreThoseThatNobodyNamed) {
  for (const std::string stream : {"a", "b", "c", "d", "e"}) insert(3, stream);
  sql_.exec(
      "INSERT INTO entries (stream, type, available_at) VALUES ('later', 'a', now() + interval '1 "
      "day')");
  sql_.exec(
      "INSERT INTO holds (stream, scope, value, due_at, reason) VALUES ('stuck', 'key', 'k', "
      "now(), 'x');"
      "INSERT INTO entries (stream, type, status, hold_id) SELECT 'stuck', 'a', 'held', hold_id "
      "FROM holds;"
      "INSERT INTO holds (stream, scope, value, due_at, reason) VALUES ('empty', 'key', 'k', "
      "now(), 'x')");
  const auto unbound = [&](const std::string& named) {
    return sql_.query("SELECT stream, entries FROM unbound_streams(" + named +
                      ", 2) ORDER BY stream");
  };
  EXPECT_EQ(unbound("ARRAY['b', 'd', 'x', 'd', NULL]"),
            (PgRows{{"a", "2"}, {"c", "2"}, {"e", "2"}, {"later", "1"}, {"stuck", "1"}}));
  EXPECT_EQ(unbound("ARRAY['a', 'b', 'c', 'd', 'e', 'later', 'stuck']"), PgRows{});
  EXPECT_EQ(unbound("'{}'").size(), 7U);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM unbound_streams('{}', 10, 3)"), 3);
}

// The walk from stream to stream must not read the backlog of a served stream.
TEST_F(SqlSample, UnboundStreamsDoNotReadServedOnes) {
  insert(100'000, "served");
  insert(1, "zebra");
  sql_.query("SELECT * FROM unbound_streams(ARRAY['served'])");
  const std::string plan = sql_.value(
      "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM unbound_streams(ARRAY['served'])");
  EXPECT_LT(sql_.number("SELECT ($1::json #>> '{0,Plan,Shared Hit Blocks}')::bigint", {plan}), 200);
}

TEST_F(SqlSample, TheDatabaseTellsItsOldestTransaction) {
  insert(1);
  PgClient old = connect();
  old.exec("BEGIN");
  old.query("SELECT txid_current()");
  for (int i = 0; i < 5; ++i) insert(1);
  EXPECT_GE(sql_.number("SELECT oldest_xmin_age_transactions FROM sample_database()"), 5);
  EXPECT_GT(std::stod(sql_.value("SELECT oldest_transaction_seconds FROM sample_database()")), 0);
  old.exec("PREPARE TRANSACTION 'left behind'");
  EXPECT_GE(sql_.number("SELECT oldest_xmin_age_transactions FROM sample_database()"), 5);
  old.exec("ROLLBACK PREPARED 'left behind'");
  EXPECT_EQ(sql_.query("SELECT sequence_last, schema_version = (SELECT max(version) FROM "
                       "schema_version), min_worker, "
                       "receipts_partitions, receipts_in_default FROM sample_database()"),
            (PgRows{{"6", "t", "1", "4", "f"}}));
}

TEST_F(SqlSample, StatusShowsEverythingAtAGlance) {
  insert(2);
  insert(1, "nobody");
  worker_.claim("orders", 1);
  sql_.exec("SELECT pause_destination('orders', 'a', 'ana', 'HTTP 410')");
  const auto at = [this](const std::string& path) {
    return sql_.value("SELECT status() #>> string_to_array($1, '.')", {path});
  };
  EXPECT_EQ(at("streams.0.stream"), "orders");
  EXPECT_EQ(at("streams.0.pending"), "2");
  EXPECT_EQ(at("streams.0.leases_active"), "1");
  EXPECT_EQ(at("streams.0.destinations.0.paused_by"), "ana");
  EXPECT_EQ(at("unbound.0.stream"), "nobody");
  EXPECT_EQ(at("workers.0.instance"), "worker-1");
  EXPECT_EQ(at("workers.0.entries"), "1");
  EXPECT_EQ(at("database.min_worker"), "1");
  EXPECT_EQ(sql_.value("SELECT status(ARRAY['orders', 'nobody']) #>> '{unbound}'"), "[]");
}

}  // namespace
}  // namespace outfall::test
