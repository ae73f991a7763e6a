// Goal: what was planned while the tables were nearly empty does not read all of them once they are
// not. Plans stay with a session until the tables are analysed, which may be a minute later, and a
// backlog does not wait for it. Rows are counted, not time.

#include <optional>

#include "tests/integration/sql_fixture.h"
#include "tests/integration/watched_plans.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

class SqlPlans : public SqlTest {
 protected:
  SqlPlans() { watched_.watch(sql_); }
  std::int64_t rows_walked(const std::string& statement) {
    return watched_.rows_walked(sql_, statement);
  }
  // An entry of each of the keys k`first` to k`last`; `waits`: deferred by an hour.
  void entries(int first, int last, bool waits = false) {
    sql_.query(
        "INSERT INTO entries (stream, type, key, status, available_at) SELECT 'orders', 't', "
        "'k' || n, CASE WHEN $3 THEN 'deferred' ELSE 'pending' END::entry_status, CASE WHEN $3 "
        "THEN clock_timestamp() + interval '1 hour' END FROM generate_series($1::int, $2::int) n",
        {std::to_string(first), std::to_string(last), waits ? "t" : "f"});
  }
  WatchedPlans watched_;
};

constexpr const char* kPark =
    "SELECT park('orders', clock_timestamp(), array_agg(id ORDER BY id), array_agg('key'::text), "
    "array_agg(key ORDER BY id)) FROM entries WHERE status = 'pending'";
constexpr const char* kTend =
    "SELECT tend_holds('orders', clock_timestamp(), 0, ARRAY(SELECT hold_id FROM holds LIMIT 200))";

