// Goal: after a statement that failed, a connection is what it was before.
// Method: the store's own connection against a real server.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/postgres/connection.h"
#include "store/store_error.h"
#include "tests/support/tcp_gate.h"
#include "tests/support/temp_folder.h"
#include "tests/support/temp_postgres.h"

namespace outfall::test {
namespace {

using postgres::Connection;
using postgres::ConnectOptions;
using postgres::Params;
using std::chrono::steady_clock;

class StoreConnection : public testing::Test {
 protected:
  StoreConnection() : sql_(database_.connect()) {
    options_.url = database_.dsn();
    options_.statement_timeout = Milliseconds{5000};
    options_.claim_timeout = Milliseconds{500};
  }

  // The error of a call that must fail.
  template <typename Call>
  static StoreError error_of(Call call) {
    try {
      (void)call();
    } catch (const StoreError& error) {
      return error;
    }
    throw std::logic_error("it did not fail");
  }

  TestDatabase database_;
  PgClient sql_;
  ConnectOptions options_;
};

constexpr const char* kTimeout = "SELECT current_setting('statement_timeout')";
constexpr const char* kFine = "SELECT 1::int8";

// It went on in pipeline mode: the next statement had no Sync, and its caller waited for nothing
// while the server held its locks.
TEST_F(StoreConnection, AfterAFailedSecondStatementTheNextOneIsAnsweredAtOnce) {
  Connection connection(options_);
  sql_.exec("CREATE TABLE numbers (n int8)");
  const StoreError error = error_of([&] {
    return connection.query_both(kFine, {}, "SELECT pg_catalog.text(1 / (SELECT 0))", {});
  });
  EXPECT_THAT(error.what(), testing::HasSubstr("division by zero"));
  EXPECT_FALSE(error.session_lost());
  const auto asked_at = steady_clock::now();
  (void)connection.query("INSERT INTO numbers VALUES (7)", {});
  EXPECT_LT(steady_clock::now() - asked_at, options_.statement_timeout);
  EXPECT_EQ(sql_.number("SELECT n FROM numbers"), 7) << "it is not committed";
  EXPECT_EQ(connection.query(kTimeout, {}).bytes(0, 0), "5s");
  const auto both = connection.query_both(kFine, {}, kFine, {});
  EXPECT_EQ(both.first.int8(0, 0) + both.second.int8(0, 0), 2);
}

TEST_F(StoreConnection, AFailedFirstStatementLeavesTheConnectionAsItWas) {
  Connection connection(options_);
  const StoreError error =
      error_of([&] { return connection.query_both("SELECT pg_sleep(30)", {}, kFine, {}); });
  EXPECT_EQ(error.kind(), StoreErrorKind::timeout);
  EXPECT_EQ(connection.query(kTimeout, {}).bytes(0, 0), "5s");
}

// Both fail: what is told is what failed first.
TEST_F(StoreConnection, OfTwoFailuresTheFirstIsTold) {
  Connection connection(options_);
  const StoreError error = error_of([&] {
    return connection.query_both("SELECT pg_sleep(30)", {}, "SELECT 1 / (SELECT 0)", {});
  });
  EXPECT_EQ(error.kind(), StoreErrorKind::timeout);
  EXPECT_EQ(connection.query(kTimeout, {}).bytes(0, 0), "5s");
}

// Each was a lost connection, so that a full disk made a loop of connects.
TEST_F(StoreConnection, WhatTheServerHasNoRoomForCostsNoConnection) {
  Connection connection(options_);
  sql_.exec(
      "CREATE FUNCTION raise(p_code text) RETURNS int8 LANGUAGE plpgsql AS "
      "'BEGIN RAISE EXCEPTION USING ERRCODE = p_code; END'");
  for (const std::string code : {"53100", "53200", "53400", "58000", "58030", "58P01"}) {
    const StoreError error =
        error_of([&] { return connection.query("SELECT raise($1)", Params().text(code)); });
    EXPECT_EQ(error.kind(), StoreErrorKind::timeout) << code;
    EXPECT_THAT(error.hint(), testing::HasSubstr("tried again")) << code;
    EXPECT_EQ(connection.query(kFine, {}).int8(0, 0), 1) << code;
  }
  const StoreError full =
      error_of([&] { return connection.query("SELECT raise($1)", Params().text("53300")); });
  EXPECT_TRUE(full.session_lost());
}

// A server's machine that vanishes is noticed by probes, and by what it does not acknowledge.
TEST_F(StoreConnection, TheSocketNoticesAMachineThatVanishes) {
  options_.tcp_user_timeout = Milliseconds{7000};
  const Connection connection(options_);
  const auto option = [&](int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    EXPECT_EQ(getsockopt(connection.socket(), level, name, &value, &size), 0);
    return value;
  };
  EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE), 10);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPINTVL), 5);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPCNT), 3);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_USER_TIMEOUT), 7000);
}

// As of a proxy whose server is gone, before one that has taken over.
TEST_F(StoreConnection, AHostThatTakesConnectionsAndEndsThemDoesNotHideTheNextOne) {
  TcpGate gone(free_port());
  TcpGate there(database_.server().port());
  options_.url = fmt::format("host=127.0.0.1,127.0.0.1 port={},{} dbname={} user=postgres",
                             gone.port(), there.port(), database_.name());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Connection(options_).query(kFine, Params()).int8(0, 0), 1);
  EXPECT_GE(gone.accepted(), 10U);
  there.admit(Admission::refuse);
  const std::string both = error_of([&] { return Connection(options_).standby(); }).what();
  EXPECT_THAT(both, testing::HasSubstr(std::to_string(gone.port())));
  EXPECT_THAT(both, testing::HasSubstr(std::to_string(there.port())));
}

// What the URL says of these does not count: the order and the time-outs rely on them.
TEST_F(StoreConnection, TheSessionIsWhatTheWorkerNeedsWhateverTheUrlSays) {
  options_.url +=
      " options='-c statement_timeout=0 -c default_transaction_isolation=serializable'"
      " application_name=mine target_session_attrs=any client_encoding=LATIN1";
  Connection connection(options_);
  const auto setting = [&](const std::string& name) {
    return std::string(
        connection.query("SELECT current_setting($1)", Params().text(name)).bytes(0, 0));
  };
  EXPECT_EQ(setting("statement_timeout"), "5s");
  EXPECT_EQ(setting("default_transaction_isolation"), "read committed");
  EXPECT_EQ(setting("idle_in_transaction_session_timeout"), "1min");
  EXPECT_EQ(setting("application_name"), "outfall");
  EXPECT_EQ(setting("client_encoding"), "UTF8");
  sql_.exec("ALTER DATABASE " + database_.name() + " SET default_transaction_read_only = on");
  try {
    const Connection refused(options_);
    ADD_FAILURE() << "a read-only session was taken";
  } catch (const StoreError& error) {
    EXPECT_EQ(error.kind(), StoreErrorKind::read_only);
  }
}

// Nothing is known of a statement whose session ended, whatever the server said it ended of.
TEST_F(StoreConnection, ASessionThatEndedIsLostWhateverItsCode) {
  Connection connection(options_);
  const StoreError error = error_of([&] {
    return connection.query("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(30)", {});
  });
  EXPECT_TRUE(error.session_lost());
}

}  // namespace
}  // namespace outfall::test
