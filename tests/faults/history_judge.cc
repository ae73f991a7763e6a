#include "tests/faults/history_judge.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "tests/faults/history_case.h"

namespace outfall::test::history {

namespace {

struct AnomalyName {
  std::string_view name;
  std::string_view invariant;
};

constexpr std::array<AnomalyName, kAnomalies> kNames = {{
    {"lost", "I1 no loss"},
    {"phantom", "I2 no phantom"},
    {"dup-unexplained", "I3 bounded duplicates"},
    {"reorder", "I4 order per key"},
    {"gap", "I4 order per key"},
    {"double-terminal", "I5 monotone states"},
    {"resurrect", "I5 monotone states"},
    {"zombie-write", "I6 fencing"},
    {"stuck", "I7 liveness"},
    {"unbounded", "I8 bounded resources"},
    {"not-isolated", "I10 isolation"},
    {"miscounted", "I11 accounting"},
    {"given-up", "I12 no blame"},
    {"attempt-spent", "I12 no blame"},
}};

// Where each entry's part of `sorted` begins; one more at the end.
template <typename T, typename EntryOf>
std::vector<std::size_t> offsets(const std::vector<T>& sorted, std::size_t entries,
                                 EntryOf entry_of) {
  std::vector<std::size_t> from(entries + 1, 0);
  for (const T& item : sorted) ++from[entry_of(item) + std::size_t{1}];
  std::partial_sum(from.begin(), from.end(), from.begin());
  return from;
}

void check_sequences(const History& history) {
  std::vector<std::pair<Index, std::int64_t>> taken;
  taken.reserve(history.arrivals.size());
  for (const Arrival& arrival : history.arrivals) taken.emplace_back(arrival.sink, arrival.seq);
  std::sort(taken.begin(), taken.end());
  const auto twice = std::adjacent_find(taken.begin(), taken.end());
  if (twice != taken.end())
    throw BadHistory("sink " + std::string(history.sinks.text(twice->first)) +
                     " has two arrivals " + "with seq " + std::to_string(twice->second));
}

void check_places(const History& history) {
  std::vector<std::tuple<Index, Index, std::int64_t, Index>> places;
  for (Index i = 0; i < history.entries.size(); ++i) {
    const Entry& entry = history.entries[i];
    if (entry.commit == Commit::committed && entry.begun_at == kNever)
      throw BadHistory("entry " + std::string(history.ids.text(i)) +
                       " was committed and not begun");
    if (entry.key != kNone) places.emplace_back(entry.stream, entry.key, entry.place, i);
  }
  std::sort(places.begin(), places.end());
  for (std::size_t i = 1; i < places.size(); ++i) {
    const auto& [stream, key, place, entry] = places[i];
    if (std::tie(stream, key, place) == std::tie(std::get<0>(places[i - 1]),
                                                 std::get<1>(places[i - 1]),
                                                 std::get<2>(places[i - 1])))
      throw BadHistory("key " + std::string(history.keys.text(key)) + " has two entries with n " +
                       std::to_string(place));
  }
}

void check_fit(const History& history, const JudgeOptions& options) {
  if (!history.final.seen && !options.without_final)
    throw BadHistory("there is no final record, so the history was cut off");
  const bool any = std::any_of(history.entries.begin(), history.entries.end(),
                               [](const Entry& e) { return e.commit == Commit::committed; });
  if (!any) throw BadHistory("nothing was committed, so nothing can be shown");
  check_sequences(history);
  check_places(history);
}

void summarize(Case& c) {
  Verdict& v = c.verdict;
  const History& h = c.history;
  v.records = h.records;
  v.arrivals = h.arrivals.size();
  v.stale = h.stale;
  v.worker_deaths = h.worker_deaths;
  for (Index i = 0; i < h.entries.size(); ++i) {
    const Entry& entry = h.entries[i];
    if (entry.commit == Commit::committed) ++v.committed;
    if (entry.commit == Commit::rolled_back) ++v.rolled_back;
    if (entry.commit == Commit::unknown || entry.commit == Commit::begun) ++v.in_doubt;
    if (!c.arrivals_of(i).empty()) ++v.delivered;
    if (entry.dead_letters > 0) ++v.dead_letters;
    if (entry.replayed) ++v.replayed;
    if (c.holdings_of(i).size() > 1) ++v.takeovers;
  }
  for (const Fault& fault : h.faults) ++v.faults[fault.kind].injected;
}

}  // namespace

std::string_view to_string(Anomaly anomaly) noexcept {
  return kNames[static_cast<std::size_t>(anomaly)].name;
}

std::string_view invariant_of(Anomaly anomaly) noexcept {
  return kNames[static_cast<std::size_t>(anomaly)].invariant;
}

bool Verdict::ok() const {
  return std::all_of(found.begin(), found.end(), [](std::size_t count) { return count == 0; });
}

Case::Case(const History& history_in, const JudgeOptions& options_in)
    : history(history_in),
      send_timeout(history_in.send_timeout.value_or(options_in.send_timeout)),
      options(options_in) {
  sort_arrivals();
  sort_settles();
  sort_holdings();
  sort_outcomes();
}

void Case::sort_arrivals() {
  const std::vector<Arrival>& all = history.arrivals;
  arrivals.resize(all.size());
  std::iota(arrivals.begin(), arrivals.end(), Index{0});
  std::sort(arrivals.begin(), arrivals.end(), [&](Index a, Index b) {
    return std::tie(all[a].entry, all[a].at, all[a].sink, all[a].seq) <
           std::tie(all[b].entry, all[b].at, all[b].sink, all[b].seq);
  });
  arrivals_from = offsets(arrivals, history.entries.size(), [&](Index i) { return all[i].entry; });
}

// A settle that only says how many it wrote wrote the lease's earliest deliveries.
void Case::sort_settles() {
  settles = history.settles;
  std::vector<Holding> delivered = history.delivered_outcomes;
  const auto by_lease = [](const auto& a, const auto& b) {
    return std::tie(a.lease, a.at) < std::tie(b.lease, b.at);
  };
  std::stable_sort(delivered.begin(), delivered.end(), by_lease);
  std::vector<CountedSettle> counted = history.counted_settles;
  std::stable_sort(counted.begin(), counted.end(), by_lease);
  std::size_t next = 0;
  for (const CountedSettle& settle : counted) {
    while (next < delivered.size() && delivered[next].lease < settle.lease) ++next;
    for (std::int64_t i = 0;
         i < settle.delivered && next < delivered.size() && delivered[next].lease == settle.lease &&
         delivered[next].at <= settle.at;
         ++i, ++next)
      settles.push_back({delivered[next].entry, settle.lease, settle.at, Settled::delivered});
  }
  std::stable_sort(settles.begin(), settles.end(), [](const Settle& a, const Settle& b) {
    return std::tie(a.entry, a.at) < std::tie(b.entry, b.at);
  });
  settles_from =
      offsets(settles, history.entries.size(), [](const Settle& settle) { return settle.entry; });
}

void Case::sort_holdings() {
  holdings = history.holdings;
  const auto less = [](const Holding& a, const Holding& b) {
    return std::tie(a.entry, a.lease, a.at) < std::tie(b.entry, b.lease, b.at);
  };
  const auto same = [](const Holding& a, const Holding& b) {
    return a.entry == b.entry && a.lease == b.lease;
  };
  std::sort(holdings.begin(), holdings.end(), less);
  holdings.erase(std::unique(holdings.begin(), holdings.end(), same), holdings.end());
  holdings_from = offsets(holdings, history.entries.size(),
                          [](const Holding& holding) { return holding.entry; });
}

void Case::sort_outcomes() {
  outcomes = history.outcomes;
  std::sort(outcomes.begin(), outcomes.end(), [](const LoggedOutcome& a, const LoggedOutcome& b) {
    return std::tie(a.entry, a.at, a.lease) < std::tie(b.entry, b.at, b.lease);
  });
  outcomes_from = offsets(outcomes, history.entries.size(),
                          [](const LoggedOutcome& outcome) { return outcome.entry; });
}

Micros Case::first_arrival(Index entry) const {
  const auto all = arrivals_of(entry);
  return all.empty() ? kNever : history.arrivals[all.front()].at;
}

bool Case::seen_outside(Index entry) const {
  const Entry& e = history.entries[entry];
  return !arrivals_of(entry).empty() || e.left || e.receipts > 0 || e.dead_letters > 0;
}

bool Case::existed(Index entry) const {
  const Commit commit = history.entries[entry].commit;
  if (commit == Commit::committed) return true;
  return (commit == Commit::unknown || commit == Commit::begun) && seen_outside(entry);
}

bool Case::exempt(const Entry& entry) const {
  if (entry.scheduled || entry.commit != Commit::committed) return true;
  const bool dead = entry.dead_letters > 0 || entry.replayed || entry.discarded_at != kNever;
  return dead && !history.rules(entry.stream).hold_key;
}

bool Case::forgettable(const Entry& entry) const {
  return std::any_of(history.faults.begin(), history.faults.end(), [&](const Fault& fault) {
    return fault.forgets_from != kNever && fault.forgets_from <= entry.committed_at &&
           entry.begun_at <= fault.until;
  });
}

bool Case::forgotten(const Entry& entry) const {
  const bool ended =
      entry.receipts > 0 || entry.dead_letters > 0 || entry.left || entry.discarded_at != kNever;
  return history.final.seen && !ended && forgettable(entry);
}

bool Case::commits_undone_between(Micros from, Micros until) const {
  return std::any_of(history.faults.begin(), history.faults.end(), [&](const Fault& fault) {
    return fault.undoes_commits && overlap(fault.from, fault.until, from, until);
  });
}

bool Case::had_ended(Index entry, Micros arrival) const {
  const Entry& e = history.entries[entry];
  const auto ends = settles_of(entry);
  return std::any_of(ends.begin(), ends.end(), [&](const Settle& end) {
    if (end.as == Settled::other || end.at + send_timeout >= arrival) return false;
    if (e.replayed && end.at <= e.replayed_at) return false;
    return std::none_of(history.faults.begin(), history.faults.end(), [&](const Fault& fault) {
      return (fault.undoes_commits || fault.forgets_from != kNever || fault.may_be_late()) &&
             overlap(fault.from, fault.until, end.at - send_timeout, arrival);
    });
  });
}

void Case::found(Anomaly anomaly, std::string text) {
  const std::size_t count = verdict.found[static_cast<std::size_t>(anomaly)]++;
  if (count < options.samples) verdict.samples.push_back({anomaly, std::move(text)});
}

std::string Case::name(Index entry) const {
  const Entry& e = history.entries[entry];
  std::string text = "entry " + std::string(history.ids.text(entry));
  if (e.stream == kNone) return text;
  text += " (" + std::string(history.streams.text(e.stream));
  if (e.key != kNone)
    text += ", key " + std::string(history.keys.text(e.key)) + ", n " + std::to_string(e.place);
  return text + ")";
}

Verdict judge(const History& history, const JudgeOptions& options) {
  check_fit(history, options);
  Case c(history, options);
  summarize(c);
  judge_ends(c);
  judge_copies(c);
  judge_keys(c);
  judge_leases(c);
  judge_recovery(c);
  judge_quantities(c);
  judge_blame(c);
  return std::move(c.verdict);
}

}  // namespace outfall::test::history
