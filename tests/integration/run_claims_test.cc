// Goal: a claim takes what is due and no more than it may, and looking for work costs little.
// Method: a real worker, and what the database says about its leases and its statements.

#include "tests/integration/worker_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

using RunClaims = WorkerTest;

// The series was there, and always 0: nothing observed it.
TEST_F(RunClaims, TheDurationOfEachAttemptIsCounted) {
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = "[streams.orders]\nemitter = \"out\"\n[emitters.out]\n"
                                   "kind = \"noop\"\nlatency = \"50ms\"\n"});
  enqueue_many("orders", 40, 10);
  wait_until_empty("orders");
  const auto duration = [&](const std::string& part) {
    return worker.metric("outfall_attempt_duration_seconds_" + part + "{stream=\"orders\"}");
  };
  wait_until([&] { return duration("count") > 0; }, "they are counted");
  EXPECT_EQ(duration("count"), 40);
  EXPECT_NEAR(duration("sum"), 40 * 0.05, 1e-6) << "the emitter says how long each took";
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunClaims, AnEntryComesWhenItIsDueAndNotBefore) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  sql_.exec(
      "INSERT INTO entries (stream, type, key, available_at) SELECT 'orders', 'later', 'k', "
      "clock_timestamp() + interval '2 s'");
  enqueue("orders", "other");
  wait_until([&] { return worker.events("events").size() == 1; }, "what is due at once comes");
  std::size_t seen = 0;
  bool due = false;
  int looks = 0;
  wait_until(
      [&] {
        // The clock after the file: what was seen before it is due has come too early.
        seen = worker.events("events").size();
        due = sql_.value(
                  "SELECT coalesce(bool_and(available_at <= clock_timestamp()), true) FROM "
                  "entries") == "t";
        if (!due) ++looks;
        return due || seen > 1;
      },
      "it is due");
  EXPECT_GT(looks, 0) << "it was due before anybody looked";
  EXPECT_TRUE(due) << "it came before it was due";
  wait_until_empty("orders", std::chrono::seconds{10});
  const auto events = worker.events("events");
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events.back().at("type").as_string(), "later");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunClaims, AClaimEndsAtItsBytes) {
  // What does not compress, so that it is as large in the table as it says.
  sql_.exec(
      "INSERT INTO entries (stream, type, payload) SELECT 'orders', 't', json_build_object('text', "
      "(SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 9600) j)) "
      "FROM generate_series(1, 10) i");
  ASSERT_GT(sql_.number("SELECT min(octet_length(payload::text)) FROM entries"), 300'000);
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = "[streams.orders]\nemitter = \"out\"\n[emitters.out]\nkind = "
                                   "\"noop\"\nlatency = \"60s\"\n",
                        .drain = "batch_bytes = \"1MiB\"\nshutdown_timeout = \"0s\""});
  wait_until([&] { return worker.metric("outfall_in_flight_entries{stream=\"orders\"}") == 10; },
             "all are claimed");
  // The first entry, and 1 MiB beyond it.
  EXPECT_EQ(sql_.value("SELECT string_agg(remaining::text, ' ' ORDER BY lease_no) FROM leases"),
            "4 4 2");
  EXPECT_EQ(worker.stop(), 0);
}

// They were not counted: 400 entries with headers of 1 MB each were one claim, of 411 MiB.
TEST_F(RunClaims, HeadersCountAsBytesOfAClaimAndOfTheWorker) {
  sql_.exec(
      "INSERT INTO entries (stream, type, headers) SELECT 'orders', 't', "
      "jsonb_build_object('text', "
      "repeat('compressible', 25000)) FROM generate_series(1, 10)");
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = "[streams.orders]\nemitter = \"out\"\n[emitters.out]\nkind = "
                                   "\"noop\"\nlatency = \"60s\"\n",
                        .drain = "batch_bytes = \"1MiB\"\nmax_in_flight_bytes = \"2MiB\"\n"
                                 "shutdown_timeout = \"0s\""});
  // The first entry and 1 MiB beyond it; then the first and what is left of 2 MiB.
  wait_until([&] { return sql_.number("SELECT count(*) FROM leases") == 2; }, "it is full");
  const auto leases = [&] {
    return sql_.value("SELECT string_agg(remaining::text, ' ' ORDER BY lease_no) FROM leases");
  };
  EXPECT_FALSE(
      holds_within([&] { return leases() != "4 3" && leases() != "4 4"; }, milliseconds{500}))
      << leases();
  wait_until([&] { return worker.metric("outfall_in_flight_bytes{stream=\"orders\"}") >= 2 << 20; },
             "the metric tells of them");
  EXPECT_EQ(worker.stop(), 0);
}

