#include "tests/support/pg_client.h"

#include <utility>

#include <libpq-fe.h>

namespace outfall::test {

namespace {

std::vector<const char*> parameter_pointers(const std::vector<PgValue>& parameters) {
  std::vector<const char*> result;
  for (const PgValue& parameter : parameters) {
    result.push_back(parameter ? parameter->c_str() : nullptr);
  }
  return result;
}

bool succeeded(const PGresult* result) {
  const ExecStatusType status = PQresultStatus(result);
  return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY;
}

PgRows rows_of(const PGresult* result) {
  PgRows rows;
  for (int row = 0; row < PQntuples(result); ++row) {
    PgRow& values = rows.emplace_back();
    for (int column = 0; column < PQnfields(result); ++column) {
      values.push_back(
          PQgetisnull(result, row, column) != 0
              ? PgValue{}
              : std::string(PQgetvalue(result, row, column),
                            static_cast<std::size_t>(PQgetlength(result, row, column))));
    }
  }
  return rows;
}

}  // namespace

PgClient::PgClient(const std::string& dsn) : connection_(PQconnectdb(dsn.c_str())) {
  if (PQstatus(connection_) != CONNECTION_OK) {
    const std::string message = PQerrorMessage(connection_);
    PQfinish(connection_);
    throw PgError(message, "");
  }
  PQsetNoticeProcessor(
      connection_, [](void*, const char*) {}, nullptr);
}

PgClient::~PgClient() {
  PQfinish(connection_);
}

PgClient::PgClient(PgClient&& other) noexcept
    : connection_(std::exchange(other.connection_, nullptr)) {
}

PgClient& PgClient::operator=(PgClient&& other) noexcept {
  std::swap(connection_, other.connection_);
  return *this;
}

void PgClient::fail(const std::string& sql, const pg_result* result) const {
  const char* state = result == nullptr ? nullptr : PQresultErrorField(result, PG_DIAG_SQLSTATE);
  std::string message = result == nullptr ? "" : PQresultErrorMessage(result);
  if (message.empty()) {
    message = PQerrorMessage(connection_);
  }
  throw PgError(message + "in: " + sql.substr(0, 500), state == nullptr ? "" : state);
}

PgClient::Result PgClient::run(const std::string& sql, const std::vector<PgValue>& parameters) {
  const std::vector<const char*> values = parameter_pointers(parameters);
  Result result(PQexecParams(connection_, sql.c_str(), static_cast<int>(values.size()), nullptr,
                             values.data(), nullptr, nullptr, 0),
                PQclear);
  if (!succeeded(result.get())) {
    fail(sql, result.get());
  }
  return result;
}

void PgClient::exec(const std::string& sql) {
  const Result result(PQexec(connection_, sql.c_str()), PQclear);
  if (!succeeded(result.get())) {
    fail(sql, result.get());
  }
}

PgRows PgClient::query(const std::string& sql, const std::vector<PgValue>& parameters) {
  return rows_of(run(sql, parameters).get());
}

std::string PgClient::value(const std::string& sql, const std::vector<PgValue>& parameters) {
  PgRows rows = query(sql, parameters);
  if (rows.size() != 1 || rows[0].empty() || !rows[0][0]) {
    throw PgError("expected one row with a value, got " + std::to_string(rows.size()) +
                      " rows from: " + sql.substr(0, 500),
                  "");
  }
  return std::move(*rows[0][0]);
}

std::int64_t PgClient::number(const std::string& sql, const std::vector<PgValue>& parameters) {
  return std::stoll(value(sql, parameters));
}

std::int64_t PgClient::change(const std::string& sql, const std::vector<PgValue>& parameters) {
  const Result result = run(sql, parameters);
  const std::string count = PQcmdTuples(result.get());
  return count.empty() ? 0 : std::stoll(count);
}

void PgClient::start(const std::string& sql, const std::vector<PgValue>& parameters) {
  const std::vector<const char*> values = parameter_pointers(parameters);
  if (PQsendQueryParams(connection_, sql.c_str(), static_cast<int>(values.size()), nullptr,
                        values.data(), nullptr, nullptr, 0) == 0) {
    fail(sql, nullptr);
  }
}

bool PgClient::busy() {
  if (PQconsumeInput(connection_) == 0) {
    fail("a started statement", nullptr);
  }
  return PQisBusy(connection_) != 0;
}

PgRows PgClient::finish(std::chrono::milliseconds deadline) {
  wait_until([this] { return !busy(); }, "the answer to a started statement", deadline);
  const Result result(PQgetResult(connection_), PQclear);
  if (!succeeded(result.get())) {
    while (PGresult* rest = PQgetResult(connection_)) {
      PQclear(rest);
    }
    fail("a started statement", result.get());
  }
  PgRows rows = rows_of(result.get());
  while (PGresult* rest = PQgetResult(connection_)) {
    PQclear(rest);
  }
  return rows;
}

int PgClient::backend_pid() const {
  return PQbackendPID(connection_);
}

}  // namespace outfall::test
