#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
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
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  const Flaw flaw;
  SeededRandom random;
  history::History history;
  std::vector<std::string> defects;

  [[nodiscard]] MonotonicTime now() const { return now_; }
  [[nodiscard]] history::Micros micros() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(now_.time_since_epoch()).count();
  }
  [[nodiscard]] std::uint64_t events() const { return events_; }

  // Events of one moment happen in the order in which they were asked for. An event is anything
  // that can be called once.
  template <typename Action>
  void at(MonotonicTime when, Action action) {
    add(when, new EventOf<Action>(std::move(action)));  // NOLINT(cppcoreguidelines-owning-memory)
  }
  template <typename Action>
  void after(MonotonicTime::duration pause, Action action) {
    at(now_ + pause, std::move(action));
  }
  // Until nothing is left, `done` says so, or the time is over; true unless it was the latter.
  template <typename Done>
  bool run(MonotonicTime until, Done done) {
    while (!(queue_.empty() && now_queue_.empty()) && !done()) {
      if (!next(until)) return false;
    }
    return true;
  }

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
  // Of these there are two thousand in a run: the memory of one that is over is the next one's.
  struct Event {
    virtual ~Event() = default;
    virtual void run() = 0;
    static void* operator new(std::size_t bytes);
    static void operator delete(void* event, std::size_t bytes);
  };
  template <typename Action>
  struct EventOf final : Event {
    explicit EventOf(Action action_in) : action(std::move(action_in)) {}
    void run() override { action(); }
    Action action;
  };
  struct Due {
    MonotonicTime at;
    std::uint64_t order;
    Event* event;  // owned; sorting moves these about, which is dearer where it is told so
  };
  struct Later {
    bool operator()(const Due& a, const Due& b) const {
      return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
  };
  void add(MonotonicTime when, Event* event);
  // Runs the first one; false where that is due after `until`.
  bool next(MonotonicTime until);
  [[nodiscard]] Due take_first();
  void print(const std::string& text) const;

  const bool trace_;
  MonotonicTime now_{std::chrono::seconds{1000}};
  std::vector<Due> queue_;     // a heap
  std::deque<Due> now_queue_;  // those of this moment that were asked for in it: half of all
  std::uint64_t order_ = 0;
  std::uint64_t events_ = 0;
};

}  // namespace outfall::test::simulation
