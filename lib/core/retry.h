#pragma once

#include <cstdint>

#include "core/clock.h"
#include "core/ids.h"

namespace outfall {

// When a failed entry is tried again; one per stream, from `retry.*` of its settings.
struct RetryPolicy {
  Milliseconds initial{1000};      // bound of the first pause
  Milliseconds max{300'000};       // bound of every pause
  std::int32_t max_attempts = 20;  // counted attempts until it is dead-lettered; 0: no limit
  Milliseconds max_age{0};         // see AttemptContext::age; 0: no limit
  Milliseconds retry_after_max{86'400'000};  // the longest pause that a sink may ask for
};

// The shortest pause of the policy, so that no failure ever comes back at once: a tenth of
// `initial` (of `max` where that is shorter), and at least a millisecond.
[[nodiscard]] Milliseconds minimum_pause(const RetryPolicy& policy) noexcept;

// Exponential back-off with full jitter: uniform between minimum_pause() and the bound of this
// failure, which is initial * 2^(failures - 1) and never more than `max`. `failures` counts this
// one; less than 1 is taken as 1. Pure but for the draw.
[[nodiscard]] Milliseconds back_off(const RetryPolicy& policy, std::int64_t failures,
                                    Random& random);

// The longer of the back-off and what the sink asked for, which is cut to retry_after_max. A
// negative `retry_after` means that it did not ask.
[[nodiscard]] Milliseconds retry_pause(const RetryPolicy& policy, std::int64_t failures,
                                       Milliseconds retry_after, Random& random);

// Doubles `initial` for every failure after the first, up to `max`; never overflows.
[[nodiscard]] Milliseconds doubled(Milliseconds initial, Milliseconds max,
                                   std::int64_t failures) noexcept;

// Uniform in [low, high]; `low` where high is not above it.
[[nodiscard]] Milliseconds between(Milliseconds low, Milliseconds high, Random& random);

}  // namespace outfall
