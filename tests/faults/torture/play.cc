#include "tests/faults/torture/play.h"

#include <chrono>

namespace outfall::torture {

namespace {

// To reach a point. Long enough for a slow machine, since a fault that does not strike fails its
// run.
constexpr std::chrono::microseconds kPointDeadline = std::chrono::seconds{60};

}  // namespace

void Play::become(State state) {
  state_ = state;
  since_us_ = clock_();
}

void Play::advance(std::int64_t elapsed_us) {
  const Injection& injection = fault_->injection();
  if (state_ == State::waiting && elapsed_us >= injection.after_ms * 1000) become(State::wanted);
  if (state_ == State::wanted) {
    if (fault_->inject()) {
      become(State::on);
    } else if (clock_() - since_us_ > kPointDeadline.count()) {
      fault_->give_up();
      become(State::missed);
    }
  }
  if (state_ != State::on) return;
  fault_->tick();
  if (clock_() - since_us_ < injection.lasts_ms * 1000) return;
  fault_->heal();
  fault_->record();
  become(State::over);
}

}  // namespace outfall::torture
