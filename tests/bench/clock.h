#pragma once

#include <chrono>
#include <ctime>

namespace outfall::bench {

// Waits for a point in time: what keeps a schedule is a part of what is measured, and no condition
// tells when the next producer is due.
inline void wait_until_time(std::chrono::steady_clock::time_point when) {
  const auto since_boot =
      std::chrono::duration_cast<std::chrono::nanoseconds>(when.time_since_epoch()).count();
  const timespec at{since_boot / 1'000'000'000, since_boot % 1'000'000'000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) != 0) {
  }
}

}  // namespace outfall::bench
