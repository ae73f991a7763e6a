#pragma once

#include <string>

#include "emitters/exec/launch.h"

namespace outfall {

// How a program ended.
struct ProgramEnd {
  bool success = false;  // exit status 0
  std::string text;      // "exit status 3", "signal 9 (Killed)"
};

// The running program: its pipes, its end, its process group. Made and used by one thread, which
// must live longer (see launch()). Nothing blocks but the destructor, which kills the process group
// and waits for at most kReapPatience.
class Program {
 public:
  // Throws std::runtime_error with a message for the operator.
  explicit Program(const ExecSettings& settings);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  [[nodiscard]] pid_t pid() const noexcept { return launched_.pid; }
  // Descriptors to poll, negative once closed. `exit` becomes readable when the program has ended.
  [[nodiscard]] int input() const noexcept { return launched_.input.get(); }
  [[nodiscard]] int output() const noexcept { return launched_.output.get(); }
  [[nodiscard]] int errors() const noexcept { return launched_.errors.get(); }
  [[nodiscard]] int exit() const noexcept { return exit_.get(); }
  void close_input() noexcept { launched_.input.reset(); }
  void close_output() noexcept { launched_.output.reset(); }
  void close_errors() noexcept { launched_.errors.reset(); }

  // To its process group; nothing once it was reaped.
  void signal(int number) noexcept;

  // Once `exit` was readable: kills what is left of its group, then reaps it. What the pipes hold
  // can still be read.
  [[nodiscard]] ProgramEnd reap();

 private:
  static constexpr Milliseconds kReapPatience{500};

  Launched launched_;
  OwnedDescriptor exit_;
  bool reaped_ = false;
};

}  // namespace outfall
