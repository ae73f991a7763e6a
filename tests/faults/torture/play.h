#pragma once

#include <cstdint>
#include <memory>

#include "tests/faults/torture/faults.h"

namespace outfall::torture {

// One fault on its way through a run: waits for its time and its step, begins, is healed and
// recorded. Used by the run's thread only.
class Play {
 public:
  enum class State : std::uint8_t { waiting, wanted, on, over, missed };

  explicit Play(std::unique_ptr<Fault> fault) : fault_(std::move(fault)) {}

  // To be called every few milliseconds with the time since the moment from which the injection
  // counts. Blocks for as long as its fault does when it begins and ends.
  void advance(std::int64_t elapsed_us);

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] bool ended() const { return state_ >= State::over; }
  [[nodiscard]] const Fault& fault() const { return *fault_; }

 private:
  void become(State state);

  std::unique_ptr<Fault> fault_;
  State state_ = State::waiting;
  std::int64_t since_us_ = 0;  // of the state
};

}  // namespace outfall::torture
