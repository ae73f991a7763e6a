#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "tests/support/child_process.h"
#include "tests/support/pg_client.h"
#include "tests/support/temp_folder.h"

namespace outfall::test {

struct PostgresOptions {
  // Lines of postgresql.conf on top of the tests' defaults: max_connections 200,
  // max_prepared_transactions 10, no fsync, a log in the folder.
  std::map<std::string, std::string> settings = {};
  bool fsync = false;
};

// A program of the server that tests run against (`psql`, `pg_dump`): of PostgreSQL 15, or from the
// folder that OUTFALL_TEST_POSTGRES_BIN names.
[[nodiscard]] std::filesystem::path postgres_program(const std::string& name);

enum class StopMode { fast, immediate };  // a clean shutdown, or a crash of the server

// A private PostgreSQL in a temporary folder, on a free port of 127.0.0.1 and on a socket in its
// folder, trusting everybody; the superuser is `postgres`. When the test is root, the server runs
// as the system's user `postgres`. Stopped and removed by the destructor, or by the reaper when the
// test crashes.
//
// The constructor and start() block until the server answers (initdb and start take about a second)
// and throw with the server's log when it does not. One thread at a time; dsn() from any.
class TempPostgres {
 public:
  explicit TempPostgres(const PostgresOptions& options = {});
  // A standby that streams from `primary` under this application name, by way of `port` where that
  // is not the primary's own (a gate in front of it). It takes the primary's data of this moment.
  TempPostgres(const TempPostgres& primary, const std::string& name, int port,
               const PostgresOptions& options = {});
  ~TempPostgres();
  TempPostgres(const TempPostgres&) = delete;
  TempPostgres& operator=(const TempPostgres&) = delete;

  // A connection string over TCP, or for another port (a gate or a pooler in front of the server).
  [[nodiscard]] std::string dsn(const std::string& database = "postgres",
                                const std::string& user = "postgres") const;
  [[nodiscard]] std::string dsn_at(int port, const std::string& database = "postgres",
                                   const std::string& user = "postgres") const;
  // The same over the socket in the server's folder, which costs less.
  [[nodiscard]] std::string socket_dsn(const std::string& database = "postgres",
                                       const std::string& user = "postgres") const;
  [[nodiscard]] int port() const noexcept { return port_; }
  [[nodiscard]] const std::filesystem::path& folder() const noexcept { return folder_.path(); }
  [[nodiscard]] pid_t pid() const noexcept { return server_ ? server_->pid() : 0; }
  [[nodiscard]] PgClient connect(const std::string& database = "postgres") const;
  [[nodiscard]] std::string log(std::size_t from = 0) const;

  // Copies `from` (nobody may be connected to it) and returns the new database's dsn.
  std::string create_database(const std::string& name, const std::string& from = "template1");

  void stop(StopMode mode = StopMode::fast);
  void start();  // on the same data, port and settings
  void restart(StopMode mode = StopMode::fast);

  // Changes settings for the next start(); with reload() also in the running server, where
  // PostgreSQL can. An empty value takes the setting back.
  void set(const std::string& setting, const std::string& value);
  void reload();
  // Restarts the server so that every session is read-only, as on a standby, or writable again.
  void restart_read_only(bool read_only = true);

  // Makes a standby a primary of its own; returns when it takes writes.
  void promote();

  // SIGSTOP and SIGCONT to the server and all its processes: connected, and answering nothing.
  void freeze();
  void thaw();

 private:
  void give_to_server_user() const;
  void initialise();
  void copy_from(const TempPostgres& primary, int port) const;
  void write_settings() const;
  void signal_all(int number) const;

  TempFolder folder_;
  std::map<std::string, std::string> settings_;
  int port_;
  std::unique_ptr<ChildProcess> server_;
};

// The server that all tests of one binary share, started with the first use and stopped at exit.
TempPostgres& shared_postgres();

// A database of its own for one test, on the shared server unless told otherwise, dropped by the
// destructor together with the sessions in it.
class TestDatabase {
 public:
  explicit TestDatabase(const std::string& from = "template1",
                        TempPostgres& server = shared_postgres());
  ~TestDatabase();
  TestDatabase(const TestDatabase&) = delete;
  TestDatabase& operator=(const TestDatabase&) = delete;

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const std::string& dsn() const noexcept { return dsn_; }
  [[nodiscard]] TempPostgres& server() const noexcept { return server_; }
  [[nodiscard]] PgClient connect() const { return PgClient(dsn_); }

 private:
  TempPostgres& server_;
  std::string name_;
  std::string dsn_;
};

}  // namespace outfall::test
