// Who may write what: an entry that is settled stays so, and only its last lease settles it.
#include <algorithm>

#include "tests/faults/history_case.h"

namespace outfall::test::history {

namespace {

class Fencing {
 public:
  Fencing(Case& c, Index entry) : c_(c), h_(c.history), entry_(entry) {}

  void judge() {
    const Settle* earlier = nullptr;
    for (const Settle& settle : c_.settles_of(entry_)) {
      if (settle.as == Settled::other) continue;
      const bool told = other_leases(settle);
      if (earlier != nullptr && !told && !told_ && !undone(earlier->at, settle.at))
        c_.found(Anomaly::double_terminal, c_.name(entry_) + " was settled at " +
                                               std::to_string(earlier->at) + " and again at " +
                                               std::to_string(settle.at));
      told_ = told_ || told;
      earlier = &settle;
    }
  }

 private:
  // What ended may begin anew by a replay, and what was confirmed may be undone with the database.
  [[nodiscard]] bool undone(Micros settled, Micros then) const {
    const Entry& entry = h_.entries[entry_];
    if (entry.replayed && settled <= entry.replayed_at && entry.replayed_at <= then) return true;
    return c_.database_fault_between(settled, then);
  }

  // Leases that held the entry after that of the settle.
  bool other_leases(const Settle& settle) {
    const History::Lease& own = h_.lease_facts[settle.lease];
    bool told = false;
    for (const Holding& holding : c_.holdings_of(entry_)) {
      const History::Lease& other = h_.lease_facts[holding.lease];
      if (holding.lease == settle.lease || !later(other, own)) continue;
      if (settle.at > other.claimed_at) {
        report(Anomaly::zombie_write, settle, holding);
      } else if (!undone(settle.at, other.claimed_at)) {
        report(Anomaly::resurrect, settle, holding);
      } else {
        continue;
      }
      told = true;
    }
    return told;
  }

  // By their numbers, since a log may be late; but a crash takes claims back with their numbers,
  // which are then given out again.
  [[nodiscard]] bool later(const History::Lease& a, const History::Lease& b) const {
    const bool timed = a.claimed_at != kNever && b.claimed_at != kNever;
    const bool numbered = a.number > 0 && b.number > 0;
    if (numbered && !(timed && c_.database_fault_between(std::min(a.claimed_at, b.claimed_at),
                                                         std::max(a.claimed_at, b.claimed_at)))) {
      return a.number > b.number;
    }
    return timed && a.claimed_at > b.claimed_at;
  }

  void report(Anomaly anomaly, const Settle& settle, const Holding& holding) {
    c_.found(anomaly, c_.name(entry_) + " was settled at " + std::to_string(settle.at) +
                          " by lease " + std::string(h_.leases.text(settle.lease)) +
                          ", and claimed at " +
                          std::to_string(h_.lease_facts[holding.lease].claimed_at) + " by lease " +
                          std::string(h_.leases.text(holding.lease)));
  }

  Case& c_;
  const History& h_;
  const Index entry_;
  bool told_ = false;
};

}  // namespace

void judge_leases(Case& c) {
  for (Index entry = 0; entry < c.history.entries.size(); ++entry) {
    if (!c.settles_of(entry).empty()) Fencing(c, entry).judge();
  }
}

}  // namespace outfall::test::history
