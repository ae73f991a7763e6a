#include "store/postgres/migrator.h"

#include <array>
#include <cstddef>

#include <fmt/format.h>
#include <openssl/evp.h>

namespace outfall::postgres {
namespace {

constexpr std::string_view kSchemaVariable = ":\"schema\"";
constexpr std::string_view kCreateSchema = "CREATE SCHEMA IF NOT EXISTS :\"schema\";";
constexpr std::size_t kMaxIdentifierBytes = 63;  // PostgreSQL cuts longer ones off, silently

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (std::size_t at = text.find(what); at != std::string::npos;
       at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
}

std::string short_sum(const std::string& checksum) {
  return checksum.substr(0, 12);
}

bool exists(Connection& connection, const std::string& sql, const Params& params) {
  return connection.query(sql, params).rows() > 0;
}

bool schema_exists(Connection& connection) {
  return exists(connection, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1",
                Params().text(connection.options().schema));
}

// By the catalog: to name a table in a schema that is not there, or not ours to use, is an error.
// Ours has min_worker; others have tables of that name, too.
bool version_table_exists(Connection& connection) {
  return exists(connection,
                "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "
                "c.relnamespace JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid WHERE "
                "n.nspname = $1 AND c.relname = 'schema_version' AND a.attname = 'min_worker'",
                Params().text(connection.options().schema));
}

// SQLSTATEs of a table, function, type or other object that is there already.
bool is_there_already(std::string_view code) {
  return code == "42P07" || code == "42723" || code == "42710";
}

// Whatever happened, the session must not stay in a failed transaction; a lost one cannot.
void roll_back(Connection& connection) noexcept {
  try {
    connection.script("ROLLBACK");
  } catch (const std::exception&) {  // the error that led here says more
  }
}

}  // namespace

std::string sha256_hex(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  if (EVP_Digest(text.data(), text.size(), digest.data(), &length, EVP_sha256(), nullptr) != 1) {
    throw StoreError(StoreErrorKind::defect, "OpenSSL cannot compute SHA-256");
  }
  std::string hex;
  for (unsigned int i = 0; i < length; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

std::string migration_sql(const Migration& migration, std::string_view schema, bool schema_exists) {
  std::string sql;
  sql.reserve(migration.text.size());
  for (std::size_t at = 0; at < migration.text.size();) {
    const std::size_t end = std::min(migration.text.find('\n', at), migration.text.size());
    const std::string_view line = migration.text.substr(at, end - at);
    // The line stays, so that the line numbers of errors are those of the file.
    if (!line.starts_with('\\') && !(schema_exists && line == kCreateSchema)) sql += line;
    sql += '\n';
    at = end + 1;
  }
  replace_all(sql, kSchemaVariable, quote_identifier(schema));
  return sql;
}

Migrator::Migrator(ConnectOptions options, Milliseconds lock_timeout,
                   std::span<const Migration> migrations)
    : options_(std::move(options)), lock_timeout_(lock_timeout), migrations_(migrations) {
  // An index on a large table takes its time; lock_timeout bounds what others could wait for.
  options_.statement_timeout = std::chrono::hours(6);
  options_.application_name = "outfall migrate";
  if (options_.schema.empty() || options_.schema.size() > kMaxIdentifierBytes ||
      options_.schema.find('\0') != std::string::npos) {
    throw StoreError(StoreErrorKind::refused,
                     fmt::format("\"{}\" cannot name a schema", options_.schema),
                     "set database.schema to a name of 1 to 63 bytes");
  }
}

Connection Migrator::connect() const {
  return Connection(options_);
}

std::vector<Migrator::Applied> Migrator::read_applied(Connection& connection) const {
  std::vector<Applied> applied;
  if (!version_table_exists(connection)) return applied;
  const Result rows =
      connection.query("SELECT version, name, coalesce(checksum, '') FROM " +
                           connection.qualified("schema_version") + " ORDER BY version",
                       Params());
  for (int row = 0; row < rows.rows(); ++row) {
    applied.push_back(
        {rows.int4(row, 0), std::string(rows.bytes(row, 1)), std::string(rows.bytes(row, 2))});
  }
  return applied;
}

void Migrator::check(const std::vector<Applied>& applied) const {
  std::string wrong;
  const auto add = [&wrong](const std::string& sentence) {
    wrong += (wrong.empty() ? "" : "; ") + sentence;
  };
  bool newer = false;
  int expected = 1;
  for (const Applied& there : applied) {
    if (there.version != expected) {
      add(fmt::format("{} is applied there, but {} is not", there.name, expected));
    }
    expected = there.version + 1;
    if (there.version < 1 || there.version > static_cast<int>(migrations_.size())) {
      add(fmt::format("{} is applied there, and this outfall brings only {} migrations", there.name,
                      migrations_.size()));
      newer = true;
      continue;
    }
    const Migration& here = migrations_[static_cast<std::size_t>(there.version) - 1];
    const std::string checksum = sha256_hex(here.text);
    if (there.name != here.name) {
      add(fmt::format("migration {} is {} there and {} here", there.version, there.name,
                      here.name));
    } else if (!there.checksum.empty() && there.checksum != checksum) {
      add(fmt::format("{} is another one there (SHA-256 {}… there, {}… here)", there.name,
                      short_sum(there.checksum), short_sum(checksum)));
    }
  }
  if (wrong.empty()) return;
  throw StoreError(
      StoreErrorKind::schema,
      fmt::format("schema \"{}\" does not match this outfall, nothing was changed: {}",
                  options_.schema, wrong),
      newer ? "it was migrated by a newer outfall: after a rollback nothing has to be migrated; "
              "otherwise use that one, or check database.schema"
            : "an applied migration never changes: use the outfall whose migrations were applied, "
              "or check database.url and database.schema");
}

// By the migration itself psql is told the same; here it is told before anything is planned.
void check_encoding(Connection& connection) {
  const Result row =
      connection.query("SELECT current_database()::text, getdatabaseencoding()::text", Params());
  const std::string_view encoding = row.bytes(0, 1);
  if (encoding == "UTF8") return;
  throw StoreError(StoreErrorKind::schema,
                   fmt::format("the database \"{}\" has the encoding {}, and an outbox needs UTF8",
                               row.bytes(0, 0), encoding),
                   "create a database with ENCODING 'UTF8' TEMPLATE template0, and let "
                   "database.url lead there");
}

Migrator::Report Migrator::plan() {
  Connection connection = connect();
  const std::vector<Applied> applied = read_applied(connection);
  check(applied);
  Report report;
  report.before = report.after = static_cast<int>(applied.size());
  for (const Applied& there : applied) {
    if (there.checksum.empty()) {
      report.steps.push_back({StepKind::adopt, there.version, there.name});
    }
  }
  if (applied.size() < migrations_.size()) check_encoding(connection);
  for (const Migration& migration : migrations_.subspan(applied.size())) {
    report.steps.push_back({StepKind::apply, migration.version, std::string(migration.name)});
    report.after = migration.version;
  }
  return report;
}

Migrator::Report Migrator::run() {
  Connection connection = connect();
  Report report;
  report.before = -1;
  while (step(connection, report)) {
  }
  return report;
}

// One transaction: the next migration, or, when there is none, the checksums that are missing.
// False when all is done. The state is read again under the lock each time: somebody else may have
// been here.
bool Migrator::step(Connection& connection, Report& report) {
  try {
    connection.script(fmt::format("BEGIN; SET LOCAL lock_timeout = {}", lock_timeout_.count()));
    connection.query("SELECT pg_advisory_xact_lock(hashtextextended('outfall migrate ' || $1, 0))",
                     Params().text(options_.schema));
  } catch (const StoreError& error) {
    roll_back(connection);
    if (error.kind() != StoreErrorKind::timeout) throw;
    throw StoreError(
        StoreErrorKind::timeout,
        fmt::format("another `outfall migrate` has been working on schema \"{}\" for {} ms",
                    options_.schema, lock_timeout_.count()),
        "try again when it has ended, or wait longer with --lock-timeout");
  }
  try {
    const std::vector<Applied> applied = read_applied(connection);
    check(applied);
    if (report.before < 0) report.before = static_cast<int>(applied.size());
    const bool apply_next = applied.size() < migrations_.size();
    if (apply_next) {
      check_encoding(connection);
      const Migration& next = migrations_[applied.size()];
      apply(connection, next);
      report.steps.push_back({StepKind::apply, next.version, std::string(next.name)});
    } else {
      adopt(connection, applied, report);
    }
    report.after = static_cast<int>(applied.size()) + (apply_next ? 1 : 0);
    // A migration sets the search_path; behind a pooler the session outlives this transaction.
    connection.script("RESET search_path; COMMIT");
    return apply_next;
  } catch (...) {
    roll_back(connection);
    throw;
  }
}

void Migrator::apply(Connection& connection, const Migration& migration) const {
  const std::string sql = migration_sql(migration, options_.schema, schema_exists(connection));
  try {
    connection.script(sql);
    const Result updated = connection.query(
        "UPDATE " + connection.qualified("schema_version") +
            " SET checksum = $1 WHERE version = $2 AND name = $3 RETURNING version",
        Params().text(sha256_hex(migration.text)).int4(migration.version).text(migration.name));
    if (updated.rows() != 1) {
      throw StoreError(StoreErrorKind::defect, "it did not record itself in schema_version");
    }
  } catch (const StoreError& error) {
    const std::string what = fmt::format("migration {}: {}", migration.name, error.what());
    if (error.kind() == StoreErrorKind::timeout) {
      throw StoreError(error.kind(), what,
                       "a long transaction uses the tables of the outbox: end it and try again, or "
                       "wait longer with --lock-timeout");
    }
    if (is_there_already(error.code())) {
      throw StoreError(StoreErrorKind::schema, what,
                       fmt::format("schema \"{}\" holds something that no outfall has made: choose "
                                   "another name by database.schema, or another database",
                                   options_.schema));
    }
    throw StoreError(error.kind(), what, error.hint());
  }
}

void Migrator::adopt(Connection& connection, const std::vector<Applied>& applied,
                     Report& report) const {
  for (const Applied& there : applied) {
    if (!there.checksum.empty()) continue;
    const Migration& here = migrations_[static_cast<std::size_t>(there.version) - 1];
    connection.query("UPDATE " + connection.qualified("schema_version") +
                         " SET checksum = $1 WHERE version = $2",
                     Params().text(sha256_hex(here.text)).int4(there.version));
    report.steps.push_back({StepKind::adopt, there.version, there.name});
  }
}

SchemaState read_schema_state(Connection& connection) {
  const std::string& schema = connection.options().schema;
  const std::string& migrate = connection.options().migrate_command;
  SchemaState state;
  if (!version_table_exists(connection)) {
    const Result row = connection.query("SELECT current_database()::text", Params());
    state.detail = fmt::format("the database \"{}\" has no schema \"{}\" of an outbox",
                               row.bytes(0, 0), schema);
    // Beside an outbox that was lost, renamed or not restored, a new one would only hide that.
    state.hint = fmt::format(
        "check database.url and database.schema; run `{}` only where there never was one", migrate);
    return state;
  }
  const Result row =
      connection.query("SELECT coalesce(max(version), 0), coalesce(max(min_worker), 0) FROM " +
                           connection.qualified("schema_version"),
                       Params());
  state.version = row.int4(0, 0);
  const int min_worker = row.int4(0, 1);
  if (state.version < kSchemaVersion) {
    state.fit = SchemaFit::older;
    state.detail = fmt::format("schema \"{}\" is at version {} and this outfall needs {}", schema,
                               state.version, kSchemaVersion);
    state.hint = fmt::format("run `{}`", migrate);
  } else if (min_worker > kWorkerProtocol) {
    state.fit = SchemaFit::newer;
    state.detail = fmt::format(
        "schema \"{}\" is at version {}, which bears workers of protocol {} and newer; this "
        "outfall has protocol {}",
        schema, state.version, min_worker, kWorkerProtocol);
    state.hint = "use a newer outfall, or check database.url and database.schema";
  } else {
    state.fit = SchemaFit::fits;
  }
  return state;
}

int check_schema(Connection& connection) {
  const SchemaState schema = read_schema_state(connection);
  if (schema.fit != SchemaFit::fits)
    throw StoreError(StoreErrorKind::schema, schema.detail, schema.hint);
  return schema.version;
}

void check_may_work(Connection& connection) {
  const Result row = connection.query(
      "SELECT " + connection.qualified("may_work") + "(), current_user::text", Params());
  if (row.boolean(0, 0)) return;
  throw StoreError(StoreErrorKind::denied,
                   fmt::format("role {} may not do a worker's work", row.bytes(0, 1)),
                   "grant the worker's role membership in outbox_worker");
}

}  // namespace outfall::postgres
