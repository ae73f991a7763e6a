// Goal: a worker survives its database, its own death and its emitter's failures without losing an
// entry. Method: real processes against a real server that the test stops, freezes and restarts.

#include <algorithm>
#include <array>
#include <functional>
#include <set>

#include "tests/integration/worker_fixture.h"
#include "tests/support/temp_pgbouncer.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;

std::string noop(const std::string& settings, const std::string& stream = {}) {
  return "[streams.orders]\nemitter = \"out\"\nretry.initial = \"20ms\"\nretry.max = \"100ms\"\n" +
         stream + "\n[emitters.out]\nkind = \"noop\"\n" + settings + "\n";
}

// A server that only this test breaks.
class RunFaults : public WorkerTest {
 protected:
  static TempPostgres& own_server() {
    static TempPostgres server;
    return server;
  }
  RunFaults() : WorkerTest(own_server()) {}
  void reconnect() {
    sql_ = database_.connect();
    sql_.exec("SET search_path = outbox");
  }
  // Waits, and commits entries of two streams meanwhile, each with a key of its own.
  void wait_under_load(const std::function<bool()>& condition, const std::string& what) {
    wait_until(
        [&] {
          sql_.exec(
              "INSERT INTO entries (stream, type, key) SELECT stream, 't', gen_random_uuid() "
              "FROM unnest('{orders, others}'::text[]) stream, generate_series(1, 50)");
          return condition();
        },
        what, std::chrono::seconds{20});
  }
  // Gives a worker whose deliveries last entries of ten keys, starts the others, kills the worker
  // while all drain, and waits for the first of those entries.
  double seconds_until_its_work_resumes(WorkerProcess& dies, std::array<WorkerProcess, 2>& left);
};

double RunFaults::seconds_until_its_work_resumes(WorkerProcess& dies,
                                                 std::array<WorkerProcess, 2>& left) {
  enqueue_many("orders", 100, 10);
  wait_until([&] { return dies.metric("outfall_in_flight_entries{stream=\"orders\"}") == 100; },
             "it holds all");
  for (WorkerProcess& worker : left) worker.start();
  for (WorkerProcess* worker : {&dies, &left[0], &left[1]}) {
    wait_under_load(
        [&] { return worker->metric("outfall_entries_settled_total{stream=\"others\"}") > 0; },
        "all three drain");
  }
  const auto held = [&] {
    return sql_.number("SELECT count(*) FROM entries WHERE key LIKE 'key-%'");
  };
  EXPECT_EQ(held(), 100);
  const auto killed = std::chrono::steady_clock::now();
  dies.kill();
  wait_under_load([&] { return held() < 100; }, "the work resumes");
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - killed;
  wait_until_empty("orders");
  wait_until_empty("others");
  const auto taken_over = [](WorkerProcess& worker) {
    return worker.metric("outfall_claim_takeovers_total{stream=\"orders\"}");
  };
  EXPECT_GT(taken_over(left[0]) + taken_over(left[1]), 0);
  for (WorkerProcess& worker : left) EXPECT_EQ(worker.stop(), 0);
  return took.count();
}

TEST_F(RunFaults, ADatabaseThatIsNotThereYetIsWaitedFor) {
  enqueue("orders", "before");
  own_server().stop();
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  worker.process().wait_for_output("waiting for the database");
  worker.process().wait_for_output("check database.url and that the server accepts connections");
  EXPECT_TRUE(worker.alive());
  const auto database = worker.status().at("database");
  EXPECT_FALSE(database.at("connected").as_bool());
  EXPECT_THAT(std::string(database.at("hint").as_string()), HasSubstr("database.url"));
  own_server().start();
  reconnect();
  enqueue("orders", "after");
  wait_until_empty("orders");
  EXPECT_EQ(worker.events("events").size(), 2u);
  EXPECT_EQ(worker.stop(), 0);
}

