#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tests/bench/benchmark.h"
#include "tests/support/pg_client.h"
#include "tests/support/temp_postgres.h"

namespace outfall::bench {

class Server;

// A database of a Server, dropped by the destructor.
class Database {
 public:
  Database(Server& server, std::string name);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  // Over the server's socket: yardstick and worker take the same, cheapest way.
  [[nodiscard]] std::string dsn() const;
  [[nodiscard]] test::PgClient connect() const { return test::PgClient(dsn()); }

 private:
  Server& server_;
  std::string name_;
};

// What to fill a stream with.
struct Preload {
  std::int64_t entries = 0;
  std::string stream = "orders";
  int streams = 1;  // more: round about, over streams with the names that stream_name() gives them
  int keys = 10'000;
  std::string key_prefix = "customer-";
  std::string headers = {};  // a JSON object, or none
  int payload_bytes = 450;
  // The first entry is scheduled for a day that no benchmark sees.
  bool scheduled_head = false;
};

// Of one of `streams` streams, counted from 0: `orders` where it is alone, else `orders-0` and so
// on.
[[nodiscard]] std::string stream_name(int number, int streams);

// One server for one benchmark, with settings that a small production server would have: fsync on,
// 512 MB of shared buffers. With the scale smoke it is small and not durable.
//
// One thread at a time. Databases must not outlive it.
class Server {
 public:
  explicit Server(const Options& options);

  // Empty, with outfall's schema.
  [[nodiscard]] std::unique_ptr<Database> create();
  // As `from` is; nobody may be connected to it.
  [[nodiscard]] std::unique_ptr<Database> copy(const Database& from);

  [[nodiscard]] test::TempPostgres& postgres() { return postgres_; }
  // CPU time of all of the server's processes since its start, those that have ended included.
  [[nodiscard]] double cpu_seconds() const;

 private:
  std::unique_ptr<Database> create_from(const std::string& from);

  test::TempPostgres postgres_;
  int databases_ = 0;
};

// Fills the database, vacuums, analyses and writes a checkpoint, so that none of it happens while a
// benchmark measures.
void preload(Database& database, const Preload& what);

}  // namespace outfall::bench
