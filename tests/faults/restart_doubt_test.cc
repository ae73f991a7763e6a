// Goal: after a restart of the database nothing is written under a lease from before, as what was
// confirmed before may be undone.
// Method: a real server that is stopped hard between a claim and its settle.

#include <gtest/gtest.h>

#include "store/postgres/migrator.h"
#include "store/postgres/postgres_store.h"
#include "store/store_error.h"
#include "tests/support/temp_postgres.h"

namespace outfall::test {
namespace {

TEST(RestartDoubt, ASettleWaitsUntilTheLeasesAreReleased) {
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
  server.restart(StopMode::immediate);
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
}

}  // namespace
}  // namespace outfall::test
