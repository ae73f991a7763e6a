#include "tests/support/child_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "tests/support/reaper.h"

namespace outfall::test {

namespace {

[[noreturn]] void fail(const std::string& what, int error = errno) {
  throw std::system_error(error, std::generic_category(), what);
}

// Everything that the child needs between fork and exec, made before the fork: after it, only
// system calls are safe, since the test may have threads.
struct Launch {
  std::vector<std::string> command;
  std::vector<std::string> environment;
  std::vector<char*> argv;
  std::vector<char*> envp;
  std::string working_folder;
  std::optional<Account> account;
  int input = -1;
  int output = -1;
  int error = -1;
  int failure = -1;  // the write end of a pipe that reports why exec failed
};

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& string : strings) {
    result.push_back(string.data());
  }
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> merged_environment(const ChildOptions& options) {
  std::map<std::string, std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    // What somebody has set for a worker of their own would change what is tested.
    if (text.starts_with("OUTFALL_") && !text.starts_with("OUTFALL_TEST_")) continue;
    const std::size_t equals = text.find('=');
    variables[text.substr(0, equals)] = equals == std::string::npos ? "" : text.substr(equals + 1);
  }
  for (const std::string& name : options.without_environment) {
    variables.erase(name);
  }
  for (const auto& [name, value] : options.environment) {
    variables[name] = value;
  }
  std::vector<std::string> result;
  for (const auto& [name, value] : variables) {
    result.push_back(name + "=" + value);
  }
  return result;
}

int open_capture(const std::filesystem::path& file, const char* name) {
  const int fd = file.empty() ? ::memfd_create(name, MFD_CLOEXEC)
                              : ::open(file.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) {
    fail("open " + (file.empty() ? std::string("memory for output") : file.string()));
  }
  return fd;
}

int open_input(const std::string& text) {
  const int fd = ::memfd_create("stdin", MFD_CLOEXEC);
  if (fd < 0 || ::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    fail("memory for standard input");
  }
  ::lseek(fd, 0, SEEK_SET);
  return fd;
}

[[noreturn]] void become_child(const Launch& launch) {
  ::setpgid(0, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::dup2(launch.input, 0);
  ::dup2(launch.output, 1);
  ::dup2(launch.error, 2);
  bool ready = launch.working_folder.empty() || ::chdir(launch.working_folder.c_str()) == 0;
  if (ready && launch.account) {
    ready = ::setgroups(0, nullptr) == 0 && ::setgid(launch.account->group) == 0 &&
            ::setuid(launch.account->user) == 0;
  }
  if (ready) {
    ::execvpe(launch.argv[0], launch.argv.data(), launch.envp.data());
  }
  const int error = errno;
  [[maybe_unused]] const ssize_t written = ::write(launch.failure, &error, sizeof error);
  ::_exit(127);
}

// The text of a captured stream, read from its start without moving the child's own offset.
std::string content(int fd) {
  struct stat info {};
  if (fd < 0 || ::fstat(fd, &info) != 0) {
    return {};
  }
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t got =
        ::pread(fd, text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (got <= 0) {
      break;
    }
    done += static_cast<std::size_t>(got);
  }
  text.resize(done);
  return text;
}

std::string tail(const std::string& text) {
  constexpr std::size_t kTail = 2000;
  return text.size() <= kTail ? text : "…" + text.substr(text.size() - kTail);
}

}  // namespace

std::optional<Account> account_for_child(const std::string& user) {
  if (user.empty() || ::geteuid() != 0) {
    return std::nullopt;
  }
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 4096> strings{};
  ::getpwnam_r(user.c_str(), &entry, strings.data(), strings.size(), &found);
  if (found == nullptr) {
    throw std::runtime_error("no such user: " + user);
  }
  return Account{found->pw_uid, found->pw_gid};
}

std::string ExitStatus::to_string() const {
  return code ? "exit code " + std::to_string(*code) : "signal " + std::to_string(*signal);
}

