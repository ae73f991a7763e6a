// Who may write what: an entry that is settled stays so, and only its last lease settles it.
#include <algorithm>
#include <vector>

#include "tests/faults/history_case.h"

namespace outfall::test::history {

namespace {

// Who told of claims, so that a lease of which nothing was told has not been claimed.
class Claims {
 public:
  explicit Claims(const History& history)
      : h_(history), holds_(history.leases.size()), tells_(history.workers.size()) {
    for (const Holding& holding : h_.holdings) holds_[holding.lease] = true;
    for (const History::Lease& lease : h_.lease_facts) {
      if (lease.claimed_at != kNever && lease.worker != kNone) tells_[lease.worker] = true;
    }
  }

  // Whether it is told what the lease held, at least some of it.
  [[nodiscard]] bool held_something(Index lease) const { return holds_[lease]; }
  [[nodiscard]] bool never_claimed(Index lease) const {
    const History::Lease& facts = h_.lease_facts[lease];
    return facts.claimed_at == kNever && facts.worker != kNone && tells_[facts.worker];
  }

 private:
  const History& h_;
  std::vector<bool> holds_;
  std::vector<bool> tells_;
};

class Fencing {
 public:
  Fencing(Case& c, const Claims& claims, Index entry)
      : c_(c), h_(c.history), claims_(claims), entry_(entry) {}

  void judge() {
    const Settle* earlier = nullptr;
    for (const Settle& settle : c_.settles_of(entry_)) {
      if (settle.as == Settled::other) continue;
      if (not_its_own(settle)) continue;
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
  // A settle by a lease that did not hold the entry, as far as that is told.
  bool not_its_own(const Settle& settle) {
    const bool never = claims_.never_claimed(settle.lease);
    if (!never && !claims_.held_something(settle.lease)) return false;
    const auto holdings = c_.holdings_of(entry_);
    const bool held = std::any_of(holdings.begin(), holdings.end(), [&](const Holding& holding) {
      return holding.lease == settle.lease;
    });
    if (held && !never) return false;
    c_.found(Anomaly::zombie_write,
             c_.name(entry_) + " was settled at " + std::to_string(settle.at) + " by lease " +
                 std::string(h_.leases.text(settle.lease)) +
                 (never ? ", which was never claimed" : ", which did not hold it"));
    told_ = true;
    return true;
  }

  // What ended may begin anew by a replay, and what was confirmed may be undone by a crash.
  [[nodiscard]] bool undone(Micros settled, Micros then) const {
    const Entry& entry = h_.entries[entry_];
    if (entry.replayed && settled <= entry.replayed_at && entry.replayed_at <= then) return true;
    return c_.commits_undone_between(settled, then);
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
    if (numbered && !(timed && c_.commits_undone_between(std::min(a.claimed_at, b.claimed_at),
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
  const Claims& claims_;
  const Index entry_;
  bool told_ = false;
};

}  // namespace

void judge_leases(Case& c) {
  const Claims claims(c.history);
  for (Index entry = 0; entry < c.history.entries.size(); ++entry) {
    if (!c.settles_of(entry).empty()) Fencing(c, claims, entry).judge();
  }
  // Of one without outcomes it is not known which entries it settled.
  for (const CountedSettle& settle : c.history.counted_settles) {
    if (settle.delivered == 0 || !claims.never_claimed(settle.lease) ||
        claims.held_something(settle.lease))
      continue;
    c.found(Anomaly::zombie_write, "lease " + std::string(c.history.leases.text(settle.lease)) +
                                       " settled " + std::to_string(settle.delivered) +
                                       " entries and was never claimed");
  }
}

}  // namespace outfall::test::history
