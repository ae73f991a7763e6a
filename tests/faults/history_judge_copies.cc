// Copies of an entry beyond its first, each of which needs a fault of its own that explains it.
#include <algorithm>
#include <limits>
#include <optional>

#include "tests/faults/history_case.h"

namespace outfall::test::history {

namespace {

constexpr std::size_t kAnyNumber = std::numeric_limits<std::size_t>::max();

// A connection that ends without an answer has its request sent again by libcurl, five times
// (CONN_MAX_RETRIES), and all of that is one attempt with one outcome.
constexpr std::size_t kSendsOfAnAttempt = 6;

// What is mended goes on having its last effects for a moment: a worker finds dead connections only
// when it next uses them.
constexpr Micros kMendGrace = 200'000;

// Between two arrivals of an entry something must have kept the first one from being settled. Each
// such gap is matched with one fault; a fault explains only so many of them.
class Explanations {
 public:
  Explanations(const Case& c, Index entry) : c_(c), h_(c.history), entry_(entry) {
    const auto arrivals = c.arrivals_of(entry);
    for (std::size_t i = 0; i + 1 < arrivals.size(); ++i)
      gaps_.push_back({&h_.arrivals[arrivals[i]], &h_.arrivals[arrivals[i + 1]]});
    explained_by_.resize(gaps_.size());
    used_.resize(h_.faults.size() + 1);
  }

  // By gap: the fault that explains it, or the number after the last one where it was a replay.
  std::vector<std::optional<std::size_t>> match() {
    for (std::size_t gap = 0; gap < gaps_.size(); ++gap) {
      tried_.assign(used_.size(), false);
      place(gap);
    }
    return explained_by_;
  }

 private:
  struct Gap {
    const Arrival* before;
    const Arrival* after;
  };

  bool place(std::size_t gap) {
    for (std::size_t fault = 0; fault < used_.size(); ++fault) {
      if (tried_[fault] || !explains(fault, gaps_[gap])) continue;
      tried_[fault] = true;
      if (!has_room(fault) && !make_room(fault)) continue;
      used_[fault].push_back(gap);
      explained_by_[gap] = fault;
      return true;
    }
    return false;
  }

  [[nodiscard]] bool has_room(std::size_t fault) const {
    if (fault == h_.faults.size()) return used_[fault].empty();
    const Fault& f = h_.faults[fault];
    if (f.copies) return used_[fault].size() < static_cast<std::size_t>(*f.copies);
    return used_[fault].size() < (f.touches_sinks() ? sends_since(f.from) : 1);
  }

  // How often the entry can have been sent from then on: by the attempts that workers logged, and
  // those that died with a worker before it could log them. Without logs nobody knows.
  [[nodiscard]] std::size_t sends_since(Micros from) const {
    if (h_.outcomes.empty()) return kAnyNumber;
    std::size_t attempts = 0;
    for (const LoggedOutcome& outcome : c_.outcomes_of(entry_)) {
      if (outcome.sent && outcome.at >= from) ++attempts;
    }
    for (const auto& [worker, at] : h_.ends) {
      if (at >= from && at >= h_.entries[entry_].begun_at) ++attempts;
    }
    return kSendsOfAnAttempt * attempts;
  }

  // Whether one of the gaps that use the fault can do with another one.
  bool make_room(std::size_t fault) {
    for (std::size_t i = 0; i < used_[fault].size(); ++i) {
      if (!place(used_[fault][i])) continue;
      used_[fault].erase(used_[fault].begin() + static_cast<std::ptrdiff_t>(i));
      return true;
    }
    return false;
  }

  [[nodiscard]] bool explains(std::size_t fault, const Gap& gap) const {
    if (fault == h_.faults.size()) {
      const Entry& entry = h_.entries[entry_];
      return entry.replayed && gap.before->at <= entry.replayed_at &&
             entry.replayed_at <= gap.after->at;
    }
    const Fault& f = h_.faults[fault];
    if (c_.had_ended(entry_, gap.after->at)) return false;
    // The attempt that was repeated was under way meanwhile: it is of an entry that was there, and
    // that had not ended before.
    const Micros begun = h_.entries[entry_].begun_at;
    Micros sent_from = gap.before->at - c_.send_timeout;
    if (begun != kNever) sent_from = std::max(sent_from, begun - kMendGrace);
    if (!overlap(f.from, f.until, sent_from, gap.after->at)) return false;
    if (ended_before(f, gap.after->at)) return false;
    return f.database || f.touches_sink(gap.before->sink) || f.touches_sink(gap.after->sink) ||
           touches_a_holder(f);
  }

