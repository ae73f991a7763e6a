// Goal: the worker's pool of connections is no load of its own for a database that is in trouble.
// Method: the pool with the store's sessions against a real server.
#include <atomic>

#include <gtest/gtest.h>

#include "drain/database_pool.h"
#include "store/postgres/migrator.h"
#include "store/postgres/postgres_store.h"
#include "tests/support/temp_postgres.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using std::chrono::steady_clock;

// Each job opened a connection and lost it at once: tens a second, as long as it lasted.
TEST(StorePool, AJobThatEndsEachSessionDoesNotMakeALoopOfConnects) {
  const TestDatabase database;
  postgres::ConnectOptions options;
  options.url = database.dsn();
  postgres::Migrator(options).run();
  PgClient sql = database.connect();
  sql.exec(
      "CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS "
      "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';"
      "CREATE TRIGGER ends BEFORE INSERT ON outbox.streams EXECUTE FUNCTION end_session()");
  postgres::PostgresStore store(options, system_random().uuid(), "w", system_clock());
  std::atomic<int> connects{0};
  std::atomic<bool> done{false};
  DatabasePool pool(
      1, Milliseconds{10'000}, [&] { return store.open_session(); },
      {.connected = [&](bool) { ++connects; },
       .unavailable = [](const StoreError&) {},
       .failed = [](const StoreError&, bool) {}},
      system_random());
  DatabasePool::Job job{.urgency = DatabasePool::Urgency::settle,
                        .run =
                            [&](StoreSession& session) {
                              session.register_streams(std::vector<std::string>{"orders"});
                              done = true;
                            },
                        .failed = {}};
  job.failed = [&](const StoreError&) { pool.submit(job); };
  const auto begun = steady_clock::now();
  pool.submit(job);
  wait_until([&] { return connects >= 5; }, "it connects again");
  // Pauses of at least half of 50, 100, 200 and 400 ms.
  EXPECT_GE(steady_clock::now() - begun, Milliseconds{375});
  sql.exec("DROP TRIGGER ends ON outbox.streams");
  wait_until([&] { return done.load(); }, "the job is done");
  pool.stop();
}

// The server gives a role one connection, and the pool wants four. A job that woke a thread which
// could not connect stayed where it was, with a session idle beside it, until the next one came.
TEST(StorePool, AJobDoesNotWaitForConnectionsThatCannotBeHad) {
  const TestDatabase database;
  postgres::ConnectOptions options;
  options.url = database.dsn();
  postgres::Migrator(options).run();
  postgres::PostgresStore store(options, system_random().uuid(), "w", system_clock());
  std::atomic<int> opened{0};
  std::atomic<int> refused{0};
  std::atomic<int> done{0};
  DatabasePool pool(
      4, Milliseconds{3'600'000},
      [&] {
        if (opened.fetch_add(1) > 0) {
          throw StoreError(StoreErrorKind::unavailable, "too many connections for role");
        }
        return store.open_session();
      },
      {.connected = [](bool) {},
       .unavailable = [&](const StoreError&) { ++refused; },
       .failed = [](const StoreError&, bool) {}},
      system_random());
  const auto submit = [&] {
    pool.submit({.urgency = DatabasePool::Urgency::poll,
                 .run =
                     [&](StoreSession& session) {
                       session.register_streams(std::vector<std::string>{"orders"});
                       ++done;
                     },
                 .failed = {}});
  };
  // Several at once, so that more threads than the first are woken and find no connection.
  for (int i = 0; i < 4; ++i) submit();
  wait_until([&] { return done == 4; }, "one session does what four were woken for");
  for (int i = 5; i <= 100; ++i) {
    submit();
    wait_until([&] { return done == i; }, "the next job is done");
  }
  pool.stop();
}

}  // namespace
}  // namespace outfall::test