// Twenty seconds are enough for every pause between two attempts to be as long as it gets.
TEST_F(RunFaults, ADatabaseThatCrashesUnderLoadAndIsAwayForTwentySecondsLosesNothing) {
  enqueue_many("orders", 40000, 100);
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  wait_until(
      [&] { return worker.metric("outfall_entries_settled_total{stream=\"orders\"}") > 2000; },
      "it drains");
  own_server().stop(StopMode::immediate);
  worker.process().wait_for_output("waiting for the database");
  const auto away_until = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  wait_until([&] { return std::chrono::steady_clock::now() > away_until; }, "the outage lasts");
  EXPECT_TRUE(worker.alive());
  own_server().start();
  const auto back = std::chrono::steady_clock::now();
  reconnect();
  const std::int64_t waiting = live("orders");
  EXPECT_GT(waiting, 0) << "it went away too late to show anything";
  wait_until([&] { return live("orders") < waiting; }, "delivery goes on");
  // The longest pause, reconnect_max, is 5 s.
  EXPECT_LT(std::chrono::steady_clock::now() - back, std::chrono::seconds{10});
  wait_until_empty("orders");
  std::set<std::string> ids;
  for (const auto& event : worker.events("events")) ids.emplace(event.at("id").as_string());
  EXPECT_EQ(ids.size(), 40000u);
  EXPECT_EQ(sql_.number("SELECT max(attempts) FROM delivered"), 1) << "an outage spends none";
  EXPECT_GE(worker.metric("outfall_database_reconnects_total"), 1);
  EXPECT_GE(worker.metric("outfall_database_errors_total{kind=\"connection_lost\"}"), 1);
  EXPECT_EQ(dead_letters("worker.abandoned"), 0);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  EXPECT_EQ(worker.stop(), 0);
}

// When it is back, all leases have expired, and each worker may take over those of the other. That
// must not look like the death of a worker.
TEST_F(RunFaults, ADatabaseThatIsAwayForLongerThanALeaseCostsNoEntryAnything) {
  enqueue_many("orders", 12'000, 12'000);
  const WorkerProcess::Options options{
      .dsn = database_.dsn(),
      .streams = noop("latency = \"300ms\"", "max_abandoned = 1"),
      .drain = "lease = \"2s\"\nmax_in_flight = 300\nbatch_entries = 100"};
  std::array<WorkerProcess, 2> workers{WorkerProcess(options), WorkerProcess(options)};
  for (WorkerProcess& worker : workers) {
    wait_until(
        [&] { return worker.metric("outfall_entries_settled_total{stream=\"orders\"}") > 0; },
        "both drain");
  }
  // Before it goes away: what they hold of it they may have given up by the time they say so.
  for (WorkerProcess& worker : workers) {
    wait_until([&] { return worker.metric("outfall_in_flight_entries{stream=\"orders\"}") > 0; },
               "both hold entries");
  }
  own_server().stop(StopMode::immediate);
  for (WorkerProcess& worker : workers) {
    worker.process().wait_for_output("waiting for the database");
  }
  const auto back = std::chrono::steady_clock::now() + std::chrono::seconds{5};
  wait_until([&] { return std::chrono::steady_clock::now() > back; }, "the leases have expired");
  EXPECT_TRUE(workers[0].alive());
  EXPECT_TRUE(workers[1].alive());
  own_server().start();
  reconnect();
  std::int64_t abandoned = 0;
  wait_until(
      [&] {
        abandoned += sql_.number("SELECT count(*) FROM entries WHERE abandoned > 0");
        return live("orders") == 0;
      },
      "the stream is drained");
  EXPECT_EQ(abandoned, 0);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  EXPECT_EQ(delivered(), 12'000);
  for (WorkerProcess& worker : workers) EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunFaults, ADatabaseThatComesBackReadOnlyWhileItDrainsIsWaitedFor) {
  enqueue_many("orders", 20000, 100);
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  wait_until(
      [&] { return worker.metric("outfall_entries_settled_total{stream=\"orders\"}") > 2000; },
      "it drains");
  own_server().restart_read_only(true);
  worker.process().wait_for_output("read_only");
  worker.process().wait_for_output("database.url must lead to the primary");
  EXPECT_TRUE(worker.alive());
  reconnect();
  EXPECT_GT(live("orders"), 0) << "it became read-only too late to show anything";
  own_server().restart_read_only(false);
  reconnect();
  wait_until_empty("orders");
  std::set<std::string> ids;
  for (const auto& event : worker.events("events")) ids.emplace(event.at("id").as_string());
  EXPECT_EQ(ids.size(), 20000u);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunFaults, AClaimThatTheServerCannotFinishIsCancelledAndAskedAgain) {
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = to_file(),
                        .database = "claim_timeout = \"200ms\"\nstatement_timeout = \"10m\""});
  enqueue("orders", "before");
  wait_until_empty("orders");
  PgClient blocker(database_.dsn());
  blocker.exec("BEGIN; LOCK TABLE outbox.destinations IN ACCESS EXCLUSIVE MODE");
  enqueue("orders", "behind");
  worker.process().wait_for_output("statement timeout");
  blocker.exec("COMMIT");
  wait_until_empty("orders");
  EXPECT_EQ(worker.stop(), 0);
}