  // Whether the entry had been settled for good when the fault struck, and the fault undoes
  // nothing. Undone by another one while it lasted, the entry was on its way again in this one.
  [[nodiscard]] bool ended_before(const Fault& fault, Micros copy_at) const {
    if (fault.undoes_commits || fault.forgets_from != kNever) return false;
    const Entry& entry = h_.entries[entry_];
    const auto settles = c_.settles_of(entry_);
    return std::any_of(settles.begin(), settles.end(), [&](const Settle& settle) {
      return settle.as != Settled::other && settle.at < fault.from &&
             !(entry.replayed && settle.at <= entry.replayed_at) &&
             !c_.commits_undone_between(settle.at, std::min(fault.until, copy_at));
    });
  }

  // Where it is known who held the entry each time it was sent, the fault must touch one of these.
  [[nodiscard]] bool touches_a_holder(const Fault& fault) const {
    if (!fault.touches_workers()) return false;
    if (fault.all_workers) return true;
    const auto holdings = c_.holdings_of(entry_);
    std::size_t senders = 0;
    for (const Holding& holding : holdings) {
      if (!was_over_before_all(holding)) ++senders;
    }
    if (senders <= gaps_.size()) return true;
    return std::any_of(holdings.begin(), holdings.end(), [&](const Holding& holding) {
      const Index worker = h_.lease_facts[holding.lease].worker;
      return worker == kNone || fault.touches_worker(worker);
    });
  }

  // Whether its attempt was logged as over before anything arrived: it sent none of what did, such
  // as one that was refused.
  [[nodiscard]] bool was_over_before_all(const Holding& holding) const {
    const auto outcomes = c_.outcomes_of(entry_);
    return std::any_of(outcomes.begin(), outcomes.end(), [&](const LoggedOutcome& outcome) {
      return outcome.lease == holding.lease && outcome.at < gaps_.front().before->at;
    });
  }

  const Case& c_;
  const History& h_;
  const Index entry_;
  std::vector<Gap> gaps_;
  std::vector<std::optional<std::size_t>> explained_by_;
  std::vector<std::vector<std::size_t>> used_;  // by fault, and by the replay after them
  std::vector<bool> tried_;
};

// A copy long after the entry was settled for good is no repetition of an open attempt.
Anomaly kind_of(const Case& c, Index entry, const Arrival& copy) {
  for (const Settle& settle : c.settles_of(entry)) {
    if (settle.as != Settled::other && settle.at + c.send_timeout < copy.at)
      return Anomaly::resurrect;
  }
  return Anomaly::dup_unexplained;
}

// What is a dead letter is sent no more. When it became one tells the settle; or, of one that it
// still is, its last outcome, where no fault can have kept another one from the log.
bool was_dead_by(const Case& c, Index entry, Micros arrival) {
  const Entry& e = c.history.entries[entry];
  for (const Settle& settle : c.settles_of(entry)) {
    if (settle.as == Settled::dead_lettered && c.had_ended(entry, arrival)) return true;
  }
  if (e.dead_letters == 0 || e.replayed || e.outcome_at == 0) return false;
  const auto& faults = c.history.faults;
  return e.outcome_at + c.send_timeout < arrival &&
         std::none_of(faults.begin(), faults.end(), [&](const Fault& fault) {
           return overlap(fault.from, fault.until, e.outcome_at - c.send_timeout, arrival);
         });
}

void judge_first(Case& c, Index entry) {
  const Micros first = c.first_arrival(entry);
  if (first == kNever || !was_dead_by(c, entry, first)) return;
  c.found(Anomaly::resurrect, c.name(entry) + " arrived at " + std::to_string(first) +
                                  ", long after it had become a dead letter");
}

}  // namespace

void judge_copies(Case& c) {
  for (Index entry = 0; entry < c.history.entries.size(); ++entry) {
    judge_first(c, entry);
    const auto arrivals = c.arrivals_of(entry);
    if (arrivals.size() < 2) continue;
    const auto explained_by = Explanations(c, entry).match();
    for (std::size_t gap = 0; gap < explained_by.size(); ++gap) {
      if (explained_by[gap]) {
        ++c.verdict.dup_explained;
        if (*explained_by[gap] < c.history.faults.size())
          ++c.verdict.faults[c.history.faults[*explained_by[gap]].kind].copies;
        continue;
      }
      const Arrival& copy = c.history.arrivals[arrivals[gap + 1]];
      c.found(kind_of(c, entry, copy),
              c.name(entry) + " arrived " + std::to_string(arrivals.size()) +
                  " times; nothing explains that at " + std::to_string(copy.at) + " in " +
                  std::string(c.history.sinks.text(copy.sink)));
    }
  }
}

}  // namespace outfall::test::history
