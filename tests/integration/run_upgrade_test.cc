// Goal: what docs/operating/upgrading.md says of two versions on one schema holds. Method: the
// binary of this release, and that of a next one with one more migration, against a real server; a
// migration that has to wait, and one that is killed. RunOrder has an upgrade and its rollback
// under load.

#include <algorithm>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/integration/worker_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class RunUpgrade : public WorkerTest {
 protected:
  RunUpgrade() : before_(version()), next_(name_of_next(before_ + 1)) {
    folder_.write("outfall.toml", "[database]\nurl = \"" + database_.dsn() +
                                      "\"\n[streams.orders]\nemitter = \"log\"\n"
                                      "[emitters.log]\nkind = \"stdout\"\n");
  }

  static std::string name_of_next(std::int64_t version) {
    const std::string number = std::to_string(version);
    return std::string(4 - number.size(), '0') + number + "_next";
  }

  [[nodiscard]] std::int64_t version() {
    return sql_.number("SELECT max(version) FROM schema_version");
  }
  [[nodiscard]] bool next_column_is_there() {
    return sql_.number(
               "SELECT count(*) FROM pg_attribute WHERE attrelid = 'entries'::regclass "
               "AND attname = 'tomorrow'") == 1;
  }

  [[nodiscard]] std::vector<std::string> of(const std::string& program,
                                            const std::string& command) const {
    std::vector<std::string> words{program};
    std::istringstream more(command);
    for (std::string word; more >> word;) words.push_back(word);
    return words;
  }
  [[nodiscard]] Finished old(const std::string& command) const {
    return run(of(OUTFALL_BINARY, command), {.working_folder = folder_.path()});
  }
  [[nodiscard]] Finished next(const std::string& command) const {
    return run(of(OUTFALL_NEXT_BINARY, command), {.working_folder = folder_.path()});
  }
  [[nodiscard]] std::unique_ptr<ChildProcess> start_next(const std::string& command) const {
    return std::make_unique<ChildProcess>(of(OUTFALL_NEXT_BINARY, command),
                                          ChildOptions{.working_folder = folder_.path()});
  }

  // Until a session waits for a lock that is described by a condition on pg_locks.
  void wait_for_a_waiter(const std::string& condition) {
    wait_until(
        [&] {
          return sql_.number(
                     "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid "
                     "FROM pg_database WHERE datname = current_database()) AND " +
                     condition) > 0;
        },
        "a session waits for a lock: " + condition);
  }

  TempFolder folder_;
  const std::int64_t before_;
  const std::string next_;
};

#define EXPECT_ENDED(finished, expected) \
  EXPECT_EQ((finished).status.code, expected) << (finished).output << (finished).error_output

TEST_F(RunUpgrade, TheNextVersionTellsWhatItWouldApplyAndItsCommandsRefuseTheSchemaOfBefore) {
  const std::string after = std::to_string(before_ + 1);
  const Finished plan = next("migrate --dry-run");
  EXPECT_ENDED(plan, 0);
  EXPECT_EQ(plan.output, "would apply " + next_ + "\nschema \"outbox\" would be at version " +
                             after + "\nnext: `outfall migrate` does it\n");
  EXPECT_EQ(version(), before_);
  for (const char* const command :
       {"status", "streams list", "destinations list", "dead-letters list", "entry show --id 1"}) {
    const Finished refused = next(command);
    EXPECT_ENDED(refused, 78) << command;
    EXPECT_EQ(refused.error_output, "outfall: schema \"outbox\" is at version " +
                                        std::to_string(before_) + " and this outfall needs " +
                                        after + "\n  hint: run `outfall migrate`\n")
        << command;
  }
  EXPECT_ENDED(old("status"), 0);

  const Finished migrated = next("migrate");
  EXPECT_ENDED(migrated, 0);
  EXPECT_EQ(migrated.output,
            "applied " + next_ + "\nschema \"outbox\" is at version " + after + "\n");
  EXPECT_ENDED(next("status"), 0);
}

