#include "daemon/second_signal.h"

#include <csignal>
#include <ctime>
#include <exception>
#include <initializer_list>
#include <unistd.h>

namespace outfall {
namespace {

constexpr int kInterrupted = 130;
constexpr timespec kLogTime{1, 0};
constexpr std::chrono::milliseconds kEcho{50};

sigset_t set_of(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  return set;
}

void end_process(int /*signal*/) {
  _exit(kInterrupted);
}

// From now on SIGTERM and SIGINT end the process by themselves.
void let_signals_end_process() {
  for (const int signal : {SIGTERM, SIGINT}) std::signal(signal, end_process);
  const sigset_t set = set_of({SIGTERM, SIGINT});
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace

SecondSignal::SecondSignal(Logger& log) noexcept : log_(log) {
  try {
    thread_ = std::thread([this] { wait(); });
  } catch (const std::exception& error) {
    log_.warning("a second signal will end the process without a line in the log",
                 {{"error", error.what()}});
    let_signals_end_process();
  }
}

SecondSignal::~SecondSignal() {
  if (!thread_.joinable()) return;
  over_ = true;
  pthread_kill(thread_.native_handle(), SIGTERM);
  thread_.join();
  let_signals_end_process();
  if (no_reload_.joinable()) no_reload_.join();
}

void SecondSignal::wait() noexcept {
  const sigset_t signals = set_of({SIGTERM, SIGINT, SIGHUP});
  while (true) {
    const int signal = sigwaitinfo(&signals, nullptr);
    if (over_) return;
    if (signal == SIGHUP) say_no_reload();
    if (signal != SIGTERM && signal != SIGINT) continue;
    if (std::chrono::steady_clock::now() - begun_ > kEcho) end_now(signal);
  }
}

// Not in the thread that waits: a log that nobody reads would keep it from taking the next signal.
void SecondSignal::say_no_reload() noexcept {
  if (no_reload_.joinable()) return;
  try {
    no_reload_ =
        std::thread([this] { log_.warning("stopping; the configuration is not read again"); });
  } catch (const std::exception&) {
    // Without a thread there is no line.
  }
}

// A log that nobody reads any more must not keep the process: the line has a second.
void SecondSignal::end_now(int signal) noexcept {
  try {
    std::thread([this, signal] {
      log_.warning(
          "second signal: ending at once; what is in flight is left for others to take over and "
          "may be delivered again",
          {{"signal", signal == SIGTERM ? "SIGTERM" : "SIGINT"}});
      _exit(kInterrupted);
    }).detach();
    const sigset_t signals = set_of({SIGTERM, SIGINT});
    sigtimedwait(&signals, nullptr, &kLogTime);
  } catch (const std::exception&) {
    // Without a thread there is no line.
  }
  _exit(kInterrupted);
}

}  // namespace outfall