// Others may have taken its lease over meanwhile, and send the same.
TEST_F(RunFaults, AClaimThatIsAnsweredWhenOthersMayThinkTheWorkerDeadIsGivenBackUnsent) {
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = noop(""),
                        .drain = "lease = \"2m\"",
                        .database = "claim_timeout = \"30s\""});
  enqueue("orders", "before");
  wait_until_empty("orders");
  const std::string id(worker.status().at("worker").as_string());
  const std::string present =
      "SELECT coalesce(max(pid), 0) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND "
      "granted AND (classid::bigint << 32) + objid::bigint = ('x' || left(replace('" +
      id + "', '-', ''), 16))::bit(64)::bigint";
  const std::int64_t before = sql_.number(present);
  PgClient blocker(database_.dsn());
  blocker.exec("BEGIN; LOCK TABLE outbox.leases IN SHARE MODE");
  enqueue_many("orders", 10, 10);
  const std::string waits =
      "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'leases'::regclass";
  wait_until([&] { return sql_.number(waits) > 0; }, "a claim waits");
  sql_.exec("SELECT pg_terminate_backend(" + std::to_string(before) + ")");
  wait_until(
      [&] {
        const std::int64_t now = sql_.number(present);
        return now != 0 && now != before && worker.status().at("database").at("present").as_bool();
      },
      "it is present again");
  blocker.exec("COMMIT");
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 11);
  EXPECT_EQ(worker.metric("outfall_entries_claimed_total{stream=\"orders\"}"), 21);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunFaults, AReloadTakesEffectAndARefusedOneChangesNothing) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  const std::string good = worker.configuration();
  worker.reload("[log]\nlevel = \"debug\"\n" + good);
  worker.process().wait_for_output("setting=log.level");
  worker.process().wait_for_output("configuration reloaded");
  worker.reload(good + "\n[worker2]\n");
  worker.process().wait_for_output("worker2");
  wait_until([&] { return worker.metric("outfall_config_last_reload_successful") == 0; },
             "the refusal shows");
  std::string renamed = good;
  renamed.replace(renamed.find("\"worker\""), 8, "\"another\"");
  worker.reload(renamed);
  worker.process().wait_for_output("setting changes with the next start");
  wait_until([&] { return worker.metric("outfall_config_last_reload_successful") == 1; },
             "the success shows");
  enqueue("orders", "k");
  wait_until_empty("orders");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunFaults, AReloadChangesHowTheNextFailureIsRetried) {
  const auto config = [](const std::string& pause, const std::string& attempts) {
    return "[streams.orders]\nemitter = \"out\"\nretry.initial = \"" + pause +
           "\"\nretry.max = \"" + pause + "\"\nretry.max_attempts = " + attempts +
           "\n[emitters.out]\nkind = \"noop\"\nfail = { retryable_failure = \"1\" }\n";
  };
  const std::string before = config("1h", "20");
  WorkerProcess worker({.dsn = database_.dsn(), .streams = before});
  enqueue("orders", "before");
  wait_until([&] { return sql_.number("SELECT max(attempts) FROM entries") == 1; }, "it fails");
  std::string reloaded = worker.configuration();
  reloaded.replace(reloaded.find(before), before.size(), config("20ms", "3"));
  worker.reload(reloaded);
  worker.process().wait_for_output("configuration reloaded");
  enqueue("orders", "after");
  wait_until([&] { return dead_letters("outbox.max_retry_attempts_exceeded") == 1; },
             "the second one is tried three times");
  EXPECT_EQ(sql_.value("SELECT key || ' ' || attempts FROM dead_letters"), "after 3");
  EXPECT_EQ(sql_.value("SELECT key || ' ' || attempts FROM entries"), "before 1");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunFaults, AReadOnlyDatabaseIsWaitedForAndSaidToBe) {
  own_server().restart_read_only(true);
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  worker.process().wait_for_output("read_only");
  worker.process().wait_for_output("database.url must lead to the primary");
  EXPECT_TRUE(worker.alive());
  own_server().restart_read_only(false);
  reconnect();
  enqueue("orders", "k");
  wait_until_empty("orders");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunFaults, AFrozenDatabaseIsGivenUpAndFoundAgain) {
  enqueue_many("orders", 3000, 10);
  WorkerProcess worker(
      {.dsn = database_.dsn(),
       .streams = noop("latency = \"5ms\""),
       .drain = "lease = \"3s\"",
       .database = "statement_timeout = \"1s\"\nclaim_timeout = \"1s\"\nconnect_timeout = \"1s\""});
  wait_until([&] { return worker.metric("outfall_entries_settled_total{stream=\"orders\"}") > 0; },
             "it drains");
  own_server().freeze();
  worker.process().wait_for_output("waiting for the database");
  EXPECT_TRUE(worker.alive());
  own_server().thaw();
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 3000);
  EXPECT_EQ(worker.stop(), 0);
}

