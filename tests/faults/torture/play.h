#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "tests/faults/torture/history.h"
#include "tests/faults/torture/plan.h"

namespace outfall::torture {

// What a run, or a test, can play: inject(), then tick() every few milliseconds, then heal() and
// record(). Used by one thread.
class Playable {
 public:
  Playable() = default;
  Playable(const Playable&) = delete;
  Playable& operator=(const Playable&) = delete;
  virtual ~Playable() = default;

  // Begins; false while the moment has not come yet (a step that a worker has not reached).
  virtual bool inject() = 0;
  virtual void tick() = 0;
  virtual void heal() = 0;
  // In place of these: the moment has not come, and nobody must be left who waits for it.
  virtual void give_up() = 0;
  // Its line of the history.
  virtual void record() = 0;
  [[nodiscard]] virtual const Injection& injection() const = 0;
};

// One that may strike and meet nobody. It has begun once what it is about has been seen, and is
// missed where that does not happen. `Base` is a Playable that knows how to strike.
template <typename Base>
class Witnessed : public Base {
 public:
  using Base::Base;
  bool inject() override {
    if (!struck_) struck_ = Base::inject();
    if (!struck_) return false;
    this->tick();
    return met_ = happened();
  }
  // What it did all the same may have had consequences.
  void give_up() override {
    if (!struck_) return Base::give_up();
    this->heal();
    this->record();
  }

 protected:
  // It struck and met nobody: once more, at the next worker that gets to the step.
  void strike_again() {
    struck_ = false;
    this->arm_again();
  }
  // Whether it has happened since the fault struck; asked every few milliseconds, with a tick()
  // before each time.
  [[nodiscard]] virtual bool happened() = 0;
  // Whether that has been seen.
  [[nodiscard]] bool met() const { return met_; }

 private:
  bool struck_ = false;
  bool met_ = false;
};

// One fault on its way through a run: waits for its time and its step, begins, is healed and
// recorded. Used by the run's thread only.
class Play {
 public:
  enum class State : std::uint8_t { waiting, wanted, on, over, missed };

  // With a clock of its own for tests, in microseconds.
  explicit Play(std::unique_ptr<Playable> fault, std::function<std::int64_t()> clock = now_us)
      : fault_(std::move(fault)), clock_(std::move(clock)) {}

  // To be called every few milliseconds with the time since the moment from which the injection
  // counts. Blocks for as long as its fault does when it begins and ends.
  void advance(std::int64_t elapsed_us);

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] bool ended() const { return state_ >= State::over; }
  [[nodiscard]] const Playable& fault() const { return *fault_; }

 private:
  void become(State state);

  std::unique_ptr<Playable> fault_;
  std::function<std::int64_t()> clock_;
  State state_ = State::waiting;
  std::int64_t since_us_ = 0;  // of the state
};

}  // namespace outfall::torture
