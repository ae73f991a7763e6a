// How each entry ended: whether it existed, whether it is gone for a reason, and what is left.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "tests/faults/history_case.h"

namespace outfall::test::history {

namespace {

class Ends {
 public:
  explicit Ends(Case& c) : c_(c), h_(c.history) {}

  void judge() {
    for (Index i = 0; i < h_.entries.size(); ++i) {
      origin(i);
      if (c_.existed(i)) end(i);
      if (h_.final.seen) states(i);
    }
    if (h_.final.seen) left();
  }

 private:
  // Whatever was seen of it, a producer must have committed it first, and as it was seen.
  void origin(Index i) {
    const Entry& entry = h_.entries[i];
    if (entry.commit == Commit::rolled_back || entry.begun_at == kNever) {
      if (c_.seen_outside(i))
        c_.found(Anomaly::phantom,
                 c_.name(i) +
                     (entry.begun_at == kNever ? " was never written by a producer"
                                               : " was rolled back") +
                     (c_.arrivals_of(i).empty() ? ", but is in the database" : ", but arrived"));
      return;
    }
    for (const Index at : c_.arrivals_of(i)) {
      const Arrival& arrival = h_.arrivals[at];
      if (arrival.at < entry.begun_at) {
        c_.found(Anomaly::phantom, c_.name(i) + " arrived at " + std::to_string(arrival.at) +
                                       ", before its COMMIT was sent at " +
                                       std::to_string(entry.begun_at));
      } else if (arrival.stream != kNone && !same_content(entry, arrival)) {
        c_.found(Anomaly::phantom, c_.name(i) + " arrived with another stream, key or n");
      }
    }
  }

  static bool same_content(const Entry& entry, const Arrival& arrival) {
    return arrival.stream == entry.stream && arrival.key == entry.key &&
           arrival.place == entry.place;
  }

  void end(Index i) {
    const Entry& entry = h_.entries[i];
    const bool arrived = !c_.arrivals_of(i).empty();
    if (!h_.final.seen) {
      if (!arrived) lost(i, " never arrived");
      return;
    }
    const bool receipt_due = h_.final.receipts_listed && h_.rules(entry.stream).receipts;
    const bool ended =
        entry.receipts > 0 || entry.dead_letters > 0 || entry.left || entry.discarded_at != kNever;
    if (entry.receipts > 0 && !arrived) {
      lost(i, " has a receipt, but never arrived");
    } else if (!ended && !arrived) {
      lost(i, " never arrived, and is in no table");
    } else if (!ended && receipt_due) {
      lost(i, " arrived and is gone without a receipt");
    }
  }

  void lost(Index i, const std::string& how) {
    if (c_.forgettable(h_.entries[i])) {
      ++c_.verdict.forgotten;
    } else {
      c_.found(Anomaly::lost, c_.name(i) + how);
    }
  }

  void states(Index i) {
    const Entry& entry = h_.entries[i];
    const int terminal = entry.receipts + entry.dead_letters;
    if (terminal > 1)
      c_.found(Anomaly::double_terminal, c_.name(i) + " has " + std::to_string(entry.receipts) +
                                             " receipts and " + std::to_string(entry.dead_letters) +
                                             " dead letters");
    if (terminal > 0 && entry.left)
      c_.found(Anomaly::resurrect, c_.name(i) + " has ended, and is still in the table");
  }

  void left() {
    std::map<std::pair<Index, Index>, std::int64_t> holders;  // lowest dead letter of a key
    for (const Entry& entry : h_.entries) {
      const bool holds = entry.dead_letters > 0 && entry.discarded_at == kNever &&
                         entry.key != kNone && h_.rules(entry.stream).hold_key;
      if (!holds) continue;
      const auto [it, added] = holders.try_emplace({entry.stream, entry.key}, entry.place);
      if (!added) it->second = std::min(it->second, entry.place);
    }
    std::set<std::pair<Index, Index>> held;
    for (Index i = 0; i < h_.entries.size(); ++i) {
      const Entry& entry = h_.entries[i];
      if (!entry.left) continue;
      const auto holder = holders.find({entry.stream, entry.key});
      if (entry.held && holder != holders.end() && holder->second < entry.place) {
        held.insert(holder->first);
      } else {
        c_.found(Anomaly::stuck, c_.name(i) + " is left in the table");
      }
    }
    count_left("leases", h_.final.leases, 0);
    count_left("expired leases", h_.final.expired_leases, 0);
    count_left("holds", h_.final.holds, static_cast<std::int64_t>(held.size()));
  }

  void count_left(const std::string& what, std::int64_t count, std::int64_t explained) {
    if (count > explained)
      c_.found(Anomaly::stuck, std::to_string(count) + " " + what + " are left, of which " +
                                   std::to_string(explained) + " wait for a dead letter");
  }

  Case& c_;
  const History& h_;
};

}  // namespace

void judge_ends(Case& c) {
  Ends(c).judge();
}

}  // namespace outfall::test::history
