#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/faults/torture/history.h"
#include "tests/support/child_process.h"
#include "tests/support/tcp_gate.h"

namespace outfall::torture {

// One worker of a run: `outfall run` with a configuration and a log file of its own, behind gates
// of its own to each database server. Its deaths and returns go into the history at once, and what
// it has logged when collect_log() is called. One thread.
class Worker {
 public:
  struct Options {
    std::string outfall;  // the binary
    std::string name;
    std::string instance = {};      // empty: the name
    std::filesystem::path folder;   // for its configuration and its logs
    std::vector<int> server_ports;  // a gate for each
    std::string database;           // name of the database
    std::string settings;           // TOML: [drain], [streams.…], [emitters.…]
    bool pooler = false;
    std::map<std::string, std::string> environment = {};
    std::string log_level = "trace";  // at any other the checker learns no outcomes from its log
  };
  Worker(Options options, History& history);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // On top of its environment (OUTFALL_CRASH_AT …).
  void start(const std::map<std::string, std::string>& environment = {});
  void kill();
  void terminate();  // SIGTERM; wait with stopped()
  void freeze();
  void thaw();
  // Notes an end that nobody asked for; true when there is no process.
  [[nodiscard]] bool gone();
  // SIGTERM, and waits for the end; its exit code, -1 where a signal ended it or it did not end.
  int stop();
  // Waits for the end that it was asked for.
  int await_end();
  // From now on it may end in this way without being asked, as by a point that kills it; with
  // nothing it may not. Any other end is a crash().
  void tolerate(std::optional<test::ExitStatus> end) { tolerated_ = end; }
  // How its last process ended; nothing while it runs.
  [[nodiscard]] const std::optional<test::ExitStatus>& last_end() const { return last_end_; }
  // Stops its process for a moment that no history has to know of.
  void pause();
  void resume();
  // Whether its present process has logged this text.
  [[nodiscard]] bool logged(const std::string& text) const;
  // Whether it has logged this since its log was so long.
  [[nodiscard]] bool logged_since(std::size_t length, const std::string& text) const;
  [[nodiscard]] std::size_t log_length() const;
  // How it once ended although nobody had asked for that; empty: never.
  [[nodiscard]] const std::string& crash() const { return crash_; }
  // By how much its clock is ahead some of the time, so that the times of its log can be read:
  // minutes, since what it logs is read within less.
  void set_clock_ahead(std::chrono::minutes offset) { clock_ahead_ = offset; }
  // Whether what it has logged last is of the wrong clock.
  [[nodiscard]] bool logs_by_wrong_clock() const;
  // Whether the process is stopped by SIGSTOP.
  [[nodiscard]] bool frozen() const;

  [[nodiscard]] const std::string& name() const { return options_.name; }
  [[nodiscard]] const std::filesystem::path& folder() const { return options_.folder; }
  // What it calls itself in the database.
  [[nodiscard]] const std::string& instance() const {
    return options_.instance.empty() ? options_.name : options_.instance;
  }
  [[nodiscard]] pid_t pid() const;
  [[nodiscard]] std::vector<std::unique_ptr<test::TcpGate>>& gates() { return gates_; }
  // The log lines since the last call that are of use to the checker.
  void collect_log();
  // Writes down what the present process has counted so far; nothing where there is none. Waits
  // until it is up, and throws std::runtime_error where its admin server does not answer.
  void tell_counters();
  // What its process says at /metrics now; nothing where there is none, or it does not answer: it
  // is not up yet, stopped, or has no descriptor left.
  [[nodiscard]] std::optional<std::string> metrics();

 private:
  void ended(test::ExitStatus status);
  [[nodiscard]] std::int64_t by_right_clock(std::int64_t at_us) const;
  [[nodiscard]] const std::string& admin_address();  // empty: not logged yet

  Options options_;
  History& history_;
  std::vector<std::unique_ptr<test::TcpGate>> gates_;
  std::unique_ptr<test::ChildProcess> process_;
  bool expected_ = false;  // somebody has asked it to end
  std::optional<test::ExitStatus> tolerated_;
  std::optional<test::ExitStatus> last_end_;
  std::string crash_;
  std::filesystem::path log_;
  std::size_t log_read_ = 0;
  // Where what the present process has logged begins.
  std::size_t log_start_ = 0;
  std::string admin_address_;  // of the present process, once it has been seen
  std::chrono::minutes clock_ahead_{0};
};

}  // namespace outfall::torture