ChildProcess::ChildProcess(std::vector<std::string> command, const ChildOptions& options)
    : name_(command.at(0)) {
  Launch launch;
  launch.command = std::move(command);
  launch.environment = merged_environment(options);
  launch.argv = pointers(launch.command);
  launch.envp = pointers(launch.environment);
  launch.working_folder = options.working_folder.string();
  launch.account = account_for_child(options.user);

  output_ = open_capture(options.output_file, "stdout");
  error_ = !options.error_file.empty() && options.error_file == options.output_file
               ? ::fcntl(output_, F_DUPFD_CLOEXEC, 0)
               : open_capture(options.error_file, "stderr");
  launch.output = output_;
  launch.error = error_;
  if (options.input_pipe) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      fail("pipe2");
    }
    launch.input = ends[0];
    input_ = ends[1];
  } else {
    launch.input = open_input(options.input.value_or(""));
  }
  std::array<int, 2> failure{};
  if (::pipe2(failure.data(), O_CLOEXEC) != 0) {
    fail("pipe2");
  }
  launch.failure = failure[1];

  pid_ = ::fork();
  if (pid_ == 0) {
    become_child(launch);
  }
  const int fork_error = errno;
  ::close(launch.input);
  ::close(failure[1]);
  int error = pid_ < 0 ? fork_error : 0;
  if (pid_ > 0) {
    ::setpgid(pid_, pid_);
    reaper::watch_process(pid_, options.crash_signal);
    // Ends with the exec, which closes the child's end of the pipe, or with the reason why not.
    while (::read(failure[0], &error, sizeof error) < 0 && errno == EINTR) {
    }
  }
  ::close(failure[0]);
  if (error != 0) {
    if (pid_ > 0) {
      wait();
    }
    close_input();
    ::close(output_);
    ::close(error_);
    fail("start " + name_, error);
  }
}

ChildProcess::~ChildProcess() {
  if (!collect()) {
    ::kill(-pid_, SIGKILL);
    while (!collect()) {
      ::usleep(1000);
    }
  }
  close_input();
  ::close(output_);
  ::close(error_);
}

bool ChildProcess::collect() {
  if (status_) {
    return true;
  }
  // The reaper forgets the pid before the kernel may give it to somebody else.
  siginfo_t info{};
  if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid == 0) {
    return false;
  }
  reaper::forget_process(pid_);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  status_ = WIFEXITED(status) ? ExitStatus{WEXITSTATUS(status), std::nullopt}
                              : ExitStatus{std::nullopt, WTERMSIG(status)};
  return true;
}

bool ChildProcess::running() {
  return !collect();
}

void ChildProcess::signal(int number) {
  if (!collect()) {
    ::kill(pid_, number);
  }
}

void ChildProcess::signal_group(int number) {
  if (!collect()) {
    ::kill(-pid_, number);
  }
}

ExitStatus ChildProcess::kill() {
  signal_group(SIGKILL);
  return wait();
}

ExitStatus ChildProcess::wait(std::chrono::milliseconds deadline) {
  if (!holds_within([this] { return collect(); }, deadline)) {
    throw TimedOut(name_ + " still runs after " + std::to_string(deadline.count()) +
                   " ms; it wrote: " + tail(output() + error_output()));
  }
  return *status_;
}

std::string ChildProcess::output() const {
  return content(output_);
}

std::string ChildProcess::error_output() const {
  return content(error_);
}

void ChildProcess::wait_for_output(const std::string& text, std::chrono::milliseconds deadline) {
  const auto written = [&] {
    return output().find(text) != std::string::npos ||
           error_output().find(text) != std::string::npos;
  };
  bool ended = false;
  // The order matters: what it wrote last is there when its end is seen.
  const auto written_or_ended = [&] {
    ended = collect();
    return written() || ended;
  };
  const bool in_time = holds_within(written_or_ended, deadline);
  if (!written()) {
    throw TimedOut(name_ + (in_time ? " ended (" + status_->to_string() + ")" : " runs") +
                   " and did not write \"" + text +
                   "\"; it wrote: " + tail(output() + error_output()));
  }
}

void ChildProcess::write_input(const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = ::write(input_, text.data() + done, text.size() - done);
    if (written < 0 && errno != EINTR) {
      fail("write to " + name_);
    }
    done += written > 0 ? static_cast<std::size_t>(written) : 0;
  }
}

void ChildProcess::close_input() {
  if (input_ >= 0) {
    ::close(std::exchange(input_, -1));
  }
}

Finished run(std::vector<std::string> command, const ChildOptions& options,
             std::chrono::milliseconds deadline) {
  ChildProcess child(std::move(command), options);
  const ExitStatus status = child.wait(deadline);
  return {status, child.output(), child.error_output()};
}

}  // namespace outfall::test
