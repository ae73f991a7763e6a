// `outfall status`: the backlog, who serves it, and what to do next.

#include <csignal>

#include <fmt/format.h>

#include "tests/integration/operate_fixture.h"
#include "tests/support/http_recorder.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class CliStatus : public OperateTest {
 protected:
  static boost::json::object only(const boost::json::object& status, const char* list) {
    EXPECT_EQ(status.at(list).as_array().size(), 1U) << boost::json::serialize(status);
    return status.at(list).at(0).as_object();
  }
};

TEST_F(CliStatus, CountsTheBacklogAndNamesWhatNobodyServes) {
  enqueue("orders");
  enqueue("orders");
  enqueue("audit");
  const boost::json::object status = done({"status"});
  EXPECT_EQ(status.at("schema"), "outbox");
  const boost::json::object orders = only(status, "streams");
  EXPECT_EQ(orders.at("stream"), "orders");
  EXPECT_EQ(orders.at("pending"), 2);
  EXPECT_EQ(orders.at("served"), false);
  const boost::json::object audit = only(status, "unbound");
  EXPECT_EQ(audit.at("stream"), "audit");
  EXPECT_EQ(audit.at("entries"), 1);
  EXPECT_EQ(audit.at("served"), false);

  EXPECT_THAT(outfall({"status"}).output,
              AllOf(HasSubstr("orders  no worker        2"), HasSubstr("audit   nobody serves it"),
                    HasSubstr("next: no worker serves orders: start `outfall run`"),
                    HasSubstr("next: nobody serves audit: add [streams.audit]")));
}

TEST_F(CliStatus, ARunningWorkerIsSeenFromAnyConfiguration) {
  enqueue("audit");
  folder_.write("audit.toml",
                "[admin]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"" + database_.dsn() +
                    "\"\n[streams.audit]\nemitter = \"slow\"\n[emitters.slow]\nkind = "
                    "\"noop\"\nlatency = \"1h\"\n[drain]\nshutdown_timeout = \"0s\"\n");
  const auto worker = run_worker();
  const auto other = run_worker("audit.toml");
  wait_until(
      [&] {
        const boost::json::object status = done({"status"});
        return only(status, "streams").at("served") == true &&
               only(status, "unbound").at("served") == true;
      },
      "both workers show");
  EXPECT_THAT(outfall({"status"}).output,
              AllOf(HasSubstr("orders  running"), HasSubstr("served with another configuration"),
                    HasSubstr("entries in delivery"), Not(HasSubstr("next:"))));
  worker->kill();
  wait_until([&] { return only(done({"status"}), "streams").at("served") == false; },
             "a dead worker serves nothing");
}

// A breaker is its worker's own: the one at admin.listen is asked, or those that are named.
TEST_F(CliStatus, WhichDestinationDoesNotAnswerIsAskedOfTheWorker) {
  const std::string streams = fmt::format(
      "[streams.orders]\nemitter = \"hooks\"\n[emitters.hooks]\nkind = \"webhook\"\nurl = "
      "\"http://127.0.0.1:{}/in\"\n",
      free_port());
  configure(streams);
  const auto worker = run_worker();
  const std::string address = admin_url(*worker).substr(std::string("http://").size());
  folder_.write("here.toml", "[admin]\nlisten = \"" + address + "\"\n[database]\nurl = \"" +
                                 database_.dsn() + "\"\n" + streams);
  const auto status = [&] { return done({"status", "--config", "here.toml"}); };
  EXPECT_EQ(status().at("breakers").as_array().size(), 0U);
  EXPECT_EQ(only(status(), "asked_workers").at("answers"), true);
  EXPECT_THAT(outfall({"status", "--config", "here.toml"}).output, Not(HasSubstr("breaker")))
      << "all are closed";

  enqueue("orders");
  wait_until([&] { return !status().at("breakers").as_array().empty(); }, "the breaker opens");
  const boost::json::object breaker = only(status(), "breakers");
  EXPECT_EQ(breaker.at("stream"), "orders");
  EXPECT_EQ(text_of(breaker, "address"), address);
  EXPECT_THAT(text_of(breaker, "error"), HasSubstr("webhook.refused"));
  const auto table = testing::ContainsRegex(
      "\n\nBREAKER +LANE +STATE +AWAY +WORKER AT +ERROR *\n"
      "orders +[^ ]+ +(open|half_open) +[0-9]+m?s +[^ ]+ +webhook.refused");
  EXPECT_THAT(outfall({"status", "--config", "here.toml"}).output, table);
  EXPECT_THAT(outfall({"status", "--worker", address}).output, table);
}

