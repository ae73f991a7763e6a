#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/wait_until.h"

struct pg_conn;
struct pg_result;

namespace outfall::test {

// A statement or connection that the server refused. `sqlstate` is empty when the connection is
// lost.
class PgError : public std::runtime_error {
 public:
  PgError(const std::string& message, std::string sqlstate)
      : std::runtime_error(message), sqlstate_(std::move(sqlstate)) {}
  [[nodiscard]] const std::string& sqlstate() const noexcept { return sqlstate_; }

 private:
  std::string sqlstate_;
};

using PgValue = std::optional<std::string>;  // nullopt is SQL null
using PgRow = std::vector<PgValue>;
using PgRows = std::vector<PgRow>;

// One connection to PostgreSQL for a test's own SQL, on plain libpq and independent of the store
// that is under test. Everything is text. One thread at a time. Calls block until the server
// answers, except between start() and finish(), with which a test makes sessions wait for each
// other.
class PgClient {
 public:
  explicit PgClient(const std::string& dsn);
  ~PgClient();
  PgClient(PgClient&& other) noexcept;
  PgClient& operator=(PgClient&& other) noexcept;
  PgClient(const PgClient&) = delete;
  PgClient& operator=(const PgClient&) = delete;

  // One or several statements without parameters; the results are dropped.
  void exec(const std::string& sql);

  // One statement with parameters $1, $2, …
  PgRows query(const std::string& sql, const std::vector<PgValue>& parameters = {});

  // The first column of the only row; throws when there is not exactly one row, or it is null.
  std::string value(const std::string& sql, const std::vector<PgValue>& parameters = {});
  std::int64_t number(const std::string& sql, const std::vector<PgValue>& parameters = {});

  // Rows changed by an INSERT, UPDATE or DELETE.
  std::int64_t change(const std::string& sql, const std::vector<PgValue>& parameters = {});

  // Sends a statement and returns; busy() until its answer is there; finish() waits for it.
  void start(const std::string& sql, const std::vector<PgValue>& parameters = {});
  [[nodiscard]] bool busy();
  PgRows finish(std::chrono::milliseconds deadline = kDefaultDeadline);

  [[nodiscard]] int backend_pid() const;
  [[nodiscard]] pg_conn* raw() const noexcept { return connection_; }

 private:
  using Result = std::unique_ptr<pg_result, void (*)(pg_result*)>;
  Result run(const std::string& sql, const std::vector<PgValue>& parameters);
  [[noreturn]] void fail(const std::string& sql, const pg_result* result) const;

  pg_conn* connection_ = nullptr;
};

}  // namespace outfall::test
