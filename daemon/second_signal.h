#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "telemetry/log.h"

namespace outfall {

// What comes while a worker stops. Another SIGTERM or SIGINT, unless it comes within 50 ms and so
// is the first one once more (timeout(1) sends it to its child and to its group), ends the process
// at once with 130, after a line in the log that says so, for which at most a second is waited;
// SIGHUP changes nothing, and a line says that once. Made and destroyed by a thread that has the
// three signals blocked, as all others have; the constructor does not throw. From its end on, for
// what the process still does, SIGTERM and SIGINT are unblocked in that thread and end it without a
// line; so they do from the start where the system has no thread left for this.
class SecondSignal {
 public:
  explicit SecondSignal(Logger& log) noexcept;
  ~SecondSignal();
  SecondSignal(const SecondSignal&) = delete;
  SecondSignal& operator=(const SecondSignal&) = delete;

 private:
  void wait() noexcept;
  void say_no_reload() noexcept;
  [[noreturn]] void end_now(int signal) noexcept;

  Logger& log_;
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  std::atomic<bool> over_{false};
  std::thread thread_;
  std::thread no_reload_;  // of thread_ until that has ended
};

}  // namespace outfall
