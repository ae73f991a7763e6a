#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "core/clock.h"
#include "core/ids.h"
#include "tests/faults/history.h"
#include "tests/faults/simulation.h"
#include "tests/support/random.h"

namespace outfall::test::simulation {

// What everything in a simulation shares: virtual time with its events, chance, and the history.
// One thread.
class World {
 public:
  World(std::uint64_t seed, Flaw flaw, bool trace);

  const Flaw flaw;
  SeededRandom random;
  history::History history;
  std::vector<std::string> defects;

  [[nodiscard]] MonotonicTime now() const { return now_; }
  [[nodiscard]] history::Micros micros() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(now_.time_since_epoch()).count();
  }
  [[nodiscard]] std::uint64_t events() const { return events_; }

  // Events of one moment happen in the order in which they were asked for.
  void at(MonotonicTime when, std::function<void()> event);
  void after(MonotonicTime::duration pause, std::function<void()> event) {
    at(now_ + pause, std::move(event));
  }
  // Until nothing is left, `done` says so, or the time is over; true unless it was the latter.
  bool run(MonotonicTime until, const std::function<bool()>& done);

  [[nodiscard]] std::uint64_t up_to(std::uint64_t bound) { return random.up_to(bound); }
  [[nodiscard]] bool chance(double probability) {
    return static_cast<double>(random.next() >> 11U) * 0x1.0p-53 < probability;
  }
  [[nodiscard]] std::chrono::microseconds between(std::int64_t low_us, std::int64_t high_us) {
    return std::chrono::microseconds(
        low_us + static_cast<std::int64_t>(up_to(static_cast<std::uint64_t>(high_us - low_us))));
  }

  template <typename... Args>
  void trace(fmt::format_string<Args...> format, Args&&... args) {
    if (trace_) print(fmt::format(format, std::forward<Args>(args)...));
  }
  void defect(std::string text) {
    trace("DEFECT {}", text);
    defects.push_back(std::move(text));
  }

 private:
  struct Event {
    MonotonicTime at;
    std::uint64_t order;
    std::function<void()> run;
  };
  static bool later(const Event& a, const Event& b) {
    return a.at != b.at ? a.at > b.at : a.order > b.order;
  }
  void print(const std::string& text) const;

  const bool trace_;
  MonotonicTime now_{std::chrono::seconds{1000}};
  std::vector<Event> queue_;  // a heap
  std::uint64_t order_ = 0;
  std::uint64_t events_ = 0;
};

}  // namespace outfall::test::simulation