TEST_F(SqlPlans, ParkingReadsTheHoldsOfWhatItParks) {
  for (int i = 0; i < 10; ++i) {
    entries(1, 20);
    (void)sql_.query(kPark);
  }
  sql_.exec(
      "INSERT INTO holds (stream, scope, value, due_at, reason) SELECT 'orders', 'key', 'k' || n, "
      "'infinity', 'r' FROM generate_series(21, 5000) n");
  entries(1, 1000);
  EXPECT_LT(rows_walked(kPark), 50'000) << watched_.text();
  EXPECT_EQ(sql_.query("SELECT count(*), count(DISTINCT h.hold_id) FROM entries e JOIN holds h "
                       "USING (hold_id) WHERE e.status = 'held' AND h.value = e.key AND h.due_at < "
                       "clock_timestamp()"),
            (PgRows{{"1200", "1000"}}));
}

TEST_F(SqlPlans, AHoldIsPutToSleepByWhatWaitsOfItsOwnKey) {
  entries(1, 20, true);
  entries(1, 20);
  (void)sql_.query(kPark);
  for (int i = 0; i < 10; ++i) (void)sql_.query(kTend);
  entries(21, 3000, true);
  entries(21, 200);
  (void)sql_.query(kPark);
  EXPECT_LT(rows_walked(kTend), 50'000) << watched_.text();
  EXPECT_EQ(sql_.number("SELECT count(*) FROM holds h WHERE h.due_at = (SELECT e.available_at FROM "
                        "entries e WHERE e.key = h.value AND e.status = 'deferred')"),
            200);
}

// As one predicate in a function of its own it must vanish into whatever calls it.
TEST_F(SqlPlans, TheFilterOfDeadLettersIsInlined) {
  sql_.exec(
      "INSERT INTO dead_letters (id, envelope_id, created_at, attempts, replays, stream, type, "
      "reason_code) SELECT n, new_envelope_id(), now(), 1, 0, 'orders', 't', 'http.400' FROM "
      "generate_series(1, 5000) n; ANALYZE dead_letters");
  for (const char* call :
       {"list_dead_letters(p_ids => ARRAY[7, 8])", "count_dead_letters(p_ids => ARRAY[7, 8])",
        "replay_dead_letters(p_ids => ARRAY[7, 8], p_dry_run => true)",
        "create_job('replay', ARRAY[7, 8], p_actor => 'ana', p_reason => 'fixed')"}) {
    EXPECT_LT(rows_walked(std::string("SELECT * FROM ") + call), 500) << call << watched_.text();
  }
}

// What a worker's own session has read, which the server tells when the session has ended.
class SqlWorkerPlans : public SqlTest {
 protected:
  std::int64_t read_by_worker(const std::string& counter) {
    const std::int64_t leases = sql_.number("SELECT last_value FROM lease_numbers");
    worker_.reset();
    wait_until(
        [&] {
          return sql_.number(
                     "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'leases'") >=
                 leases;
        },
        "the worker's session to be counted");
    return sql_.number("SELECT " + counter);
  }
  std::optional<Worker> worker_{std::in_place, database_.dsn()};
};

// After a replay the ids of a batch lie apart, and each is looked up by itself.
TEST_F(SqlWorkerPlans, TheEntriesOfALeaseAreReadByIndex) {
  sql_.exec("VACUUM ANALYZE entries");
  for (int i = 0; i < 10; ++i) {
    enqueue("orders");
    worker_->deliver(worker_->claim("orders"));
  }
  sql_.exec(
      "INSERT INTO entries (stream, type, status, available_at) SELECT 'orders', 't', "
      "CASE WHEN n % 10 = 0 THEN 'deferred' ELSE 'pending' END::entry_status, CASE WHEN n % 10 = 0 "
      "THEN clock_timestamp() ELSE now() + interval '1 day' END FROM generate_series(1, 5000) n");
  EXPECT_EQ(worker_->claim("orders").entries.size(), 100U);
  EXPECT_LT(read_by_worker("seq_tup_read FROM pg_stat_user_tables WHERE relname = 'entries'"),
            1000);
}

// Beside other streams each entry of a lease is a range of its own, and a thousand of them are more
// than fits into a row.
TEST_F(SqlWorkerPlans, TheIdsOfALeaseAreFetchedOnceForAllThatItSettles) {
  constexpr int kEntries = 2000;
  sql_.query(
      "INSERT INTO entries (stream, type, key) SELECT CASE n % 2 WHEN 0 THEN 'orders' ELSE 'other' "
      "END, 't', 'k' || n FROM generate_series(1, 2 * $1::int) n",
      {std::to_string(kEntries)});
  const LeasedBatch batch = worker_->claim("orders", kEntries);
  ASSERT_EQ(batch.entries.size(), kEntries);
  worker_->deliver(batch);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries WHERE stream = 'orders'"), 0);
  EXPECT_LT(read_by_worker("toast_blks_hit + toast_blks_read FROM pg_statio_user_tables "
                           "WHERE relname = 'leases'"),
            200);
}

TEST_F(SqlWorkerPlans, DeadLettersThatHoldNothingAreNotRead) {
  const EntryId head = enqueue("orders", "k");
  worker_->settle_all(worker_->claim("orders"), EntryStatus::dead_lettered, Milliseconds{0},
                      "http.400", true);
  enqueue("orders", "k");
  // The statistics say that all of them hold.
  sql_.query(
      "INSERT INTO dead_letters (id, envelope_id, created_at, dead_lettered_at, attempts, replays, "
      "holds_key, stream, type, key, reason_code) SELECT $1::bigint + n, new_envelope_id(), now(), "
      "'2020-01-01', 1, 0, true, 'orders', 't', 'other', 'http.400' FROM generate_series(1, 5000) "
      "n",
      {std::to_string(head)});
  sql_.exec("ANALYZE dead_letters");
  sql_.exec("UPDATE dead_letters SET holds_key = false WHERE key = 'other'");
  EXPECT_THAT(worker_->drain("orders", true), testing::IsEmpty());
  EXPECT_LT(read_by_worker("sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = "
                           "'dead_letters'"),
            10'000)
      << "the first claim meets the dead versions of all that held, the next ones must not";
}

// A transaction that stays open keeps every hold that has ended, and the statistics say that few
// live: a plan made then must not lead through those that are gone.
TEST_F(SqlWorkerPlans, HoldsThatHaveEndedAreNotReadBesideAnOpenTransaction) {
  PgClient open = database_.connect();
  open.exec("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM outbox.streams");
  enqueue("orders", "k");
  (void)worker_->drain("orders", true);
  sql_.exec(
      "INSERT INTO holds (stream, scope, value, due_at, reason) SELECT 'orders', 'key', 'k' || n, "
      "'infinity', 'r' FROM generate_series(1, 5000) n; DELETE FROM holds");
  sql_.exec("VACUUM ANALYZE holds");
  constexpr int kFailures = 20;
  for (int n = 0; n < kFailures; ++n) {
    const std::string key = "again" + std::to_string(n);
    enqueue("orders", key);
    worker_->settle_all(worker_->claim("orders"), EntryStatus::retryable_failure, Milliseconds{50},
                        "http.503");
    enqueue("orders", key);
    EXPECT_THAT(worker_->claim("orders").entries, testing::IsEmpty()) << "it waits for the first";
    std::size_t drained = 0;
    wait_until([&] { return (drained += worker_->drain("orders", true).size()) == 2; }, "both");
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries"), 0);
  EXPECT_GE(sql_.number("SELECT last_value FROM holds_hold_id_seq"), 5000 + kFailures);
  EXPECT_LT(read_by_worker("sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'holds'"),
            20'000)
      << "the first claim meets them, the next ones must not";
}

}  // namespace
}  // namespace outfall::test
