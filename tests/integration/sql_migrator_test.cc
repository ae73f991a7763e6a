// Goal: `outfall migrate` applies what is missing once, however often and by however many it is
// run, adopts what psql applied, and refuses, changing nothing, a database that has other
// migrations.

#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>

#include "store/postgres/migrator.h"
#include "tests/integration/sql_fixture.h"
#include "tests/support/child_process.h"

namespace outfall::test {
namespace {

using postgres::embedded_migrations;
using postgres::kSchemaVersion;
using postgres::Migration;
using postgres::Migrator;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class SqlMigrator : public testing::Test {
 protected:
  postgres::ConnectOptions options(const std::string& schema = "outbox") const {
    postgres::ConnectOptions result;
    result.url = database_.dsn();
    result.schema = schema;
    return result;
  }
  SchemaState state(const std::string& schema = "outbox") const {
    postgres::Connection connection(options(schema));
    return postgres::read_schema_state(connection);
  }
  // What run() throws, as "kind: message / hint".
  static std::string failure(Migrator migrator) {
    try {
      migrator.run();
    } catch (const StoreError& error) {
      return std::string(to_string(error.kind())) + ": " + error.what() + " / " + error.hint();
    }
    return "it was not refused";
  }
  void apply_by_psql(const std::string& schema) const {
    for (const auto& file : files()) {
      const Finished done =
          run({postgres_program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v",
               "schema=" + schema, "-1", "-f", file.string(), database_.dsn()});
      ASSERT_EQ(done.status.code, 0) << file << done.error_output;
    }
  }
  static std::vector<std::filesystem::path> files() {
    std::vector<std::filesystem::path> result;
    for (const auto& file : std::filesystem::directory_iterator(OUTFALL_SQL_FOLDER))
      result.push_back(file.path());
    std::sort(result.begin(), result.end());
    return result;
  }

  TestDatabase database_;
};

TEST_F(SqlMigrator, CarriesTheFilesByteForByte) {
  ASSERT_EQ(files().size(), embedded_migrations().size());
  EXPECT_EQ(static_cast<std::size_t>(kSchemaVersion), embedded_migrations().size());
  for (std::size_t i = 0; i < files().size(); ++i) {
    std::ostringstream text;
    text << std::ifstream(files()[i], std::ios::binary).rdbuf();
    EXPECT_EQ(embedded_migrations()[i].text, text.str());
    EXPECT_EQ(embedded_migrations()[i].name, files()[i].stem().string());
  }
  EXPECT_EQ(postgres::sha256_hex("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_F(SqlMigrator, AppliesAllInOrderWithTheirChecksumsAndThenNothing) {
  const Migrator::Report first = Migrator(options()).run();
  EXPECT_EQ(first.before, 0);
  EXPECT_EQ(first.after, kSchemaVersion);
  EXPECT_EQ(first.steps.size(), embedded_migrations().size());
  PgClient sql = database_.connect();
  const PgRows rows =
      sql.query("SELECT version, name, checksum FROM outbox.schema_version ORDER BY version");
  ASSERT_EQ(rows.size(), embedded_migrations().size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Migration& migration = embedded_migrations()[i];
    EXPECT_EQ(rows[i], (PgRow{std::to_string(migration.version), std::string(migration.name),
                              postgres::sha256_hex(migration.text)}));
  }
  const Migrator::Report second = Migrator(options()).run();
  EXPECT_EQ(second.before, kSchemaVersion);
  EXPECT_THAT(second.steps, IsEmpty());
}

TEST_F(SqlMigrator, PlanSaysWhatWouldBeDoneAndDoesNothing) {
  EXPECT_EQ(Migrator(options()).plan().steps.size(), embedded_migrations().size());
  EXPECT_EQ(state().fit, SchemaFit::missing);
  Migrator(options(), Milliseconds{1000}, embedded_migrations().first(3)).run();
  const Migrator::Report plan = Migrator(options()).plan();
  EXPECT_EQ(plan.before, 3);
  EXPECT_EQ(plan.after, kSchemaVersion);
  ASSERT_EQ(plan.steps.size(), embedded_migrations().size() - 3);
  EXPECT_EQ(plan.steps[0].name, "0004_producers");
  EXPECT_EQ(state().version, 3);
}

TEST_F(SqlMigrator, LeavesTheSessionsSearchPathAlone) {
  // A pooler hands the session to somebody else afterwards.
  EXPECT_EQ(
      run({"grep", "-L", "^SET search_path = :\"schema\", pg_temp;", files()[0].string()}).output,
      "");
  postgres::Connection connection(options());
  Migrator(options()).run();
  EXPECT_EQ(database_.connect().value("SHOW search_path"), "\"$user\", public");
}

TEST_F(SqlMigrator, SeveralAtOnceApplyEachMigrationOnce) {
  std::vector<std::future<std::size_t>> runs;
  for (int i = 0; i < 4; ++i) {
    runs.push_back(
        std::async(std::launch::async, [this] { return Migrator(options()).run().steps.size(); }));
  }
  std::size_t steps = 0;
  for (auto& run : runs) steps += run.get();
  EXPECT_EQ(steps, embedded_migrations().size());
  EXPECT_EQ(state().fit, SchemaFit::fits);
}

TEST_F(SqlMigrator, WaitsForAnotherOnlySoLong) {
  PgClient other = database_.connect();
  other.exec("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('outfall migrate outbox', 0))");
  const std::string refused = failure(Migrator(options(), Milliseconds{50}));
  EXPECT_THAT(
      refused,
      HasSubstr(
          "timeout: another `outfall migrate` has been working on schema \"outbox\" for 50 ms"));
  EXPECT_THAT(refused, HasSubstr("--lock-timeout"));
  EXPECT_EQ(Migrator(options("other"), Milliseconds{50}).run().after, kSchemaVersion)
      << "another schema, another lock";
}

TEST_F(SqlMigrator, AFailureLeavesWhatWasAppliedAndSaysWhere) {
  std::vector<Migration> migrations(embedded_migrations().begin(), embedded_migrations().end());
  const Migration broken{kSchemaVersion + 1, "9999_broken",
                         "CREATE TABLE made (i int);\nSELECT 1/0;"};
  migrations.push_back(broken);
  EXPECT_THAT(failure(Migrator(options(), Milliseconds{1000}, migrations)),
              HasSubstr("migration 9999_broken: division by zero"));
  EXPECT_EQ(state().fit, SchemaFit::fits);
  EXPECT_EQ(database_.connect().value("SELECT to_regclass('made') IS NULL"), "t");
  migrations.back().text = "SELECT 1";
  EXPECT_THAT(failure(Migrator(options(), Milliseconds{1000}, migrations)),
              HasSubstr("did not record itself"));
}

TEST_F(SqlMigrator, ALockThatATransactionKeepsIsWaitedForOnlySoLong) {
  Migrator(options()).run();
  PgClient reader = database_.connect();
  reader.exec("BEGIN; SELECT * FROM outbox.streams");
  std::vector<Migration> migrations(embedded_migrations().begin(), embedded_migrations().end());
  migrations.push_back(
      {kSchemaVersion + 1, "9999_alter", "ALTER TABLE outbox.streams ADD COLUMN x int"});
  const std::string refused = failure(Migrator(options(), Milliseconds{50}, migrations));
  EXPECT_THAT(refused, HasSubstr("timeout: migration 9999_alter"));
  EXPECT_THAT(refused, HasSubstr("a long transaction uses the tables"));
}

TEST_F(SqlMigrator, AdoptsWhatPsqlApplied) {
  apply_by_psql("outbox");
  EXPECT_EQ(state().fit, SchemaFit::fits);
  EXPECT_EQ(Migrator(options()).plan().steps.size(), embedded_migrations().size());
  const Migrator::Report report = Migrator(options()).run();
  ASSERT_EQ(report.steps.size(), embedded_migrations().size());
  for (const Migrator::Step& step : report.steps) EXPECT_EQ(step.kind, Migrator::StepKind::adopt);
  PgClient sql = database_.connect();
  EXPECT_EQ(sql.value("SELECT checksum FROM outbox.schema_version WHERE version = 1"),
            postgres::sha256_hex(embedded_migrations()[0].text));
  EXPECT_THAT(Migrator(options()).run().steps, IsEmpty());
}

// psql and the migrator make the same schema, to the letter.
TEST_F(SqlMigrator, PsqlMakesTheSameSchema) {
  apply_by_psql("outbox");
  TestDatabase other(migrated_template());
  const Finished plain =
      run({postgres_program("pg_dump"), "--schema-only", "--dbname=" + other.dsn()});
  ASSERT_EQ(plain.status.code, 0) << plain.error_output;
  const auto without_random_lines = [](const std::string& text) {
    std::istringstream in(text);
    std::string kept;
    for (std::string line; std::getline(in, line);) {
      if (!line.starts_with("\\")) kept += line + "\n";
    }
    return kept;
  };
  const Finished by_psql =
      run({postgres_program("pg_dump"), "--schema-only", "--dbname=" + database_.dsn()});
  EXPECT_EQ(without_random_lines(by_psql.output), without_random_lines(plain.output));
  EXPECT_GT(plain.output.size(), 50'000U);
}

TEST_F(SqlMigrator, RefusesAChangedMigration) {
  Migrator(options()).run();
  PgClient sql = database_.connect();
  sql.exec("UPDATE outbox.schema_version SET checksum = repeat('0', 64) WHERE version IN (2, 5)");
  const std::string refused = failure(Migrator(options()));
  EXPECT_THAT(
      refused,
      HasSubstr("schema: schema \"outbox\" does not match this outfall, nothing was changed"));
  EXPECT_THAT(refused, HasSubstr("0002_claim is another one there (SHA-256 000000000000… there, "));
  EXPECT_THAT(refused, HasSubstr("0005_operators is another one there"));
  EXPECT_THAT(refused, HasSubstr("an applied migration never changes"));
  EXPECT_THROW(static_cast<void>(Migrator(options()).plan()), StoreError);
}

TEST_F(SqlMigrator, RefusesAnotherNameAGapAndANewerDatabase) {
  Migrator(options(), Milliseconds{1000}, embedded_migrations().first(3)).run();
  PgClient sql = database_.connect();
  sql.exec("UPDATE outbox.schema_version SET name = '0003_other' WHERE version = 3");
  EXPECT_THAT(failure(Migrator(options())),
              HasSubstr("migration 3 is 0003_other there and 0003_settle here"));
  sql.exec(
      "UPDATE outbox.schema_version SET name = '0003_settle' WHERE version = 3;"
      "DELETE FROM outbox.schema_version WHERE version = 2");
  EXPECT_THAT(failure(Migrator(options())),
              HasSubstr("0003_settle is applied there, but 2 is not"));
  sql.exec("DROP SCHEMA outbox CASCADE");
  Migrator(options()).run();
  sql.exec("INSERT INTO outbox.schema_version (version, name) VALUES (" +
           std::to_string(kSchemaVersion + 1) + ", '9999_future')");
  const std::string refused = failure(Migrator(options()));
  EXPECT_THAT(refused, HasSubstr("9999_future is applied there, and this outfall brings only"));
  EXPECT_THAT(refused, HasSubstr("migrated by a newer outfall"));
}

// `outbox` is a name that others use as well.
TEST_F(SqlMigrator, ASchemaOfSomethingElseIsLeftAloneAndSaidToBe) {
  PgClient sql = database_.connect();
  sql.exec("CREATE SCHEMA outbox; CREATE TABLE outbox.schema_version (installed_rank int)");
  EXPECT_EQ(state().fit, SchemaFit::missing);
  const auto refused = [&] { return failure(Migrator(options())); };
  EXPECT_THAT(refused(), HasSubstr("schema: migration 0001_tables: relation \"schema_version\" "
                                   "already exists"));
  EXPECT_THAT(refused(), HasSubstr("something that no outfall has made: choose another name by "
                                   "database.schema"));
  sql.exec("DROP TABLE outbox.schema_version; CREATE TYPE outbox.entry_status AS ENUM ('new')");
  EXPECT_THAT(refused(), HasSubstr("type \"entry_status\" already exists"));
  EXPECT_THAT(refused(), HasSubstr("database.schema"));
  EXPECT_EQ(Migrator(options("other")).run().after, kSchemaVersion);
}

TEST_F(SqlMigrator, SchemaStateTellsAWorkerWhatItFinds) {
  EXPECT_EQ(state().fit, SchemaFit::missing);
  EXPECT_THAT(state().detail, HasSubstr("has no schema \"outbox\" of an outbox"));
  EXPECT_THAT(state().hint, HasSubstr("run `outfall migrate` only where there never was one"));
  PgClient sql = database_.connect();
  sql.exec("CREATE SCHEMA outbox");
  EXPECT_EQ(state().fit, SchemaFit::missing);
  Migrator(options(), Milliseconds{1000}, embedded_migrations().first(3)).run();
  EXPECT_EQ(state().fit, SchemaFit::older);
  EXPECT_THAT(state().detail, HasSubstr("is at version 3 and this outfall needs " +
                                        std::to_string(kSchemaVersion)));
  EXPECT_EQ(state().hint, "run `outfall migrate`");
  Migrator(options()).run();
  EXPECT_EQ(state().fit, SchemaFit::fits);
  const std::string next = std::to_string(kSchemaVersion + 1);
  sql.exec("INSERT INTO outbox.schema_version (version, name) VALUES (" + next + ", 'future')");
  EXPECT_EQ(state().fit, SchemaFit::fits) << "a newer schema that bears this worker";
  sql.exec("UPDATE outbox.schema_version SET min_worker = 2 WHERE version = " + next);
  EXPECT_EQ(state().fit, SchemaFit::newer);
  EXPECT_THAT(state().detail,
              HasSubstr("bears workers of protocol 2 and newer; this outfall has protocol 1"));
}

TEST_F(SqlMigrator, TwoSchemasInOneDatabaseAreIndependent) {
  const std::string odd = "other \"box\"";
  Migrator(options()).run();
  Migrator(options(odd)).run();
  apply_by_psql("Third");
  PgClient sql = database_.connect();
  const std::string quoted = R"("other ""box""")";
  sql.exec("SELECT outbox.enqueue('orders', 'first', '1'); SELECT " + quoted +
           ".enqueue('orders', 'second', '2');"
           "SELECT \"Third\".enqueue('orders', 'third', '3')");
  for (const auto& [schema, type] :
       {std::pair{std::string("outbox"), "first"}, {odd, "second"}, {"Third", "third"}}) {
    postgres::PostgresStore store(options(schema), system_random().uuid(), "w", system_clock());
    const auto session = store.open_session();
    session->register_streams(std::vector<std::string>{"orders"});
    ClaimRequest request;
    request.stream = "orders";
    request.lease_id = system_random().uuid();
    const LeasedBatch batch = session->claim(request).batch;
    ASSERT_EQ(batch.entries.size(), 1U) << schema;
    EXPECT_EQ(batch.entries[0].envelope.type, type);
  }
  EXPECT_EQ(sql.value("SELECT outbox.status() #>> '{workers,0,stream}'"), "orders");
  sql.exec("SELECT " + quoted + ".pause_stream('orders', 'a', 'b')");
  EXPECT_EQ(sql.query("SELECT (SELECT paused FROM outbox.streams), (SELECT paused FROM " + quoted +
                      ".streams), "
                      "(SELECT paused FROM \"Third\".streams)"),
            (PgRows{{"f", "t", "f"}}));
  sql.exec("DROP SCHEMA outbox CASCADE");
  EXPECT_EQ(sql.value("SELECT jsonb_array_length(" + quoted + ".status() -> 'streams')"), "1");
  EXPECT_EQ(sql.value("SELECT ran FROM " + quoted + ".maintain_receipts('7 days')"), "t");
}

TEST_F(SqlMigrator, RefusesANameThatPostgresWouldCut) {
  EXPECT_THROW(Migrator{options(std::string(64, 'a'))}, StoreError);
  EXPECT_THROW(Migrator{options("")}, StoreError);
  EXPECT_EQ(Migrator(options(std::string(63, 'a'))).run().after, kSchemaVersion);
}

// Two databases of one server migrate at the same time: the roles are made once. Its own server,
// since the shared one has the roles.
TEST(SqlMigratorServer, RolesAreMadeOnceByDatabasesThatMigrateAtTheSameTime) {
  TempPostgres server;
  std::vector<std::string> dsns;
  for (int i = 0; i < 4; ++i) dsns.push_back(server.create_database("db_" + std::to_string(i)));
  std::vector<std::future<int>> runs;
  for (const std::string& dsn : dsns) {
    runs.push_back(std::async(std::launch::async, [dsn] {
      postgres::ConnectOptions options;
      options.url = dsn;
      return Migrator(options).run().after;
    }));
  }
  for (auto& run : runs) EXPECT_EQ(run.get(), kSchemaVersion);
}

TEST(SqlMigratorServer, ARoleWithoutCreateroleIsToldWhatToRunAndThenMigrates) {
  TempPostgres server;
  server.connect().exec("CREATE ROLE owner LOGIN");
  server.connect().exec("CREATE DATABASE app OWNER owner");
  postgres::ConnectOptions options;
  options.url = server.dsn("app", "owner");
  try {
    Migrator(options).run();
    FAIL() << "it could create roles";
  } catch (const StoreError& error) {
    EXPECT_EQ(error.kind(), StoreErrorKind::denied);
    EXPECT_THAT(
        error.what(),
        HasSubstr("migration 0008_roles: role owner may not create the roles outbox_producer, "));
    EXPECT_THAT(
        error.hint(),
        HasSubstr("CREATE ROLE outbox_producer NOLOGIN; CREATE ROLE outbox_worker NOLOGIN;"));
  }
  server.connect().exec(
      "CREATE ROLE outbox_producer NOLOGIN; CREATE ROLE outbox_worker NOLOGIN; "
      "CREATE ROLE outbox_operator NOLOGIN; CREATE ROLE outbox_reader NOLOGIN");
  EXPECT_EQ(Migrator(options).run().after, kSchemaVersion);
}

// A schema that a DBA made for a role that may not create schemas.
TEST(SqlMigratorServer, AnExistingSchemaNeedsNoRightOnTheDatabase) {
  TempPostgres server;
  server.connect().exec("CREATE ROLE owner LOGIN CREATEROLE");
  PgClient(server.create_database("app").empty() ? "" : server.dsn("app"))
      .exec("CREATE SCHEMA outbox AUTHORIZATION owner");
  postgres::ConnectOptions options;
  options.url = server.dsn("app", "owner");
  EXPECT_EQ(Migrator(options).run().after, kSchemaVersion);
}

TEST_F(SqlMigrator, PsqlIsRefusedADatabaseOfAnotherEncoding) {
  PgClient admin = shared_postgres().connect();
  admin.exec("DROP DATABASE IF EXISTS latin1");
  admin.exec("CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
  const Finished done = run({postgres_program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-1",
                             "-f", files().front().string(), shared_postgres().dsn("latin1")});
  EXPECT_EQ(done.status.code, 3);
  EXPECT_THAT(done.error_output,
              HasSubstr("the database latin1 has the encoding LATIN1, and an outbox needs UTF8"));
  EXPECT_THAT(done.error_output, HasSubstr("ENCODING 'UTF8'"));
  EXPECT_EQ(shared_postgres().connect("latin1").value("SELECT to_regnamespace('outbox') IS NULL"),
            "t");
}

// As pg_restore makes one. A settle whose error message the database cannot hold would be refused
// for ever, and with it all of its batch.
TEST_F(SqlMigrator, NoWorkerBeginsWhereAnOutboxWasRestoredIntoAnotherEncoding) {
  Migrator(options()).run();
  shared_postgres().connect().query(
      "UPDATE pg_database SET encoding = pg_char_to_encoding('LATIN1') WHERE datname = $1",
      {database_.name()});
  postgres::PostgresStore store(options(), system_random().uuid(), "worker-1", system_clock());
  try {
    (void)store.open_session();
    FAIL() << "it began";
  } catch (const StoreError& error) {
    EXPECT_EQ(error.kind(), StoreErrorKind::schema);
    EXPECT_THAT(error.what(), HasSubstr("has the encoding LATIN1, and an outbox needs UTF8"));
    EXPECT_THAT(error.hint(), HasSubstr("ENCODING 'UTF8'"));
  }
}

}  // namespace
}  // namespace outfall::test
