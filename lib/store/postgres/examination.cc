#include "store/postgres/examination.h"

#include <algorithm>

#include <fmt/format.h>

#include "store/postgres/migrator.h"

namespace outfall::postgres {
namespace {

ConnectOptions any_server(ConnectOptions options) {
  options.read_write = false;
  return options;
}

// As psql fills it in.
std::string statement_sql(std::string_view text, std::string_view schema) {
  constexpr std::string_view kVariable = ":\"schema\"";
  std::string sql(text);
  for (std::size_t at = sql.find(kVariable); at != std::string::npos; at = sql.find(kVariable)) {
    sql.replace(at, kVariable.size(), quote_identifier(schema));
  }
  return sql;
}

}  // namespace

Examination::Examination(ConnectOptions options) : connection_(any_server(std::move(options))) {
}

std::string Examination::ask(std::string_view name) {
  const auto statements = named_statements();
  const auto found = std::ranges::find(statements, name, &NamedStatement::name);
  if (found == statements.end()) {
    throw StoreError(StoreErrorKind::defect, fmt::format("there is no statement {}", name));
  }
  const std::string& schema = connection_.options().schema;
  const Result rows = connection_.query(statement_sql(found->text, schema), Params().text(schema));
  return std::string(rows.bytes(0, 0));
}

SchemaState Examination::schema_state() {
  return read_schema_state(connection_);
}

void Examination::check_encoding() {
  postgres::check_encoding(connection_);
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
