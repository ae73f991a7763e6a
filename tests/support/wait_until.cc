#include "tests/support/wait_until.h"

#include <algorithm>
#include <thread>

namespace outfall::test {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

bool holds_within(const std::function<bool()>& condition, milliseconds deadline) {
  const auto end = steady_clock::now() + deadline;
  milliseconds pause{1};
  while (!condition()) {
    if (steady_clock::now() >= end) {
      return false;
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, milliseconds{20});
  }
  return true;
}

void wait_until(const std::function<bool()>& condition, const std::string& what,
                milliseconds deadline) {
  if (!holds_within(condition, deadline)) {
    throw TimedOut("timed out after " + std::to_string(deadline.count()) + " ms waiting for " +
                   what);
  }
}

}  // namespace outfall::test
