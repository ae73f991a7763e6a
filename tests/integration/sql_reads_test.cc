// Goal: what claims read stays in proportion to what they take, whatever waits, has gone or is held
// by others. Rows of indexes are counted, dead ones too; not time.

#include <map>
#include <optional>
#include <utility>

#include "tests/integration/sql_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// For a worker to whom no time passes: what it looks at once in a while, it looks at once.
class StillClock final : public Clock {
 public:
  [[nodiscard]] MonotonicTime monotonic() const noexcept override { return MonotonicTime{}; }
  [[nodiscard]] WallTime wall() const noexcept override { return system_clock().wall(); }
};

class SqlReads : public SqlTest {
 protected:
  Worker& worker() {
    static const StillClock clock;
    if (!worker_) worker_.emplace(database_.dsn(), "worker-1", clock);
    return *worker_;
  }
  // What was read of these indexes of `entries` (a regular expression) since this was last asked
  // for. The server tells of a session when it has ended, so this ends the worker's.
  std::int64_t rows_read(const std::string& indexes) {
    return counted("sum(idx_tup_read) FROM pg_stat_user_indexes", indexes);
  }
  std::int64_t blocks_read(const std::string& indexes) {
    return counted("sum(idx_blks_hit + idx_blks_read) FROM pg_statio_user_indexes", indexes);
  }

  // Fresh entries of so many keys that begin with `prefix`, `each` of one.
  void entries(const std::string& prefix, int keys, int each = 1) {
    sql_.query(
        "INSERT INTO entries (stream, type, key) SELECT 'orders', 't', $1 || k FROM "
        "generate_series(1, $3::int) n, generate_series(1, $2::int) k ORDER BY n, k",
        {prefix, std::to_string(keys), std::to_string(each)});
  }
  // `each` entries of each of so many keys, which waited behind something and may go now.
  void released(const std::string& prefix, int keys, int each) {
    sql_.query(
        "WITH opened AS (INSERT INTO holds (stream, scope, value, due_at, reason) SELECT 'orders', "
        "'key', $1 || k, clock_timestamp(), 'r' FROM generate_series(1, $2::int) k "
        "RETURNING hold_id, value) "
        "INSERT INTO entries (stream, type, key, status, hold_id) SELECT 'orders', 't', value, "
        "'held', hold_id FROM opened, generate_series(1, $3::int) n ORDER BY n, hold_id",
        {prefix, std::to_string(keys), std::to_string(each)});
  }
  // 2,000 entries, each of a key that begins with "gone", that failed once and were delivered then.
  void fail_and_go() {
    entries("gone", 2000);
    const LeasedBatch batch = worker().claim("orders", 2000);
    ASSERT_EQ(batch.entries.size(), 2000U);
    worker().settle_all(batch, EntryStatus::retryable_failure, Milliseconds{0}, "http.503");
    EXPECT_EQ(worker().drain("orders").size(), 2000U);
  }
  // A dead row is told from then on by its index, and not read again. Settles do not wait for that.
  void write_what_is_committed() { sql_.exec("SELECT pg_logical_emit_message(true, '', '')"); }

 private:
  std::int64_t counted(const std::string& counter, const std::string& indexes) {
    worker_.reset();
    wait_until(
        [&] {
          return sql_.number(
                     "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
                     "application_name = 'outfall'") == 0;
        },
        "the worker's session to end");
    sql_.exec("SELECT pg_stat_force_next_flush()");
    const std::int64_t total = sql_.number(
        "SELECT " + counter + " WHERE relname = 'entries' AND indexrelname ~ $1", {indexes});
    return total - std::exchange(counted_before_[counter + indexes], total);
  }

  std::optional<Worker> worker_;
  std::map<std::string, std::int64_t> counted_before_;
};

// A snapshot that was taken before everything that follows, and keeps its dead rows.
class OldTransaction {
 public:
  explicit OldTransaction(PgClient session) : session_(std::move(session)) {
    session_.exec("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM streams");
  }

 private:
  PgClient session_;
};

// Each claim looked at as much of every key as it could take in all.
TEST_F(SqlReads, ABacklogOfManyKeysThatMayGoIsReadAboutAsOftenAsItIsTaken) {
  constexpr int kEntries = 40 * 100;
  released("k", 40, 100);
  std::size_t delivered = 0;
  for (bool left = true; left;) {
    const LeasedBatch batch = worker().claim("orders", 100);
    left = !batch.entries.empty();
    if (left) worker().deliver(batch);
    delivered += batch.entries.size();
    write_what_is_committed();
  }
  EXPECT_EQ(delivered, kEntries);
  EXPECT_LT(rows_read("entries_(held|unfinished)"), 12 * kEntries);
}

