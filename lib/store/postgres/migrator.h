#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "store/outbox_store.h"
#include "store/postgres/connection.h"

namespace outfall::postgres {

// One file of sql/migrations, as it is.
struct Migration {
  int version;            // 1, 2, 3, …
  std::string_view name;  // "0001_tables"
  std::string_view text;
};

// Those that this binary was built with, in order. Static data.
[[nodiscard]] std::span<const Migration> embedded_migrations();

// The schema that this binary works with: the number of its migrations.
extern const int kSchemaVersion;

// What a worker of this binary expects of the SQL functions. A schema names the oldest protocol
// that it bears (schema_version.min_worker), so that old and new workers run side by side during an
// upgrade.
inline constexpr int kWorkerProtocol = 1;

// Brings a schema up to date: `outfall migrate`. Each migration runs in a transaction of its own
// together with its row of schema_version, under an advisory lock of the schema's name. So it can
// be killed at any time and run again, and several at once wait for each other and then find
// nothing to do. A migration that psql applied has no checksum; it is trusted and gets one.
//
// One thread at a time; every call opens a connection and blocks as long as the migrations take,
// waiting for any one lock at most lock_timeout. Failures are StoreErrors: kind schema when the
// database has other migrations than this binary, or newer ones, or another encoding than UTF8, and
// then nothing was changed; kind
// timeout when a lock could not be had. Those that were applied before a failure stay.
class Migrator {
 public:
  enum class StepKind { apply, adopt };
  struct Step {
    StepKind kind = StepKind::apply;
    int version = 0;
    std::string name;
  };
  struct Report {
    int before = 0;  // schema version; 0: there was no schema
    int after = 0;
    std::vector<Step> steps;  // in order; empty: nothing to do
  };

  explicit Migrator(ConnectOptions options, Milliseconds lock_timeout = Milliseconds{10'000},
                    std::span<const Migration> migrations = embedded_migrations());

  // What run() would do. Changes nothing and takes no lock.
  [[nodiscard]] Report plan();
  Report run();

 private:
  struct Applied {
    int version;
    std::string name;
    std::string checksum;  // empty: none
  };
  [[nodiscard]] std::vector<Applied> read_applied(Connection& connection) const;
  void check(const std::vector<Applied>& applied) const;
  bool step(Connection& connection, Report& report);
  void apply(Connection& connection, const Migration& migration) const;
  void adopt(Connection& connection, const std::vector<Applied>& applied, Report& report) const;
  [[nodiscard]] Connection connect() const;

  ConnectOptions options_;
  Milliseconds lock_timeout_;
  std::span<const Migration> migrations_;
};

// Whether a worker of this binary can work with the schema that it finds; reads only. For `newer` a
// schema counts only when it says that it no longer bears this worker.
[[nodiscard]] SchemaState read_schema_state(Connection& connection);
// The same for who goes on only with one that fits: its version, or a StoreError of kind `schema`.
int check_schema(Connection& connection);

// Throws a StoreError of kind `schema` where the database's encoding is another one than UTF8.
void check_encoding(Connection& connection);

// Throws a StoreError of kind `denied` where the session's role is no worker's. The schema must
// fit.
void check_may_work(Connection& connection);

// A migration as it is sent: without psql's lines, for this schema. `schema_exists`: leaves out
// CREATE SCHEMA, which needs a right on the database even where there is nothing to create.
[[nodiscard]] std::string migration_sql(const Migration& migration, std::string_view schema,
                                        bool schema_exists);

// SHA-256 in lower-case hexadecimal: what sha256sum prints.
[[nodiscard]] std::string sha256_hex(std::string_view text);

}  // namespace outfall::postgres
