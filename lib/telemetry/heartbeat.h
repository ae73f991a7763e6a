#pragma once

#include <atomic>
#include <chrono>

#include <prometheus/gauge.h>

#include "core/clock.h"

namespace outfall {

// Tells whether the main loop still turns: the loop calls beat() on every turn, also when it has
// nothing to do; /livez and the service manager's watchdog ask for the age of the last one. Safe to
// use from any thread, never blocks. `timestamp` is outfall_heartbeat_timestamp_seconds and, like
// the clock, outlives this.
class Heartbeat {
 public:
  Heartbeat(const Clock& clock, prometheus::Gauge& timestamp)
      : clock_(clock), timestamp_(timestamp) {
    beat();
  }

  // The main loop has turned.
  void beat() noexcept {
    last_.store(clock_.monotonic().time_since_epoch().count(), std::memory_order_relaxed);
    timestamp_.Set(std::chrono::duration<double>(clock_.wall().time_since_epoch()).count());
  }

  // Since the last turn, by the monotonic clock.
  [[nodiscard]] Milliseconds age() const noexcept {
    const MonotonicTime last{MonotonicTime::duration{last_.load(std::memory_order_relaxed)}};
    return std::chrono::duration_cast<Milliseconds>(clock_.monotonic() - last);
  }

 private:
  const Clock& clock_;
  prometheus::Gauge& timestamp_;
  std::atomic<MonotonicTime::rep> last_{0};
};

}  // namespace outfall
