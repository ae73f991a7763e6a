#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/envelope.h"
#include "core/ids.h"
#include "core/status.h"
#include "store/store_error.h"

namespace outfall {

// How many more entries of a lane or key a claim may take; 0 closes it.
struct Room {
  std::string name;
  std::int32_t room = 0;
};

// What one claim may take; the values are those of the stream's settings and of what the worker has
// room for. Plain data.
struct ClaimRequest {
  std::string stream;
  Uuid lease_id;              // random, chosen by the caller: the fencing token
  Milliseconds lease{30000};  // how long it lasts unless it is renewed, by the database's clock
  std::int32_t max_entries = 1000;
  std::int64_t max_bytes = 1 << 20;  // payload bytes beyond the first entry
  bool by_key = true;                // ordering = "key"
  bool hold_key = false;           // on_dead_letter = "hold-key", for what this claim dead-letters
  std::string lane;                // selector: "", "type", "source", "subject", "header.<name>"
  std::int32_t max_abandoned = 5;  // workers that may die with an entry before it is dead-lettered
  std::vector<Room> lanes;         // the exceptions; other lanes and keys have the default room
  std::int32_t lane_room = 1000;
  std::vector<Room> keys;
  std::int32_t key_room = 1000;
  std::vector<Uuid> dead_workers;  // seen dead by Presence: their leases need not expire
};

// One entry of a lease. Its views live as long as LeasedBatch::owner.
struct LeasedEntry {
  Envelope envelope;
  std::int32_t key_hash = 0;       // equal for equal keys; only with a key
  std::int32_t attempts_base = 0;  // AttemptContext::attempts_base
  WallTime limits_from;            // since when its age counts for limits
  // What it counts for where bytes are bounded; the rest of it is small.
  [[nodiscard]] std::int64_t bytes() const {
    return static_cast<std::int64_t>(envelope.payload.size() + envelope.headers_json.size());
  }
};

// What one lease holds. Entries ascend by id and point into `owner`.
struct LeasedBatch {
  Uuid lease_id;
  std::int64_t lease_no = 0;
  MonotonicTime valid_until;  // by the local clock, anchored before the claim was sent
  MonotonicTime asked_at;     // when the claim was sent
  WallTime claimed_at;        // the same moment by the database's clock
  bool suspect = false;       // one entry that earlier workers died with
  std::vector<LeasedEntry> entries;
  std::int64_t bytes = 0;  // of all entries
  std::shared_ptr<const void> owner;
};

enum class ClaimStatus : std::uint8_t {
  batch,   // there is a lease
  empty,   // nothing that this claim may take is due
  busy,    // another claim of the stream is running: ask again in a millisecond or two
  paused,  // by an operator
};

// What a claim brought, and what it did beside that. Plain data.
struct ClaimResult {
  ClaimStatus status = ClaimStatus::empty;
  bool more = false;      // claim again at once
  bool repeated = false;  // an earlier try of this claim had taken effect, and this is its lease
  LeasedBatch batch;      // with status batch
  // That hold leases of this stream; null where the claim did not come to look.
  std::optional<std::vector<Uuid>> other_workers;
  std::int32_t taken_over = 0;     // leases taken from dead workers
  std::vector<EntryId> abandoned;  // dead-lettered, since workers died with them
  std::int32_t parked = 0;         // entries moved to a hold
  std::int32_t repicks = 0;        // picks that were repeated, since a writer ended meanwhile
  std::int64_t floor_lag = 0;      // ids between the claim floor and the sequence's end
};

// What is known of a lease before its entries have been read.
struct LeasedSoon {
  std::int32_t entries = 0;
  std::int32_t largest_key = 0;  // no key has more of them; 0: none has one
  bool more = false;             // as in ClaimResult
};

// An outcome other than delivered, as it is written.
struct SettledOther {
  EntryId id = 0;
  EntryStatus status = EntryStatus::retryable_failure;  // or deferred, dead_lettered
  bool counted = true;
  Milliseconds delay{0};
  std::string code;  // empty: the last error stays
  std::string message;
};

// The outcomes of one lease that are written in one transaction; entries of the lease that it does
// not name stay leased. Where its answer was lost it is asked again word for word, but for
// in_doubt. Plain data.
struct SettleRequest {
  Uuid lease_id;
  std::string provider;                 // the emitter's kind, for the receipts
  bool receipts = true;                 // keep one of what was delivered
  bool hold_key = false;                // on_dead_letter = "hold-key"
  std::vector<EntryId> delivered;       // ascending
  std::vector<std::string> record_ids;  // aligned with `delivered`, or empty: the envelope ids
  std::vector<SettledOther> others;
  std::vector<EntryId> returned;        // unchanged, free for the next claim
  std::vector<std::int32_t> busy_keys;  // key hashes of what stays in the lease
  bool in_doubt = false;  // an earlier try of the very same request may have been committed

