// Goal: `outfall doctor` finds what is wrong with a database, a role or a sink, and what it says to
// change mends it. Method: each finding is provoked on a real server whose database is healthy
// otherwise; where the change is SQL, it is run as it stands.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/integration/worker_fixture.h"
#include "tests/support/http_recorder.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::SizeIs;
using testing::StartsWith;

// As in production: the other tests' servers do without fsync, which doctor would not bear.
TempPostgres& sound_server() {
  static TempPostgres server({.fsync = true});
  static const bool roles_made = [] {
    (void)migrated_database(server);
    PgClient sql = server.connect();
    sql.exec(
        "CREATE ROLE a_worker LOGIN IN ROLE outbox_worker, pg_read_all_stats;"
        "CREATE ROLE a_stranger LOGIN IN ROLE pg_read_all_stats");
    return true;
  }();
  (void)roles_made;
  return server;
}

struct Found {
  std::string check, severity, about, what, change;
};

void PrintTo(const Found& found, std::ostream* out) {
  *out << found.severity << " " << found.check << " about " << found.about << ": " << found.what
       << " -> " << found.change;
}

struct Diagnosis {
  int code = -1;
  std::vector<Found> findings;
  std::vector<std::string> checked, not_checked;

  [[nodiscard]] std::vector<std::string> checks() const {
    std::vector<std::string> names;
    for (const Found& one : findings) names.push_back(one.severity + " " + one.check);
    return names;
  }
  [[nodiscard]] const Found& only(const std::string& check) const {
    if (findings.size() != 1 || findings[0].check != check) {
      throw std::runtime_error("not only " + check + ": " + testing::PrintToString(findings));
    }
    return findings[0];
  }
};

class CliDoctor : public WorkerTest {
 protected:
  CliDoctor() : WorkerTest(sound_server()) { configure("a_worker"); }

  void configure(const std::string& user, const std::string& more_of_database = {},
                 const std::string& streams = to_file()) {
    configure_dsn(sound_server().dsn(database_.name(), user), more_of_database, streams);
  }
  void configure_dsn(const std::string& dsn, const std::string& more_of_database = {},
                     const std::string& streams = to_file()) {
    folder_.write(
        "outfall.toml",
        "[admin]\nlisten = \"127.0.0.1:0\"\n[database]\nconnect_timeout = \"2s\"\nurl = \"" + dsn +
            "\"\n" + more_of_database + "\n" + streams);
  }

  [[nodiscard]] Finished outfall(const std::vector<std::string>& arguments,
                                 std::vector<std::string> command = {}) const {
    command.insert(command.end(), {OUTFALL_BINARY, "doctor"});
    command.insert(command.end(), arguments.begin(), arguments.end());
    return run(std::move(command), {.working_folder = folder_.path()});
  }

  // `before`: a program that starts it.
  [[nodiscard]] Diagnosis diagnose(std::vector<std::string> arguments = {},
                                   std::vector<std::string> before = {}) const {
    arguments.emplace_back("--json");
    const Finished finished = outfall(arguments, std::move(before));
    EXPECT_EQ(finished.error_output, "");
    const boost::json::value document = boost::json::parse(finished.output);
    Diagnosis diagnosis;
    diagnosis.code = finished.status.code.value_or(-1);
    const auto text = [](const boost::json::value& object, const char* field) {
      return std::string(object.at(field).as_string());
    };
    for (const boost::json::value& one : document.at("findings").as_array()) {
      // Whether a worker runs is a matter of a few tests only.
      if (one.at("check") == "no_worker" && !workers_matter_) continue;
      diagnosis.findings.push_back({text(one, "check"), text(one, "severity"), text(one, "about"),
                                    text(one, "what"), text(one, "change")});
    }
    for (const boost::json::value& name : document.at("checked").as_array()) {
      diagnosis.checked.emplace_back(name.as_string());
    }
    for (const boost::json::value& area : document.at("not_checked").as_array()) {
      diagnosis.not_checked.push_back(text(area, "area"));
    }
    return diagnosis;
  }

  // Runs a change that is SQL, as a person would, and expects that nothing is left to find.
  void change(const Found& found) {
    sql_.exec(found.change);
    const Diagnosis after = diagnose();
    EXPECT_EQ(after.code, 0);
    EXPECT_THAT(after.findings, IsEmpty());
  }

