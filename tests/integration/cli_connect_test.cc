// check-config --connect against a server that is there, empty, or away, and against a sink that
// does not take anything.

#include <fstream>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "store/postgres/migrator.h"
#include "tests/support/child_process.h"
#include "tests/support/http_recorder.h"
#include "tests/support/pg_client.h"
#include "tests/support/tcp_gate.h"
#include "tests/support/temp_folder.h"
#include "tests/support/temp_postgres.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

class CliConnect : public testing::Test {
 protected:
  void write(const std::string& url, const std::string& path) const {
    folder_.write("outfall.toml", fmt::format("[database]\nurl = \"{}\"\n[streams.orders]\n"
                                              "emitter = \"log\"\n[emitters.log]\n"
                                              "kind = \"stdout\"\npath = \"{}\"\n",
                                              url, path));
  }

  [[nodiscard]] Finished check(std::vector<std::string> more = {}) const {
    std::vector<std::string> command = {OUTFALL_BINARY, "check-config", "--connect"};
    command.insert(command.end(), more.begin(), more.end());
    return run(std::move(command), {.working_folder = folder_.path()});
  }

  // Of whatever listens on that port of the loopback.
  [[nodiscard]] Finished ask_health(int port) const {
    folder_.write("outfall.toml",
                  fmt::format("[database]\nurl = \"postgresql:///shop\"\n[admin]\n"
                              "listen = \"127.0.0.1:{}\"\n[streams.orders]\nemitter = \"log\"\n"
                              "[emitters.log]\nkind = \"stdout\"\n",
                              port));
    return run({OUTFALL_BINARY, "health"}, {.working_folder = folder_.path()});
  }

  TempFolder folder_;
};

TEST_F(CliConnect, TellsWhetherTheDatabaseCanBeUsed) {
  TempPostgres server;
  write(server.dsn(), folder_ / "lines");
  const Finished empty = check();
  EXPECT_EQ(empty.status.code, 78) << empty.output;
  EXPECT_THAT(empty.output, MatchesRegex("emitters\\.log: [^\n]*\n")) << "what does answer";
  EXPECT_THAT(empty.error_output, HasSubstr("outfall: database.schema: "));
  EXPECT_THAT(empty.error_output, HasSubstr("the database \"postgres\" has no schema \"outbox\""));
  EXPECT_THAT(empty.error_output,
              HasSubstr("\n  hint: check database.url and database.schema; run `outfall migrate` "
                        "only where there never was one\n"));

  postgres::Migrator({.url = server.dsn()}).run();
  const Finished ready = check();
  EXPECT_EQ(ready.status.code, 0) << ready.error_output;
  EXPECT_THAT(ready.output, StartsWith("outfall.toml is valid: 1 stream, 1 emitter\n"
                                       "database: it answers; schema \"outbox\" is at version "));
  EXPECT_THAT(ready.output, HasSubstr("\nemitters.log: "));

  const Finished json = check({"--json"});
  const boost::json::value document = boost::json::parse(json.output);
  EXPECT_THAT(document.at("connected").at("database").as_string().c_str(),
              StartsWith("it answers"));
  EXPECT_TRUE(document.at("connected").as_object().contains("emitters.log"));

  server.connect().exec(
      "UPDATE outbox.schema_version SET checksum = repeat('0', 64) WHERE version = 1");
  const Finished changed = check();
  EXPECT_EQ(changed.status.code, 0) << changed.error_output;
  EXPECT_THAT(changed.output, HasSubstr(" is another one there (SHA-256 000000000000"));

  server.stop();
  const Finished away = check();
  EXPECT_EQ(away.status.code, 69);
  EXPECT_THAT(away.error_output, StartsWith("outfall: outfall.toml:2:7: database.url: "));
  EXPECT_THAT(away.error_output, HasSubstr("Connection refused. Is the server running "));
  EXPECT_THAT(away.error_output, Not(HasSubstr("\t")));
}

TEST_F(CliConnect, ThePasswordIsNamedWhereItIsWhatFails) {
  TempPostgres server;
  PgClient sql = server.connect();
  sql.exec("CREATE ROLE worker LOGIN PASSWORD 'right'");
  const std::string rules = sql.value("SHOW hba_file");
  const std::string others = read_file(rules);
  std::ofstream(rules) << "host all worker 127.0.0.1/32 scram-sha-256\n" << others;
  server.reload();
  const std::string without = server.dsn("postgres", "worker");
  write(without, folder_ / "lines");
  const Finished none = check();
  EXPECT_EQ(none.status.code, 69);
  EXPECT_THAT(none.error_output, HasSubstr("\n  hint: the server asks for a password: "));
  write(without + (without.find("://") == std::string::npos ? " password=wrong"
                   : without.find('?') == std::string::npos ? "?password=wrong"
                                                            : "&password=wrong"),
        folder_ / "lines");
  const Finished wrong = check();
  EXPECT_EQ(wrong.status.code, 69);
  EXPECT_THAT(wrong.error_output,
              AllOf(HasSubstr("\n  hint: check user and password in "), Not(HasSubstr("wrong"))));
}

