#pragma once

#include <chrono>
#include <optional>

#include "core/clock.h"

namespace outfall::postgres {

// From which available_at on a claim of one stream reads the entries that are due, so that it skips
// the index entries of those that have gone. A look at all of them, once in kFullLookEvery, finds
// the next floor and what a producer has dated before the last one (docs/internals/claiming.md,
// 4c). One instance per stream and worker, forgotten with its ClaimFloor; used by one thread at a
// time.
class DueFloor {
 public:
  static constexpr Milliseconds kFullLookEvery{1000};

  // None: look at all.
  [[nodiscard]] std::optional<WallTime> at(MonotonicTime now) const {
    return floor_ && now < until_ ? floor_ : std::nullopt;
  }

  // `floor` as a claim reports it, by the database's clock; none from a claim that did not look at
  // all, which leaves what is known. `asked_at`: before that claim was sent.
  void learned(const std::optional<WallTime>& floor, MonotonicTime asked_at) {
    if (!floor) return;
    floor_ = floor;
    until_ = asked_at + kFullLookEvery;
  }

 private:
  std::optional<WallTime> floor_;
  MonotonicTime until_;
};

}  // namespace outfall::postgres
