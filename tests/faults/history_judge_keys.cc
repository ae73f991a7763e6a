// The order of a key: first arrivals as committed, redeliveries that go on where they began again.
#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "tests/faults/history_case.h"

namespace outfall::test::history {

namespace {

// The entries of one key, which have ordered places in one stream.
class KeyOrder {
 public:
  KeyOrder(Case& c, std::span<const Index> entries) : c_(c), h_(c.history), entries_(entries) {}

  void judge() {
    for (const Index entry : entries_) {
      // One that a failover has undone cannot come again between its neighbours.
      if (c_.exempt(h_.entries[entry]) || c_.forgotten(h_.entries[entry])) continue;
      for (const Index arrival : c_.arrivals_of(entry)) arrivals_.push_back(arrival);
    }
    std::sort(arrivals_.begin(), arrivals_.end(), [&](Index a, Index b) {
      return std::tie(h_.arrivals[a].sink, h_.arrivals[a].seq) <
             std::tie(h_.arrivals[b].sink, h_.arrivals[b].seq);
    });
    for (std::size_t from = 0; from < arrivals_.size();) {
      std::size_t until = from;
      while (until < arrivals_.size() &&
             h_.arrivals[arrivals_[until]].sink == h_.arrivals[arrivals_[from]].sink)
        ++until;
      const auto one_sink = std::span(arrivals_).subspan(from, until - from);
      first_arrivals(one_sink);
      restarts(one_sink);
      from = until;
    }
    if (h_.rules(h_.entries[entries_.front()].stream).hold_key) holds();
  }

 private:
  [[nodiscard]] bool is_first(Index arrival) const {
    return c_.arrivals_of(h_.arrivals[arrival].entry).front() == arrival;
  }

  void first_arrivals(std::span<const Index> arrivals) {
    Index highest = kNone;
    for (const Index arrival : arrivals) {
      if (!is_first(arrival)) continue;
      const Index entry = h_.arrivals[arrival].entry;
      if (highest != kNone && h_.entries[entry].place < h_.entries[highest].place) {
        c_.found(Anomaly::reorder, c_.name(entry) + " first arrived as seq " +
                                       std::to_string(h_.arrivals[arrival].seq) + ", after n " +
                                       std::to_string(h_.entries[highest].place));
      } else {
        highest = entry;
      }
    }
  }

  // Ranks are those of the first arrivals, so that what never arrived is no gap here: it is lost.
  void restarts(std::span<const Index> arrivals) {
    std::unordered_map<Index, std::size_t> ranks;
    for (const Index arrival : arrivals)
      ranks.try_emplace(h_.arrivals[arrival].entry, ranks.size());
    if (ranks.size() == arrivals.size()) return;
    for (std::size_t i = 1; i < arrivals.size(); ++i) {
      const std::size_t before = ranks[h_.arrivals[arrivals[i - 1]].entry];
      if (ranks[h_.arrivals[arrivals[i]].entry] <= before + 1) continue;
      if (is_late(arrivals[i - 1])) {
        ++c_.verdict.late;
        continue;
      }
      c_.found(Anomaly::gap, "after " + c_.name(h_.arrivals[arrivals[i - 1]].entry) +
                                 " had arrived again came n " +
                                 std::to_string(h_.entries[h_.arrivals[arrivals[i]].entry].place) +
                                 ", as seq " + std::to_string(h_.arrivals[arrivals[i]].seq));
    }
  }

  // A send from before its repetition, which a fault kept on its way.
  [[nodiscard]] bool is_late(Index arrival) const {
    if (is_first(arrival)) return false;
    const Arrival& copy = h_.arrivals[arrival];
    const Micros sent_from = c_.first_arrival(copy.entry) - c_.send_timeout;
    return std::any_of(h_.faults.begin(), h_.faults.end(), [&](const Fault& fault) {
      return fault.may_be_late() && overlap(fault.from, fault.until, sent_from, copy.at) &&
             (fault.touches_workers() || fault.database || fault.touches_sink(copy.sink));
    });
  }

  void holds() {
    for (const Index head : entries_) {
      const Entry& dead = h_.entries[head];
      if (dead.dead_letters == 0 && dead.discarded_at == kNever) continue;
      for (const Index entry : entries_) {
        if (h_.entries[entry].place <= dead.place || c_.exempt(h_.entries[entry])) continue;
        if (c_.first_arrival(entry) < dead.discarded_at)
          c_.found(Anomaly::reorder, c_.name(entry) + " arrived although the dead letter n " +
                                         std::to_string(dead.place) + " held its key");
      }
    }
  }

  Case& c_;
  const History& h_;
  std::span<const Index> entries_;
  std::vector<Index> arrivals_;
};

}  // namespace

void judge_keys(Case& c) {
  const std::vector<Entry>& all = c.history.entries;
  std::vector<Index> keyed;
  for (Index i = 0; i < all.size(); ++i) {
    if (all[i].key != kNone && c.existed(i) && c.history.rules(all[i].stream).ordered)
      keyed.push_back(i);
  }
  std::sort(keyed.begin(), keyed.end(), [&](Index a, Index b) {
    return std::tie(all[a].stream, all[a].key, all[a].place) <
           std::tie(all[b].stream, all[b].key, all[b].place);
  });
  for (std::size_t from = 0; from < keyed.size();) {
    std::size_t until = from;
    while (until < keyed.size() && all[keyed[until]].stream == all[keyed[from]].stream &&
           all[keyed[until]].key == all[keyed[from]].key)
      ++until;
    KeyOrder(c, std::span<const Index>(keyed).subspan(from, until - from)).judge();
    from = until;
  }
}

}  // namespace outfall::test::history
