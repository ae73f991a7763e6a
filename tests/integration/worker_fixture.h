#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/child_process.h"
#include "tests/support/temp_folder.h"
#include "tests/support/temp_postgres.h"

namespace outfall::test {

// A database with all migrations applied, made by the binary's own `outfall migrate`, to copy.
[[nodiscard]] const std::string& migrated_database(TempPostgres& server = shared_postgres());

// `outfall run` as a process, with a configuration of its own and its admin server on a free port.
class WorkerProcess {
 public:
  struct Options {
    std::string dsn;
    std::string streams;        // TOML: [streams.…] and [emitters.…]
    std::string drain = {};     // lines below [drain]
    std::string database = {};  // more lines below [database]
    std::string instance = "worker";
    std::map<std::string, std::string> environment = {};
    std::vector<std::string> before = {};  // a program that starts it: faketime …
    std::string program = OUTFALL_BINARY;
  };
  explicit WorkerProcess(Options options);

  void start();
  // SIGTERM, and waits for the end; its exit code.
  int stop();
  void kill() { process_->kill(); }
  void freeze() { process_->signal(SIGSTOP); }
  void thaw() { process_->signal(SIGCONT); }
  // Writes another configuration and sends SIGHUP.
  void reload(const std::string& toml);
  [[nodiscard]] std::string configuration() const;
  [[nodiscard]] bool running() { return process_->running(); }
  [[nodiscard]] ChildProcess& process() { return *process_; }

  [[nodiscard]] boost::json::value status();
  [[nodiscard]] bool alive();  // /livez
  [[nodiscard]] bool ready();  // /readyz
  // The value of a series as /metrics has it: `outfall_returned_total{stream="orders"}`.
  [[nodiscard]] double metric(const std::string& series);
  [[nodiscard]] std::string log() const { return process_->error_output(); }
  [[nodiscard]] std::filesystem::path file(const std::string& name) const { return folder_ / name; }
  // The events that a stdout emitter with this `path` has written.
  [[nodiscard]] std::vector<boost::json::object> events(const std::string& name) const;

 private:
  Options options_;
  TempFolder folder_;
  int port_;
  std::filesystem::path config_;
  std::unique_ptr<ChildProcess> process_;
};

// A database of its own and a superuser session in it whose search_path is the outbox.
class WorkerTest : public testing::Test {
 protected:
  explicit WorkerTest(TempPostgres& server = shared_postgres());

  std::int64_t enqueue(const std::string& stream, const PgValue& key,
                       const std::string& payload = "{}", const std::string& type = "order.placed");
  void enqueue_many(const std::string& stream, int count, int keys);
  [[nodiscard]] std::int64_t live(const std::string& stream);
  [[nodiscard]] std::int64_t dead_letters(const std::string& reason_code);
  [[nodiscard]] std::int64_t delivered();
  void wait_until_empty(const std::string& stream,
                        std::chrono::milliseconds deadline = std::chrono::seconds{60});

  TestDatabase database_;
  PgClient sql_;
};

// A stream `orders` that is written to the file `events` of the worker's folder.
[[nodiscard]] std::string to_file(const std::string& more_of_stream = {});

}  // namespace outfall::test