  // Sets a setting of the server and takes it back at the end of the test.
  void set_server(const std::string& name, const std::string& value) {
    sound_server().set(name, value);
    sound_server().reload();
    changed_settings_.emplace_back(name);
    wait_until([&] { return sql_.value("SELECT current_setting($1)", {name}) == value; },
               "the server has taken " + name);
  }
  void TearDown() override {
    for (const std::string& name : changed_settings_) sound_server().set(name, "");
    sound_server().reload();
    for (const std::string& name : changed_settings_) {
      wait_until(
          [&] {
            return sql_.value("SELECT setting = boot_val FROM pg_settings WHERE name = $1",
                              {name}) == "t";
          },
          "the server has forgotten " + name);
    }
  }

  TempFolder folder_;
  bool workers_matter_ = false;
  std::vector<std::string> changed_settings_;
};

TEST_F(CliDoctor, FindsNothingWhereAllIsWell) {
  workers_matter_ = true;
  WorkerProcess worker(
      {.dsn = sound_server().dsn(database_.name(), "a_worker"), .streams = to_file()});
  enqueue("orders", "ana");
  wait_until_empty("orders");
  wait_until([&] { return diagnose().checks().empty(); }, "the worker is seen");
  const Diagnosis well = diagnose();
  EXPECT_EQ(well.code, 0);
  EXPECT_THAT(well.findings, IsEmpty());
  EXPECT_THAT(well.not_checked, IsEmpty());
  EXPECT_THAT(well.checked,
              ElementsAre("server", "clock", "slots", "transactions", "locks", "tables",
                          "privileges", "schema", "streams", "emitters.out"));
  EXPECT_THAT(outfall({}).output, HasSubstr("\n0 critical, 0 warnings, 0 notes\n"));
  EXPECT_EQ(worker.stop(), 0);
  const Diagnosis stopped = diagnose();
  EXPECT_EQ(stopped.code, 0);
  EXPECT_EQ(stopped.only("no_worker").about, "orders");
  EXPECT_EQ(stopped.findings[0].severity, "note");
  enqueue("orders", "ana");
  const Diagnosis waits = diagnose();
  EXPECT_EQ(waits.code, 69);
  EXPECT_EQ(waits.only("no_worker").severity, "critical");
  EXPECT_THAT(waits.findings[0].what, HasSubstr("its oldest entry has been waiting for"));
}

TEST_F(CliDoctor, AWorkerThatHangs) {
  // So seldom that it is still seen for minutes: its session ends after three times as long.
  WorkerProcess worker({.dsn = sound_server().dsn(database_.name(), "a_worker"),
                        .streams = to_file(),
                        .drain = "sampler_interval = \"1m\"\n"});
  enqueue("orders", "ana");
  wait_until_empty("orders");
  workers_matter_ = true;
  wait_until([&] { return diagnose().checks().empty(); }, "the worker is seen");
  worker.freeze();
  enqueue("orders", "ana");
  EXPECT_THAT(diagnose().findings, IsEmpty()) << "a moment is nothing";
  sql_.exec("UPDATE entries SET created_at = created_at - interval '61 s'");
  const Diagnosis hangs = diagnose();
  EXPECT_EQ(hangs.code, 75);
  EXPECT_EQ(hangs.only("waiting").about, "orders");
  EXPECT_THAT(hangs.findings[0].what, HasSubstr("although a worker serves it"));
  folder_.write("outfall.toml", worker.configuration());
  const Diagnosis asked = diagnose();
  EXPECT_THAT(asked.not_checked, ElementsAre("worker"));
  worker.thaw();
  wait_until_empty("orders");
  EXPECT_THAT(diagnose().checked, Contains("worker"));
}

TEST_F(CliDoctor, ADestinationThatRefusesUs) {
  HttpRecorder refuses;
  refuses.answer_always({.status = 401});
  WorkerProcess worker(
      {.dsn = sound_server().dsn(database_.name(), "a_worker"),
       .streams = fmt::format("[streams.orders]\nemitter = \"hooks\"\n"
                              "[emitters.hooks]\nkind = \"webhook\"\nurl = \"{}\"\n",
                              refuses.url("/in"))});
  folder_.write("outfall.toml", worker.configuration());
  enqueue("orders", "ana");
  wait_until([&] { return !diagnose().findings.empty(); }, "its breaker opens");
  const Diagnosis refused = diagnose();
  EXPECT_EQ(refused.code, 69);
  EXPECT_EQ(refused.only("breaker").about, "orders");
  EXPECT_THAT(refused.findings[0].what,
              AllOf(HasSubstr("everything of the stream orders"), HasSubstr("HTTP 401")));
}