TEST_F(CliConnect, HealthTellsAProgramThatSpeaksNoHttpFromAWorker) {
  TempPostgres server;
  const Finished health = ask_health(server.port());
  EXPECT_EQ(health.status.code, 69);
  EXPECT_THAT(health.error_output,
              AllOf(HasSubstr(" is no worker: it does not speak HTTP\n"),
                    HasSubstr("\n  hint: look at admin.listen: another process has this port\n")));
}

TEST_F(CliConnect, HealthTellsAnotherHttpServerFromAWorker) {
  HttpRecorder other;
  other.answer_next({.status = 200, .body = "{\"ready\":true}\n", .close_after = true});
  const Finished nameless = ask_health(other.port());
  EXPECT_EQ(nameless.status.code, 69) << nameless.output;
  EXPECT_THAT(nameless.output, IsEmpty());
  EXPECT_THAT(nameless.error_output,
              AllOf(HasSubstr(" is no worker: it does not call itself outfall, as a worker does\n"),
                    HasSubstr("\n  hint: look at admin.listen: another process has this port\n")));

  other.answer_next(
      {.status = 503, .headers = {{"server", "nginx/1.22"}}, .body = "no", .close_after = true});
  const Finished named = ask_health(other.port());
  EXPECT_EQ(named.status.code, 69);
  EXPECT_THAT(named.error_output, HasSubstr(" is no worker: it calls itself \"nginx/1.22\"\n"));

  // What a worker answers, and what it is known by.
  other.answer_next({.status = 200, .headers = {{"Server", "outfall"}}, .close_after = true});
  const Finished worker = ask_health(other.port());
  EXPECT_EQ(worker.status.code, 0) << worker.error_output;
  EXPECT_EQ(worker.output, "ready\n");
}

TEST_F(CliConnect, HealthNeedsNothingButTheAddress) {
  HttpRecorder worker;
  const auto ask = [&](std::map<std::string, std::string> environment) {
    worker.answer_next({.status = 200, .headers = {{"Server", "outfall"}}, .close_after = true});
    return run({OUTFALL_BINARY, "health"},
               {.environment = std::move(environment), .working_folder = folder_.path()});
  };
  const std::string address = fmt::format("127.0.0.1:{}", worker.port());
  const Finished bare = ask({{"OUTFALL_ADMIN__LISTEN", address}});
  EXPECT_EQ(bare.output, "ready\n") << bare.error_output;

  // As after a reload that the worker has refused, and goes on.
  folder_.write("outfall.toml", fmt::format("[database]\nurl_file = \"gone\"\n[admin]\n"
                                            "listen = \"{}\"\ntoken_file = \"gone\"\n"
                                            "[streams.orders]\nemitter = \"fiel\"\n[nonsense]\n",
                                            address));
  const Finished broken = ask({});
  EXPECT_EQ(broken.output, "ready\n") << broken.error_output;
  folder_.write("outfall.toml", "[database\n");
  const Finished half = ask({{"OUTFALL_ADMIN__LISTEN", address}});
  EXPECT_EQ(half.output, "ready\n") << half.error_output;

  const Finished unknown = run({OUTFALL_BINARY, "health"}, {.working_folder = folder_.path()});
  EXPECT_EQ(unknown.status.code, 78);
  EXPECT_THAT(unknown.error_output, StartsWith("outfall: outfall.toml:1:"));
  folder_.write("outfall.toml", "[admin]\nlisten = \"everywhere\"\n");
  const Finished wrong = run({OUTFALL_BINARY, "health"}, {.working_folder = folder_.path()});
  EXPECT_EQ(wrong.status.code, 78);
  EXPECT_THAT(wrong.error_output, StartsWith("outfall: outfall.toml:2:10: admin.listen: "));
  EXPECT_THAT(wrong.error_output, Not(HasSubstr("database")));
}

// What a supervisor makes of a code must not depend on the command that ended with it.
TEST_F(CliConnect, AMissingSchemaEndsEveryCommandWithTheSameCode) {
  TempPostgres server;
  write(server.dsn(), folder_ / "no/such/folder/lines");
  // Beside it a sink that is away, which alone would be 69.
  const Finished both = check({"--json"});
  EXPECT_EQ(both.status.code, 78);
  const boost::json::value document = boost::json::parse(both.error_output);
  EXPECT_EQ(document.at("error").at("code"), "configuration");
  EXPECT_EQ(document.at("error").at("problems").as_array().size(), 2U);
  for (const auto& command : std::vector<std::vector<std::string>>{
           {"status"}, {"streams", "list"}, {"dead-letters", "list"}, {"top", "--once"}}) {
    std::vector<std::string> all = {OUTFALL_BINARY};
    all.insert(all.end(), command.begin(), command.end());
    const Finished finished = run(all, {.working_folder = folder_.path()});
    EXPECT_EQ(finished.status.code, 78) << command.front();
    EXPECT_THAT(finished.error_output, HasSubstr("\n  hint: check database.url and"));
    EXPECT_THAT(finished.error_output,
                HasSubstr("run `outfall migrate` only where there never was one"));
  }
}

