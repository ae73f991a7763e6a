#pragma once

#include <string>
#include <vector>

#include "tests/support/pg_client.h"
#include "tests/support/temp_postgres.h"

namespace outfall::test::torture {

// One rule left out: a text of a migration that must occur exactly once, and what stands there
// instead.
struct Patch {
  std::string migration;  // "0002_claim"
  std::string find;
  std::string replace;
};

// Places inside claim() at which a test can stop it, in their order.
inline constexpr const char* kAfterStreamLock = "after_stream_lock";
inline constexpr const char* kAfterLeases = "after_leases";  // leases and busy keys are read
inline constexpr const char* kBeforePick = "before_pick";
inline constexpr const char* kAfterPick = "after_pick";      // and before the probe
inline constexpr const char* kBeforeLease = "before_lease";  // and after the probe

// Applies all migrations of the source tree to an empty database, with the patches and with the
// stops. Throws std::runtime_error when a patch does not fit.
void install_schema(PgClient& database, const std::vector<Patch>& patches);

// A database of its own with the schema in it.
class TortureDatabase {
 public:
  explicit TortureDatabase(const std::vector<Patch>& patches = {});
  [[nodiscard]] const std::string& dsn() const { return database_.dsn(); }
  [[nodiscard]] PgClient connect() const;  // with the schema in its search path
  [[nodiscard]] TestDatabase& database() { return database_; }

 private:
  TestDatabase database_;
};

// Stops claims at one place: those of sessions in which torture.stop names it. Releases what it
// stopped when it is destroyed. One thread.
class Stop {
 public:
  Stop(const TortureDatabase& database, const char* place);
  void wait_until_reached();
  void release();

 private:
  PgClient control_;
  const std::string place_;
  bool released_ = false;
};

}  // namespace outfall::test::torture