  [[nodiscard]] bool empty() const {
    return delivered.empty() && others.empty() && returned.empty();
  }
  [[nodiscard]] std::size_t size() const {
    return delivered.size() + others.size() + returned.size();
  }
};

struct SettleResult {
  bool stale = false;     // the lease was gone: nothing was written
  bool repeated = false;  // in doubt, and it had been committed
  WallTime settled_at;    // by the database's clock
};

// One connection's worth of work. Used by one thread at a time; every call blocks for one round
// trip, bounded by the configured timeouts, and throws StoreError. After an `unavailable` error the
// session is dead: nothing is known about the call in flight, and a new session must be opened.
class StoreSession {
 public:
  virtual ~StoreSession() = default;
  // Makes streams known to the database, which is needed once before their first claim. Harmless
  // for those that are, and from several workers at once.
  virtual void register_streams(std::span<const std::string> streams) = 0;
  // Which of these streams may have something to claim.
  virtual std::vector<std::string> due_streams(std::span<const std::string> streams) = 0;
  // Calls `leased` on this thread as soon as there is a new lease, which is before its entries are
  // read; where both come at once, or a lease was only found again, it may not be called. Until
  // then no other claim of the stream may be made by the same store; from then on one may.
  virtual ClaimResult claim(const ClaimRequest& request,
                            const std::function<void(const LeasedSoon&)>& leased) = 0;
  ClaimResult claim(const ClaimRequest& request) { return claim(request, {}); }
  // All of the request takes effect or nothing of it. A lease that is gone is no error: see
  // SettleResult::stale.
  virtual SettleResult settle(const SettleRequest& request) = 0;
  // The leases that are still ours; `valid_until` of those may be moved to the call's start +
  // lease.
  virtual std::vector<Uuid> renew(std::span<const Uuid> leases, Milliseconds lease) = 0;
  // Gives up all leases of this worker: at a clean stop, and after a restart of the server.
  virtual void release() = 0;
  // Takes back one suspicion each: these entries' lease was taken over as that of a dead worker,
  // and this worker, which had it, lives. Entries that are gone are left out.
  virtual void forgive(std::span<const EntryId> entries) = 0;
  // Closes a destination of a stream until an operator resumes it. False: it was closed already,
  // and nothing changes.
  virtual bool park_destination(const std::string& stream, const std::string& lane,
                                const std::string& reason) = 0;
};

// Says to other workers that this one lives, and sees which of them do not. One thread at a time.
class Presence {
 public:
  virtual ~Presence() = default;
  // Those of `workers` that have been absent for kAbsentLongEnough in this session. Throws
  // StoreError; when the session ended, others may think this worker dead, so stop sending.
  virtual std::vector<Uuid> absent(std::span<const Uuid> workers) = 0;
  // Whether this session is what others see; an earlier one of this worker may be for a while.
  [[nodiscard]] virtual bool held() const noexcept = 0;
};

// A schema that this binary can work with, or why it cannot.
enum class SchemaFit : std::uint8_t { fits, missing, older, newer };
struct SchemaState {
  SchemaFit fit = SchemaFit::missing;
  int version = 0;
  std::string detail;  // what is wrong; empty when it fits
  std::string hint;    // for the operator: what to do
};

// The outbox in a database. Safe to use from several threads; its sessions are not.
class OutboxStore {
 public:
  virtual ~OutboxStore() = default;
  [[nodiscard]] virtual std::unique_ptr<StoreSession> open_session() = 0;
  // Null where connections are not this worker's own (a transaction pooler): expiry alone decides.
  [[nodiscard]] virtual std::unique_ptr<Presence> open_presence() = 0;
  [[nodiscard]] virtual SchemaState schema_state() = 0;
  // The server was restarted: writes that it had confirmed may be gone, so that leases may be back
  // which this worker had settled. Claims and settles fail as a conflict until a session has called
  // release().
  [[nodiscard]] virtual bool leases_in_doubt() = 0;
  [[nodiscard]] virtual const Uuid& worker() const noexcept = 0;
};

}  // namespace outfall