// Only the first error was counted, for without a presence nothing else is asked. Of one worker of
// several that had lost its database, nothing told.
TEST_F(RunFaults, AWorkerCutOffFromItsDatabaseCountsEachAttemptToReachIt) {
  WorkerProcess worker(
      {.dsn = database_.dsn(),
       .streams = to_file(),
       .drain = "sampler_interval = \"1m\"",  // its attempts count, too
       .database = "statement_timeout = \"1s\"\nclaim_timeout = \"1s\"\nconnect_timeout = \"1s\""});
  wait_until([&] { return worker.ready(); }, "it has its database");
  own_server().freeze();
  worker.process().wait_for_output("waiting for the database");
  wait_until([&] { return worker.metric("outfall_database_errors_total{kind=\"connect\"}") >= 5; },
             "each attempt is counted");
  own_server().thaw();
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunFaults, ADatabaseWithoutTheSchemaIsWaitedForAndSaysWhatToRun) {
  TestDatabase bare("template1", own_server());
  WorkerProcess worker({.dsn = bare.dsn(), .streams = to_file()});
  worker.process().wait_for_output("outfall migrate");
  EXPECT_TRUE(worker.alive());
  // Whoever reads its log or status has not its command line. It tells the log first.
  const auto hint = [&]() -> std::string {
    const boost::json::value status = worker.status();
    const auto* found = status.at("database").as_object().if_contains("hint");
    return found == nullptr ? "" : std::string(found->as_string());
  };
  wait_until([&] { return !hint().empty(); }, "its status says it, too");
  EXPECT_THAT(hint(), testing::ContainsRegex(
                          "run `outfall migrate --config [^ ]*outfall.toml` only where"));
  const Finished migrated =
      run({OUTFALL_BINARY, "migrate"}, {.environment = {{"OUTFALL_DATABASE__URL", bare.dsn()}}});
  EXPECT_EQ(migrated.status.code, 0) << migrated.error_output;
  PgClient client = bare.connect();
  client.exec("INSERT INTO outbox.entries (stream, type) VALUES ('orders', 't')");
  wait_until([&] { return client.number("SELECT count(*) FROM outbox.entries") == 0; },
             "the entry is delivered");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunFaults, ANewerSchemaThatBearsThisWorkerNoMoreIsWaitedFor) {
  sql_.exec(
      "INSERT INTO schema_version (version, name, min_worker) VALUES (999, '0999_future', 999)");
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  worker.process().wait_for_output("waiting for the database");
  worker.process().wait_for_output("use a newer outfall");
  EXPECT_TRUE(worker.alive());
  enqueue("orders", "k");
  sql_.exec("DELETE FROM schema_version WHERE version = 999");
  wait_until_empty("orders");
  EXPECT_EQ(worker.events("events").size(), 1u);
  EXPECT_EQ(worker.stop(), 0);
}

// As F24 of the torture: what a worker has open is ended, and it finds why when it connects anew.
TEST_F(RunFaults, AWorkerThatWaitsForASchemaCountsEachAttempt) {
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = to_file(),
                        .drain = "sampler_interval = \"1m\""});  // its attempts count, too
  wait_until([&] { return worker.ready(); }, "it is ready");
  const std::string errors = "outfall_database_errors_total{kind=\"schema\"}";
  EXPECT_EQ(worker.metric(errors), 0);
  sql_.exec(
      "INSERT INTO schema_version (version, name, min_worker) VALUES (999, '0999_future', 999)");
  sql_.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE "
      "'outfall%' AND datname = current_database()");
  wait_until([&] { return worker.metric(errors) >= 5; }, "each attempt is counted");
  EXPECT_THAT(worker.log(), HasSubstr("bears workers of protocol 999"));
  sql_.exec("DELETE FROM schema_version WHERE version = 999");
  enqueue("orders", "k");
  wait_until_empty("orders");
  EXPECT_EQ(worker.stop(), 0);
}

