#pragma once

#include <string_view>

#include "core/clock.h"

namespace outfall::webhook {

// How long a Retry-After header asks to wait: a number of seconds, or an HTTP date from `now` on,
// which may be in the past. Clamped to [0, 30 days], so that nonsense does no harm; the stream's
// `retry.after_max` bounds it further. Negative: it is neither. Pure.
[[nodiscard]] Milliseconds retry_after_from(std::string_view value, WallTime now) noexcept;

}  // namespace outfall::webhook
