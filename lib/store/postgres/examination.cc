#include "store/postgres/examination.h"

#include <algorithm>

#include <fmt/format.h>

#include "store/postgres/migrator.h"

namespace outfall::postgres {
namespace {

ConnectOptions any_server(ConnectOptions options) {
  options.read_write = false;
  options.application_name = "outfall doctor";
  return options;
}

}  // namespace

Examination::Examination(ConnectOptions options) : connection_(any_server(std::move(options))) {
}

std::string Examination::ask(std::string_view name) {
  const auto statements = doctor_statements();
  const auto found = std::ranges::find(statements, name, &NamedStatement::name);
  if (found == statements.end()) {
    throw StoreError(StoreErrorKind::defect, fmt::format("sql/doctor has no {}.sql", name));
  }
  const Result rows =
      connection_.query(std::string(found->text), Params().text(connection_.options().schema));
  return std::string(rows.bytes(0, 0));
}

SchemaState Examination::schema_state() {
  return read_schema_state(connection_);
}

std::string Examination::schema_remark() {
  const Migrator::Report report = Migrator(connection_.options()).plan();
  if (report.steps.empty()) return {};
  return fmt::format("migration {} was applied by psql and has no checksum yet",
                     report.steps.front().name);
}

WallTime Examination::now() {
  return connection_.query("SELECT clock_timestamp()", Params()).timestamp(0, 0);
}

}  // namespace outfall::postgres
