#include "daemon/second_signal.h"

#include <csignal>
#include <unistd.h>

namespace outfall {
namespace {

constexpr int kInterrupted = 130;
constexpr unsigned kLogSeconds = 1;

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

void end_process(int /*signal*/) {
  _exit(kInterrupted);
}

}  // namespace

SecondSignal::SecondSignal(Logger& log) : log_(log), thread_([this] { wait(); }) {
}

SecondSignal::~SecondSignal() {
  // Recognisable, because one from outside may arrive at the same time.
  pthread_sigqueue(thread_.native_handle(), SIGTERM, {.sival_ptr = this});
  thread_.join();
  for (const int signal : {SIGTERM, SIGINT}) std::signal(signal, end_process);
  const sigset_t signals = ending_signals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

void SecondSignal::wait() {
  const sigset_t signals = ending_signals();
  siginfo_t info{};
  int signal = -1;
  while (signal < 0) signal = sigwaitinfo(&signals, &info);
  if (info.si_code == SI_QUEUE && info.si_value.sival_ptr == this) return;
  // A log that nobody reads any more must not keep the process.
  std::signal(SIGALRM, end_process);
  alarm(kLogSeconds);
  log_.warning(
      "second signal: ending at once; what is in flight is left for others to take over and may be "
      "delivered again",
      {{"signal", signal == SIGTERM ? "SIGTERM" : "SIGINT"}});
  _exit(kInterrupted);
}

}  // namespace outfall
