#include "tests/faults/claim_torture_history.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

namespace outfall::test::torture {

namespace {

using Kind = Event::Kind;
constexpr std::size_t kNever = std::numeric_limits<std::size_t>::max();

struct Delivery {
  std::size_t at;
  const std::string* lease;
};

struct Claim {
  std::size_t at;
  std::int64_t number;
  int attempts;
  const std::string* lease;
};

struct Settle {
  std::size_t begun;
  const std::string* lease;
  bool delivered;
};

struct Hold {
  std::size_t from;
  std::size_t until = kNever;
  const std::string* lease;
};

// All that happened to one entry; times are places in the history.
struct Story {
  std::size_t committed = kNever;
  bool rolled_back = false;
  bool scheduled = false;
  std::int64_t place = 0;  // in its key's order; 0: its transactions ran side by side
  const std::string* key = nullptr;
  std::vector<Delivery> deliveries;
  std::vector<Claim> claims;
  std::vector<Settle> settles;
  std::vector<Hold> holds;
  std::size_t excused = kNever;  // from here on later entries of its key need not wait for it
  bool ever_dead = false;

  [[nodiscard]] std::size_t first_delivery() const {
    return deliveries.empty() ? kNever : deliveries.front().at;
  }
  [[nodiscard]] std::size_t through() const { return std::min(first_delivery(), excused); }
};

class Judge {
 public:
  Judge(const std::vector<Event>& events, const std::optional<FinalState>& final_state)
      : events_(events), final_state_(final_state) {}

  std::vector<Anomaly> judge() {
    read();
    for (const auto& [id, story] : stories_) {
      check_end(id, story);
      check_copies(id, story);
      check_claims(id, story);
    }
    for (auto& [key, ids] : keys_) {
      check_commit_order(key, ids);
      check_claim_order(key, ids);
      check_restarts(key, ids);
      check_holds(key, ids);
    }
    check_left();
    return std::move(anomalies_);
  }

 private:
  void found(const std::string& name, const std::string& text, std::vector<EntryId> entries = {}) {
    anomalies_.push_back({name, text, std::move(entries)});
  }

  void read() {
    for (std::size_t at = 0; at < events_.size(); ++at) {
      const Event& event = events_[at];
      if (event.kind == Kind::claim_begun) claims_begun_.emplace(event.lease, at);
      if (event.kind == Kind::stale || event.kind == Kind::died) broken_leases_.insert(event.lease);
      if (event.kind == Kind::defect) found("defect", event.text);
      if (event.id != 0) read_entry(at, event);
    }
    for (const auto& [id, story] : stories_) {
      if (story.key != nullptr && !story.scheduled && story.committed != kNever)
        keys_[*story.key].push_back(id);
    }
  }

  void read_entry(std::size_t at, const Event& event) {
    Story& story = stories_[event.id];
    switch (event.kind) {
      case Kind::committed:
        story.committed = at;
        story.scheduled = event.flag;
        story.place = event.number;
        if (!event.key.empty()) story.key = &event.key;
        break;
      case Kind::rolled_back:
        story.rolled_back = true;
        break;
      case Kind::claimed:
        story.claims.push_back({at, event.number, event.attempts, &event.lease});
        break;
      case Kind::delivered:
        story.deliveries.push_back({at, &event.lease});
        break;
      case Kind::dead_lettered:
        story.ever_dead = true;
        if (event.flag) {
          story.holds.push_back({.from = at, .lease = &event.lease});
        } else {
          story.excused = std::min(story.excused, at);
        }
        break;
      case Kind::settle_begun:
        begun_[{event.id, event.lease}] = at;
        break;
      case Kind::settled:
        story.settles.push_back({begun_[{event.id, event.lease}], &event.lease, event.flag});
        break;
      case Kind::replay_begun:
        for (Hold& hold : story.holds) hold.until = std::min(hold.until, at);
        break;
      case Kind::abandoned:
        story.ever_dead = true;
        story.excused = 0;  // it happened some time before it was noticed
        break;
      case Kind::claim_begun:
      case Kind::stale:
      case Kind::died:
      case Kind::defect:
        break;
    }
  }

  static std::string name(EntryId id, const Story& story) {
    return "entry " + std::to_string(id) + (story.key == nullptr ? "" : " of key " + *story.key);
  }

  void check_end(EntryId id, const Story& story) {
    if (!story.deliveries.empty() && story.committed == kNever) {
      found("phantom", name(id, story) +
                           (story.rolled_back ? " was rolled back" : " was never committed") +
                           " and delivered");
    }
    if (!final_state_ || story.committed == kNever) return;
    const bool delivered = std::any_of(story.settles.begin(), story.settles.end(),
                                       [](const Settle& settle) { return settle.delivered; });
    if (!delivered && !final_state_->dead_letters.contains(id))
      found("lost", name(id, story) + " was committed at " + std::to_string(story.committed) +
                        " and is neither delivered nor a dead letter");
  }