// As a migration does that raises min_worker: what older workers call is gone.
TEST_F(RunFaults, ASchemaThatComesToBearARunningWorkerNoMoreStopsIt) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  enqueue("orders", "k");
  wait_until_empty("orders");
  wait_until([&] { return worker.ready(); }, "it is ready");
  sql_.exec(
      "BEGIN; ALTER FUNCTION claim RENAME TO claim_of_tomorrow;"
      "INSERT INTO schema_version (version, name, min_worker) VALUES (999, '0999_future', 999);"
      "COMMIT");
  // A claim that was under way may still take one.
  std::int64_t enqueued = 1;
  wait_until(
      [&] {
        enqueue("orders", "k");
        ++enqueued;
        return worker.log().find("bears workers of protocol 999") != std::string::npos;
      },
      "it says why it waits");
  wait_until([&] { return !worker.ready(); }, "it is not ready");
  EXPECT_TRUE(worker.alive());
  EXPECT_THAT(std::string(worker.status().at("database").at("hint").as_string()),
              HasSubstr("use a newer outfall"));
  EXPECT_GT(live("orders"), 0);
  sql_.exec(
      "BEGIN; ALTER FUNCTION claim_of_tomorrow RENAME TO claim;"
      "DELETE FROM schema_version WHERE version = 999; COMMIT");
  wait_until_empty("orders");
  wait_until([&] { return worker.ready(); }, "it is ready again");
  EXPECT_EQ(delivered(), enqueued);
  EXPECT_EQ(worker.stop(), 0);
}

// A backup under load: what was pending, leased, held and dead comes back, and what the worker
// delivered after the dump comes again. A copy that is paused first delivers nothing.
TEST_F(RunFaults, ADumpWithLeasesHoldsAndDeadLettersIsRestoredAndDrained) {
  enqueue("orders", "bad", "{}", "poison");
  for (int n = 0; n < 10; ++n) enqueue("orders", "bad");
  enqueue_many("orders", 400, 40);
  const std::string fails = "fail_types = { poison = \"failed\" }";
  const std::string hold = "on_dead_letter = \"hold-key\"";
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = noop(fails + "\nlatency = \"200ms\"", hold),
                        .drain = "batch_entries = 20\nmax_in_flight = 40"});
  wait_until(
      [&] {
        return sql_.number("SELECT count(*) FROM leases") > 0 &&
               sql_.number("SELECT count(*) FROM entries WHERE status = 'held'") == 10;
      },
      "entries are leased and held");
  const std::string file = worker.file("outbox.dump");
  const Finished dump = run({postgres_program("pg_dump"), "--format=custom", "--file=" + file,
                             "--dbname=" + database_.dsn()});
  ASSERT_EQ(dump.status.code, 0) << dump.error_output;
  worker.kill();

  const TestDatabase copy("template1", own_server());
  const Finished restored =
      run({postgres_program("pg_restore"), "--exit-on-error", "--dbname=" + copy.dsn(), file});
  ASSERT_EQ(restored.status.code, 0) << restored.error_output;
  PgClient sql = copy.connect();
  sql.exec("SET search_path = outbox");
  const auto live = [&] { return sql.number("SELECT count(*) FROM entries"); };
  const auto receipts = [&] {
    return sql.number("SELECT coalesce(sum(entries), 0) FROM receipts");
  };
  const std::int64_t waiting = live();
  EXPECT_EQ(waiting + receipts(), 410);
  EXPECT_GT(waiting, 10);
  EXPECT_GT(sql.number("SELECT sum(remaining) FROM leases"), 0);
  EXPECT_EQ(sql.number("SELECT count(*) FROM dead_letters WHERE holds_key"), 1);

  sql.exec("SELECT pause_stream(name, 'test', 'a copy must not deliver') FROM streams");
  WorkerProcess of_copy({.dsn = copy.dsn(), .streams = noop(fails, hold)});
  wait_until([&] { return of_copy.metric("outfall_paused{stream=\"orders\"}") == 1; },
             "it is paused");
  EXPECT_EQ(live(), waiting);
  sql.exec("SELECT resume_stream('orders', 'test', 'now it may')");
  wait_until([&] { return live() == 10; }, "all that is free is delivered");
  sql.exec(
      "SELECT replay_dead_letters(p_stream => 'orders', p_actor => 'test', p_reason => 'again');"
      "SELECT enqueue('orders', 'order.placed', '{}')");
  EXPECT_GT(sql.number("SELECT max(id) FROM entries"), 411) << "the sequence goes on";
  // The replayed one is refused again and holds its key again.
  wait_until([&] { return live() == 10 && receipts() == 401; }, "the new entry is delivered");
  sql.exec("SELECT discard_dead_letters(p_stream => 'orders', p_actor => 'test', p_reason => 'x')");
  wait_until([&] { return live() == 0; }, "the held ones are delivered");
  EXPECT_EQ(receipts(), 411);
  EXPECT_EQ(sql.number("SELECT count(*) FROM leases"), 0);
  EXPECT_EQ(of_copy.stop(), 0);
}

