// What entries are blamed for: an outage costs none of them anything, so that each one which was
// given up must have a reason of its own, and each attempt that was counted a sink that said no.
#include <algorithm>
#include <tuple>
#include <vector>

#include "tests/faults/history_case.h"

namespace outfall::test::history {

namespace {

class Blame {
 public:
  Blame(Case& c, Index entry)
      : c_(c), h_(c.history), entry_(c.history.entries[entry]), index_(entry) {}

  void judge() {
    if (is_dead_letter()) {
      reason();
    } else if (was_dead_letter() && !entry_.poison) {
      c_.found(Anomaly::given_up, c_.name(index_) + " was a dead letter, and nothing explains it");
    }
    if (entry_.unattempted)
      c_.found(Anomaly::miscounted, c_.name(index_) + " has a receipt that counts no attempt");
    // What poison costs is its own, also before a replay.
    if (entry_.attempts > 1 && !entry_.poison) attempts();
  }

 private:
  // With a receipt beside it, it is told as what it is: ended twice.
  [[nodiscard]] bool is_dead_letter() const {
    return entry_.dead_letters > 0 && entry_.receipts == 0;
  }

  [[nodiscard]] bool was_dead_letter() const {
    const auto settles = c_.settles_of(index_);
    return entry_.replayed || entry_.discarded_at != kNever ||
           std::any_of(settles.begin(), settles.end(),
                       [](const Settle& settle) { return settle.as == Settled::dead_lettered; });
  }

  void reason() {
    const auto told = h_.dead_letter_reasons.find(index_);
    const std::string reason = told == h_.dead_letter_reasons.end() ? "no reason" : told->second;
    if (!entry_.poison) {
      c_.found(Anomaly::given_up,
               c_.name(index_) + " is a dead letter (" + reason + "), and nothing explains it");
      return;
    }
    const auto allowed = h_.poison_reasons.find(index_);
    if (allowed == h_.poison_reasons.end()) return;
    const std::vector<std::string>& reasons = allowed->second;
    if (std::find(reasons.begin(), reasons.end(), reason) == reasons.end())
      c_.found(Anomaly::given_up, c_.name(index_) + " is a dead letter for another reason (" +
                                      reason + ") than its own");
  }

  void attempts() {
    std::int64_t explained = std::int64_t{1} + entry_.refusals;
    for (const Fault& fault : h_.faults) {
      if (fault.attempts > 0 && hit(fault)) explained += fault.attempts;
    }
    if (entry_.attempts > explained)
      c_.found(Anomaly::attempt_spent,
               c_.name(index_) + " has spent " + std::to_string(entry_.attempts) +
                   " attempts, of which " + std::to_string(explained) + " are explained");
  }

  // A failure may be noticed after its fault: when the time for the answer is over.
  [[nodiscard]] bool hit(const Fault& fault) const {
    const auto arrivals = c_.arrivals_of(index_);
    return std::any_of(arrivals.begin(), arrivals.end(), [&](Index at) {
      const Arrival& arrival = h_.arrivals[at];
      return fault.touches_sink(arrival.sink) &&
             overlap(fault.from, fault.until + c_.send_timeout, entry_.begun_at, arrival.at);
    });
  }

  Case& c_;
  const History& h_;
  const Entry& entry_;
  const Index index_;
};

// What an entry has counted stays counted, also when it is replayed, unless commits are undone.
void judge_counts(Case& c) {
  const auto& entries = c.history.entries;
  std::vector<CountedAttempts> all = c.history.counted_attempts;
  for (Index i = 0; i < entries.size(); ++i) {
    if (entries[i].receipts == 1 && entries[i].attempts > 0)
      all.push_back({i, kNever, entries[i].attempts});
  }
  std::stable_sort(all.begin(), all.end(), [](const CountedAttempts& a, const CountedAttempts& b) {
    return std::tie(a.entry, a.at) < std::tie(b.entry, b.at);
  });
  for (std::size_t i = 1; i < all.size(); ++i) {
    const CountedAttempts& before = all[i - 1];
    const CountedAttempts& after = all[i];
    if (before.entry != after.entry || before.attempts <= after.attempts) continue;
    if (c.commits_undone_between(before.at, after.at)) continue;
    c.found(Anomaly::miscounted, c.name(after.entry) + " had counted " +
                                     std::to_string(before.attempts) + " attempts at " +
                                     std::to_string(before.at) + ", and later " +
                                     std::to_string(after.attempts));
  }
}

}  // namespace

void judge_blame(Case& c) {
  judge_counts(c);
  for (Index entry = 0; entry < c.history.entries.size(); ++entry) {
    if (c.existed(entry) && c.history.entries[entry].begun_at != kNever) Blame(c, entry).judge();
  }
}

}  // namespace outfall::test::history
