#pragma once

#include <map>
#include <memory>
#include <string>

#include "tests/support/child_process.h"
#include "tests/support/temp_folder.h"
#include "tests/support/temp_postgres.h"

namespace outfall::test {

// PgBouncer in transaction mode in front of a TempPostgres: every database and every user of it, on
// a free port of 127.0.0.1. The constructor blocks until it answers and throws with its log when it
// does not. Stopped by the destructor or the reaper. One thread at a time.
class TempPgBouncer {
 public:
  // `settings` are lines of pgbouncer.ini on top of the defaults (pool_mode = transaction,
  // default_pool_size = 20). `users` are the roles that may connect.
  explicit TempPgBouncer(const TempPostgres& server,
                         const std::map<std::string, std::string>& settings = {},
                         const std::vector<std::string>& users = {"postgres"});

  [[nodiscard]] std::string dsn(const std::string& database = "postgres",
                                const std::string& user = "postgres") const;
  [[nodiscard]] int port() const noexcept { return port_; }
  [[nodiscard]] std::string log() const { return process_->output() + process_->error_output(); }

  void stop();
  void start();
  // From now on the server is at this port (another one, or a gate in front of it), as whoever
  // moves a database tells its poolers; connections to the one before end with their transactions.
  void lead_to(int server_port);

 private:
  void write_settings(int server_port) const;

  const TempPostgres& server_;
  std::map<std::string, std::string> settings_;
  TempFolder folder_;
  int port_;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace outfall::test
