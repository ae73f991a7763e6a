// `outfall migrate`: an empty database, one that is up to date, and ones that it must not touch.

#include "store/postgres/migrator.h"
#include "tests/integration/operate_fixture.h"

namespace outfall::test {
namespace {

using postgres::kSchemaVersion;
using testing::HasSubstr;

// A login without any right, for as long as this lives: roles belong to all databases of the
// server.
class Role {
 public:
  explicit Role(const TestDatabase& database) : client_(database.connect()) {
    client_.exec("CREATE ROLE stranger LOGIN");
  }
  ~Role() { client_.exec("DROP ROLE stranger"); }
  Role(const Role&) = delete;
  Role& operator=(const Role&) = delete;

 private:
  PgClient client_;
};

class CliMigrate : public OperateTest {
 protected:
  // A second database, with nothing in it.
  CliMigrate() { configure_url(empty_.dsn(), one_stream()); }

  [[nodiscard]] int version() {
    PgClient client = empty_.connect();
    if (client.value("SELECT to_regclass('outbox.schema_version') IS NULL") == "t") return 0;
    return static_cast<int>(client.number("SELECT max(version) FROM outbox.schema_version"));
  }

  TestDatabase empty_;
};

TEST_F(CliMigrate, DryRunChangesNothingAndMigratingTwiceIsFine) {
  const boost::json::object plan = done({"migrate", "--dry-run"});
  EXPECT_EQ(plan.at("dry_run"), true);
  EXPECT_EQ(plan.at("version_before"), 0);
  EXPECT_EQ(plan.at("version_after"), kSchemaVersion);
  EXPECT_EQ(plan.at("steps").at(0), boost::json::parse(R"({"version": 1, "name": "0001_tables",
                                                           "action": "apply"})"));
  EXPECT_EQ(version(), 0);

  const Finished first = outfall({"migrate"});
  EXPECT_CODE(first, 0);
  EXPECT_THAT(first.output, testing::StartsWith("applied 0001_tables\n"));
  EXPECT_THAT(first.output, HasSubstr("schema \"outbox\" is at version "));
  EXPECT_EQ(version(), kSchemaVersion);

  const Finished second = outfall({"migrate"});
  EXPECT_CODE(second, 0);
  EXPECT_EQ(second.output,
            "schema \"outbox\" is up to date at version " + std::to_string(kSchemaVersion) + "\n");
  EXPECT_TRUE(done({"migrate"}).at("steps").as_array().empty());
}

// What only the unit of the worker has, by LoadCredential= and Environment=: a file, a variable,
// and what the emitter requires of them.
constexpr std::string_view kSecretsOfTheWorker =
    "[streams.orders]\nemitter = \"hook\"\n[emitters.hook]\nkind = \"webhook\"\n"
    "secret_file = \"/run/credentials/outfall.service/hook\"\n"
    "[streams.mails]\nemitter = \"broker\"\n[emitters.broker]\nkind = \"kafka\"\n"
    "brokers = \"127.0.0.1:9\"\ntopic = \"mails\"\n"
    "sasl.mechanism = \"PLAIN\"\nsasl.username = \"shop\"\n";

TEST_F(CliMigrate, SecretsThatOnlyTheWorkerHasStopNoCommandThatNeedsNone) {
  configure_url(empty_.dsn(), std::string(kSecretsOfTheWorker));
  for (const auto& command : std::vector<std::vector<std::string>>{
           {"migrate"},
           {"status"},
           {"top", "--once"},
           {"streams", "list"},
           {"dead-letters", "list"},
           {"dead-letters", "jobs", "list"},
       }) {
    const Finished finished = outfall(command);
    EXPECT_CODE(finished, 0) << command[0];
  }
  EXPECT_EQ(text_of(refused(69, {"entry", "show", "--id", "1"}), "code"), "unavailable");
  for (const char* command : {"check-config", "run"})
    EXPECT_THAT(outfall({command}).error_output, HasSubstr("emitters.hook.secret_file: the file"));
}

// A database that is meant and misspelt is no mistake of the worker's part.
TEST_F(CliMigrate, WhatMayBeMeantAsTheDatabaseIsToldWithoutThePartOfTheWorker) {
  folder_.write("outfall.toml",
                "[databse]\nurl = \"postgresql:///shop\"\n" + std::string(kSecretsOfTheWorker));
  const auto settings = [&](std::map<std::string, std::string> environment) {
    const Finished finished = outfall({"migrate", "--json"}, std::move(environment));
    EXPECT_CODE(finished, 78);
    std::vector<std::string> names;
    const boost::json::value document = boost::json::parse(finished.error_output);
    for (const boost::json::value& problem : document.at("error").at("problems").as_array())
      names.push_back(text_of(problem, "setting"));
    return names;
  };
  EXPECT_THAT(settings({}), testing::UnorderedElementsAre("databse", "database.url"));
  EXPECT_THAT(settings({{"OUTFALL_DATABASE_URL", empty_.dsn()}, {"OUTFALL_LOG_LEVEL", "debug"}}),
              testing::UnorderedElementsAre("databse", "database.url", ""));
}

TEST_F(CliMigrate, SeveralAtOnceApplyEachMigrationOnce) {
  std::vector<std::unique_ptr<ChildProcess>> migrators;
  for (int i = 0; i < 4; ++i) migrators.push_back(start({"migrate", "--json"}));
  std::size_t steps = 0;
  for (const auto& migrator : migrators) {
    EXPECT_EQ(migrator->wait(), (ExitStatus{.code = 0, .signal = {}})) << migrator->error_output();
    steps += boost::json::parse(migrator->output()).at("steps").as_array().size();
  }
  EXPECT_EQ(steps, static_cast<std::size_t>(kSchemaVersion));
  EXPECT_EQ(version(), kSchemaVersion);
}

TEST_F(CliMigrate, AChangedMigrationIsRefusedByName) {
  done({"migrate"});
  empty_.connect().exec("UPDATE outbox.schema_version SET checksum = 'x' WHERE version = 2");
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{"migrate"}, {"migrate", "--dry-run"}}) {
    const boost::json::object error = refused(78, arguments);
    EXPECT_THAT(text_of(error, "message"), HasSubstr("0002_claim"));
    EXPECT_TRUE(error.contains("hint"));
  }
}

