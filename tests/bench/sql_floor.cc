#include "tests/bench/sql_floor.h"

#include <chrono>
#include <stdexcept>

#include <fmt/format.h>
#include <libpq-fe.h>

#include "tests/support/pg_client.h"

namespace outfall::bench {

struct SqlFloor::Session {
  explicit Session(const std::string& dsn) : client(dsn) {}
  test::PgClient client;
};

SqlFloor::SqlFloor(const std::string& dsn, int batch) : session_(std::make_unique<Session>(dsn)) {
  session_->client.exec("SET synchronous_commit = off");
  session_->client.exec(fmt::format(
      "PREPARE take AS DELETE FROM outbox.entries WHERE id = ANY (ARRAY("
      "SELECT id FROM outbox.entries ORDER BY id LIMIT {} FOR UPDATE SKIP LOCKED)) RETURNING *",
      batch));
}

SqlFloor::~SqlFloor() = default;

SqlFloor::Result SqlFloor::take() {
  PGconn* connection = session_->client.raw();
  Result rows(PQexecPrepared(connection, "take", 0, nullptr, nullptr, nullptr, 1), PQclear);
  if (PQresultStatus(rows.get()) != PGRES_TUPLES_OK) {
    throw std::runtime_error(PQerrorMessage(connection));
  }
  return rows;
}

double SqlFloor::drain(std::int64_t entries) {
  const auto begun = std::chrono::steady_clock::now();
  std::int64_t taken = 0;
  while (taken < entries) {
    const Result rows = take();
    if (PQntuples(rows.get()) == 0) throw std::runtime_error("the floor lost entries");
    taken += PQntuples(rows.get());
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begun;
  return static_cast<double>(taken) / seconds.count();
}

}  // namespace outfall::bench
