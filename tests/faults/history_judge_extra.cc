// What is not said of a single entry: how long recovery took, who was delayed, what was used and
// what was counted.
#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "tests/faults/history_case.h"

namespace outfall::test::history {

namespace {

struct Journey {
  Micros committed;
  Micros arrived;
  Index entry;
};

// Entries that nothing but a fault could delay, by the time of their commit.
std::vector<Journey> journeys(const Case& c) {
  std::vector<Journey> all;
  for (Index i = 0; i < c.history.entries.size(); ++i) {
    const Entry& entry = c.history.entries[i];
    const Micros arrived = c.first_arrival(i);
    if (entry.commit != Commit::committed || arrived == kNever) continue;
    if (entry.scheduled || entry.replayed || entry.dead_letters > 0) continue;
    all.push_back({entry.committed_at, arrived, i});
  }
  std::sort(all.begin(), all.end(),
            [](const Journey& a, const Journey& b) { return a.committed < b.committed; });
  return all;
}

bool committed_before(const Journey& journey, Micros at) {
  return journey.committed < at;
}

// Recovered is when all that was committed before the fault's end has arrived once.
void recoveries(Case& c, const std::vector<Journey>& all) {
  std::vector<Micros> latest;
  for (const Journey& journey : all)
    latest.push_back(latest.empty() ? journey.arrived : std::max(latest.back(), journey.arrived));
  for (const Fault& fault : c.history.faults) {
    const auto end = std::lower_bound(all.begin(), all.end(), fault.until, committed_before);
    if (end == all.begin()) continue;
    const Micros recovery =
        std::max<Micros>(0, latest[static_cast<std::size_t>(end - all.begin()) - 1] - fault.until);
    Micros& longest = c.verdict.faults[fault.kind].longest_recovery;
    longest = std::max(longest, recovery);
    if (recovery > fault.recover_within)
      c.found(Anomaly::stuck, fault.kind + ", over at " + std::to_string(fault.until) + ", took " +
                                  std::to_string(recovery) + " us to recover from; " +
                                  std::to_string(fault.recover_within) + " are allowed");
  }
}

bool delayed_by_another(const Case& c, const Fault& fault, const Journey& journey, Index sink) {
  return std::any_of(c.history.faults.begin(), c.history.faults.end(), [&](const Fault& other) {
    return &other != &fault &&
           overlap(other.from, other.until, journey.committed, journey.arrived) &&
           (other.database || other.touches_workers() || other.touches_sink(sink));
  });
}

Index sink_of(const Case& c, const Journey& journey) {
  return c.history.arrivals[c.arrivals_of(journey.entry).front()].sink;
}

// What took long to the same sink without the fault says how slow the machine is, and that it was
// not the fault. What was committed before anything had arrived there waited for workers to start.
std::map<Index, Micros> allowed_elsewhere(const Case& c, const Fault& fault,
                                          const std::vector<Journey>& all) {
  std::map<Index, Micros> first_arrival;
  for (const Journey& journey : all) {
    const auto [at, fresh] = first_arrival.try_emplace(sink_of(c, journey), journey.arrived);
    if (!fresh) at->second = std::min(at->second, journey.arrived);
  }
  std::map<Index, Micros> allowed;
  for (const auto& [sink, arrived] : first_arrival) allowed[sink] = fault.isolate_within;
  for (const Journey& journey : all) {
    const Index sink = sink_of(c, journey);
    if (journey.committed < first_arrival[sink] || journey.arrived >= fault.from) continue;
    allowed[sink] = std::max(allowed[sink], 2 * (journey.arrived - journey.committed));
  }
  return allowed;
}

void isolation(Case& c, const std::vector<Journey>& all) {
  for (const Fault& fault : c.history.faults) {
    if (fault.isolate_within == kNever) continue;
    const std::map<Index, Micros> allowed = allowed_elsewhere(c, fault, all);
    for (auto it = std::lower_bound(all.begin(), all.end(), fault.from, committed_before);
         it != all.end() && it->committed <= fault.until; ++it) {
      const Index sink = sink_of(c, *it);
      const Micros took = it->arrived - it->committed;
      if (fault.touches_sink(sink) || took <= allowed.at(sink)) continue;
      if (delayed_by_another(c, fault, *it, sink)) continue;
      c.found(Anomaly::not_isolated, c.name(it->entry) + " took " + std::to_string(took) +
                                         " us to " + std::string(c.history.sinks.text(sink)) +
                                         " while " + fault.kind + " was elsewhere");
    }
  }
}

void bounds(Case& c) {
  for (const auto& [of, value] : c.history.gauges) {
    for (const std::string& worker : {of.first, std::string()}) {
      const auto bound = c.history.bounds.find({worker, of.second});
      if (bound == c.history.bounds.end()) continue;
      if (value > bound->second)
        c.found(Anomaly::unbounded, of.second + " of " + of.first + " rose to " +
                                        std::to_string(value) + ", above " +
                                        std::to_string(bound->second));
      break;
    }
  }
}

constexpr std::string_view kAttempts = "outfall_attempts_total/";

// Workers count what they know, and what they have counted is gone with their process. That nothing
// is gone is certain where each has told its counters after the last arrival and before its end.
bool counts_are_whole(const Case& c) {
  const History& h = c.history;
  Micros last = h.last_logged;
  for (const Arrival& arrival : h.arrivals) last = std::max(last, arrival.at);
  for (Index worker = 0; worker < h.workers.size(); ++worker) {
    if (!h.counted_at.contains(worker)) return false;
  }
  return std::all_of(h.ends.begin(), h.ends.end(), [&](const auto& end) {
    const Micros told = h.counted_at.at(end.first);
    return last <= told && told <= end.second;
  });
}

bool touches_anything(const Fault& fault) {
  return fault.database || fault.touches_workers() || fault.touches_sinks();
}

void compare(Case& c, const std::string& what, double told, double happened, bool exact) {
  if (told <= happened && (!exact || told == happened)) return;
  c.found(Anomaly::miscounted,
          what + " says " + std::to_string(told) + ", the history " + std::to_string(happened));
}

// What is counted must have happened.
void counted(Case& c, const std::string& name, const std::map<Index, double>& truth, bool exact) {
  std::map<Index, double> told;
  for (const auto& [of, counter] : c.history.counters) {
    if (std::get<1>(of) == name) told[std::get<2>(of)] += counter.before + counter.value;
  }
  for (const auto& [stream, value] : told) {
    const auto found = truth.find(stream);
    compare(c, name + " of " + std::string(c.history.streams.text(stream)), value,
            found == truth.end() ? 0 : found->second, exact);
  }
}

// An attempt is logged and counted by the same process, so that faults change nothing about it.
void counted_as_logged(Case& c, bool exact) {
  const History& h = c.history;
  if (h.logged.empty()) return;
  std::map<std::string, double> told;
  for (const auto& [of, counter] : h.counters) {
    if (std::get<1>(of).starts_with(kAttempts))
      told[std::get<1>(of)] += counter.before + counter.value;
  }
  const bool in_time = std::all_of(h.counted_at.begin(), h.counted_at.end(),
                                   [&](const auto& each) { return each.second >= h.last_logged; });
  for (const auto& [name, value] : told) {
    const auto found = h.logged.find(std::string_view(name).substr(kAttempts.size()));
    compare(c, name + " as logged", value,
            found == h.logged.end() ? 0 : static_cast<double>(found->second), exact && in_time);
  }
}

}  // namespace

void judge_recovery(Case& c) {
  if (c.history.faults.empty()) return;
  const std::vector<Journey> all = journeys(c);
  recoveries(c, all);
  isolation(c, all);
}

void judge_quantities(Case& c) {
  bounds(c);
  if (c.history.counters.empty()) return;
  std::map<Index, double> delivered;
  std::map<Index, double> dead;
  for (Index i = 0; i < c.history.entries.size(); ++i) {
    const Entry& entry = c.history.entries[i];
    if (entry.stream == kNone) continue;
    delivered[entry.stream] += static_cast<double>(c.arrivals_of(i).size());
    dead[entry.stream] += std::max<int>(entry.dead_letters, entry.replayed ? 1 : 0);
  }
  const auto& faults = c.history.faults;
  const bool whole = counts_are_whole(c);
  const bool calm = std::none_of(faults.begin(), faults.end(), touches_anything);
  counted(c, std::string(kAttempts) + "delivered", delivered, whole && calm);
  counted_as_logged(c, whole);
  // A dead letter that a crash of the database forgets becomes one again.
  const bool kept =
      std::none_of(faults.begin(), faults.end(), [](const Fault& fault) { return fault.database; });
  if (c.verdict.replayed == 0 && c.history.final.seen && kept)
    counted(c, "outfall_dead_lettered_total", dead, whole && calm);
}

}  // namespace outfall::test::history