TEST_F(RunUpgrade, AnOlderVersionOperatesANewerSchemaAndSaysThatItIsNewer) {
  ASSERT_EQ(next("migrate").status.code, 0);
  sql_.exec("SELECT register_streams('{orders}')");
  const std::string newer = next_ + " is applied there, and this outfall brings only " +
                            std::to_string(before_) + " migrations";
  const std::string rows = "SELECT string_agg(s::text, ' ' ORDER BY version) FROM schema_version s";
  const std::string recorded = sql_.value(rows);
  for (const char* const command : {"migrate", "migrate --dry-run"}) {
    const Finished refused = old(command);
    EXPECT_ENDED(refused, 78);
    EXPECT_THAT(refused.error_output, AllOf(HasSubstr("nothing was changed"), HasSubstr(newer),
                                            HasSubstr("after a rollback nothing has to be")));
  }
  EXPECT_EQ(sql_.value(rows), recorded);
  EXPECT_TRUE(next_column_is_there());

  const Finished status = old("status");
  EXPECT_ENDED(status, 0);
  EXPECT_THAT(status.output, HasSubstr("version " + std::to_string(before_ + 1)));
  for (const char* const command :
       {"streams pause orders --reason test", "streams resume orders --reason test",
        "dead-letters list", "streams list"}) {
    EXPECT_ENDED(old(command), 0) << command;
  }
  const Finished connected = old("check-config --connect");
  EXPECT_ENDED(connected, 0);
  EXPECT_THAT(connected.output, HasSubstr(newer));
}

// The shared server has findings of its own: of the schema alone.
TEST_F(RunUpgrade, OnlyTheDoctorOfTheOlderVersionWarnsOfANewerSchema) {
  const auto of_schema = [](const Finished& doctor) {
    const boost::json::value diagnosis = boost::json::parse(doctor.output);
    boost::json::array found;
    for (const auto& finding : diagnosis.at("findings").as_array()) {
      if (finding.at("check") == "schema") found.push_back(finding);
    }
    return found;
  };
  EXPECT_THAT(of_schema(old("doctor --json")), testing::IsEmpty());
  ASSERT_EQ(next("migrate").status.code, 0);
  const boost::json::array warned = of_schema(old("doctor --json"));
  ASSERT_EQ(warned.size(), 1U);
  EXPECT_EQ(warned[0].at("severity"), "warning");
  EXPECT_THAT(of_schema(next("doctor --json")), testing::IsEmpty());
}

TEST_F(RunUpgrade, EachWorkerTellsOfTheSchemaThatItFoundWhenItConnected) {
  const std::string drain = "sampler_interval = \"1s\"";
  WorkerProcess old_one({.dsn = database_.dsn(), .streams = to_file(), .drain = drain});
  const auto tells = [](WorkerProcess& worker, std::int64_t version) {
    wait_until(
        [&] { return worker.metric("outfall_schema_version") == static_cast<double>(version); },
        "the worker tells of version " + std::to_string(version));
  };
  tells(old_one, before_);
  ASSERT_EQ(next("migrate").status.code, 0);
  WorkerProcess new_one({.dsn = database_.dsn(),
                         .streams = to_file(),
                         .drain = drain,
                         .program = OUTFALL_NEXT_BINARY});
  tells(new_one, before_ + 1);
  EXPECT_EQ(old_one.metric("outfall_schema_version"), static_cast<double>(before_));
  sql_.exec(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
      "WHERE datname = current_database() AND pid <> pg_backend_pid()");
  tells(old_one, before_ + 1);
  EXPECT_EQ(old_one.stop(), 0);
  EXPECT_EQ(new_one.stop(), 0);
}

TEST_F(RunUpgrade, AMigrationThatWaitsTooLongGivesUpAndThoseBehindItGoOn) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  enqueue("orders", "before");
  wait_until_empty("orders");
  PgClient open = database_.connect();
  open.exec("BEGIN; INSERT INTO outbox.entries (stream, type) VALUES ('orders', 'open')");
  const auto migration = start_next("migrate --lock-timeout 4s");
  wait_for_a_waiter("mode = 'AccessExclusiveLock' AND relation = 'entries'::regclass");
  PgClient producer = database_.connect();
  producer.start("INSERT INTO outbox.entries (stream, type) VALUES ('orders', 'behind')");
  wait_for_a_waiter("pid = " + std::to_string(producer.backend_pid()));
  wait_for_a_waiter(
      "pid IN (SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'outfall%' "
      "AND query LIKE '%due_streams%')");
  EXPECT_TRUE(producer.busy());

  EXPECT_EQ(migration->wait(), (ExitStatus{.code = 75, .signal = {}}));
  EXPECT_EQ(migration->error_output(),
            "outfall: migration " + next_ +
                ": canceling statement due to lock timeout (SQLSTATE 55P03)\n  hint: a long "
                "transaction uses the tables of the outbox: end it and try again, or wait longer "
                "with --lock-timeout\n");
  producer.finish();
  EXPECT_EQ(version(), before_);
  EXPECT_FALSE(next_column_is_there());
  open.exec("COMMIT");
  wait_until_empty("orders");
  EXPECT_EQ(worker.events("events").size(), 3U) << "nothing was lost, and nothing came twice";
  EXPECT_EQ(next("migrate").status.code, 0);
  EXPECT_EQ(worker.stop(), 0);
}

