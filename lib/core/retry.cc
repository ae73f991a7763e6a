#include "core/retry.h"

#include <algorithm>

namespace outfall {

Milliseconds doubled(Milliseconds initial, Milliseconds max, std::int64_t failures) noexcept {
  Milliseconds bound = std::min(initial, max);
  for (std::int64_t i = 1; i < failures && bound < max; ++i) {
    if (bound.count() <= 0) break;
    bound = bound > max / 2 ? max : bound * 2;
  }
  return bound;
}

Milliseconds between(Milliseconds low, Milliseconds high, Random& random) {
  if (high <= low) return low;
  return low + Milliseconds{static_cast<std::int64_t>(
                   random.up_to(static_cast<std::uint64_t>((high - low).count())))};
}

Milliseconds minimum_pause(const RetryPolicy& policy) noexcept {
  return std::max(Milliseconds{1}, std::min(policy.initial, policy.max) / 10);
}

Milliseconds back_off(const RetryPolicy& policy, std::int64_t failures, Random& random) {
  return between(minimum_pause(policy), doubled(policy.initial, policy.max, failures), random);
}

Milliseconds retry_pause(const RetryPolicy& policy, std::int64_t failures, Milliseconds retry_after,
                         Random& random) {
  return std::max(back_off(policy, failures, random),
                  std::min(retry_after, policy.retry_after_max));
}

}  // namespace outfall