TEST_F(CliDoctor, WhatIsHeldAndDeadLetters) {
  sql_.exec("SELECT register_streams(ARRAY['orders'])");
  enqueue("orders", "ana");
  sql_.exec(
      "SELECT dead_letter_entry(p_entry_id => (SELECT id FROM entries), p_hold_key => true, "
      "p_actor => 'ana', p_reason => 'x')");
  const Diagnosis one = diagnose();
  EXPECT_EQ(one.code, 0);
  EXPECT_THAT(one.only("dead_letters").what, HasSubstr("the stream orders has 1 dead letter that"));
  EXPECT_THAT(one.findings[0].change, HasSubstr("outfall dead-letters list --stream orders"));

  enqueue("orders", "ana");
  sql_.exec(
      "INSERT INTO holds (stream, scope, value, due_at, reason) VALUES ('orders', 'key', 'ana', "
      "now(), 'x');"
      "UPDATE entries SET status = 'held', hold_id = (SELECT hold_id FROM holds), "
      "created_at = now() - interval '29 minutes'");
  EXPECT_THAT(diagnose().checks(), ElementsAre("note dead_letters"));
  sql_.exec("UPDATE entries SET created_at = now() - interval '31 minutes'");
  const Diagnosis held = diagnose();
  EXPECT_EQ(held.code, 75);
  EXPECT_THAT(held.checks(), ElementsAre("warning held", "note dead_letters"));
  EXPECT_THAT(held.findings[0].what, HasSubstr("1 entry of the stream orders is held"));
}

TEST_F(CliDoctor, WhatFailsAgainAndAgain) {
  sql_.exec("SELECT register_streams(ARRAY['orders'])");
  enqueue("orders", "ana");
  sql_.exec(
      "UPDATE entries SET status = 'retryable_failure', attempts = 9, available_at = now() + "
      "interval '5 minutes', created_at = now() - interval '4 minutes'");
  EXPECT_THAT(diagnose().findings, IsEmpty()) << "it may still pass";
  sql_.exec("UPDATE entries SET created_at = now() - interval '6 minutes'");
  const Diagnosis failing = diagnose();
  EXPECT_EQ(failing.code, 75);
  EXPECT_THAT(failing.only("retried").what,
              HasSubstr("1 entry of the stream orders failed and is tried again"));
}

// It found nothing while a program answered `defer` to everything.
TEST_F(CliDoctor, WhatIsDeferredAgainAndAgain) {
  sql_.exec("SELECT register_streams(ARRAY['orders'])");
  sql_.exec(
      "INSERT INTO entries (stream, type, status, available_at, deferred_since, created_at) SELECT "
      "'orders', 'a', 'deferred', now() + interval '30 seconds', now(), now() - interval '4 "
      "minutes' FROM generate_series(1, 50)");
  EXPECT_THAT(diagnose().findings, IsEmpty()) << "it may still pass";
  sql_.exec("UPDATE entries SET created_at = now() - interval '6 minutes'");
  const Diagnosis starving = diagnose();
  EXPECT_EQ(starving.code, 75);
  EXPECT_THAT(starving.only("deferred").what,
              HasSubstr("50 entries of the stream orders are deferred, the oldest is 6m"));
}

TEST_F(CliDoctor, ATransactionThatIsLeftOpen) {
  PgClient forgetful = database_.connect();
  forgetful.exec("SET application_name = 'nightly report'; BEGIN; SELECT txid_current()");
  EXPECT_THAT(diagnose().findings, IsEmpty()) << "it is young";
  wait_until([&] { return diagnose({"--long-transaction", "500ms"}).code == 75; }, "it grows old");
  const Diagnosis old = diagnose({"--long-transaction", "500ms"});
  const Found& found = old.only("long_transaction");
  EXPECT_EQ(found.severity, "warning");
  EXPECT_EQ(found.about, std::to_string(forgetful.backend_pid()));
  EXPECT_THAT(found.what, AllOf(HasSubstr("role postgres (nightly report, idle in transaction)"),
                                HasSubstr("vacuum removes nothing")));
  EXPECT_THAT(found.change, HasSubstr("pg_terminate_backend(" + found.about + ")"));
  forgetful.exec("COMMIT");
  EXPECT_EQ(diagnose({"--long-transaction", "500ms"}).code, 0);
}

