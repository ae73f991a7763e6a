#include "store/postgres/claim_floor.h"

#include <algorithm>

namespace outfall::postgres {

namespace {

bool contains(const std::vector<std::string>& haystack, const std::string& needle) {
  return std::find(haystack.begin(), haystack.end(), needle) != haystack.end();
}

}  // namespace

ClaimFloor::Input ClaimFloor::input() const {
  Input input{start_, epoch_, lease_floor_, hold_floor_, {}, {}};
  for (const Tracked& t : tracked_) {
    input.tracked.push_back(t.transaction);
    input.bounds.push_back(t.bound);
  }
  return input;
}

void ClaimFloor::completed(const Report& report) {
  // last_ still is the L of the probe before this pick: an id above it may have been taken and
  // committed between that probe and the pick's snapshot without ever being seen.
  std::int64_t start = last_ + 1;
  if (report.live_min) start = std::min(start, *report.live_min);

  std::vector<Tracked> still;
  for (Tracked& t : tracked_) {
    if (contains(report.shown, t.transaction)) {
      still.push_back(std::move(t));
    } else if (!contains(report.used, t.transaction)) {
      // It ended, perhaps only after the pick: the next one reads from its bound.
      start = std::min(start, t.bound);
    }
  }
  for (const std::string& transaction : report.shown) {
    const bool known = std::any_of(still.begin(), still.end(),
                                   [&](const Tracked& t) { return t.transaction == transaction; });
    if (!known) still.push_back({transaction, last_ + 1});
  }

  tracked_ = std::move(still);
  start_ = start;
  last_ = report.sequence_last;
  epoch_ = report.epoch;
  hold_floor_ = report.next_hold_floor;
  if (report.next_lease_floor) lease_floor_ = *report.next_lease_floor;
}

}  // namespace outfall::postgres