TEST_F(CliStatus, ItSaysWhereItCannotKnowOfBreakers) {
  EXPECT_EQ(done({"status"}).at("asked_workers").as_array().size(), 0U) << "port 0 is nobody's";
  EXPECT_THAT(outfall({"status"}).output,
              HasSubstr("\nbreakers: not known, since admin.listen names no worker to ask"));
  const std::string nobody = "127.0.0.1:" + std::to_string(free_port());
  const boost::json::object status = done({"status", "--worker", nobody});
  EXPECT_EQ(only(status, "asked_workers").at("answers"), false);
  EXPECT_NE(text_of(only(status, "asked_workers"), "problem"), "");
  EXPECT_THAT(outfall({"status", "--worker", nobody}).output,
              HasSubstr("\nbreakers: no worker answers at " + nobody + " ("));
  EXPECT_THAT(text_of(refused(64, {"status", "--worker", "elsewhere"}), "message"),
              HasSubstr("has no port"));
  EXPECT_EQ(run({OUTFALL_BINARY, "status", "--worker", "elsewhere"},
                {.environment = {{"OUTFALL_DATABASE__URL", "postgresql://shop@127.0.0.1:1/shop"}}})
                .status.code,
            64)
      << "also where the database is away";
}

TEST_F(CliStatus, AnotherProgramAtTheAddressOfAWorkerIsSaidToBeNone) {
  HttpRecorder other;
  other.answer_next({.status = 200,
                     .headers = {{"Server", "outfall"}, {"Content-Type", "application/json"}},
                     .body = R"({"streams":[1]})",
                     .close_after = true});
  const std::string address = fmt::format("127.0.0.1:{}", other.port());
  EXPECT_EQ(only(done({"status", "--worker", address}), "asked_workers").at("answers"), false);
}

TEST_F(CliStatus, PausesAndDeadLettersLeadToTheirCommands) {
  enqueue("orders");
  dead_letter_all("orders", "http.422");
  done({"streams", "pause", "orders", "--reason", "the warehouse moves", "--actor", "anna"});
  EXPECT_THAT(outfall({"status"}).output,
              AllOf(HasSubstr("paused by anna"), HasSubstr("(the warehouse moves)"),
                    HasSubstr("`outfall streams resume orders --reason ...`"),
                    HasSubstr("`outfall dead-letters list --stream orders` shows its 1 dead "
                              "letter")));
}

TEST_F(CliStatus, WithoutStreamsInTheConfigurationItShowsTheRegisteredOnes) {
  Worker(database_.dsn()).session().register_streams(std::vector<std::string>{"orders", "mails"});
  configure("");
  EXPECT_EQ(done({"status"}).at("streams").as_array().size(), 2U);
}

TEST_F(CliStatus, WhatItPrintsToBePastedNamesTheConfigurationThatWasNamed) {
  const EntryId dead = enqueue("orders");
  dead_letter_all("orders", "http.422");
  std::filesystem::rename(folder_ / "outfall.toml", folder_ / "our shop.toml");
  const auto shop = [&](std::vector<std::string> command) {
    command.insert(command.end(), {"--config", "our shop.toml"});
    return outfall(std::move(command));
  };
  EXPECT_THAT(shop({"status"}).output,
              HasSubstr("next: `outfall dead-letters list --stream orders --config 'our "
                        "shop.toml'` shows its 1 dead letter\n"));
  EXPECT_THAT(shop({"doctor"}).output, HasSubstr("start `outfall run --config 'our shop.toml'`"));
  EXPECT_THAT(shop({"dead-letters", "replay", "--id", std::to_string(dead), "--dry-run"}).output,
              HasSubstr(" --reason ... --config 'our shop.toml'` does it"));
  EXPECT_THAT(shop({"entry", "show", "--id", "4711"}).error_output, Not(HasSubstr("--config")));
  sql_.exec("DROP SCHEMA outbox CASCADE");
  EXPECT_THAT(shop({"status"}).error_output,
              HasSubstr("run `outfall migrate --config 'our shop.toml'`"));
  EXPECT_THAT(shop({"status", "--frobnicate"}).error_output,
              HasSubstr("see `outfall status --help`"));
}

