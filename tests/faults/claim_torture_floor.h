#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "store/postgres/claim_floor.h"

namespace outfall::test::torture {

// What can be left out of the claim floor's reasoning; each of these loses an entry or its place.
enum class FloorFlaw : std::uint8_t {
  none,
  never_looks_back,     // late commits are not tracked
  bound_of_this_probe,  // a new transaction is thought to have ids above the probe that shows it
  start_of_this_probe,  // the next pick starts above the probe that followed this one
  forgets_ended,        // a transaction that ended after the pick is dropped
};

// A claim floor with a flaw, written down a second time so that ClaimFloor holds no switches for
// tests. With FloorFlaw::none it must do exactly what ClaimFloor does; a test compares them.
class FlawedFloor {
 public:
  using Input = postgres::ClaimFloor::Input;
  using Report = postgres::ClaimFloor::Report;

  explicit FlawedFloor(FloorFlaw flaw) : flaw_(flaw) {}

  [[nodiscard]] const Input& input() const { return input_; }

  void completed(const Report& report) {
    const std::int64_t probe_before = last_ + 1;
    const std::int64_t this_probe = report.sequence_last + 1;
    Input next;
    next.start = flaw_ == FloorFlaw::start_of_this_probe ? this_probe : probe_before;
    if (report.live_min) next.start = std::min(next.start, *report.live_min);
    for (std::size_t i = 0; i < input_.tracked.size(); ++i) {
      if (has(report.shown, input_.tracked[i])) continue;
      if (!has(report.used, input_.tracked[i]) && flaw_ != FloorFlaw::forgets_ended)
        next.start = std::min(next.start, input_.bounds[i]);
    }
    if (flaw_ != FloorFlaw::never_looks_back) track(report, next, probe_before, this_probe);
    next.epoch = report.epoch;
    next.lease_floor = report.next_lease_floor.value_or(input_.lease_floor);
    next.hold_floor = report.next_hold_floor;
    input_ = std::move(next);
    last_ = report.sequence_last;
  }

 private:
  static bool has(const std::vector<std::string>& list, const std::string& item) {
    return std::find(list.begin(), list.end(), item) != list.end();
  }

  void track(const Report& report, Input& next, std::int64_t probe_before,
             std::int64_t this_probe) const {
    for (std::size_t i = 0; i < input_.tracked.size(); ++i) {
      if (!has(report.shown, input_.tracked[i])) continue;
      next.tracked.push_back(input_.tracked[i]);
      next.bounds.push_back(input_.bounds[i]);
    }
    for (const std::string& transaction : report.shown) {
      if (has(input_.tracked, transaction)) continue;
      next.tracked.push_back(transaction);
      next.bounds.push_back(flaw_ == FloorFlaw::bound_of_this_probe ? this_probe : probe_before);
    }
  }

  FloorFlaw flaw_;
  Input input_;
  std::int64_t last_ = 0;
};

}  // namespace outfall::test::torture