// It said that nothing was wrong, while nothing was delivered.
TEST_F(CliDoctor, ALockOnATableOfTheOutbox) {
  configure("a_worker", "statement_timeout = \"1s\"");
  PgClient migration = database_.connect();
  migration.exec("SET application_name = 'migration 7'; BEGIN; LOCK TABLE outbox.entries");
  EXPECT_THAT(diagnose().findings, IsEmpty()) << "nobody waits for it";
  const WorkerProcess worker({.dsn = sound_server().dsn(database_.name(), "a_worker"),
                              .streams = to_file(),
                              .drain = "sampler_interval = \"1s\"\n"});
  wait_until([&] { return diagnose().checks() == std::vector<std::string>{"critical lock"}; },
             "the worker waits for it");
  const Diagnosis locked = diagnose();
  const Found& found = locked.only("lock");
  EXPECT_EQ(locked.code, 69);
  EXPECT_EQ(found.severity, "critical");
  EXPECT_EQ(found.about, std::to_string(migration.backend_pid()));
  EXPECT_THAT(found.what, AllOf(HasSubstr("role postgres (migration 7, idle in transaction)"),
                                HasSubstr("has locked entries of the outbox in a transaction of"),
                                HasSubstr("for it: what needs it is not done")));
  EXPECT_THAT(found.change, HasSubstr("pg_terminate_backend(" + found.about + ")"));
  migration.exec("COMMIT");
  wait_until([&] { return diagnose().code == 0; }, "the worker goes on");
}

// Nobody waits for it, since claims pass over a stream whose row is locked: nothing of the stream
// was delivered, and nothing said who kept it.
TEST_F(CliDoctor, AnOpenTransactionThatHasChangedAStreamsRow) {
  sql_.exec("SELECT register_streams(ARRAY['orders'])");
  PgClient forgetful = database_.connect();
  forgetful.exec(
      "SET application_name = 'psql'; BEGIN;"
      "SELECT outbox.pause_stream('orders', p_actor => 'ana', p_reason => 'a look')");
  EXPECT_THAT(diagnose().findings, IsEmpty()) << "it is young";
  wait_until([&] { return diagnose().checks() == std::vector<std::string>{"critical lock"}; },
             "it grows old");
  const Diagnosis locked = diagnose();
  const Found& found = locked.only("lock");
  EXPECT_EQ(locked.code, 69);
  EXPECT_EQ(found.about, std::to_string(forgetful.backend_pid()));
  EXPECT_THAT(found.what,
              AllOf(HasSubstr("role postgres (psql, idle in transaction)"),
                    HasSubstr("has changed or locked rows of streams in a transaction of"),
                    HasSubstr("nothing is claimed from these streams until it ends")));
  EXPECT_THAT(found.change, HasSubstr("pg_terminate_backend(" + found.about + ")"));
  forgetful.exec("ROLLBACK");
  EXPECT_EQ(diagnose().code, 0);
}

TEST_F(CliDoctor, APreparedTransactionThatHasChangedAStreamsRow) {
  sql_.exec("SELECT register_streams(ARRAY['orders'])");
  database_.connect().exec(
      "BEGIN; SELECT outbox.pause_stream('orders', p_actor => 'ana', p_reason => 'a look');"
      "PREPARE TRANSACTION 'half a pause'");
  const Diagnosis locked = diagnose();
  EXPECT_THAT(locked.checks(), ElementsAre("critical lock"));
  EXPECT_THAT(locked.only("lock").what,
              AllOf(HasSubstr("a prepared transaction has changed or locked rows of streams"),
                    HasSubstr("nothing is claimed from these streams until it ends")));
  database_.connect().exec("ROLLBACK PREPARED 'half a pause'");
  EXPECT_EQ(diagnose().code, 0);
}

