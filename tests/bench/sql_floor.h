#pragma once

#include <cstdint>
#include <memory>
#include <string>

struct pg_result;

namespace outfall::bench {

// The least work imaginable, and what no drain may do, since it could lose entries: one connection
// that deletes up to `batch` entries and reads them back, with the same asynchronous commit as a
// worker's settle. One thread at a time.
class SqlFloor {
 public:
  SqlFloor(const std::string& dsn, int batch);
  ~SqlFloor();
  SqlFloor(const SqlFloor&) = delete;
  SqlFloor& operator=(const SqlFloor&) = delete;

  using Result = std::unique_ptr<pg_result, void (*)(pg_result*)>;
  // The rows of one batch, in binary; the id is the first column.
  [[nodiscard]] Result take();
  // Entries a second until the table is empty.
  [[nodiscard]] double drain(std::int64_t entries);

 private:
  struct Session;
  std::unique_ptr<Session> session_;
};

}  // namespace outfall::bench
