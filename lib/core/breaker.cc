#include "core/breaker.h"

#include <algorithm>

#include "core/retry.h"

namespace outfall {
namespace {

// So many times the failures that open it do so however soon they come after an answer.
constexpr std::int32_t kMany = 10;

}  // namespace

std::string_view to_string(BreakerState state) noexcept {
  switch (state) {
    case BreakerState::closed:
      return "closed";
    case BreakerState::open:
      return "open";
    case BreakerState::half_open:
      return "half_open";
  }
  return "unknown";
}

bool Breaker::is_silent(MonotonicTime now) const noexcept {
  return !answered_at_ || now - *answered_at_ >= policy_.probe_initial;
}

Breaker::Admission Breaker::admit(MonotonicTime now) noexcept {
  if (state_ == BreakerState::closed) return Admission::send;
  if (state_ == BreakerState::half_open || now < probe_at_) return Admission::wait;
  state_ = BreakerState::half_open;
  return Admission::probe;
}

void Breaker::record(BreakerSignal signal, bool probe, MonotonicTime now, Random& random) {
  if (state_ == BreakerState::closed) {
    if (signal == BreakerSignal::answered) note_answer(now);
    if (signal == BreakerSignal::failure) ++failures_;
    const bool too_many =
        failures_ >= policy_.failures && (is_silent(now) || failures_ / kMany >= policy_.failures);
    if (signal == BreakerSignal::unavailable || (signal == BreakerSignal::failure && too_many))
      open(now, random);
    return;
  }
  if (!probe || state_ != BreakerState::half_open) return;
  if (signal == BreakerSignal::answered) return close(now);
  if (signal != BreakerSignal::nothing) ++failed_probes_;
  wait_for_probe(now, random);
}

void Breaker::return_probe(MonotonicTime now) noexcept {
  if (state_ != BreakerState::half_open) return;
  state_ = BreakerState::open;
  probe_at_ = now;
}

std::optional<MonotonicTime> Breaker::next_probe() const noexcept {
  if (state_ != BreakerState::open) return std::nullopt;
  return probe_at_;
}

MonotonicTime::duration Breaker::open_time(MonotonicTime now) const noexcept {
  if (state_ == BreakerState::closed) return open_before_;
  return open_before_ + (now - opened_at_);
}

void Breaker::open(MonotonicTime now, Random& random) {
  opened_at_ = now;
  failures_ = 0;
  failed_probes_ = 0;
  wait_for_probe(now, random);
}

void Breaker::wait_for_probe(MonotonicTime now, Random& random) {
  const Milliseconds bound = doubled(policy_.probe_initial, policy_.probe_max, failed_probes_ + 1);
  state_ = BreakerState::open;
  probe_at_ = now + between(std::max(bound / 2, Milliseconds{1}), bound, random);
}

void Breaker::note_answer(MonotonicTime now) noexcept {
  failures_ = 0;
  answered_at_ = now;
}

void Breaker::close(MonotonicTime now) noexcept {
  note_answer(now);
  open_before_ += now - opened_at_;
  state_ = BreakerState::closed;
}

}  // namespace outfall