// The limit had passed before any of them could be tried, and each got one try and a second.
TEST_F(RunFaults, TheLimitOnAgeCountsFromTheScheduledTimeTheReplayAndTheRetry) {
  sql_.exec(
      "INSERT INTO entries (stream, type, created_at, available_at) VALUES "
      "('orders', 'scheduled', now() - interval '1 hour', now() - interval '1 minute')");
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = noop("fail = { retryable_failure = \"1\" }",
                                        "retry.max_age = \"30m\"\nretry.max_attempts = 5")});
  wait_until_empty("orders");
  EXPECT_EQ(sql_.value("SELECT attempts FROM dead_letters"), "5");
  sql_.exec("SELECT replay_dead_letters(p_stream => 'orders', p_actor => 'ana', p_reason => 'b')");
  wait_until_empty("orders");
  EXPECT_EQ(sql_.value("SELECT attempts FROM dead_letters"), "10");

  // As after one failure, long ago.
  sql_.exec(
      "INSERT INTO entries (stream, type, created_at, available_at, status, attempts) VALUES "
      "('orders', 'failed', now() - interval '1 hour', now() + interval '1 hour', "
      "'retryable_failure', 1)");
  sql_.exec(
      "SELECT retry_entry(p_entry_id => max(id), p_actor => 'ana', p_reason => 'b') FROM entries");
  wait_until_empty("orders");
  EXPECT_EQ(sql_.value("SELECT attempts FROM dead_letters WHERE type = 'failed'"), "5");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunFaults, TenThousandEntriesWhoseEmitterThrowsAreRetriedAndThenDeadLettered) {
  enqueue_many("orders", 10000, 10000);
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = noop("fail = { exception = \"1\" }", "retry.max_attempts = 2")});
  wait_until_empty("orders");
  EXPECT_EQ(dead_letters("outbox.max_retry_attempts_exceeded"), 10000);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters WHERE attempts = 2 AND "
                        "last_error_code = 'emission.exception'"),
            10000);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunFaults, AnEntryThatKillsItsWorkerIsDeadLetteredAndTheRestIsDelivered) {
  enqueue_many("orders", 200, 20);
  enqueue("orders", "key-3", "{}", "kill.worker");
  enqueue_many("orders", 200, 20);
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = noop("crash_type = \"kill.worker\"", "max_abandoned = 3"),
                        .drain = "lease = \"2s\""});
  int deaths = 0;
  wait_until(
      [&] {
        if (!worker.running()) {
          ++deaths;
          worker.start();
        }
        return live("orders") == 0;
      },
      "the stream is drained", std::chrono::seconds{90});
  EXPECT_EQ(dead_letters("worker.abandoned"), 1);
  EXPECT_EQ(sql_.value("SELECT type FROM dead_letters"), "kill.worker");
  EXPECT_EQ(delivered(), 400);
  EXPECT_EQ(deaths, 3);
  EXPECT_EQ(
      worker.metric("outfall_dead_lettered_total{reason=\"worker.abandoned\",stream=\"orders\"}"),
      1);
  EXPECT_THAT(worker.log(), HasSubstr("dead-lettered an entry that workers died with"));
}

TEST_F(RunFaults, TwoWorkersOfOneInstanceNameBothWork) {
  WorkerProcess::Options options{
      .dsn = database_.dsn(), .streams = noop("latency = \"20ms\""), .drain = "batch_entries = 10"};
  WorkerProcess one(options);
  WorkerProcess other(options);
  const auto settled = [](WorkerProcess& worker) {
    return worker.metric("outfall_entries_settled_total{stream=\"orders\"}");
  };
  std::int64_t enqueued = 0;
  wait_until(
      [&] {
        enqueue_many("orders", 200, 200);
        enqueued += 200;
        return settled(one) > 0 && settled(other) > 0;
      },
      "both deliver");
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), enqueued);
  // Each counts what it has settled, none what the other one has.
  wait_until([&] { return settled(one) + settled(other) == static_cast<double>(enqueued); },
             "they share the work");
}