  // Every copy but the last needs a reason, and none may follow the settle of one before.
  void check_copies(EntryId id, const Story& story) {
    int finals = 0;
    for (const Settle& settle : story.settles) {
      if (settle.delivered && ++finals > 1)
        found("resurrected", name(id, story) + " was settled as delivered twice");
    }
    for (std::size_t i = 0; i + 1 < story.deliveries.size(); ++i) {
      const std::string& lease = *story.deliveries[i].lease;
      const bool settled = std::any_of(
          story.settles.begin(), story.settles.end(),
          [&](const Settle& settle) { return settle.delivered && *settle.lease == lease; });
      if (settled && lease != *story.deliveries[i + 1].lease) {
        found("resurrected", name(id, story) + " was delivered again at " +
                                 std::to_string(story.deliveries[i + 1].at) + " after lease " +
                                 lease + " had settled it");
      } else if (!broken_leases_.contains(lease) || lease == *story.deliveries[i + 1].lease) {
        found("duplicate",
              name(id, story) + " was delivered at " + std::to_string(story.deliveries[i].at) +
                  " and " + std::to_string(story.deliveries[i + 1].at) + ", but lease " + lease +
                  " was neither lost nor its worker dead",
              {id});
      }
    }
  }

  void check_claims(EntryId id, const Story& story) {
    std::vector<Claim> claims = story.claims;
    std::sort(claims.begin(), claims.end(),
              [](const Claim& a, const Claim& b) { return a.number < b.number; });
    for (std::size_t i = 1; i < claims.size(); ++i) {
      if (claims[i].attempts < claims[i - 1].attempts)
        found("attempts_decreased", name(id, story) + " went from " +
                                        std::to_string(claims[i - 1].attempts) + " to " +
                                        std::to_string(claims[i].attempts));
      for (const Settle& settle : story.settles) {
        if (*settle.lease == *claims[i - 1].lease && settle.begun > claims[i].at)
          found("zombie_write", name(id, story) + " was settled by lease " + *settle.lease +
                                    " after lease " + *claims[i].lease + " had it");
      }
    }
  }

  // Transactions of a key that committed one after the other: first deliveries in their order.
  void check_commit_order(const std::string& key, const std::vector<EntryId>& ids) {
    std::vector<std::pair<std::int64_t, EntryId>> order;
    for (const EntryId id : ids) {
      if (stories_.at(id).place > 0) order.emplace_back(stories_.at(id).place, id);
    }
    std::sort(order.begin(), order.end());
    std::size_t latest = 0;
    EntryId of = 0;
    for (const auto& [place, id] : order) {
      const Story& story = stories_.at(id);
      if (of != 0 && story.first_delivery() < latest) report_reorder(key, id, of);
      if (of == 0 || story.through() >= latest) {
        latest = story.through();
        of = id;
      }
    }
  }

  // Transactions of a key that ran side by side: in the order of the ids that were committed when
  // the claim began that led to the first delivery.
  void check_claim_order(const std::string& key, const std::vector<EntryId>& ids) {
    for (std::size_t j = 1; j < ids.size(); ++j) {
      const Story& later = stories_.at(ids[j]);
      if (later.deliveries.empty()) continue;
      const auto begun = claims_begun_.find(*later.deliveries.front().lease);
      if (begun == claims_begun_.end()) continue;
      for (std::size_t i = 0; i < j; ++i) {
        const Story& earlier = stories_.at(ids[i]);
        if (earlier.committed < begun->second && earlier.through() > later.first_delivery() &&
            (earlier.place == 0 || later.place == 0)) {
          report_reorder(key, ids[j], ids[i]);
          break;
        }
      }
    }
  }

  void report_reorder(const std::string& key, EntryId later, EntryId earlier) {
    const auto place = [&](EntryId id) {
      const std::size_t at = stories_.at(id).first_delivery();
      return at == kNever ? std::string("never") : "at " + std::to_string(at);
    };
    found("reorder",
          "key " + key + ": entry " + std::to_string(later) + " was first delivered " +
              place(later) + ", the earlier entry " + std::to_string(earlier) + " " +
              place(earlier),
          {earlier, later});
  }

  // A redelivery may start again at an earlier entry of the key and then leaves none out.
  void check_restarts(const std::string& key, const std::vector<EntryId>& ids) {
    std::vector<std::pair<std::size_t, EntryId>> copies;
    std::vector<std::pair<std::size_t, EntryId>> firsts;
    for (const EntryId id : ids) {
      const Story& story = stories_.at(id);
      if (story.place == 0 || story.ever_dead || story.deliveries.empty()) continue;
      firsts.emplace_back(story.first_delivery(), id);
      for (const Delivery& delivery : story.deliveries) copies.emplace_back(delivery.at, id);
    }
    std::sort(copies.begin(), copies.end());
    std::sort(firsts.begin(), firsts.end());
    std::unordered_map<EntryId, std::size_t> rank;
    for (std::size_t i = 0; i < firsts.size(); ++i) rank[firsts[i].second] = i;
    for (std::size_t i = 1; i < copies.size(); ++i) {
      if (rank[copies[i].second] > rank[copies[i - 1].second] + 1)
        found("gap",
              "key " + key + ": entry " + std::to_string(copies[i].second) + " followed " +
                  std::to_string(copies[i - 1].second) + " at " + std::to_string(copies[i].first),
              {copies[i - 1].second, copies[i].second});
    }
  }

