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

  // On top of its environment (OUTFALL_CRASH_AT …), and with a program that starts it (faketime …).
  void start(const std::map<std::string, std::string>& environment = {},
             const std::vector<std::string>& before = {});
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
  // Whether its present process has logged this text.
  [[nodiscard]] bool logged(const std::string& text) const;
  // How it once ended although nobody had asked for that and nobody had killed it; empty: never.
  [[nodiscard]] const std::string& crash() const { return crash_; }
  // By how much its clock is ahead, so that the times of its log can be read.
  void set_clock_ahead(std::chrono::seconds offset) { clock_ahead_ = offset; }
  // Whether the process is stopped by SIGSTOP.
  [[nodiscard]] bool frozen() const;

  [[nodiscard]] const std::string& name() const { return options_.name; }
  [[nodiscard]] pid_t pid() const;
  [[nodiscard]] std::vector<std::unique_ptr<test::TcpGate>>& gates() { return gates_; }
  // The log lines since the last call that are of use to the checker.
  void collect_log();
  // Writes down what the present process has counted so far; nothing where there is none. Waits
  // until it is up, and throws std::runtime_error where its admin server does not answer.
  void tell_counters();

 private:
  void ended(test::ExitStatus status);
  [[nodiscard]] std::string admin_address() const;  // empty: not logged yet

  Options options_;
  History& history_;
  std::vector<std::unique_ptr<test::TcpGate>> gates_;
  std::unique_ptr<test::ChildProcess> process_;
  bool expected_ = false;  // somebody has asked it to end
  bool wrapped_ = false;   // by a program that has it as a child, and hands no signal on
  std::string crash_;
  std::filesystem::path log_;
  std::size_t log_read_ = 0;
  // Where what the present process has logged begins.
  std::size_t log_start_ = 0;
  std::chrono::seconds clock_ahead_{0};
};

}  // namespace outfall::torture