// To see that nothing stood before it, each claim went through all that waited in a key. The server
// counts no rows of an index that are passed over inside of it, but its blocks.
TEST_F(SqlReads, ALongBacklogOfAKeyThatMayGoIsNotReadToItsEnd) {
  constexpr int kClaims = 10;
  released("k", 1, 20'000);
  (void)blocks_read("entries_unfinished");
  for (int claim = 0; claim < kClaims; ++claim) worker().deliver(worker().claim("orders", 100));
  EXPECT_LT(blocks_read("entries_unfinished"), 20 * kClaims);
}

// Of 1,500 keys a claim looks into 200, and asked of all what waits before them.
TEST_F(SqlReads, OfKeysThatMayGoOnlyThoseThatAClaimLooksIntoAreAskedForEarlierEntries) {
  released("k", 1500, 1);
  EXPECT_EQ(worker().claim("orders", 100).entries.size(), 100U);
  EXPECT_LT(rows_read("entries_unfinished"), 1000);
}

TEST_F(SqlReads, WhatOtherKeysLeaveOfTheirShareGoesToTheOneThatHasMore) {
  released("long", 1, 2000);
  released("k", 199, 2);
  ClaimRequest request = worker().request("orders", 1000);
  for (int k = 1; k <= 199; ++k) request.keys.push_back({"k" + std::to_string(k), 1});
  EXPECT_EQ(worker().session().claim(request).batch.entries.size(), 1000U);
}

// The rest waited for the next poll.
TEST_F(SqlReads, AClaimThatTakesAllItCanOfTheOnlyKeySaysThatThereIsMore) {
  released("k", 1, 250);
  std::vector<bool> more;
  for (int claim = 0; claim < 3; ++claim) {
    const ClaimResult result = worker().try_claim("orders", 100);
    more.push_back(result.more);
    worker().deliver(result.batch);
  }
  EXPECT_THAT(more, ElementsAre(true, true, false));
}

// To put a key to sleep, a claim read on from it, through what had gone of the keys after it, until
// it had found ten rows.
TEST_F(SqlReads, AKeyThatWaitsIsReadWithoutTheDeadRowsOfOthersBesideAnOpenTransaction) {
  constexpr int kWaiting = 50;
  const std::string kRead = "entries_(unfinished|pkey)";
  const OldTransaction old(connect());
  fail_and_go();
  entries("a", kWaiting);
  worker().settle_all(worker().claim("orders"), EntryStatus::retryable_failure,
                      std::chrono::hours(1), "http.503");
  (void)rows_read(kRead);
  entries("a", kWaiting);
  EXPECT_THAT(worker().drain("orders"), IsEmpty()) << "they wait for the first";
  EXPECT_LT(rows_read(kRead), 2000);
}

TEST_F(SqlReads, WhatFailedAndWentIsWalkedOverByOneClaimOfManyBesideAnOpenTransaction) {
  const OldTransaction old(connect());
  fail_and_go();
  const std::string gone = sql_.value("SELECT clock_timestamp()");
  wait_until(
      [&] {
        return sql_.value("SELECT clock_timestamp() > $1::timestamptz + interval '1 second'",
                          {gone}) == "t";
      },
      "what a clock that is set back may hide to be past");
  const std::string kRead = "entries_(due|waiting|unfinished)";
  (void)rows_read(kRead);
  for (int n = 0; n < 20; ++n) {
    const EntryId id = enqueue("orders", "k");
    worker().settle_all(worker().claim("orders"), EntryStatus::retryable_failure, Milliseconds{0},
                        "http.503");
    EXPECT_THAT(worker().drain("orders"), ElementsAre(id));
  }
  EXPECT_LT(rows_read(kRead), 20'000);
}

// While a claim walks, the worker that has these keys cannot claim.
TEST_F(SqlReads, PastWhatAnotherWorkerHoldsAClaimWalksOnlySoFar) {
  entries("held", 10);
  ASSERT_EQ(worker().claim("orders").entries.size(), 10U);
  entries("held", 10, 1000);
  const EntryId behind = enqueue("orders", "free");
  (void)rows_read("entries_fresh");  // from here on another worker claims

  // These keys are not held for long yet, however slow this machine is.
  sql_.exec("UPDATE leases SET claimed_at = clock_timestamp() + interval '1 hour'");
  EXPECT_THAT(ids_of(worker().claim("orders", 100)), IsEmpty());
  EXPECT_LT(rows_read("entries_fresh"), 4500);

  sql_.exec("UPDATE leases SET claimed_at = clock_timestamp() - interval '1 second'");
  const ClaimResult result = worker().try_claim("orders", 100);
  EXPECT_THAT(ids_of(result.batch), ElementsAre(behind)) << "the rest is passed over";
  EXPECT_TRUE(result.more);
}

TEST_F(SqlReads, BesideRetriesThatAreDueAClaimWalksOnlySoFarPastWhatAnotherWorkerHolds) {
  entries("due", 10);
  const LeasedBatch failed = worker().claim("orders");
  worker().settle_all(failed, EntryStatus::retryable_failure, Milliseconds{0}, "http.503");
  sql_.exec("UPDATE entries SET available_at = available_at + interval '1 hour'");
  entries("held", 10);
  ASSERT_EQ(worker().claim("orders").entries.size(), 10U);
  entries("held", 10, 2000);
  const EntryId earlier = enqueue("orders", "late");
  const EntryId later = enqueue("orders", "late");
  sql_.query(
      "UPDATE entries SET status = 'retryable_failure', available_at = clock_timestamp() "
      "WHERE id = $1 OR status = 'retryable_failure'",
      {std::to_string(later)});
  sql_.exec("UPDATE leases SET claimed_at = clock_timestamp() + interval '1 hour'");
  (void)rows_read("entries_fresh");  // from here on another worker claims

  EXPECT_EQ(ids_of(worker().claim("orders", 100)), ids_of(failed))
      << "what the walk did not come to is not overtaken";
  // To the end of the walk twice: once for what may go, once for where it ends.
  EXPECT_LT(rows_read("entries_fresh"), 2 * 4700);

  sql_.exec("UPDATE leases SET claimed_at = clock_timestamp() - interval '1 second'");
  EXPECT_THAT(ids_of(worker().claim("orders", 100)), ElementsAre(earlier, later));
}

}  // namespace
}  // namespace outfall::test
