#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/breaker.h"
#include "core/clock.h"
#include "core/transition.h"
#include "drain/drain_host.h"
#include "emitter/emitter.h"
#include "store/outbox_store.h"

// What a worker holds of one stream: leases, their entries, and the state of keys and lanes. Plain
// data with small invariants; the loop thread owns all of it.

namespace outfall {

class StreamDrain;
struct HeldEntry;
struct HeldLease;

// A key with entries in this worker. Keys are told apart by their hash, as in the database: two
// keys of one hash are treated as one, which costs a little concurrency and never the order.
struct HeldKey {
  KeyRun run;
  std::int32_t hash = 0;
  std::int32_t held = 0;  // entries without an outcome
  std::int32_t sent = 0;  // of these, at the emitter
  // An entry did not get through: what comes of this key is given back until the failure is written
  // and no claim that began before that is under way.
  bool blocked = false;
  std::int32_t unsettled = 0;     // outcomes other than delivered that are not written yet
  std::uint64_t clear_after = 0;  // the claim that must have returned; 0: not known yet
  // Those that wait for the one before them, where the emitter takes one of a key at a time.
  HeldEntry* first_waiting = nullptr;
  HeldEntry* last_waiting = nullptr;
};

// A destination with entries in this worker, its breaker, and why it is away.
struct HeldLane {
  explicit HeldLane(BreakerPolicy policy) : breaker(policy) {}
  std::string name;
  Breaker breaker;
  LaneGate gate;          // counts how often the breaker has opened
  std::int32_t held = 0;  // entries without an outcome
  // Since when its limit is reached, until it is half empty again.
  std::optional<MonotonicTime> full_since;
  EntryId last_probe = 0;      // that came back without an answer; 0: none
  bool parking = false;        // on its way to the database
  MonotonicTime away_since{};  // when its breaker opened last
  std::string error;           // the last that had to do with that
};

// One entry of a lease. Its address is its token at the emitter.
struct HeldEntry {
  enum class State : std::uint8_t { waiting, sent, done };
  const LeasedEntry* leased = nullptr;
  HeldLease* lease = nullptr;
  HeldKey* key = nullptr;  // null: no order to keep
  HeldLane* lane = nullptr;
  MonotonicTime::duration lane_open_time{};  // of the lane's breaker when the entry arrived
  State state = State::waiting;
  bool probe = false;
  bool settled = false;               // its outcome is in a settle request
  HeldEntry* next_waiting = nullptr;  // of its key
};

// The outcomes of a lease that wait to be written.
struct Unsettled {
  std::vector<HeldEntry*> delivered;
  std::vector<std::string>
      record_ids;  // aligned with `delivered`; empty while all are envelope ids
  std::vector<SettledOther> others;
  std::vector<EntryId> returned;
  std::vector<HeldKey*> failed_keys;  // one element for each outcome that blocks its key
  MonotonicTime since;                // of the first
  DrainHost::Amount amount;           // of all of them

  [[nodiscard]] bool empty() const {
    return delivered.empty() && others.empty() && returned.empty();
  }
};

// A claim whose answer is not taken in yet. Answers are taken in the order in which the claims were
// asked for, since that is the order of the entries of a key.
struct HeldClaim {
  Uuid lease_id;
  DrainHost::Amount may_bring;       // counts against the allowance
  std::optional<LeasedSoon> leased;  // there is a lease, and its entries are being read
  bool under_way = false;
  // Its answer was lost: it may have taken effect, so it is asked again for the same lease.
  bool in_doubt = false;
  bool given_up = false;  // what it brings is given back
  // The answer, with what was known when it was asked for.
  std::optional<ClaimResult> answer;
  std::uint64_t presence = 0;
  MonotonicTime::duration took{};
};

// A lease of this worker: what it claimed at once, and what is not written of that yet. Lives until
// every outcome is written or the lease is lost.
struct HeldLease {
  StreamDrain* stream = nullptr;
  LeasedBatch batch;
  std::vector<HeldEntry> entries;  // never resized: entries are pointed to
  Unsettled unsettled;
  std::shared_ptr<SendDeadline> deadline;
  std::int32_t open = 0;  // entries without an outcome
  bool lost = false;      // taken over: nothing of it is written any more
  bool withheld = false;  // it may be: nothing of it is sent before a renewal has told
  bool settling = false;
  bool bare = false;       // every entry is decided, and of their texts only the keys are left
  std::int32_t aside = 0;  // outcomes that the database refuses, which are written later
};

// What is written of one lease in one call.
struct SettlePart {
  HeldLease* lease = nullptr;
  SettleRequest request;
  std::vector<HeldKey*> failed_keys;  // see Unsettled
  std::vector<HeldEntry*> delivered;  // those of the request
  SettleResult result;
  // Not written now, for its one entry is refused by the database, or follows such a one in its
  // key.
  bool aside = false;
  bool again = false;      // it was aside before
  bool refused = false;    // itself, at the last try
  HeldKey* key = nullptr;  // of one that is or was aside: blocked until it is written
};

// The keys of one stream in this worker, and which of them are full.
class HeldKeys {
 public:
  HeldKey& arrive(std::int32_t hash);
  HeldKey& of(std::int32_t hash);
  // One entry of the key has its outcome. The key is forgotten when nothing is left to know of it.
  void leave(HeldKey& key);
  void forget_if_idle(HeldKey& key);
  // Marks keys as full at `limit` held entries and as free again at half of it.
  void note_fill(HeldKey& key, std::string_view name, std::int32_t limit, MonotonicTime now);
  [[nodiscard]] std::vector<Room> full() const;
  // Since when the key that became full last is full; none while no key is.
  [[nodiscard]] std::optional<MonotonicTime> last_full_since() const;
  // How many entries the largest key has that is not full.
  [[nodiscard]] std::int32_t largest_room_taken() const;
  [[nodiscard]] std::size_t size() const { return keys_.size(); }
  template <typename Visit>
  void for_each(Visit visit) {
    for (auto it = keys_.begin(); it != keys_.end();) {
      HeldKey& key = *it->second;
      ++it;
      visit(key);
    }
  }

 private:
  struct Full {
    std::string name;
    MonotonicTime since;
  };
  std::unordered_map<std::int32_t, std::unique_ptr<HeldKey>> keys_;
  std::unordered_map<std::int32_t, Full> full_;
};

}  // namespace outfall
