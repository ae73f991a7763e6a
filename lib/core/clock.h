#pragma once

#include <chrono>

namespace outfall {

// Wall-clock instants carry microseconds, as PostgreSQL's timestamptz does.
using WallTime = std::chrono::sys_time<std::chrono::microseconds>;
using MonotonicTime = std::chrono::steady_clock::time_point;
using Milliseconds = std::chrono::milliseconds;

// The only way in which outfall reads the time, passed in by constructor so that tests can move it.
// Safe to call from any thread; never blocks. Decisions about leases use the database's clock; this
// one bounds local waiting (monotonic) and stamps what leaves the process (wall).
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual MonotonicTime monotonic() const noexcept = 0;
  [[nodiscard]] virtual WallTime wall() const noexcept = 0;
};

// The clocks of this machine; there for as long as the process is.
[[nodiscard]] const Clock& system_clock();

}  // namespace outfall