// libpq writes to standard error what a server tells beside its answers, unless told otherwise.
TEST_F(CliConnect, AWarningOfTheServerAtEachConnectionIsNotWrittenBetweenOurLines) {
  TempPostgres server;
  postgres::Migrator({.url = server.dsn()}).run();
  server.connect().exec("UPDATE pg_database SET datcollversion = '0.1'");
  write(server.dsn(), folder_ / "lines");
  const Finished warned = run({postgres_program("psql").string(), server.dsn(), "-c", ""});
  ASSERT_THAT(warned.error_output, HasSubstr("WARNING:  database \"postgres\" has "));
  const Finished ready = check();
  EXPECT_EQ(ready.status.code, 0);
  EXPECT_THAT(ready.error_output, IsEmpty());
}

TEST_F(CliConnect, APasswordFileThatOthersMayReadIsToldOfInTheErrorAlone) {
  TempPostgres server;
  postgres::Migrator({.url = server.dsn()}).run();
  const std::string file = folder_.write("pgpass", "*:*:*:*:s3cret\n");
  std::filesystem::permissions(file, std::filesystem::perms(0644));
  const auto with_file = [&] {
    return run({OUTFALL_BINARY, "check-config", "--connect"},
               {.environment = {{"PGPASSFILE", file}}, .working_folder = folder_.path()});
  };
  write(server.dsn(), folder_ / "lines");
  EXPECT_THAT(with_file().error_output, IsEmpty());
  server.stop();
  EXPECT_THAT(with_file().error_output,
              AllOf(StartsWith("outfall: outfall.toml:2:7: database.url: "),
                    HasSubstr("; the password file " + file + " is not used, since its group")));
}

TEST_F(CliConnect, ASilentServerIsGivenUpAndAnotherHostIsTried) {
  TempPostgres server;
  postgres::Migrator({.url = server.dsn()}).run();
  TcpGate silent(server.port());
  silent.admit(Admission::hang);
  const std::string setting = "\"\nconnect_timeout = \"2s";
  write(fmt::format("postgresql://postgres@127.0.0.1:{}/postgres{}", silent.port(), setting),
        folder_ / "lines");
  const Finished one = check();
  EXPECT_EQ(one.status.code, 69);
  EXPECT_THAT(one.error_output,
              HasSubstr(fmt::format("database.url: connection to server at \"127.0.0.1\", port {} "
                                    "failed: timeout expired\n",
                                    silent.port())));
  write(fmt::format("postgresql://postgres@127.0.0.1:{},127.0.0.1:{}/postgres{}", silent.port(),
                    server.port(), setting),
        folder_ / "lines");
  const Finished both = check();
  EXPECT_EQ(both.status.code, 0) << both.error_output;
}

// libpq's own message quotes what it takes for the name of a parameter.
TEST_F(CliConnect, APasswordWithoutItsQuotesIsNotShown) {
  write("host=127.0.0.1 password=correct horse=battery", folder_ / "lines");
  const Finished finished = check();
  EXPECT_EQ(finished.status.code, 78);
  EXPECT_THAT(finished.error_output,
              HasSubstr("database.url: has a parameter that libpq does not know\n"));
  EXPECT_THAT(finished.error_output, testing::Not(HasSubstr("horse")));
}

TEST_F(CliConnect, ReportsAllThatDoesNotAnswerAtOnceAndNoPassword) {
  write(fmt::format("postgresql://u:s3cret@127.0.0.1:{}/d", free_port()),
        folder_ / "no/such/folder/lines");
  const Finished finished = check({"--json"});
  EXPECT_EQ(finished.status.code, 69);
  EXPECT_THAT(finished.error_output, testing::Not(HasSubstr("s3cret")));
  const boost::json::value document = boost::json::parse(finished.error_output);
  const auto& error = document.at("error");
  EXPECT_EQ(error.at("code"), "unavailable");
  ASSERT_EQ(error.at("problems").as_array().size(), 2u) << finished.error_output;
  EXPECT_EQ(error.at("problems").at(0).at("setting"), "database.url");
  EXPECT_EQ(error.at("problems").at(1).at("setting"), "emitters.log");
}

TEST_F(CliConnect, ADatabaseOfAnotherEncodingIsToldOf) {
  PgClient admin = shared_postgres().connect();
  admin.exec("DROP DATABASE IF EXISTS latin1");
  admin.exec("CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
  write(shared_postgres().dsn("latin1"), folder_ / "lines");
  const Finished finished = check();
  EXPECT_EQ(finished.status.code, 78) << finished.output;
  EXPECT_THAT(finished.error_output,
              AllOf(StartsWith("outfall: outfall.toml:2:7: database.url: "),
                    HasSubstr("has the encoding LATIN1"), HasSubstr("ENCODING 'UTF8'")));
}

}  // namespace
}  // namespace outfall::test