// Each claim took the room that there was when it began, so that those of many streams at once held
// as many times of it.
TEST_F(RunClaims, StreamsThatClaimAtTheSameTimeHoldNoMoreTogetherThanTheWorkerMay) {
  std::string streams = "[emitters.out]\nkind = \"noop\"\nlatency = \"60s\"\n";
  for (int i = 1; i <= 20; ++i) {
    streams += "[streams.s" + std::to_string(i) + "]\nemitter = \"out\"\n";
  }
  sql_.exec(
      "INSERT INTO entries (stream, type, payload) SELECT 's' || s, 't', "
      "json_build_object('text', repeat('x', 20000)) FROM generate_series(1, 20) s, "
      "generate_series(1, 50)");
  const std::string many = "connections = 16";
  const auto leased = [&] { return sql_.number("SELECT coalesce(sum(remaining), 0) FROM leases"); };
  const auto never_more_than = [&](std::int64_t most) {
    return !holds_within([&] { return leased() > most; }, milliseconds{500});
  };
  WorkerProcess by_entries({.dsn = database_.dsn(),
                            .streams = streams,
                            .drain = "max_in_flight = 40\nbatch_entries = 40\n"
                                     "shutdown_timeout = \"0s\"",
                            .database = many});
  wait_until([&] { return leased() >= 40; }, "it is full");
  EXPECT_TRUE(never_more_than(40)) << leased();
  EXPECT_EQ(by_entries.stop(), 0);
  sql_.exec("DELETE FROM leases");

  WorkerProcess by_bytes({.dsn = database_.dsn(),
                          .streams = streams,
                          .drain = "max_in_flight_bytes = \"512KiB\"\nbatch_bytes = \"256KiB\"\n"
                                   "shutdown_timeout = \"0s\"",
                          .database = many});
  wait_until([&] { return leased() >= 26; }, "it is full");
  // 26 make half a MiB, and each of the two claims may go one entry beyond.
  EXPECT_TRUE(never_more_than(28)) << leased();
  EXPECT_EQ(by_bytes.stop(), 0);
}

// What was delivered and not yet written counted for nothing: while the database took no outcome, a
// worker went on claiming and delivering, and kept all of it in memory.
TEST_F(RunClaims, WhatIsDeliveredAndNotWrittenCountsToo) {
  sql_.exec(
      "INSERT INTO entries (stream, type, payload) SELECT 'orders', 't', '{}' FROM "
      "generate_series(1, 3000)");
  PgClient blocker = database_.connect();
  blocker.exec("BEGIN; LOCK TABLE outbox.receipts IN ACCESS EXCLUSIVE MODE");
  WorkerProcess worker(
      {.dsn = database_.dsn(),
       .streams = "[streams.orders]\nemitter = \"out\"\n[emitters.out]\nkind = \"noop\"\n",
       .drain = "max_in_flight = 100\nbatch_entries = 40"});
  const auto leased = [&] { return sql_.number("SELECT coalesce(sum(remaining), 0) FROM leases"); };
  wait_until([&] { return leased() >= 80; }, "it is full");
  EXPECT_FALSE(holds_within([&] { return leased() > 100; }, milliseconds{700})) << leased();
  blocker.exec("ROLLBACK");
  wait_until_empty("orders", std::chrono::seconds{30});
  EXPECT_EQ(worker.stop(), 0);
}

// Each claim that found it busy said that it was not paused.
TEST_F(RunClaims, APausedStreamStaysPausedWhileClaimsFindItBusy) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  const auto paused = [&] { return worker.metric("outfall_paused{stream=\"orders\"}") == 1; };
  const auto busy = [&] {
    return worker.metric("outfall_claims_total{result=\"busy\",stream=\"orders\"}");
  };
  enqueue("orders", "key");
  wait_until_empty("orders");
  sql_.exec("SELECT pause_stream('orders', 'ana', 'a deployment')");
  enqueue("orders", "key");
  wait_until(paused, "it is paused");
  PgClient other = database_.connect();
  other.exec("BEGIN; SELECT FROM outbox.streams WHERE name = 'orders' FOR UPDATE");
  const double before = busy();
  wait_until([&] { return busy() > before + 3; }, "it finds the stream busy");
  EXPECT_TRUE(paused());
  other.exec("ROLLBACK");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunClaims, TwoHundredIdleStreamsCostAboutOneStatementAPoll) {
  std::string streams;
  for (int i = 1; i <= 200; ++i) {
    streams += "[streams.s" + std::to_string(i) + "]\nemitter = \"out\"\n";
  }
  WorkerProcess worker(
      {.dsn = database_.dsn(), .streams = streams + "[emitters.out]\nkind = \"noop\"\n"});
  for (const std::string stream : {"s1", "s200"}) enqueue(stream, "k");
  wait_until([&] { return delivered() == 2; }, "the first and the last are served");
  // From outside of the database, so that the questions are not counted.
  PgClient admin = shared_postgres().connect();
  const auto transactions = [&] {
    return admin.number(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1",
        {database_.name()});
  };
  // 12 polls by the default of 250 ms, and what sampling and housekeeping add; a statement for each
  // stream would be 2,400. The pauses take a moment to grow to their full length.
  constexpr std::int64_t kMost = 60;
  std::int64_t used = 0;
  wait_until(
      [&] {
        const std::int64_t before = transactions();
        const auto end = steady_clock::now() + milliseconds{3000};
        wait_until([&] { return steady_clock::now() > end; }, "three seconds of nothing to do");
        used = transactions() - before;
        return used > 0 && used <= kMost;
      },
      "idle streams ask for little", std::chrono::seconds{30});
  RecordProperty("transactions_in_3s", static_cast<int>(used));
  EXPECT_EQ(worker.stop(), 0);
}

}  // namespace
}  // namespace outfall::test
