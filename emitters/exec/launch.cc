#include "emitters/exec/launch.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <stdexcept>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <climits>

namespace outfall {
namespace {

constexpr int kFirstFree = STDERR_FILENO + 1;
constexpr int kNoExec = 127;
// Descriptors that are looked at one by one where the kernel is older than close_range.
constexpr rlim_t kDescriptorsLookedAt = 65'536;

// What keeps the program from being started, as the child reports it.
struct Failure {
  enum Step : int { chdir, exec } step;
  int error;
};

struct Pipe {
  OwnedDescriptor read;
  OwnedDescriptor write;
};

// Everything that the child needs, made before the fork: after it only calls that are safe in a
// signal handler are allowed, since other threads may have held any lock.
struct ChildPlan {
  const char* path;
  char* const* arguments;
  char* const* environment;
  const char* folder;  // null: stay
  int input;
  int output;
  int errors;
  int report;
  pid_t parent;
};

std::runtime_error cannot_start(const std::string& what) {
  return std::runtime_error("the program cannot be started: " + what);
}

// Above the standard descriptors, which the child's are put onto.
OwnedDescriptor above_standard(int descriptor) {
  if (descriptor >= kFirstFree) return OwnedDescriptor(descriptor);
  const int moved = ::fcntl(descriptor, F_DUPFD_CLOEXEC, kFirstFree);
  const int error = errno;
  ::close(descriptor);
  if (moved < 0) throw cannot_start("fcntl: " + text_of_error(error));
  return OwnedDescriptor(moved);
}

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw cannot_start("pipe: " + text_of_error(errno));
  Pipe made;
  OwnedDescriptor second(ends[1]);
  made.read = above_standard(ends[0]);
  made.write = above_standard(second.release());
  return made;
}

void set_nonblocking(const OwnedDescriptor& descriptor) {
  if (::fcntl(descriptor.get(), F_SETFL, O_NONBLOCK) != 0) {
    throw cannot_start("fcntl: " + text_of_error(errno));
  }
}

// Null-terminated, pointing into `texts`.
std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

void reset_signals() noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number <= SIGRTMAX; ++number) ::sigaction(number, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): after the fork there is one thread
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Libraries may have opened descriptors without O_CLOEXEC.
void close_the_rest_on_exec() noexcept {
  if (::close_range(kFirstFree, UINT_MAX, CLOSE_RANGE_CLOEXEC) == 0) return;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const auto end = static_cast<int>(std::min(limit.rlim_cur, kDescriptorsLookedAt));
  for (int descriptor = kFirstFree; descriptor < end; ++descriptor) {
    ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  }
}

[[noreturn]] void give_up(const ChildPlan& plan, Failure::Step step) noexcept {
  const Failure failure{step, errno};
  [[maybe_unused]] const ssize_t written = ::write(plan.report, &failure, sizeof failure);
  ::_exit(kNoExec);
}

[[noreturn]] void become_program(const ChildPlan& plan) noexcept {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The worker may have ended before the line above.
  if (::getppid() != plan.parent) ::_exit(kNoExec);
  reset_signals();
  ::dup2(plan.input, STDIN_FILENO);
  ::dup2(plan.output, STDOUT_FILENO);
  ::dup2(plan.errors, STDERR_FILENO);
  close_the_rest_on_exec();
  if (plan.folder != nullptr && ::chdir(plan.folder) != 0) give_up(plan, Failure::chdir);
  ::execve(plan.path, plan.arguments, plan.environment);
  give_up(plan, Failure::exec);
}

// One that hangs inside the kernel is not waited for.
void kill_and_reap(pid_t pid, bool hangs) {
  ::kill(-pid, SIGKILL);
  while (::waitpid(pid, nullptr, hangs ? WNOHANG : 0) < 0 && errno == EINTR) {
  }
}

// Throws when the child could not become the program.
void await_exec(pid_t pid, const OwnedDescriptor& report, const ExecSettings& settings,
                const std::string& path) {
  Failure failure{};
  pollfd polled{report.get(), POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&polled, 1, static_cast<int>(kLaunchPatience.count()));
  } while (ready < 0 && errno == EINTR);
  const ssize_t got = ready > 0 ? ::read(report.get(), &failure, sizeof failure) : -1;
  if (got == 0) return;
  kill_and_reap(pid, got < 0);
  if (got != static_cast<ssize_t>(sizeof failure)) {
    throw cannot_start(path + ": it did not begin to run in time");
  }
  throw cannot_start(
      (failure.step == Failure::chdir ? "working_directory " + settings.working_directory : path) +
      ": " + text_of_error(failure.error));
}

}  // namespace

OwnedDescriptor& OwnedDescriptor::operator=(OwnedDescriptor&& other) noexcept {
  if (this != &other) {
    reset();
    descriptor_ = other.release();
  }
  return *this;
}

int OwnedDescriptor::release() noexcept {
  return std::exchange(descriptor_, -1);
}

void OwnedDescriptor::reset() noexcept {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

Launched launch(const ExecSettings& settings) {
  const ProgramFile file = find_program(settings);
  if (!file.problem.empty()) throw cannot_start(file.problem);
  Pipe input = make_pipe();
  Pipe output = make_pipe();
  Pipe errors = make_pipe();
  Pipe report = make_pipe();
  set_nonblocking(input.write);
  set_nonblocking(output.read);
  set_nonblocking(errors.read);
  std::vector<std::string> arguments = settings.command;
  std::vector<std::string> environment = settings.environment;
  const std::vector<char*> argument_pointers = pointers_to(arguments);
  const std::vector<char*> environment_pointers = pointers_to(environment);
  const std::string& folder = settings.working_directory;
  const ChildPlan plan{file.path.c_str(),
                       argument_pointers.data(),
                       environment_pointers.data(),
                       folder.empty() ? nullptr : folder.c_str(),
                       input.read.get(),
                       output.write.get(),
                       errors.write.get(),
                       report.write.get(),
                       ::getpid()};
  const pid_t pid = ::fork();
  if (pid < 0) throw cannot_start("fork: " + text_of_error(errno));
  if (pid == 0) become_program(plan);
  // Here as well as in the child, so that it holds for whoever is first.
  ::setpgid(pid, pid);
  report.write.reset();
  await_exec(pid, report.read, settings, file.path);
  return {pid, std::move(input.write), std::move(output.read), std::move(errors.read)};
}

}  // namespace outfall