  void check_holds(const std::string& key, const std::vector<EntryId>& ids) {
    for (const EntryId head : ids) {
      for (const Hold& hold : stories_.at(head).holds) {
        const Story& story = stories_.at(head);
        const bool written =
            std::any_of(story.settles.begin(), story.settles.end(),
                        [&](const Settle& settle) { return *settle.lease == *hold.lease; });
        if (written) check_hold(key, ids, head, hold);
      }
    }
  }

  void check_hold(const std::string& key, const std::vector<EntryId>& ids, EntryId head,
                  const Hold& hold) {
    for (const EntryId id : ids) {
      if (id <= head) continue;
      for (const Delivery& delivery : stories_.at(id).deliveries) {
        if (delivery.at > hold.from && delivery.at < hold.until)
          found("hold_broken",
                "key " + key + ": entry " + std::to_string(id) + " was delivered at " +
                    std::to_string(delivery.at) + " while the dead letter " + std::to_string(head) +
                    " held the key",
                {head, id});
      }
    }
  }

  void check_left() {
    if (!final_state_) return;
    if (!final_state_->entries.empty())
      found("stuck", std::to_string(final_state_->entries.size()) +
                         " entries are left, the first is " +
                         std::to_string(final_state_->entries.front()));
    if (final_state_->leases != 0)
      found("stuck", std::to_string(final_state_->leases) + " leases are left");
    if (final_state_->holds != 0)
      found("stuck", std::to_string(final_state_->holds) + " holds are left");
  }

  const std::vector<Event>& events_;
  const std::optional<FinalState>& final_state_;
  std::map<EntryId, Story> stories_;
  std::map<std::string, std::vector<EntryId>> keys_;  // committed and not scheduled, ascending
  std::map<std::string, std::size_t> claims_begun_;
  std::set<std::string> broken_leases_;
  std::map<std::pair<EntryId, std::string>, std::size_t> begun_;
  std::vector<Anomaly> anomalies_;
};

}  // namespace

void History::push(Event event) {
  ++counts_[event.kind];
  events_.push_back(std::move(event));
}

void History::add(Event event) {
  const std::lock_guard lock(mutex_);
  push(std::move(event));
}

void History::defect(const std::string& text) {
  add({.kind = Kind::defect, .text = text});
}

std::vector<Event> History::events() const {
  const std::lock_guard lock(mutex_);
  return events_;
}

std::size_t History::count(Event::Kind kind) const {
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(kind);
  return found == counts_.end() ? 0 : found->second;
}

std::vector<Anomaly> check(const std::vector<Event>& events,
                           const std::optional<FinalState>& final_state) {
  return Judge(events, final_state).judge();
}

std::string trace(const std::vector<Event>& events, const std::vector<EntryId>& entries) {
  static constexpr const char* kNames[] = {
      "committed",     "rolled_back",  "claim_begun", "claimed", "delivered",
      "dead_lettered", "settle_begun", "settled",     "stale",   "died",
      "replay_begun",  "abandoned",    "defect"};
  const std::set<EntryId> ids(entries.begin(), entries.end());
  std::set<std::string> leases;
  for (const Event& event : events) {
    if (ids.contains(event.id) && !event.lease.empty()) leases.insert(event.lease);
  }
  std::string text;
  for (std::size_t at = 0; at < events.size(); ++at) {
    const Event& event = events[at];
    if (!ids.contains(event.id) && !(event.id == 0 && leases.contains(event.lease))) continue;
    text += std::to_string(at) + " " + kNames[static_cast<std::size_t>(event.kind)] + " " +
            std::to_string(event.id) + " lease " + event.lease + " number " +
            std::to_string(event.number) + (event.flag ? " flag" : "") + "\n";
  }
  return text;
}

std::string to_string(const std::vector<Anomaly>& anomalies, std::size_t limit) {
  std::string text;
  for (std::size_t i = 0; i < std::min(limit, anomalies.size()); ++i)
    text += anomalies[i].name + ": " + anomalies[i].text + "\n";
  if (anomalies.size() > limit)
    text += "and " + std::to_string(anomalies.size() - limit) + " more\n";
  return text;
}

bool contains(const std::vector<Anomaly>& anomalies, const std::string& name) {
  return std::any_of(anomalies.begin(), anomalies.end(),
                     [&](const Anomaly& anomaly) { return anomaly.name == name; });
}

}  // namespace outfall::test::torture