// Its number would go to the next connection, and the log to the database.
TEST_F(CliStatus, AClosedDescriptorIsNotTakenForAnother) {
  enqueue("orders");
  configure("[streams.orders]\nemitter = \"out\"\n[emitters.out]\nkind = \"stdout\"\n");
  const auto shell = [&](const std::string& line) {
    return run({"bash", "-c", std::string(OUTFALL_BINARY) + line},
               {.working_folder = folder_.path()});
  };
  EXPECT_THAT(shell(" check-config --connect >&-").error_output,
              HasSubstr("emitters.out: standard output is closed"));
  EXPECT_CODE(shell(" status >&-"), 70);
  EXPECT_CODE(shell(" status 2>&-"), 0);
}

TEST_F(CliStatus, ArgumentsThatNothingCanBeMadeOfAreMistakesOfTheCommandLine) {
  enqueue("orders");
  Worker(database_.dsn()).session().register_streams(std::vector<std::string>{"orders"});
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"dead-letters", "list", "--since", "0000-01-01"},
           {"dead-letters", "list", "--until", "9999-12-31T23:59:59-01:00"},
           {"entry", "show", "--id", "9223372036854775807"},
           {"dead-letters", "import", ".", "--reason", "x"},
           {"streams", "pause", "orders", "--reason", "\xff\xfe"},
           {"status", "--config", ""}}) {
    EXPECT_NE(text_of(refused(64, arguments), "message"), "") << arguments.back();
  }
  refused(69, {"destinations", "list", "--stream", ""});
}

// All that only looks is fine with a standby; all that changes something says why it is not.
TEST_F(CliStatus, AStandbyCanBeLookedAt) {
  const std::string waiting = envelope_of(enqueue("orders"));
  enqueue("audit");
  const EntryId dead = enqueue("mails");
  dead_letter_all("mails", "http.422");
  TempPostgres standby(database_.server(), "second", database_.server().port());
  const std::string dsn = standby.dsn(database_.name());
  const std::string id = std::to_string(dead);
  wait_until([&] { return PgClient(dsn).value("SELECT count(*) FROM outbox.dead_letters") == "1"; },
             "the standby has it all");
  configure_url(dsn, one_stream());
  const std::vector<std::vector<std::string>> looks = {
      {"status"},
      {"entry", "show", waiting},
      {"dead-letters", "list"},
      {"dead-letters", "show", "--id", id},
      {"dead-letters", "export", "--id", id},
      {"dead-letters", "replay", "--id", id, "--dry-run"},
      {"dead-letters", "jobs", "list"},
      {"streams", "list"},
      {"destinations", "list"}};
  for (const auto& command : looks) {
    const Finished look = outfall(command);
    EXPECT_CODE(look, 0);
    EXPECT_THAT(look.error_output, HasSubstr("outfall: note: the server is a standby"));
  }
  EXPECT_THAT(outfall({"top", "--once"}).output, HasSubstr(", as a standby sees it\n"));
  const Finished status = outfall({"status", "--json"});
  EXPECT_THAT(status.error_output, testing::StartsWith("{\"note\":\"the server is a standby"));
  const boost::json::object document = boost::json::parse(status.output).as_object();
  EXPECT_EQ(document.at("standby"), true);
  EXPECT_TRUE(only(document, "streams").at("served").is_null());
  EXPECT_THAT(outfall({"status"}).output,
              AllOf(HasSubstr("it cannot be seen here whether anybody serves audit"),
                    Not(HasSubstr("nobody serves"))));

  const boost::json::object error =
      refused(69, {"dead-letters", "replay", "--id", id, "--reason", "r"});
  EXPECT_THAT(text_of(error, "message"),
              HasSubstr("takes no changes, it is a standby or read-only"));
  EXPECT_THAT(text_of(error, "hint"), HasSubstr("database.url must lead to the primary"));
}

TEST_F(CliStatus, AReadOnlyDatabaseCanBeLookedAt) {
  const std::string waiting = envelope_of(enqueue("orders"));
  sql_.exec("ALTER DATABASE " + database_.name() + " SET default_transaction_read_only = on");
  EXPECT_EQ(only(done({"status"}), "streams").at("pending"), 1);
  EXPECT_EQ(done({"entry", "show", waiting}).at("found"), true);
  EXPECT_THAT(text_of(refused(69, {"streams", "pause", "orders", "--reason", "r"}), "message"),
              HasSubstr("takes no changes"));
}

}  // namespace
}  // namespace outfall::test
