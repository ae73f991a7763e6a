// Goal: tests get real servers that they can stop, crash, freeze and make read-only, and SQL of
// their own that does not depend on the store.

#include "tests/support/temp_postgres.h"

#include <gtest/gtest.h>

#include "tests/support/temp_pgbouncer.h"

namespace outfall::test {
namespace {

using std::chrono::milliseconds;

TEST(PgClient, QueriesWithParametersAndNulls) {
  PgClient client = shared_postgres().connect();
  const PgRows rows = client.query("SELECT $1::int + 1, $2::text, ''", {"41", std::nullopt});
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0], (PgRow{"42", std::nullopt, ""}));
  EXPECT_EQ(client.number("SELECT 7"), 7);
  EXPECT_EQ(client.value("SELECT 'text'"), "text");
  EXPECT_THROW(client.value("SELECT NULL"), PgError);
  EXPECT_THROW(client.value("SELECT generate_series(1, 2)"), PgError);
}

TEST(PgClient, ReportsErrorsWithTheirSqlstate) {
  PgClient client = shared_postgres().connect();
  try {
    client.exec("SELECT 1/0");
    FAIL() << "no error";
  } catch (const PgError& error) {
    EXPECT_EQ(error.sqlstate(), "22012");
    EXPECT_NE(std::string(error.what()).find("division by zero"), std::string::npos);
  }
  EXPECT_EQ(client.number("SELECT 1"), 1) << "the connection is usable after an error";
  EXPECT_THROW(PgClient("host=127.0.0.1 port=1"), PgError);
}

TEST(PgClient, OneSessionWaitsForAnother) {
  const TestDatabase database;
  PgClient first = database.connect();
  PgClient second = database.connect();
  first.exec("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
  first.exec("BEGIN; LOCK TABLE t");
  second.start("UPDATE t SET n = n + $1::int RETURNING n", {"5"});
  PgClient watcher = database.connect();
  wait_until(
      [&] {
        return watcher.number(
                   "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::int AND "
                   "wait_event_type = 'Lock'",
                   {std::to_string(second.backend_pid())}) == 1;
      },
      "the second session to wait for the lock");
  EXPECT_TRUE(second.busy());
  first.exec("COMMIT");
  EXPECT_EQ(second.finish(), (PgRows{{"6"}}));
  second.start("SELECT 1/0");
  EXPECT_THROW(second.finish(), PgError);
  EXPECT_EQ(second.change("DELETE FROM t"), 1);
}

TEST(TestDatabase, IsCopiedFromATemplateAndDroppedAtTheEnd) {
  TempPostgres& server = shared_postgres();
  server.create_database("template_for_test");
  server.connect("template_for_test").exec("CREATE TABLE marker ()");
  std::string name;
  {
    const TestDatabase database("template_for_test");
    name = database.name();
    PgClient still_open = database.connect();
    EXPECT_EQ(still_open.number("SELECT count(*) FROM marker"), 0);
  }
  EXPECT_EQ(server.connect().number("SELECT count(*) FROM pg_database WHERE datname = $1", {name}),
            0);
}

TEST(TempPostgres, HasTheSettingsThatTestsNeed) {
  TempPostgres& server = shared_postgres();
  PgClient client(server.dsn());
  EXPECT_EQ(client.value("SHOW max_prepared_transactions"), "10");
  EXPECT_EQ(client.value("SHOW max_connections"), "200");
  EXPECT_EQ(client.value("SHOW server_encoding"), "UTF8");
  EXPECT_EQ(client.value("SHOW fsync"), "off");
}

// One server of its own goes through everything that would disturb the shared one.
class OwnServer : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    PostgresOptions options;
    options.settings = {{"track_commit_timestamp", "on"}, {"max_connections", "20"}};
    options.fsync = true;
    server_ = new TempPostgres(options);
  }
  static void TearDownTestSuite() { delete server_; }

  static inline TempPostgres* server_ = nullptr;
};