TEST_F(CliDoctor, APreparedTransactionThatNobodyFinishes) {
  PgClient manager = database_.connect();
  manager.exec("BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'the owner''s'");
  wait_until([&] { return diagnose({"--long-transaction", "500ms"}).code == 75; }, "it grows old");
  const Diagnosis old = diagnose({"--long-transaction", "500ms"});
  const Found& found = old.only("prepared_transaction");
  EXPECT_EQ(found.about, "the owner's");
  EXPECT_THAT(found.change, HasSubstr("ROLLBACK PREPARED 'the owner''s';"));
  manager.exec("ROLLBACK PREPARED 'the owner''s'");
  EXPECT_EQ(diagnose({"--long-transaction", "500ms"}).code, 0);
}

TEST_F(CliDoctor, AReplicationSlotThatNobodyReads) {
  sql_.exec("SELECT pg_create_physical_replication_slot('unused')");
  EXPECT_THAT(diagnose().findings, IsEmpty()) << "it keeps nothing yet";
  sql_.exec("SELECT pg_create_physical_replication_slot('left_behind', true)");
  const Diagnosis kept = diagnose();
  EXPECT_EQ(kept.code, 75);
  const Found& found = kept.only("replication_slot");
  EXPECT_EQ(found.about, "left_behind");
  EXPECT_THAT(found.change, HasSubstr("SELECT pg_drop_replication_slot('left_behind');"));

  {
    ChildProcess reader({postgres_program("pg_receivewal"), "-D", folder_.path(), "-S",
                         "left_behind", "-d", sound_server().dsn()});
    wait_until([&] { return diagnose().checks().empty(); }, "somebody reads it");
  }
  wait_until([&] { return diagnose().code == 75; }, "nobody reads it any more");

  set_server("max_slot_wal_keep_size", "1MB");
  for (int i = 0; i < 3; ++i) {
    sql_.exec(
        "CREATE TABLE IF NOT EXISTS public.filler (i int); INSERT INTO public.filler VALUES (1)");
    sql_.exec("SELECT pg_switch_wal()");
  }
  sql_.exec("CHECKPOINT");
  EXPECT_THAT(diagnose().only("replication_slot").what,
              HasSubstr("has lost what its reader needs"));
  sql_.exec("SELECT pg_drop_replication_slot('left_behind'), pg_drop_replication_slot('unused')");
  EXPECT_EQ(diagnose().code, 0);
}

TEST_F(CliDoctor, AutovacuumThatATableGoesWithout) {
  sql_.exec("ALTER TABLE outbox.entries SET (autovacuum_enabled = off)");
  const Diagnosis off = diagnose();
  EXPECT_EQ(off.code, 69);
  EXPECT_EQ(off.only("table_autovacuum").about, "entries");
  change(off.findings[0]);
  sql_.exec("ALTER TABLE outbox.dead_letters SET (toast.autovacuum_enabled = false)");
  const Diagnosis toast = diagnose();
  EXPECT_EQ(toast.only("table_autovacuum").about, "dead_letters");
  change(toast.findings[0]);
}

TEST_F(CliDoctor, SettingsOfTheServer) {
  set_server("autovacuum", "off");
  const Diagnosis off = diagnose();
  EXPECT_EQ(off.code, 69);
  EXPECT_EQ(off.only("autovacuum").severity, "critical");
  set_server("autovacuum", "on");
  set_server("track_counts", "off");
  EXPECT_EQ(diagnose().only("autovacuum").severity, "critical") << "it needs them";
  set_server("track_counts", "on");
  set_server("full_page_writes", "off");
  EXPECT_EQ(diagnose().code, 75);
  set_server("fsync", "off");
  EXPECT_THAT(diagnose().checks(), ElementsAre("critical fsync", "warning full_page_writes"))
      << "the worst comes first";
}

