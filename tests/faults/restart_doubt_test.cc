// Goal: after a restart of the database nothing is written under a lease from before, as what was
// confirmed before may be undone.
// Method: a real server that is stopped hard between a claim and its settle, or of which one
// process is killed, after which it recovers and says that it had started long before.
#include <csignal>

#include <gtest/gtest.h>

#include "store/postgres/migrator.h"
#include "store/postgres/postgres_store.h"
#include "store/store_error.h"
#include "tests/support/temp_postgres.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

void restart_hard(TempPostgres& server) {
  server.restart(StopMode::immediate);
}

// What the OOM killer does.
void kill_one_process(TempPostgres& server) {
  PgClient other = server.connect();
  const std::string started = other.value("SELECT pg_postmaster_start_time()");
  PgClient victim = server.connect();
  ASSERT_EQ(kill(static_cast<pid_t>(victim.number("SELECT pg_backend_pid()")), SIGKILL), 0);
  wait_until(
      [&] {
        try {
          return server.connect().value("SELECT pg_postmaster_start_time()") == started &&
                 server.log().find("all server processes terminated") != std::string::npos;
        } catch (const PgError&) {
          return false;
        }
      },
      "the server recovers under the same start time");
}

class RestartDoubt : public testing::TestWithParam<void (*)(TempPostgres&)> {};

TEST_P(RestartDoubt, ASettleWaitsUntilTheLeasesAreReleased) {
  TempPostgres server;
  postgres::ConnectOptions options;
  options.url = server.dsn();
  postgres::Migrator(options).run();
  PgClient sql = server.connect();
  sql.exec("INSERT INTO outbox.entries (stream, type) VALUES ('orders', 't')");

  postgres::PostgresStore store(options, system_random().uuid(), "w", system_clock());
  auto session = store.open_session();
  session->register_streams(std::vector<std::string>{"orders"});
  ClaimRequest claim;
  claim.stream = "orders";
  claim.lease_id = system_random().uuid();
  const LeasedBatch batch = session->claim(claim).batch;
  ASSERT_EQ(batch.entries.size(), 1u);
  SettleRequest settle;
  settle.lease_id = batch.lease_id;
  settle.provider = "noop";
  settle.delivered = {batch.entries.front().envelope.entry_id};

  // The lease must be there afterwards: its commit was asynchronous.
  sql.exec("CHECKPOINT");
  GetParam()(server);
  session = store.open_session();
  ASSERT_TRUE(store.leases_in_doubt());
  try {
    (void)session->settle(settle);
    FAIL() << "it was written";
  } catch (const StoreError& error) {
    EXPECT_EQ(error.kind(), StoreErrorKind::conflict);
    EXPECT_FALSE(error.session_lost());
  }
  PgClient after = server.connect();
  EXPECT_EQ(after.number("SELECT count(*) FROM outbox.entries"), 1);
  EXPECT_EQ(after.number("SELECT count(*) FROM outbox.leases"), 1);
  session->release();
  EXPECT_FALSE(store.leases_in_doubt());
  // Released, it is this worker's to claim again.
  claim.lease_id = system_random().uuid();
  EXPECT_EQ(session->claim(claim).batch.entries.size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(All, RestartDoubt, testing::Values(&restart_hard, &kill_one_process),
                         [](const auto& test) {
                           return test.index == 0 ? "ARestart" : "ACrashOfOneProcess";
                         });

}  // namespace
}  // namespace outfall::test