TEST_F(RunFaults, AWorkerWithAClockTenMinutesOffKeepsLeasesAndTimes) {
  for (const std::string offset : {"+10m", "-10m"}) {
    SCOPED_TRACE(offset);
    WorkerProcess worker(
        {.dsn = database_.dsn(),
         .streams = noop("latency = \"300ms\"\nfail = { retryable_failure = \"0.2\" }"),
         .drain = "lease = \"2s\"",
         // The address sanitizer wants to be the first library, which libfaketime is.
         .before = {"env", "ASAN_OPTIONS=verify_asan_link_order=0", "faketime",
                    "--exclude-monotonic", "-f", offset}});
    const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
    EXPECT_NEAR(worker.metric("outfall_heartbeat_timestamp_seconds") - now.count(),
                offset == "+10m" ? 600 : -600, 300)
        << "its clock is not off";
    enqueue_many("orders", 200, 20);
    wait_until_empty("orders");
    EXPECT_EQ(worker.metric("outfall_stale_settles_total{stream=\"orders\"}"), 0);
    EXPECT_EQ(worker.metric("outfall_lease_lost_total{stream=\"orders\"}"), 0);
    worker.kill();
  }
  EXPECT_EQ(delivered(), 400);
  // created_at is kept to the millisecond.
  EXPECT_EQ(sql_.number("SELECT count(*) FROM delivered WHERE delivered_at NOT BETWEEN created_at "
                        "- interval '1 ms' AND clock_timestamp()"),
            0);
}

TEST_F(RunFaults, AFrozenWorkerLosesItsLeaseIsFencedAndSaysSo) {
  enqueue_many("orders", 500, 50);
  WorkerProcess frozen(
      {.dsn = database_.dsn(), .streams = noop("latency = \"3s\""), .drain = "lease = \"2s\""});
  wait_until([&] { return frozen.metric("outfall_in_flight_entries{stream=\"orders\"}") > 0; },
             "it delivers");
  frozen.freeze();
  WorkerProcess taker({.dsn = database_.dsn(), .streams = noop(""), .drain = "lease = \"2s\""});
  wait_until_empty("orders");
  frozen.thaw();
  wait_until([&] { return frozen.metric("outfall_lease_lost_total{stream=\"orders\"}") > 0; },
             "it notices");
  EXPECT_GT(frozen.metric("outfall_duplicates_possible_total{stream=\"orders\"}"), 0);
  EXPECT_EQ(delivered(), 500);
  EXPECT_GT(taker.metric("outfall_claim_takeovers_total{stream=\"orders\"}"), 0);
  // It goes on as a worker.
  EXPECT_EQ(taker.stop(), 0);
  enqueue("orders", "k");
  wait_until_empty("orders");
  EXPECT_EQ(frozen.stop(), 0);
}

// The first worker's next renewal is far off, so that it learns of the takeover by its settle.
TEST_F(RunFaults, AWorkerWhoseLeaseRanOutUnderItsDeliveriesIsFencedAndSaysSo) {
  const std::string drain = "lease = \"60s\"";
  enqueue_many("orders", 500, 50);
  WorkerProcess late({.dsn = database_.dsn(), .streams = noop("latency = \"3s\""), .drain = drain});
  wait_until([&] { return late.metric("outfall_in_flight_entries{stream=\"orders\"}") == 500; },
             "it holds all");
  sql_.exec("UPDATE leases SET expires_at = clock_timestamp() - interval '1 s'");
  WorkerProcess taker({.dsn = database_.dsn(), .streams = noop(""), .drain = drain});
  wait_until_empty("orders");
  EXPECT_GT(taker.metric("outfall_claim_takeovers_total{stream=\"orders\"}"), 0);
  late.process().wait_for_output("taken over before its outcomes were written");
  EXPECT_GT(late.metric("outfall_stale_settles_total{stream=\"orders\"}"), 0);
  EXPECT_EQ(late.metric("outfall_duplicates_possible_total{stream=\"orders\"}"), 500);
  EXPECT_EQ(late.metric("outfall_entries_settled_total{stream=\"orders\"}"), 0);
  EXPECT_EQ(delivered(), 500);
  EXPECT_EQ(taker.stop(), 0);
  EXPECT_EQ(late.stop(), 0);
}