TEST_F(CliMigrate, ANewerSchemaIsLeftAlone) {
  done({"migrate"});
  empty_.connect().exec("INSERT INTO outbox.schema_version (version, name, min_worker) VALUES (" +
                        std::to_string(kSchemaVersion + 1) + ", '9999_future', 99)");
  EXPECT_THAT(text_of(refused(78, {"migrate"}), "message"), HasSubstr("9999_future"));
  EXPECT_THAT(text_of(refused(78, {"status"}), "hint"), HasSubstr("use a newer outfall"));
}

TEST_F(CliMigrate, AnOlderSchemaIsToldToBeMigrated) {
  EXPECT_THAT(text_of(refused(78, {"status"}), "hint"),
              HasSubstr("only where there never was one"));
  done({"migrate"});
  empty_.connect().exec("DELETE FROM outbox.schema_version WHERE version = " +
                        std::to_string(kSchemaVersion));
  EXPECT_EQ(text_of(refused(78, {"entry", "show", "--id", "1"}), "hint"), "run `outfall migrate`");
}

TEST_F(CliMigrate, ARoleThatMayNotIsToldWhoMay) {
  const Role stranger(empty_);
  configure_url(empty_.server().dsn(empty_.name(), "stranger"), one_stream());
  const auto hint = [&] { return text_of(refused(78, {"migrate"}), "hint"); };
  EXPECT_EQ(hint(),
            "migrate as the owner of the schema, of the database where there is none yet, or as a "
            "superuser");
  EXPECT_EQ(version(), 0);
  EXPECT_CODE(outfall({"migrate"}, {{"OUTFALL_DATABASE__URL", empty_.dsn()}}), 0);
  EXPECT_THAT(hint(), HasSubstr("as the owner of the schema"));
}

TEST_F(CliMigrate, WhatPsqlAppliedIsRecorded) {
  done({"migrate"});
  empty_.connect().exec("UPDATE outbox.schema_version SET checksum = NULL WHERE version = 3");
  EXPECT_EQ(done({"migrate"}).at("steps"),
            boost::json::parse(R"([{"version": 3, "name": "0003_settle", "action": "record"}])"));
}

TEST_F(CliMigrate, AnotherMigrationIsWaitedForNoLongerThanAsked) {
  PgClient other = empty_.connect();
  other.exec("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('outfall migrate outbox', 0))");
  const boost::json::object error = refused(75, {"migrate", "--lock-timeout", "50ms"});
  EXPECT_THAT(text_of(error, "message"), HasSubstr("another"));
  EXPECT_EQ(version(), 0);
  EXPECT_EQ(refused(64, {"migrate", "--lock-timeout", "soon"}).at("code"), "usage");
}

TEST_F(CliMigrate, AServerThatIsNotThereEndsWith69) {
  configure_url("postgresql://postgres@127.0.0.1:" + std::to_string(free_port()) + "/x",
                one_stream());
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"migrate"}, {"status"}, {"streams", "list"}, {"dead-letters", "list"}}) {
    EXPECT_THAT(text_of(refused(69, arguments), "hint"), HasSubstr("database.url"));
  }
}

// Nothing demanded UTF8, until the first error message that the database could not hold.
TEST_F(CliMigrate, ADatabaseOfAnotherEncodingIsRefused) {
  PgClient admin = empty_.server().connect();
  admin.exec("DROP DATABASE IF EXISTS latin1");
  admin.exec("CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
  configure_url(empty_.server().dsn("latin1"), one_stream());
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{"migrate"}, {"migrate", "--dry-run"}}) {
    const boost::json::object error = refused(78, arguments);
    EXPECT_EQ(text_of(error, "message"),
              "the database \"latin1\" has the encoding LATIN1, and an outbox needs UTF8");
    EXPECT_THAT(text_of(error, "hint"), HasSubstr("ENCODING 'UTF8'"));
  }
  EXPECT_EQ(empty_.server().connect("latin1").value("SELECT to_regnamespace('outbox') IS NULL"),
            "t");
}

}  // namespace
}  // namespace outfall::test
