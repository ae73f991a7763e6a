#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/pg_client.h"
#include "tests/support/tcp_gate.h"
#include "tests/support/temp_pgbouncer.h"
#include "tests/support/temp_postgres.h"

namespace outfall::torture {

// A small file system in memory, for a database whose disk becomes full. Needs root: available() is
// false where it cannot be mounted.
class SmallDisk {
 public:
  explicit SmallDisk(int mebibytes);
  ~SmallDisk();
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  [[nodiscard]] bool available() const { return mounted_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  void fill();   // takes all that is left
  void empty();  // gives it back

 private:
  test::TempFolder folder_;
  std::filesystem::path path_;
  bool mounted_ = false;
};

// The servers of a run: one, or a primary with a synchronous and an asynchronous standby. Servers
// without standbys are used again by the next runs, each of which has a database of its own.
class Servers {
 public:
  // With settings on top of those of all runs.
  explicit Servers(bool standbys, const std::map<std::string, std::string>& settings = {});

  // The one that takes writes; changes with promote().
  [[nodiscard]] test::TempPostgres& primary() { return *servers_[primary_]; }
  // In the order of the workers' hosts.
  [[nodiscard]] std::vector<int> ports() const;
  // The primary is gone; the standby takes its place. True is the synchronous one.
  void promote(bool synchronous);
  // The first server goes on, and none of those hears of it any more that use dsn() or connect().
  void hide_first();
  [[nodiscard]] test::TempPostgres& synchronous() { return *servers_.at(1); }
  // The asynchronous standby falls behind: it gets nothing any more.
  void cut_asynchronous();

  // An empty outbox in a new database, and the role that workers log in with.
  void create_database(const std::string& name, const std::string& outfall,
                       const SmallDisk* disk = nullptr);
  void drop_database(const std::string& name);
  // For producers and for looking: whichever server takes writes.
  [[nodiscard]] std::string dsn(const std::string& database) const;
  // The same as outfall takes it, which adds the rest itself.
  [[nodiscard]] std::string url(const std::string& database) const;
  [[nodiscard]] test::PgClient connect(const std::string& database) const;
  // Entries with a receipt.
  [[nodiscard]] std::int64_t delivered(const std::string& database) const;
  // Entries, leases and holds, but for holds behind a dead letter.
  [[nodiscard]] std::int64_t left(const std::string& database) const;
  test::TempPgBouncer& pooler();
  // Between the pooler and the server that takes writes.
  [[nodiscard]] test::TcpGate& pooler_gate() { return *pooler_gate_; }

 private:
  void lead_pooler();

  std::unique_ptr<test::TcpGate> front_;   // of the first server, where there are standbys
  std::unique_ptr<test::TcpGate> stream_;  // from the primary to the asynchronous standby
  std::vector<std::unique_ptr<test::TempPostgres>> servers_;
  std::size_t primary_ = 0;
  std::unique_ptr<test::TcpGate> pooler_gate_;
  std::unique_ptr<test::TempPgBouncer> pooler_;
};

}  // namespace outfall::torture