TEST_F(CliDoctor, RightsThatTheRoleLacks) {
  sql_.exec(
      "REVOKE EXECUTE ON FUNCTION outbox.claim FROM outbox_worker;"
      "REVOKE DELETE ON outbox.leases FROM outbox_worker;"
      "REVOKE USAGE ON SEQUENCE outbox.lease_numbers FROM outbox_worker");
  const Diagnosis some = diagnose();
  EXPECT_EQ(some.code, 69);
  EXPECT_THAT(some.only("privileges").what,
              AllOf(HasSubstr("role a_worker"), HasSubstr("2 more rights")));
  change(some.findings[0]);

  sql_.exec("REVOKE USAGE ON SCHEMA outbox FROM outbox_worker");
  const Diagnosis closed = diagnose();
  EXPECT_THAT(closed.only("privileges").what, HasSubstr("USAGE ON SCHEMA"));
  change(closed.findings[0]);

  configure("a_stranger");
  const Diagnosis stranger = diagnose();
  EXPECT_EQ(stranger.only("privileges").about, "a_stranger");
  EXPECT_THAT(stranger.not_checked, Contains("streams"));
  EXPECT_EQ(stranger.findings[0].change, "GRANT outbox_worker TO \"a_stranger\";");
  change(stranger.findings[0]);
  sql_.exec("REVOKE outbox_worker FROM a_stranger");

  // Without the roles of the migrations, by its own rights.
  sql_.exec("REVOKE pg_read_all_stats FROM a_worker");
  configure("a_worker");
  const Diagnosis blind = diagnose();
  EXPECT_EQ(blind.code, 0);
  EXPECT_EQ(blind.only("visibility").severity, "note");
  sql_.exec("GRANT pg_read_all_stats TO a_worker");
}

// It told them to make a worker of it, and ended with 69.
TEST_F(CliDoctor, TheLoginOfAnOperatorIsNoWorkersAndLacksNothing) {
  for (const std::string group : {"outbox_operator", "outbox_reader"}) {
    sql_.exec("GRANT " + group + " TO a_stranger");
    configure("a_stranger");
    const Diagnosis found = diagnose();
    sql_.exec("REVOKE " + group + " FROM a_stranger");
    EXPECT_EQ(found.code, 0);
    EXPECT_EQ(found.only("privileges").severity, "note");
    EXPECT_THAT(found.findings[0].what,
                AllOf(HasSubstr(group), HasSubstr("whether the worker may do all that it does")));
    EXPECT_THAT(found.findings[0].change, HasSubstr("with the worker's login"));
    EXPECT_THAT(found.checked, Contains("streams"));
  }
}

// Every right that doctor asks for is one that the migrations give to workers, and one by one their
// absence is found.
TEST_F(CliDoctor, EveryFunctionThatAWorkerCallsIsLookedAt) {
  sql_.exec("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox FROM outbox_worker");
  const Diagnosis none = diagnose();
  const std::string& grants = none.only("privileges").change;
  for (const char* name :
       {"claim", "settle", "renew", "release", "due_streams", "register_streams", "hold_presence",
        "sample_streams", "maintain_receipts", "serve_streams"}) {
    EXPECT_THAT(grants, HasSubstr(std::string("GRANT EXECUTE ON FUNCTION outbox.") + name + " TO"));
  }
  sql_.exec(grants);
  EXPECT_THAT(diagnose().checks(), IsEmpty());
  WorkerProcess worker(
      {.dsn = sound_server().dsn(database_.name(), "a_worker"), .streams = to_file()});
  enqueue("orders", "ana");
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 1);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(CliDoctor, AStreamThatNobodyServes) {
  enqueue("order", "ana");
  enqueue("order", "ana");
  const Diagnosis unbound = diagnose();
  EXPECT_EQ(unbound.code, 69);
  const Found& found = unbound.only("unbound_stream");
  EXPECT_EQ(found.about, "order");
  EXPECT_THAT(found.what, HasSubstr("has 2 entries"));
  EXPECT_THAT(found.change, HasSubstr("add [streams.order]"));
  WorkerProcess other({.dsn = database_.dsn(),
                       .streams = "[streams.order]\nemitter = \"slow\"\n[emitters.slow]\nkind = "
                                  "\"noop\"\nlatency = \"1h\"\n",
                       .drain = "shutdown_timeout = \"0s\""});
  wait_until([&] { return diagnose().checks().empty(); },
             "a worker with another configuration counts");
  other.stop();
}

TEST_F(CliDoctor, PausesAreNoted) {
  sql_.exec("SELECT register_streams(ARRAY['orders'])");
  sql_.exec("SELECT pause_stream('orders', 'ana', 'the warehouse moves')");
  const Diagnosis paused = diagnose();
  EXPECT_EQ(paused.code, 0);
  EXPECT_THAT(paused.only("paused").what, HasSubstr("by ana: the warehouse moves"));
  EXPECT_THAT(paused.findings[0].change, HasSubstr("outfall streams resume orders"));
}

