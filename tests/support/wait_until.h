#pragma once

#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>

namespace outfall::test {

// Long enough for a loaded two-core machine under a sanitizer; a test that passes never waits it
// out.
inline constexpr std::chrono::milliseconds kDefaultDeadline{30'000};

// What wait_until() throws: a failed GoogleTest with the words of `what`.
class TimedOut : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Calls `condition` until it holds, every millisecond at first and every 20 ms later, and throws
// TimedOut when it does not within `deadline`. The only way in which a test waits: there are no
// sleeps, so a fast machine is fast and a slow one is not wrong. `condition` may throw.
void wait_until(const std::function<bool()>& condition, const std::string& what,
                std::chrono::milliseconds deadline = kDefaultDeadline);

// The same as an answer, for tests that expect the condition not to come about.
[[nodiscard]] bool holds_within(const std::function<bool()>& condition,
                                std::chrono::milliseconds deadline);

}  // namespace outfall::test
