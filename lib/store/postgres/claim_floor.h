#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace outfall::postgres {

// Where a claim of one stream may start to read, so that it skips the dead index entries below
// without ever overtaking a late commit. One instance per stream and worker; holds no connection,
// does no I/O, is used by one thread at a time. Forget it (a new instance) at every reconnect: a
// promoted standby may hand out ids again.
//
// What makes the start safe (docs/internals/claiming.md has the reasoning and the interleavings):
//  - An entry that the last pick saw and left behind is at or above the lowest live id it reported.
//  - An entry that the last pick could not see belongs to a transaction that had not committed. If
//  it
//    had its id when the probe before that pick read the sequence (L), that probe found it holding
//    RowExclusiveLock on the table, so it is tracked: as long as it runs nothing of it is visible,
//    and when it has ended everything from its bound up is read once more. Else its id is above L.
//  - A transaction that a probe sees for the first time held no lock at the probe before, so its
//  ids
//    are above the L of that one: that is its bound.
class ClaimFloor {
 public:
  // What claim() takes.
  struct Input {
    std::int64_t start = 0;
    std::int64_t epoch = 0;
    std::int64_t lease_floor = 0;
    std::int64_t hold_floor = 0;
    std::vector<std::string> tracked;  // virtual transaction ids
    std::vector<std::int64_t> bounds;  // of `tracked`, one each
  };
  // What claim() reports after its last pick.
  struct Report {
    std::optional<std::int64_t>
        live_min;  // lowest fresh entry at or above the start, leased ones included
    std::int64_t epoch = 0;
    std::optional<std::int64_t> next_lease_floor;
    std::int64_t next_hold_floor = 0;  // no hold of the stream has a lower id, now or later
    std::int64_t sequence_last = 0;    // L of the probe after the pick
    std::vector<std::string> shown;    // transactions that hold the table in that probe
    std::vector<std::string> used;     // tracked ones that had ended before the last pick
  };

  [[nodiscard]] Input input() const;

  // Takes in a completed claim, empty or not. A claim that failed, or found the stream busy or
  // paused, completed no pick and must not be reported.
  void completed(const Report& report);

  // Where the next pick starts. The idle poll reads from here too, and from the bound of whatever
  // tracked transaction has ended meanwhile.
  [[nodiscard]] std::int64_t start() const noexcept { return start_; }
  [[nodiscard]] std::size_t tracked() const noexcept { return tracked_.size(); }
  // L of the last probe: start() against it is the floor's lag.
  [[nodiscard]] std::int64_t sequence_last() const noexcept { return last_; }

 private:
  struct Tracked {
    std::string transaction;
    std::int64_t bound;
  };
  std::int64_t start_ = 0;
  std::int64_t last_ = 0;  // L of the last probe; 0 before the first
  std::int64_t epoch_ = 0;
  std::int64_t lease_floor_ = 0;
  std::int64_t hold_floor_ = 0;
  std::vector<Tracked> tracked_;
};

}  // namespace outfall::postgres