TEST_F(CliDoctor, PausedDestinationsAreNoted) {
  sql_.exec("SELECT register_streams(ARRAY['orders'])");
  sql_.exec("SELECT pause_destination('orders', 'b.example', 'worker w1', 'webhook.status_410')");
  const Diagnosis one = diagnose();
  EXPECT_EQ(one.code, 0);
  EXPECT_THAT(one.only("paused_destination").what,
              AllOf(HasSubstr("1 destination of the stream orders is paused, since 20"),
                    HasSubstr("by worker w1: webhook.status_410")));
  sql_.exec("SELECT pause_destination('orders', 'a.example', 'ana', 'it moves')");
  const Diagnosis two = diagnose();
  EXPECT_THAT(two.only("paused_destination").what,
              AllOf(HasSubstr("2 destinations of the stream orders are paused, the first since 20"),
                    HasSubstr("by worker w1")));
  EXPECT_THAT(two.findings[0].change, HasSubstr("outfall destinations list --stream orders"));
}

TEST_F(CliDoctor, ASinkThatIsDown) {
  const int nobody = free_port();
  configure(
      "a_worker", {},
      to_file() + fmt::format("[streams.mails]\nemitter = \"hooks\"\n[emitters.hooks]\nkind = "
                              "\"webhook\"\nurl = \"http://127.0.0.1:{}/in\"\n",
                              nobody));
  const Diagnosis down = diagnose();
  EXPECT_EQ(down.code, 69);
  EXPECT_EQ(down.only("sink").about, "emitters.hooks");
  EXPECT_THAT(down.findings[0].what, HasSubstr(std::to_string(nobody)));
  EXPECT_THAT(down.checked, IsSupersetOf({"streams", "emitters.hooks", "emitters.out"}));
  EXPECT_THAT(outfall({}).output, AllOf(StartsWith("critical  sink: emitters.hooks: "),
                                        HasSubstr("\n          change: start what it delivers to"),
                                        HasSubstr("\n1 critical, 0 warnings, ")));
}

// It said that and nothing else, and ended with 78.
TEST_F(CliDoctor, AConfigurationThatNoWorkerCouldStartWith) {
  configure("a_worker", {},
            to_file() +
                "[streams.mails]\nemitter = \"hooks\"\n[emitters.hooks]\nkind = "
                "\"webhook\"\nurl_file = \"credentials/hooks\"\n");
  const Diagnosis found = diagnose();
  EXPECT_EQ(found.code, 75);
  EXPECT_EQ(found.only("configuration").about, "emitters.hooks.url_file");
  EXPECT_EQ(found.findings[0].severity, "warning");
  EXPECT_THAT(found.findings[0].what,
              AllOf(StartsWith("outfall.toml:"), HasSubstr("credentials/hooks\" cannot be read"),
                    HasSubstr("a worker would not start with this")));
  EXPECT_THAT(found.checked, IsSupersetOf({"streams", "emitters.out"}));
  EXPECT_THAT(found.not_checked, testing::Contains("emitters.hooks"));
}

TEST_F(CliDoctor, ADatabaseThatIsAway) {
  configure_dsn(fmt::format("postgresql://a_worker@127.0.0.1:{}/d", free_port()));
  const Diagnosis away = diagnose();
  EXPECT_EQ(away.code, 69);
  EXPECT_EQ(away.only("database").about, "database.url");
  EXPECT_THAT(away.not_checked, SizeIs(9));
  EXPECT_THAT(away.checked, ElementsAre("emitters.out"));
}

TEST_F(CliDoctor, ADatabaseThatCannotBeWritten) {
  sql_.exec("ALTER DATABASE " + database_.name() + " SET default_transaction_read_only = on");
  const Diagnosis read_only = diagnose();
  EXPECT_EQ(read_only.code, 69);
  EXPECT_EQ(read_only.only("read_only").about, "default_transaction_read_only");
  EXPECT_THAT(read_only.not_checked, IsEmpty()) << "the rest can be looked at";
}