// Killed when it has changed `entries` and waits for `dead_letters`.
TEST_F(RunUpgrade, AMigrationThatIsKilledHasChangedNothingAndIsRunAgain) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  PgClient open = database_.connect();
  open.exec("BEGIN; LOCK TABLE outbox.dead_letters IN ROW EXCLUSIVE MODE");
  const auto killed = start_next("migrate");
  wait_for_a_waiter("relation = 'dead_letters'::regclass");
  killed->kill();
  EXPECT_FALSE(next_column_is_there());
  const auto again = start_next("migrate");
  wait_for_a_waiter("locktype = 'advisory'");
  open.exec("COMMIT");
  EXPECT_EQ(again->wait(), (ExitStatus{.code = 0, .signal = {}})) << again->error_output();
  EXPECT_THAT(again->output(), HasSubstr("applied " + next_ + "\n"));
  EXPECT_EQ(version(), before_ + 1);
  EXPECT_TRUE(next_column_is_there());
  EXPECT_EQ(next("migrate").output,
            "schema \"outbox\" is up to date at version " + std::to_string(before_ + 1) + "\n");
  enqueue("orders", "k");
  wait_until_empty("orders");
  EXPECT_EQ(worker.stop(), 0);
}

// A worker whose only entry is sent and not answered until the test opens the gate.
class RunUpgradeInFlight : public RunUpgrade {
 protected:
  RunUpgradeInFlight() {
    folder_.write("deliver.py",
                  "import json, sys\n"
                  "for line in sys.stdin:\n"
                  "    with open('sent', 'a') as sent: sent.write(line)\n"
                  "    with open('gate'): pass\n"
                  "    answer = {'id': json.loads(line)['id'], 'outcome': 'delivered'}\n"
                  "    print(json.dumps(answer), flush=True)\n");
    if (::mkfifo(gate().c_str(), 0600) != 0) throw std::runtime_error("mkfifo failed");
  }
  [[nodiscard]] WorkerProcess::Options to_program() const {
    return {.dsn = database_.dsn(),
            .streams =
                "[streams.orders]\nemitter = \"out\"\n[emitters.out]\nkind = \"exec\"\n"
                "command = [\"python3\", \"deliver.py\"]\nworking_directory = \"" +
                folder_.path().string() + "\"\n",
            .drain = "shutdown_timeout = \"1s\""};
  }
  [[nodiscard]] std::string gate() const { return (folder_ / "gate").string(); }
  // The program waits at the gate: as soon as there is a reader, it opens.
  void open_gate() {
    wait_until(
        [&] {
          const int end = ::open(gate().c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
          if (end >= 0) ::close(end);
          return end >= 0;
        },
        "the program waits for the gate");
    std::filesystem::remove(gate());
    folder_.write("gate", "");
  }
  [[nodiscard]] std::int64_t sent() const {
    if (!std::filesystem::exists(folder_ / "sent")) return 0;
    const std::string text = read_file(folder_ / "sent");
    return std::count(text.begin(), text.end(), '\n');
  }

  // As a migration does that raises min_worker, and as it is for workers of after.
  void take_away() {
    sql_.exec(
        "BEGIN; ALTER FUNCTION claim RENAME TO claim_of_tomorrow;"
        "ALTER FUNCTION settle RENAME TO settle_of_tomorrow;"
        "ALTER FUNCTION settle_delivered RENAME TO settle_delivered_of_tomorrow;"
        "INSERT INTO schema_version (version, name, min_worker) VALUES (999, '0999_future', 999);"
        "COMMIT");
  }
  void give_back() {
    sql_.exec(
        "BEGIN; ALTER FUNCTION claim_of_tomorrow RENAME TO claim;"
        "ALTER FUNCTION settle_of_tomorrow RENAME TO settle;"
        "ALTER FUNCTION settle_delivered_of_tomorrow RENAME TO settle_delivered;"
        "DELETE FROM schema_version WHERE version = 999; COMMIT");
  }
  void send_one(WorkerProcess& worker) {
    enqueue("orders", "k");
    wait_until([&] { return sent() == 1; }, "the entry is sent");
    take_away();
    open_gate();
    worker.process().wait_for_output("bears workers of protocol 999");
    wait_until([&] { return !worker.ready(); }, "it is not ready");
    EXPECT_TRUE(worker.alive());
    EXPECT_EQ(live("orders"), 1);
  }
};

TEST_F(RunUpgradeInFlight, WhatAWorkerCannotSettleItKeepsUntilItCan) {
  WorkerProcess worker(to_program());
  send_one(worker);
  give_back();
  wait_until_empty("orders");
  EXPECT_EQ(sent(), 1) << "the outcome that it kept was written";
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunUpgradeInFlight, WhatAWorkerCannotSettleIsSentAgainByANewerOneWhenItHasEnded) {
  WorkerProcess worker(to_program());
  send_one(worker);
  EXPECT_EQ(worker.stop(), 0);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM leases"), 1);
  const std::string lease_end = sql_.value("SELECT expires_at FROM leases");
  give_back();
  WorkerProcess newer(to_program());
  wait_until_empty("orders");
  EXPECT_EQ(sent(), 2);
  EXPECT_EQ(sql_.value("SELECT clock_timestamp() < $1::timestamptz", {lease_end}), "t")
      << "it waited for the end of the lease";
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  EXPECT_EQ(newer.stop(), 0);
}

// A server that only this test upgrades.
class RunPgUpgrade : public WorkerTest {
 protected:
  static TempPostgres& own_server() {
    static TempPostgres server;
    return server;
  }
  RunPgUpgrade() : WorkerTest(own_server()) {}

