// Goal: a worker can be stopped where the system has no thread left for it. Method: a child that
// may have no more address space than it has, so that no thread's stack fits.

#include <csignal>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "daemon/second_signal.h"
#include "tests/support/sanitizers.h"

namespace outfall {
namespace {

using test::kAddressSanitizer;
using test::kThreadSanitizer;

constexpr int kStopped = 3;      // the stop went on to its end
constexpr int kNotRefused = 99;  // the test is at fault

// As all threads of a worker have them.
void block_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

void leave_no_room_for_a_thread() {
  std::ifstream statm("/proc/self/statm");
  rlim_t pages = 0;
  statm >> pages;
  constexpr rlim_t kForErrors = 1 << 20;
  const rlim_t most = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + kForErrors;
  const rlimit limit{most, most};
  ::setrlimit(RLIMIT_AS, &limit);
  try {
    std::thread([] { std::_Exit(kNotRefused); }).join();
  } catch (const std::exception&) {
    return;
  }
}

// In a child.
[[noreturn]] void stop(int second_signal) {
  block_signals();
  leave_no_room_for_a_thread();
  {
    const SecondSignal second(Logger::null());
    if (second_signal != 0) std::raise(second_signal);
  }
  std::_Exit(kStopped);
}

class SecondSignalWithoutThreads : public testing::Test {
 protected:
  void SetUp() override {
    if (kAddressSanitizer || kThreadSanitizer)
      GTEST_SKIP() << "a sanitizer needs more address space than the test leaves";
  }
};

TEST_F(SecondSignalWithoutThreads, TheStopGoesOnInsteadOfEndingWithAnError) {
  EXPECT_EXIT(stop(0), testing::ExitedWithCode(kStopped), "");
}

TEST_F(SecondSignalWithoutThreads, TheSecondOneEndsTheProcessAllTheSame) {
  for (const int signal : {SIGTERM, SIGINT})
    EXPECT_EXIT(stop(signal), testing::ExitedWithCode(130), "") << signal;
}

}  // namespace
}  // namespace outfall
