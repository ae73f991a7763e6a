#include "emitters/exec/program.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <poll.h>
#include <stdexcept>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

namespace outfall {
namespace {

// A descriptor for the end of a process. By its number, since headers of glibc before 2.36 lack the
// function.
int open_process(pid_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

}  // namespace

Program::Program(const ExecSettings& settings)
    : launched_(launch(settings)), exit_(open_process(launched_.pid)) {
  if (exit_.is_open()) return;
  const std::string why = std::generic_category().message(errno);
  signal(SIGKILL);
  ::waitpid(launched_.pid, nullptr, 0);
  throw std::runtime_error("the program cannot be watched: pidfd_open: " + why);
}

Program::~Program() {
  if (reaped_) return;
  signal(SIGKILL);
  // A process that hangs inside the kernel does not die of it; the worker does not wait for that.
  pollfd polled{exit_.get(), POLLIN, 0};
  while (::poll(&polled, 1, static_cast<int>(kReapPatience.count())) < 0 && errno == EINTR) {
  }
  ::waitpid(launched_.pid, nullptr, WNOHANG);
}

void Program::signal(int number) noexcept {
  if (!reaped_) ::kill(-launched_.pid, number);
}

ProgramEnd Program::reap() {
  // Before it is reaped, as its number may be another process's afterwards.
  signal(SIGKILL);
  int status = 0;
  while (::waitpid(launched_.pid, &status, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    const char* name = ::sigdescr_np(number);
    return {false, "signal " + std::to_string(number) + " (" + (name ? name : "unknown") + ")"};
  }
  const int code = WEXITSTATUS(status);
  return {code == 0, "exit status " + std::to_string(code)};
}

}  // namespace outfall
