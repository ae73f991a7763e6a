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

// By their numbers, since a log may be late; but a crash takes claims back with their numbers,
// which are then given out again.
bool later(const Case& c, const History::Lease& a, const History::Lease& b) {
  const bool timed = a.claimed_at != kNever && b.claimed_at != kNever;
  const bool numbered = a.number > 0 && b.number > 0;
  if (numbered && !(timed && c.commits_undone_between(std::min(a.claimed_at, b.claimed_at),
                                                      std::max(a.claimed_at, b.claimed_at)))) {
    return a.number > b.number;
  }
  return timed && a.claimed_at > b.claimed_at;
}

class Fencing {
 public:
  Fencing(Case& c, const Claims& claims, Index entry)
      : c_(c), h_(c.history), claims_(claims), entry_(entry) {}

  void judge() {
    const Settle* earlier = nullptr;
    for (const Settle& settle : c_.settles_of(entry_)) {
      if (not_its_own(settle)) continue;
      if (settle.as == Settled::other) {
        taken_over(settle);
        continue;
      }
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

  // What is not final is claimed again by right, but not written after that by the lease before.
  void taken_over(const Settle& settle) {
    const History::Lease& own = h_.lease_facts[settle.lease];
    for (const Holding& holding : c_.holdings_of(entry_)) {
      const History::Lease& other = h_.lease_facts[holding.lease];
      if (holding.lease == settle.lease || !later(c_, other, own)) continue;
      if (settle.at <= other.claimed_at || c_.commits_undone_between(other.claimed_at, settle.at))
        continue;
      report(Anomaly::zombie_write, settle, holding);
      return;
    }
  }

  // Leases that held the entry after that of the settle.
  bool other_leases(const Settle& settle) {
    const History::Lease& own = h_.lease_facts[settle.lease];
    bool told = false;
    for (const Holding& holding : c_.holdings_of(entry_)) {
      const History::Lease& other = h_.lease_facts[holding.lease];
      if (holding.lease == settle.lease || !later(c_, other, own)) continue;
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

// The times of two logs may be as much apart, where the clock of one was put right afterwards.
constexpr Micros kLogsApart = 10'000;

// Since when a lease is certainly gone: another one had claimed an entry of which it had no outcome
// yet. It was taken over as a whole, so that whatever it writes afterwards is a zombie's. kNever:
// nothing shows that.
std::vector<Micros> gone_since(const Case& c) {
  const History& h = c.history;
  std::vector<Micros> since(h.lease_facts.size(), kNever);
  for (const LoggedOutcome& outcome : c.outcomes) {
    for (const Holding& holding : c.holdings_of(outcome.entry)) {
      const History::Lease& other = h.lease_facts[holding.lease];
      if (holding.lease == outcome.lease || other.claimed_at == kNever) continue;
      if (other.claimed_at + kLogsApart >= outcome.at) continue;
      if (!later(c, other, h.lease_facts[outcome.lease])) continue;
      since[outcome.lease] = std::min(since[outcome.lease], other.claimed_at);
    }
  }
  return since;
}

// Which entries a settle wrote that were not delivered is not told, nor when the database took it:
// the answer may be late. So only one is judged that began when its lease was gone.
void judge_others(Case& c) {
  if (c.history.counted_settles.empty()) return;
  const std::vector<Micros> gone = gone_since(c);
  for (const CountedSettle& settle : c.history.counted_settles) {
    const Micros since = gone[settle.lease];
    if (settle.others == 0 || settle.begun_at == kNever || since == kNever) continue;
    if (settle.begun_at <= since + kLogsApart || c.commits_undone_between(since, settle.at))
      continue;
    c.found(Anomaly::zombie_write,
            "lease " + std::string(c.history.leases.text(settle.lease)) + " wrote " +
                std::to_string(settle.others) + " entries that were not delivered at " +
                std::to_string(settle.at) + ", and was gone since " + std::to_string(since));
  }
}

}  // namespace

void judge_leases(Case& c) {
  const Claims claims(c.history);
  for (Index entry = 0; entry < c.history.entries.size(); ++entry) {
    if (!c.settles_of(entry).empty()) Fencing(c, claims, entry).judge();
  }
  judge_others(c);
  // Of one without outcomes it is not known which entries it settled.
  for (const CountedSettle& settle : c.history.counted_settles) {
    if (settle.delivered + settle.others == 0 || !claims.never_claimed(settle.lease) ||
        claims.held_something(settle.lease))
      continue;
    c.found(Anomaly::zombie_write, "lease " + std::string(c.history.leases.text(settle.lease)) +
                                       " settled " +
                                       std::to_string(settle.delivered + settle.others) +
                                       " entries and was never claimed");
  }
}

}  // namespace outfall::test::history
