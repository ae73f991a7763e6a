#pragma once

#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "tests/support/wait_until.h"

namespace outfall::test {

// How a process ended: by itself with a code, or by a signal.
struct ExitStatus {
  std::optional<int> code;
  std::optional<int> signal;
  bool operator==(const ExitStatus&) const = default;
  [[nodiscard]] std::string to_string() const;  // "exit code 78", "signal 9"
};

struct ChildOptions {
  // On top of the test's own, from which OUTFALL_… is taken out, but for OUTFALL_TEST_….
  std::map<std::string, std::string> environment = {};
  std::vector<std::string> without_environment = {};  // taken out of it
  std::filesystem::path working_folder = {};          // empty: the test's
  std::filesystem::path output_file = {};  // where standard output goes; empty: into memory
  std::filesystem::path error_file = {};   // the same for standard error; may be the same file
  std::optional<std::string> input = {};   // all of standard input; absent: empty
  bool input_pipe = false;                 // standard input stays open for write_input()
  std::string user = {};                   // run as this user, when the test is root
  int crash_signal = SIGKILL;              // what the reaper sends when the test crashes
};

// The account that a child runs under when `user` is asked for: nullopt when the test is not root,
// since then it cannot be another one. Throws when there is no such user.
struct Account {
  uid_t user = 0;
  gid_t group = 0;
};
[[nodiscard]] std::optional<Account> account_for_child(const std::string& user);

// A child process in a process group of its own. The destructor kills the group and waits; a test
// that crashes leaves that to the reaper. Its output can be read while it runs, since it goes to a
// file or to anonymous memory and never fills a pipe.
//
// One thread at a time. Start failures (no such program) throw std::system_error.
class ChildProcess {
 public:
  explicit ChildProcess(std::vector<std::string> command, const ChildOptions& options = {});
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] bool running();

  void signal(int number);        // to the process itself
  void signal_group(int number);  // to its process group
  ExitStatus kill();              // SIGKILL to the group, then wait()

  // Throws TimedOut, with the end of what it wrote, when it still runs after the deadline.
  ExitStatus wait(std::chrono::milliseconds deadline = kDefaultDeadline);

  [[nodiscard]] std::string output() const;
  [[nodiscard]] std::string error_output() const;
  // Waits until standard output or standard error holds `text`; throws when it ended before.
  void wait_for_output(const std::string& text,
                       std::chrono::milliseconds deadline = kDefaultDeadline);

  void write_input(const std::string& text);
  void close_input();

 private:
  bool collect();  // true once it has ended

  std::string name_;
  pid_t pid_ = 0;
  int output_ = -1;
  int error_ = -1;
  int input_ = -1;
  std::optional<ExitStatus> status_;
};

// Runs a command to its end.
struct Finished {
  ExitStatus status;
  std::string output;
  std::string error_output;
};
[[nodiscard]] Finished run(std::vector<std::string> command, const ChildOptions& options = {},
                           std::chrono::milliseconds deadline = kDefaultDeadline);

}  // namespace outfall::test