TEST_F(CliDoctor, AStandbyAndAServerWithoutFreeSessions) {
  TempPostgres server({.settings = {{"max_connections", "10"}}, .fsync = true});
  server.create_database("shop", migrated_database(server));
  configure_dsn(server.dsn("shop"));
  EXPECT_THAT(diagnose().checks(), IsEmpty());
  {
    std::vector<PgClient> sessions;
    for (int i = 0; i < 6; ++i) sessions.push_back(server.connect("shop"));
    wait_until([&] { return diagnose().code == 75; }, "they are counted");
    EXPECT_THAT(diagnose().only("sessions").what, HasSubstr("of the 7 sessions"));
  }
  server.stop();
  (void)run({"touch", (server.folder() / "data/standby.signal").string()}, {.user = "postgres"});
  server.start();
  const Diagnosis standby = diagnose();
  EXPECT_EQ(standby.code, 69);
  EXPECT_THAT(standby.only("read_only").what, HasSubstr("the server is a standby"));
  EXPECT_THAT(standby.not_checked, IsEmpty());
}

TEST_F(CliDoctor, TheSchemaAndItsMigrations) {
  sql_.exec("UPDATE outbox.schema_version SET checksum = NULL WHERE version = 2");
  const Diagnosis adopted = diagnose();
  EXPECT_EQ(adopted.code, 0);
  EXPECT_THAT(adopted.only("schema").what, HasSubstr("0002_claim was applied by psql"));
  sql_.exec("UPDATE outbox.schema_version SET checksum = repeat('0', 64) WHERE version = 2");
  const Diagnosis other = diagnose();
  EXPECT_EQ(other.code, 75);
  EXPECT_THAT(other.only("schema").what, HasSubstr("0002_claim is another one there"));
  sql_.exec("DELETE FROM outbox.schema_version WHERE version > 8");
  const Diagnosis older = diagnose();
  EXPECT_EQ(older.code, 69);
  EXPECT_THAT(older.only("schema").what, HasSubstr("is at version 8"));
  EXPECT_EQ(older.findings[0].change, "run `outfall migrate`");
  EXPECT_THAT(older.not_checked, ElementsAre("streams"));

  const TestDatabase empty("template1", sound_server());
  configure_dsn(sound_server().dsn(empty.name(), "a_worker"));
  const Diagnosis none = diagnose();
  EXPECT_THAT(none.only("schema").what, HasSubstr("has no schema \"outbox\""));
  EXPECT_THAT(none.findings[0].change, HasSubstr("only where there never was one"));
}

TEST_F(CliDoctor, ADatabaseOfAnotherEncoding) {
  PgClient admin = sound_server().connect();
  admin.exec("DROP DATABASE IF EXISTS latin1");
  admin.exec("CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
  configure_dsn(sound_server().dsn("latin1", "a_worker"));
  const Diagnosis other = diagnose();
  EXPECT_EQ(other.code, 69);
  EXPECT_THAT(other.checks(), ElementsAre("critical encoding", "critical schema"));
  EXPECT_EQ(other.findings.front().about, "latin1");
  EXPECT_THAT(other.findings.front().what, HasSubstr("has the encoding LATIN1"));
}

TEST_F(CliDoctor, AClockThatIsOff) {
  // The address sanitizer wants to be the first library, which libfaketime is.
  for (const std::string offset : {"+95", "-95"}) {
    const Diagnosis off = diagnose({}, {"env", "ASAN_OPTIONS=verify_asan_link_order=0", "faketime",
                                        "--exclude-monotonic", "-f", offset});
    EXPECT_EQ(off.code, 75);
    EXPECT_THAT(off.only("clock").what,
                AllOf(HasSubstr("1m 3"), HasSubstr(offset[0] == '+' ? "s ahead of" : "s behind")));
  }
}

// Behind a pooler the role carries what outfall sets in its sessions elsewhere.
TEST_F(CliDoctor, WhatARoleMustCarryBehindAPooler) {
  configure("a_worker", "pooler = \"transaction\"");
  sql_.exec("ALTER ROLE a_worker SET default_transaction_isolation = 'serializable'");
  const Diagnosis bare = diagnose();
  EXPECT_EQ(bare.code, 69);
  EXPECT_THAT(bare.checks(), ElementsAre("critical isolation", "warning statement_timeout"));
  for (const Found& found : bare.findings) sql_.exec(found.change);
  EXPECT_THAT(diagnose().checks(), IsEmpty());
  sql_.exec("ALTER ROLE a_worker RESET ALL");
}

TEST_F(CliDoctor, TakesNoNonsense) {
  const Finished finished = outfall({"--long-transaction", "soon"});
  EXPECT_EQ(finished.status.code, 64);
  EXPECT_THAT(finished.error_output, HasSubstr("--long-transaction: \"soon\""));
}

}  // namespace
}  // namespace outfall::test
