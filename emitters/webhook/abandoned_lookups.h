#pragma once

#include <chrono>
#include <cstddef>
#include <deque>

#include "core/clock.h"

namespace outfall::webhook {

// Lookups of names that nobody waits for any more. libcurl has a thread for each lookup and leaves
// it alone when its transfer ends; with a name server that hangs they would add up without an end.
// When such a thread ends cannot be seen, so it counts for as long as the C library takes to give
// up with its usual settings. Those that are waited for are bounded by the transfers. Used by one
// thread.
class AbandonedLookups {
 public:
  static constexpr std::size_t kMost = 256;
  static constexpr std::chrono::seconds kLongest{30};

  void add(MonotonicTime now) noexcept;
  // Whether another lookup may begin.
  [[nodiscard]] bool leave_room(MonotonicTime now) noexcept;

 private:
  std::deque<MonotonicTime> since_;
};

}  // namespace outfall::webhook
