// Goal: after a restart of the database nothing is written under a lease from before, as what was
// confirmed before may be undone.
// Method: a real server that is stopped hard between a claim and its settle, or of which one
// process is killed, after which it recovers and says that it had started long before.
#include <csignal>

#include <gtest/gtest.h>

#include "store/postgres/migrator.h"
#include "store/postgres/postgres_store.h"
#include "store/store_error.h"
#include "tests/support/temp_pgbouncer.h"
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

// A worker with a lease of one entry, and the settle of it that is about to be sent.
class RestartDoubt : public testing::TestWithParam<void (*)(TempPostgres&)> {
 protected:
  RestartDoubt() {
    options_.url = server_.dsn();
    postgres::Migrator(options_).run();
    server_.connect().exec("INSERT INTO outbox.entries (stream, type) VALUES ('orders', 't')");
  }

  void claim_one() {
    store_ = std::make_unique<postgres::PostgresStore>(options_, system_random().uuid(), "w",
                                                       system_clock());
    session_ = store_->open_session();
    session_->register_streams(std::vector<std::string>{"orders"});
    claim_.stream = "orders";
    claim_.lease_id = system_random().uuid();
    const LeasedBatch batch = session_->claim(claim_).batch;
    ASSERT_EQ(batch.entries.size(), 1u);
    settle_.lease_id = batch.lease_id;
    settle_.provider = "noop";
    settle_.delivered = {batch.entries.front().envelope.entry_id};
  }

  void restart() {
    // The lease must be there afterwards: its commit was asynchronous.
    server_.connect().exec("CHECKPOINT");
    GetParam()(server_);
  }

  void expect_refused_until_released() {
    try {
      (void)session_->settle(settle_);
      FAIL() << "it was written";
    } catch (const StoreError& error) {
      EXPECT_EQ(error.kind(), StoreErrorKind::conflict) << error.what();
      EXPECT_FALSE(error.session_lost());
    }
    EXPECT_TRUE(store_->leases_in_doubt());
    PgClient after = server_.connect();
    EXPECT_EQ(after.number("SELECT count(*) FROM outbox.entries"), 1);
    EXPECT_EQ(after.number("SELECT count(*) FROM outbox.leases"), 1);
    session_->release();
    EXPECT_FALSE(store_->leases_in_doubt());
    // Released, it is this worker's to claim again.
    claim_.lease_id = system_random().uuid();
    EXPECT_EQ(session_->claim(claim_).batch.entries.size(), 1u);
  }

  TempPostgres server_;
  postgres::ConnectOptions options_;
  std::unique_ptr<postgres::PostgresStore> store_;
  std::unique_ptr<StoreSession> session_;
  ClaimRequest claim_;
  SettleRequest settle_;
};

TEST_P(RestartDoubt, ASettleWaitsUntilTheLeasesAreReleased) {
  ASSERT_NO_FATAL_FAILURE(claim_one());
  restart();
  session_ = store_->open_session();
  ASSERT_TRUE(store_->leases_in_doubt());
  expect_refused_until_released();
}

// A session with a pooler outlives the server, and nobody has said that it is another one.
TEST_P(RestartDoubt, BehindAPoolerASessionThatOutlivesTheServerSettlesNothing) {
  TempPgBouncer pooler(server_);
  options_.url = pooler.dsn();
  options_.pooler = true;
  ASSERT_NO_FATAL_FAILURE(claim_one());
  restart();
  wait_until(
      [&] {
        try {
          return PgClient(pooler.dsn()).number("SELECT 1") == 1;
        } catch (const PgError&) {
          return false;
        }
      },
      "the pooler reaches the server");
  ASSERT_FALSE(store_->leases_in_doubt());
  expect_refused_until_released();
}

INSTANTIATE_TEST_SUITE_P(All, RestartDoubt, testing::Values(&restart_hard, &kill_one_process),
                         [](const auto& test) {
                           return test.index == 0 ? "ARestart" : "ACrashOfOneProcess";
                         });

}  // namespace
}  // namespace outfall::test