// The lease would keep the entries for 30 s; the server sees the dead session at once, and another
// worker within 1.5 s, also while the two that are left compete for both streams. Of three rounds
// one may be slow, on a machine that is busy with other tests.
TEST_F(RunFaults, OnADirectConnectionTheWorkOfAKilledWorkerResumesWithinThreeSeconds) {
  const auto options = [&](const std::string& latency) {
    return WorkerProcess::Options{
        .dsn = database_.dsn(),
        .streams = noop("latency = \"" + latency + "\"") +
                   "[streams.others]\nemitter = \"quick\"\n[emitters.quick]\nkind = \"noop\"\n",
        .drain = "lease = \"30s\"\nbatch_entries = 10"};
  };
  WorkerProcess dies(options("60s"));
  std::array<WorkerProcess, 2> left{WorkerProcess(options("0ms")), WorkerProcess(options("0ms"))};
  for (WorkerProcess& worker : left) EXPECT_EQ(worker.stop(), 0);
  std::array<double, 3> seconds{};
  for (double& round : seconds) {
    if (&round != seconds.data()) dies.start();
    round = seconds_until_its_work_resumes(dies, left);
  }
  std::ranges::sort(seconds);
  EXPECT_LE(seconds[1], 3) << "the shortest took " << seconds[0] << ", the longest " << seconds[2];
}

// A claim that found the stream busy said of the other workers that there were none. Nobody is dead
// who was not looked for all the time, so beside other workers the dead one's leases were taken
// over seconds later or when they had expired.
TEST_F(RunFaults, AKilledWorkersWorkResumesWhereClaimsOftenFindTheStreamBusy) {
  const std::string drain = "lease = \"60s\"\nmax_in_flight = 100\nbatch_entries = 100";
  WorkerProcess dies(
      {.dsn = database_.dsn(), .streams = noop("latency = \"60s\""), .drain = drain});
  enqueue_many("orders", 100, 10);
  wait_until([&] { return dies.metric("outfall_in_flight_entries{stream=\"orders\"}") == 100; },
             "it holds all");
  WorkerProcess taker({.dsn = database_.dsn(), .streams = noop(""), .drain = drain});
  PgClient other = database_.connect();
  const auto claims = [&](const std::string& result) {
    return taker.metric("outfall_claims_total{result=\"" + result + "\",stream=\"orders\"}");
  };
  dies.kill();
  wait_until(
      [&] {
        enqueue("orders", "another");
        const double found = claims("entries");
        wait_until([&] { return claims("entries") > found; }, "it claims");
        // As the claim of another worker does.
        other.exec("BEGIN; SELECT FROM outbox.streams WHERE name = 'orders' FOR UPDATE");
        enqueue("orders", "another");
        const double busy = claims("busy");
        // For longer than the time between two looks at who is present.
        wait_until([&] { return claims("busy") > busy + 16; }, "it finds the stream busy");
        other.exec("ROLLBACK");
        return taker.metric("outfall_claim_takeovers_total{stream=\"orders\"}") > 0;
      },
      "the dead worker's lease is taken over", std::chrono::seconds{25});
  wait_until_empty("orders");
  EXPECT_EQ(taker.stop(), 0);
}

TEST_F(RunFaults, BehindATransactionPoolerItDeliversAndExpiryAloneDecides) {
  TempPgBouncer pooler(own_server());
  WorkerProcess::Options options{.dsn = pooler.dsn(database_.name()),
                                 .streams = noop("latency = \"4s\""),
                                 .drain = "lease = \"2s\"",
                                 .database = "pooler = \"transaction\""};
  enqueue_many("orders", 100, 10);
  WorkerProcess dies(options);
  wait_until([&] { return sql_.number("SELECT count(*) FROM leases") > 0; }, "it has a lease");
  dies.kill();
  options.streams = noop("");
  WorkerProcess taker(options);
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 100);
  EXPECT_EQ(taker.stop(), 0);
}

TEST_F(RunFaults, ACleanStopReleasesWhatItHoldsAndCountsAgainstNobody) {
  enqueue_many("orders", 300, 30);
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = noop("latency = \"60s\""),
                        .drain = "shutdown_timeout = \"1s\""});
  wait_until([&] { return sql_.number("SELECT count(*) FROM leases") > 0; }, "it has a lease");
  EXPECT_EQ(worker.stop(), 0);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM leases WHERE NOT released"), 0);
  WorkerProcess next({.dsn = database_.dsn(), .streams = noop("")});
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 300);
}

}  // namespace
}  // namespace outfall::test
