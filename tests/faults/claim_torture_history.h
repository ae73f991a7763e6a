#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/ids.h"

namespace outfall::test::torture {

// What producers, workers and operators did, in one global order. A worker notes a delivery while
// it holds the history's lock and a lease that it knows to be alive, so that the order of the notes
// is the order in which a sink would have seen them.
struct Event {
  enum class Kind : std::uint8_t {
    committed,      // after COMMIT returned
    rolled_back,    // an id that was taken and never committed
    claim_begun,    // before the claim was sent
    claimed,        // one for each entry of the lease
    delivered,      // the sink has it
    dead_lettered,  // decided, not yet settled
    settle_begun,   // one for each outcome other than returned
    settled,        // the same, after the answer
    stale,          // the settle was refused as a whole, or the renewal said that the lease is gone
    died,           // the worker forgot this lease
    replay_begun,   // of a dead letter
    abandoned,      // dead-lettered by a takeover
    defect,         // an answer that must not be
  };
  Kind kind{};
  EntryId id = 0;
  std::string lease = {};
  std::int64_t number =
      0;                  // claimed: the lease's number; committed: place in the key's order, or 0
  int attempts = 0;       // claimed
  bool flag = false;      // dead_lettered: later entries of the key wait; committed: scheduled;
                          // settle_begun, settled: as delivered
  std::string key = {};   // committed; empty: none
  std::string text = {};  // defect
};

// What is left in the database when everything is quiet.
struct FinalState {
  std::vector<EntryId> entries;
  std::set<EntryId> dead_letters;
  std::int64_t leases = 0;
  std::int64_t holds = 0;
};

struct Anomaly {
  std::string name;  // of the kinds that check() lists
  std::string text;
  std::vector<EntryId> entries = {};
};

// Safe to use from several threads.
class History {
 public:
  void add(Event event);
  // Adds the event if `allowed` says so while nothing else can be added.
  template <typename Allowed>
  bool add_if(Event event, Allowed allowed) {
    const std::lock_guard lock(mutex_);
    if (!allowed()) return false;
    push(std::move(event));
    return true;
  }
  void defect(const std::string& text);
  [[nodiscard]] std::vector<Event> events() const;
  [[nodiscard]] std::size_t count(Event::Kind kind) const;

 private:
  void push(Event event);

  mutable std::mutex mutex_;
  std::vector<Event> events_;
  std::map<Event::Kind, std::size_t> counts_;
};

// Judges a history by the promise of docs/concepts/guarantees.md. Names of anomalies:
//   lost               committed, but neither delivered and settled nor a dead letter
//   phantom            delivered, but never committed
//   duplicate          delivered again though nothing had happened to the lease that delivered it
//   resurrected        delivered or settled again after it was settled as delivered
//   reorder            a first delivery before that of an earlier entry of its key
//   gap                a redelivery that restarts and then leaves out an entry
//   hold_broken        a later entry of a key delivered while a dead letter held the key
//   attempts_decreased an entry was claimed with fewer attempts than before
//   zombie_write       a settle took effect for an entry that had been leased to somebody else
//   stuck              entries, leases or holds are left
//   defect             an error or an answer that the protocol rules out
// `final_state` is left out where a test stops before everything is drained: then nothing is said
// about what is lost or stuck.
[[nodiscard]] std::vector<Anomaly> check(const std::vector<Event>& events,
                                         const std::optional<FinalState>& final_state);

// All that happened to these entries and to the leases that held them, one line an event.
[[nodiscard]] std::string trace(const std::vector<Event>& events,
                                const std::vector<EntryId>& entries);

// One line an anomaly, at most `limit` of them.
[[nodiscard]] std::string to_string(const std::vector<Anomaly>& anomalies, std::size_t limit = 20);
[[nodiscard]] bool contains(const std::vector<Anomaly>& anomalies, const std::string& name);

}  // namespace outfall::test::torture
