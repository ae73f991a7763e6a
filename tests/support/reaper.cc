#include "tests/support/reaper.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

namespace outfall::test::reaper {

namespace {

enum class Operation : char { watch_process, forget_process, watch_folder, forget_folder };

// One message on the pipe. Smaller than PIPE_BUF, so that writes of several threads do not mix.
struct Message {
  Operation operation;
  pid_t pid;
  int signal;
  std::array<char, 256> folder;
};

struct Process {
  pid_t pid;
  int signal;
};

constexpr std::size_t kMaxEntries = 512;

// The reaper is forked from a process that may have threads, so everything from here to
// run_reaper() keeps to what is safe in a signal handler: system calls and fixed memory.
std::array<Process, kMaxEntries> g_processes;
std::array<std::array<char, 256>, kMaxEntries> g_folders;

void note(const Message& message) {
  switch (message.operation) {
    case Operation::watch_process:
      for (Process& slot : g_processes) {
        if (slot.pid == 0) {
          slot = {message.pid, message.signal};
          return;
        }
      }
      return;
    case Operation::forget_process:
      for (Process& slot : g_processes) {
        if (slot.pid == message.pid) {
          slot = {};
        }
      }
      return;
    case Operation::watch_folder:
      for (auto& slot : g_folders) {
        if (slot[0] == '\0') {
          slot = message.folder;
          return;
        }
      }
      return;
    case Operation::forget_folder:
      for (auto& slot : g_folders) {
        if (std::strcmp(slot.data(), message.folder.data()) == 0) {
          slot[0] = '\0';
        }
      }
      return;
  }
}

bool any_process_left() {
  for (const Process& process : g_processes) {
    if (process.pid != 0 && ::kill(process.pid, 0) == 0) {
      return true;
    }
  }
  return false;
}

void end_processes() {
  for (const Process& process : g_processes) {
    if (process.pid != 0) {
      ::kill(process.pid, process.signal);
      ::kill(-process.pid, SIGCONT);
    }
  }
  for (int tries = 0; tries < 500 && any_process_left(); ++tries) {
    ::usleep(10'000);
  }
  for (const Process& process : g_processes) {
    if (process.pid != 0) {
      ::kill(-process.pid, SIGKILL);
    }
  }
}

void remove_folders() {
  for (const auto& folder : g_folders) {
    if (folder[0] == '\0') {
      continue;
    }
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl("/bin/rm", "rm", "-rf", "--", folder.data(), static_cast<char*>(nullptr));
      ::_exit(127);
    }
    if (child > 0) {
      ::waitpid(child, nullptr, 0);
    }
  }
}

[[noreturn]] void run_reaper(int input) {
  ::setsid();
  ::dup2(input, 3);
  // Its own standard streams: whoever waits for the end of the test's output must not wait for
  // this.
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd <= 2; ++fd) {
    ::dup2(null, fd);
  }
  ::close_range(4, ~0U, 0);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT}) {
    ::signal(signal, SIG_IGN);
  }
  Message message{};
  while (true) {
    const ssize_t got = ::read(3, &message, sizeof message);
    if (got == static_cast<ssize_t>(sizeof message)) {
      note(message);
    } else if (got == 0 || errno != EINTR) {
      break;
    }
  }
  end_processes();
  remove_folders();
  ::_exit(0);
}

int start_reaper() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw std::system_error(errno, std::generic_category(), "pipe2 for the reaper");
  }
  const pid_t child = ::fork();
  if (child < 0) {
    throw std::system_error(errno, std::generic_category(), "fork for the reaper");
  }
  if (child == 0) {
    // A grandchild belongs to init, out of reach of those who kill the test's process tree.
    if (::fork() == 0) {
      run_reaper(ends[0]);
    }
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  ::close(ends[0]);
  return ends[1];
}

void send(const Message& message) {
  static const int pipe = start_reaper();
  if (::write(pipe, &message, sizeof message) != static_cast<ssize_t>(sizeof message)) {
    throw std::system_error(errno, std::generic_category(), "write to the reaper");
  }
}

Message folder_message(Operation operation, const std::string& folder) {
  Message message{};
  message.operation = operation;
  if (folder.size() >= message.folder.size()) {
    throw std::length_error("path too long for the reaper: " + folder);
  }
  folder.copy(message.folder.data(), folder.size());
  return message;
}

}  // namespace

void watch_process(pid_t pid, int signal) {
  Message message{};
  message.operation = Operation::watch_process;
  message.pid = pid;
  message.signal = signal;
  send(message);
}

void forget_process(pid_t pid) {
  Message message{};
  message.operation = Operation::forget_process;
  message.pid = pid;
  send(message);
}

void watch_folder(const std::filesystem::path& folder) {
  send(folder_message(Operation::watch_folder, folder.string()));
}

void forget_folder(const std::filesystem::path& folder) {
  send(folder_message(Operation::forget_folder, folder.string()));
}

}  // namespace outfall::test::reaper