  // Another cluster takes the place of the server's data, with all that was in it. To the same
  // version: what pg_upgrade does with a database is the same.
  static void upgrade() {
    const std::filesystem::path folder = own_server().folder();
    const ChildOptions options{.working_folder = folder, .user = "postgres"};
    const auto by_postgres = [&](std::vector<std::string> command) {
      command.front() = postgres_program(command.front());
      const Finished done = run(std::move(command), options, std::chrono::minutes(2));
      ASSERT_EQ(done.status.code, 0) << done.output << done.error_output;
    };
    const std::string programs = postgres_program("postgres").parent_path();
    const std::string port = std::to_string(own_server().port());
    own_server().stop();
    by_postgres({"initdb", "-D", "after", "-U", "postgres", "-A", "trust", "-E", "UTF8",
                 "--locale=C.UTF-8", "--no-sync", "--no-instructions"});
    by_postgres({"pg_upgrade", "-b", programs, "-B", programs, "-d", "data", "-D", "after", "-p",
                 port, "-P", port, "-U", "postgres"});
    std::filesystem::rename(folder / "data", folder / "before");
    std::filesystem::rename(folder / "after", folder / "data");
    std::ofstream(folder / "data/postgresql.conf", std::ios::app)
        << "include 'outfall_test.conf'\n";
    own_server().start();
  }
};

TEST_F(RunPgUpgrade, EverythingIsKeptAndAWorkerThatWaitedGoesOn) {
  enqueue("orders", "bad", "{}", "poison");
  for (int n = 0; n < 10; ++n) enqueue("orders", "bad");
  enqueue_many("orders", 2000, 40);
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = "[streams.orders]\nemitter = \"out\"\non_dead_letter = "
                                   "\"hold-key\"\n[emitters.out]\nkind = \"noop\"\n"
                                   "latency = \"20ms\"\nfail_types = { poison = \"failed\" }\n",
                        .drain = "batch_entries = 20\nmax_in_flight = 40"});
  wait_until(
      [&] {
        return delivered() > 100 &&
               sql_.number("SELECT count(*) FROM entries WHERE status = 'held'") == 10;
      },
      "some are delivered, and some are held");
  upgrade();
  if (HasFatalFailure()) return;
  sql_ = database_.connect();
  sql_.exec("SET search_path = outbox");
  EXPECT_GT(live("orders"), 10) << "it was upgraded too late to show anything";
  wait_until([&] { return live("orders") == 10; }, "all that is not held is delivered");
  EXPECT_EQ(sql_.number("SELECT count(DISTINCT envelope_id) FROM delivered"), 2000);
  EXPECT_EQ(dead_letters("noop.failed"), 1);
  EXPECT_EQ(worker.stop(), 0);
}

}  // namespace
}  // namespace outfall::test