TEST_F(OwnServer, TakesExtraSettingsAndReloads) {
  EXPECT_EQ(server_->connect().value("SHOW track_commit_timestamp"), "on");
  EXPECT_EQ(server_->connect().value("SHOW max_connections"), "20");
  EXPECT_EQ(server_->connect().value("SHOW fsync"), "on");
  server_->set("log_statement", "all");
  server_->reload();
  EXPECT_EQ(server_->connect().value("SHOW log_statement"), "all");
  EXPECT_NE(server_->log().find("SHOW log_statement"), std::string::npos);
  server_->set("log_statement", "");
  server_->reload();
  EXPECT_EQ(server_->connect().value("SHOW log_statement"), "none");
}

TEST_F(OwnServer, KeepsItsDataAndPortOverStopAndCrash) {
  const std::string dsn = server_->dsn();
  PgClient(dsn).exec("CREATE TABLE kept AS SELECT 1 AS n");
  for (const StopMode mode : {StopMode::fast, StopMode::immediate}) {
    PgClient open(dsn);
    server_->stop(mode);
    EXPECT_THROW(open.number("SELECT 1"), PgError);
    EXPECT_THROW(PgClient{dsn}, PgError);
    server_->start();
    EXPECT_EQ(PgClient(dsn).number("SELECT n FROM kept"), 1);
  }
  EXPECT_NE(server_->log().find("automatic recovery in progress"), std::string::npos);
}

TEST_F(OwnServer, ComesBackReadOnly) {
  server_->restart_read_only();
  EXPECT_THROW(server_->connect().exec("CREATE TABLE refused ()"), PgError);
  EXPECT_THROW(PgClient(server_->dsn() + " target_session_attrs=read-write"), PgError);
  server_->restart_read_only(false);
  server_->connect().exec("CREATE TABLE accepted ()");
}

TEST_F(OwnServer, FreezesWithoutClosingItsConnections) {
  PgClient client(server_->dsn());
  server_->freeze();
  client.start("SELECT 'thawed'");
  EXPECT_FALSE(holds_within([&] { return !client.busy(); }, milliseconds(100)));
  server_->thaw();
  EXPECT_EQ(client.finish(), (PgRows{{"thawed"}}));
}

TEST(TempPgBouncer, PoolsByTransaction) {
  const TestDatabase database;
  TempPgBouncer pooler(database.server(), {{"default_pool_size", "1"}});
  PgClient first(pooler.dsn(database.name()));
  PgClient second(pooler.dsn(database.name()));
  // Two clients at once on one server connection: only a transaction pooler does that.
  EXPECT_EQ(first.value("SELECT pg_backend_pid()"), second.value("SELECT pg_backend_pid()"));
  pooler.stop();
  EXPECT_THROW(first.number("SELECT 1"), PgError);
  pooler.start();
  EXPECT_EQ(PgClient(pooler.dsn(database.name())).number("SELECT 1"), 1);
}

TEST(TempPgBouncer, CanBeLedToAnotherServer) {
  const TestDatabase database;
  TempPostgres other;
  other.create_database(database.name());
  TempPgBouncer pooler(database.server());
  PgClient client(pooler.dsn(database.name()));
  EXPECT_EQ(client.number("SELECT inet_server_port()"), database.server().port());
  pooler.lead_to(other.port());
  wait_until([&] { return client.number("SELECT inet_server_port()") == other.port(); },
             "the pooler to give the client another server");
}

TEST(TempPostgres, AStandbyFollowsItsPrimaryAndTakesItsPlace) {
  TempPostgres primary;
  PgClient writer = primary.connect();
  writer.exec("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
  TempPostgres standby(primary, "second", primary.port());
  primary.set("synchronous_standby_names", "second");
  primary.reload();
  wait_until(
      [&] {
        return primary.connect().number(
                   "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1;
      },
      "the standby to be synchronous");
  writer.exec("INSERT INTO t VALUES (2)");
  EXPECT_THROW(standby.connect().exec("INSERT INTO t VALUES (3)"), PgError);
  primary.stop(StopMode::immediate);
  standby.promote();
  PgClient after = standby.connect();
  EXPECT_EQ(after.number("SELECT count(*) FROM t"), 2);
  after.exec("INSERT INTO t VALUES (3)");
}

}  // namespace
}  // namespace outfall::test
