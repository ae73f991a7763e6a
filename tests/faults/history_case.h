#pragma once

#include <span>
#include <string>
#include <vector>

#include "tests/faults/history_judge.h"

// The parts of judge(), which share what they have sorted. Nobody else includes this.

namespace outfall::test::history {

struct Case {
  Case(const History& history, const JudgeOptions& options);

  const History& history;
  const Micros send_timeout;
  const JudgeOptions& options;
  Verdict verdict = {};

  // Of an entry, in the order of their times.
  [[nodiscard]] std::span<const Index> arrivals_of(Index entry) const {
    return slice(arrivals, arrivals_from, entry);
  }
  [[nodiscard]] std::span<const Settle> settles_of(Index entry) const {
    return slice(settles, settles_from, entry);
  }
  // One for each lease that held it.
  [[nodiscard]] std::span<const Holding> holdings_of(Index entry) const {
    return slice(holdings, holdings_from, entry);
  }
  // As workers logged them.
  [[nodiscard]] std::span<const LoggedOutcome> outcomes_of(Index entry) const {
    return slice(outcomes, outcomes_from, entry);
  }
  [[nodiscard]] Micros first_arrival(Index entry) const;
  // It was committed, or something shows that it was.
  [[nodiscard]] bool existed(Index entry) const;
  [[nodiscard]] bool seen_outside(Index entry) const;
  // Its place in the key's order binds nobody.
  [[nodiscard]] bool exempt(const Entry& entry) const;
  // Its commit may be one of those that a failover has undone.
  [[nodiscard]] bool forgettable(const Entry& entry) const;
  // Nothing of it is left in the database, because of that.
  [[nodiscard]] bool forgotten(const Entry& entry) const;
  // Whether a fault that overlaps this time may have undone what the database had confirmed before.
  [[nodiscard]] bool commits_undone_between(Micros from, Micros until) const;
  // Whether an arrival at this time is certainly of a send after the entry had ended: the database
  // had confirmed its end more than a send timeout before, and nothing began it anew, undid a
  // commit, or could keep a send on its way for so long.
  [[nodiscard]] bool had_ended(Index entry, Micros arrival) const;

  void found(Anomaly anomaly, std::string text);
  // "entry 018f… (orders/key 7, n 3)"
  [[nodiscard]] std::string name(Index entry) const;

  std::vector<Index> arrivals;
  std::vector<Settle> settles;
  std::vector<Holding> holdings;
  std::vector<LoggedOutcome> outcomes;
  std::vector<std::size_t> arrivals_from, settles_from, holdings_from, outcomes_from;

 private:
  template <typename T>
  static std::span<const T> slice(const std::vector<T>& all, const std::vector<std::size_t>& from,
                                  Index entry) {
    return std::span(all).subspan(from[entry], from[entry + std::size_t{1}] - from[entry]);
  }
  void sort_arrivals();
  void sort_settles();
  void sort_holdings();
  void sort_outcomes();
};

// Whether something a_from..a_until and b_from..b_until happened at the same time.
[[nodiscard]] inline bool overlap(Micros a_from, Micros a_until, Micros b_from, Micros b_until) {
  return a_from <= b_until && b_from <= a_until;
}

void judge_ends(Case& c);      // lost, phantom, stuck; double-terminal and resurrect by the tables
void judge_copies(Case& c);    // dup-unexplained, resurrect
void judge_keys(Case& c);      // reorder, gap
void judge_leases(Case& c);    // zombie-write, resurrect, double-terminal
void judge_recovery(Case& c);  // stuck, not-isolated
void judge_quantities(Case& c);  // unbounded, miscounted
void judge_blame(Case& c);       // given-up, attempt-spent, miscounted

}  // namespace outfall::test::history
