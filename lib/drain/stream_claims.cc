// The claiming side of StreamDrain: when to claim and how much, and what arrives.
#include <algorithm>

#include "drain/stream_drain.h"

namespace outfall {

namespace {

// A claim is worth its round trip from here on, unless nothing is held at all.
std::int32_t smallest_useful_claim(const DrainOptions& options) {
  return std::max(1, std::min(options.batch_entries, options.max_in_flight) / 2);
}

// What a full key or lane still has waiting in the table is marked as held, entry by entry, so that
// a claim gets past it. For one that is merely busy, it is cheaper to let it catch up; for a slow
// one, this is what its neighbours wait for once.
constexpr Milliseconds kCatchUp{25};

// Whoever is at the stream takes what there is, and each look that finds it busy costs the server
// as much as the least claim.
constexpr Milliseconds kLongestBusyPause{64};

// A claim that takes this long and leaves nothing behind has walked past much that others hold. No
// claim of theirs can run meanwhile, and only those can take it out of the way.
constexpr Milliseconds kLongWalk{20};

DrainHost::Amount amount_of(const LeasedBatch& batch) {
  return {static_cast<std::int32_t>(batch.entries.size()), batch.bytes};
}

}  // namespace

bool StreamDrain::claim() {
  count_open_time();
  if (claiming_ || stopping_ || !host_.may_claim()) return false;
  const DrainHost::Amount allowance = host_.allowance(*this);
  const bool room = allowance.entries > 0 && allowance.bytes > 0 &&
                    ((held_entries_ == 0 && !something_unwritten()) ||
                     allowance.entries >= smallest_useful_claim(host_.options()));
  if (!room) {
    host_.wants_room(*this);
    return false;
  }
  // settled() looks again.
  if (settle_refused_ || (churning_ && something_unwritten())) return false;
  if (const auto since = last_full_since(); since && host_.now() < *since + kCatchUp) {
    host_.wants_room(*this);
    host_.look_at(*this, *since + kCatchUp);
    return false;
  }
  ClaimRequest request = make_request(allowance);
  look_at_probes();
  if (request.max_entries <= 0 || !has_useful_room()) {
    if (held_entries_ > 0) host_.wants_room(*this);  // the destination is closed or full
    return false;
  }
  claiming_ = true;
  may_bring_ = {request.max_entries, request.max_bytes};
  host_.claim_begins(*this, may_bring_);
  // One that is asked again began when it was asked first: its pick may be that old.
  if (!claim_in_doubt_) ++claims_begun_;
  const MonotonicTime asked_at = host_.now();
  const Uuid lease_id = request.lease_id;
  auto result = std::make_shared<ClaimResult>();
  host_.submit({.urgency = DatabasePool::Urgency::claim,
                .run =
                    [this, request = std::move(request), result, asked_at,
                     presence = host_.presence()](StoreSession& session) {
                      *result = session.claim(request);
                      host_.post([this, result, asked_at, presence] {
                        claim_returned(*result, asked_at, presence);
                      });
                    },
                .failed =
                    [this, lease_id](const StoreError& error) {
                      host_.post([this, error, lease_id] { claim_failed(error, lease_id); });
                    }});
  return true;
}

ClaimRequest StreamDrain::make_request(DrainHost::Amount allowance) {
  const DrainOptions& drain = host_.options();
  const MonotonicTime now = host_.now();
  ClaimRequest request;
  request.stream = options_.name;
  request.lease_id = claim_in_doubt_ ? *claim_in_doubt_ : host_.random().uuid();
  request.lease = drain.lease;
  request.max_entries = std::min(drain.batch_entries, allowance.entries);
  request.max_bytes = std::min(drain.batch_bytes, allowance.bytes);
  request.by_key = options_.policy.ordering == Ordering::key;
  request.hold_key = options_.policy.on_dead_letter == OnDeadLetter::hold_key;
  request.lane = options_.lane;
  request.max_abandoned = options_.max_abandoned;
  request.lane_room = options_.lane_in_flight;
  request.key_room = options_.key_limit();
  // The usual claim does not count keys: what it brings may all be of the one that has most.
  if (keys_.largest_room_taken() > options_.key_limit() / 2)
    request.max_entries = std::min(request.max_entries, std::max(1, drain.batch_entries / 2));
  request.keys = keys_.full();
  close_keys_aside(request.keys);
  request.dead_workers = host_.dead_workers();
  for (const auto& [name, lane] : lanes_) {
    std::int32_t room = options_.lane_in_flight - lane->held;
    switch (lane->breaker.state()) {
      case BreakerState::closed:
        break;
      case BreakerState::half_open:
        room = 0;
        break;
      case BreakerState::open:
        room = lane->breaker.next_probe().value_or(now) <= now ? std::min(room, 1) : 0;
        break;
    }
    if (options_.lane.empty()) {
      request.max_entries = std::min(request.max_entries, std::max(room, 0));
    } else if (room <= options_.lane_in_flight / 2) {
      request.lanes.push_back({name, std::max(room, 0)});
    }
  }
  return request;
}

// Where the stream is one lane, a claim would else follow each of its answers, for a few entries.
bool StreamDrain::has_useful_room() const {
  if (!options_.lane.empty() || lanes_.empty() || held_entries_ == 0) return true;
  const HeldLane& lane = *lanes_.begin()->second;
  if (lane.breaker.state() != BreakerState::closed) return true;
  const std::int32_t most = std::min(host_.options().batch_entries, options_.lane_in_flight);
  return options_.lane_in_flight - lane.held >= std::max(1, most / 2);
}

// An earlier look takes the place of the one that was asked for when the breaker opened.
void StreamDrain::look_at_probes() {
  const MonotonicTime now = host_.now();
  for (const auto& [name, lane] : lanes_) {
    if (const auto at = lane->breaker.next_probe(); at && *at > now) host_.look_at(*this, *at);
  }
}

std::optional<MonotonicTime> StreamDrain::last_full_since() const {
  std::optional<MonotonicTime> last = keys_.last_full_since();
  if (options_.lane.empty()) return last;  // a claim takes no more than its room, and marks nothing
  for (const auto& [name, lane] : lanes_) {
    if (lane->full_since && lane->breaker.state() == BreakerState::closed)
      last = std::max(last.value_or(*lane->full_since), *lane->full_since);
  }
  return last;
}

void StreamDrain::claim_failed(const StoreError& error, const Uuid& lease_id) {
  claiming_ = false;
  host_.claim_brings(*this, may_bring_, {});
  // Entries of a lease that this worker does not know of would be overtaken by later ones.
  claim_in_doubt_ = lease_id;
  host_.claim_ended();
  if (!error.session_lost()) {
    const std::string hint =
        error.kind() == StoreErrorKind::timeout && error.hint().empty()
            ? "it is tried again; where this goes on, raise database.claim_timeout"
            : error.hint();
    host_.log().limited(LogLevel::error, "claim/" + options_.name, "claim failed",
                        {{"stream", options_.name}, {"error", error.what()}, {"hint", hint}});
  }
  clear_keys();
  back_off(false);
}

void StreamDrain::claim_returned(ClaimResult& result, MonotonicTime asked_at,
                                 std::uint64_t presence) {
  claiming_ = false;
  const bool found = result.status == ClaimStatus::batch;
  host_.claim_brings(*this, may_bring_, found ? amount_of(result.batch) : DrainHost::Amount{});
  // While the stream is busy, a claim in doubt stays so.
  if (!claim_in_doubt_ || result.status != ClaimStatus::busy) ++claims_ended_;
  host_.claim_ended();
  metrics_.claim_duration.observe(
      std::chrono::duration_cast<std::chrono::microseconds>(host_.now() - asked_at));
  paused_ = result.status == ClaimStatus::paused;
  metrics_.paused.Set(paused_ ? 1 : 0);
  host_.saw_workers(*this, result.other_workers);
  if (result.status == ClaimStatus::busy) {
    metrics_.claims(ClaimSeries::busy).Increment();
    clear_keys();
    // Another claim of the stream is under way, mostly for a millisecond or two.
    busy_pause_ = std::min(busy_pause_ * 2, kLongestBusyPause);
    host_.look_at(*this, host_.now() + between(busy_pause_ / 2, busy_pause_, host_.random()));
    return;
  }
  busy_pause_ = Milliseconds{1};
  claim_in_doubt_.reset();
  metrics_.claim_takeovers.Increment(result.taken_over);
  metrics_.claim_repicks.Increment(result.repicks);
  metrics_.claim_floor_lag.Set(static_cast<double>(result.floor_lag));
  if (result.taken_over > 0) {
    host_.log().info("took over leases",
                     {{"stream", options_.name}, {"leases", result.taken_over}});
  }
  for (const EntryId id : result.abandoned) {
    metrics_.dead_lettered("worker.abandoned");
    host_.log().warning("dead-lettered an entry that workers died with",
                        {{"stream", options_.name}, {"entry_id", id}});
  }
  const auto took = host_.now() - asked_at;
  metrics_.claims(found ? ClaimSeries::entries : ClaimSeries::empty).Increment();
  if (found) arrived(std::move(result.batch), presence == host_.presence());
  clear_keys();
  end_of_turn();
  expects_entries_ = found || result.more;
  if (result.more) {
    pause_ = host_.options().poll_active;
    host_.look_at(*this, host_.now());
  } else if (took > kLongWalk && !result.other_workers.empty()) {
    pause_ = std::max(pause_, std::chrono::ceil<Milliseconds>(3 * took));
    host_.look_at(*this, host_.now() + pause_);
  } else {
    back_off(found);
  }
}

// Puts a batch's entries under their keys and lanes and hands them on. Asked for in another
// presence, the lease may have been taken since, and its entries are given back.
void StreamDrain::arrived(LeasedBatch batch, bool same_presence) {
  auto owned = std::make_unique<HeldLease>();
  HeldLease& lease = *owned;
  lease.stream = this;
  lease.batch = std::move(batch);
  lease.open = static_cast<std::int32_t>(lease.batch.entries.size());
  lease.deadline = std::make_shared<SendDeadline>(lease.batch.valid_until - send_margin());
  lease.entries.resize(lease.batch.entries.size());
  const bool by_key = options_.policy.ordering == Ordering::key;
  const MonotonicTime now = host_.now();
  HeldLane* only_lane = options_.lane.empty() ? &lane_of({}) : nullptr;
  for (std::size_t i = 0; i < lease.entries.size(); ++i) {
    HeldEntry& entry = lease.entries[i];
    entry.leased = &lease.batch.entries[i];
    entry.lease = &lease;
    const Envelope& envelope = entry.leased->envelope;
    entry.lane = only_lane != nullptr ? only_lane : &lane_of(envelope);
    ++entry.lane->held;
    note_fill(*entry.lane);
    entry.lane_open_time = entry.lane->breaker.open_time(now);
    if (by_key && envelope.key) {
      entry.key = &keys_.arrive(entry.leased->key_hash);
      keys_.note_fill(*entry.key, *envelope.key, options_.key_limit(), now);
    }
  }
  host_.log().debug("claimed", {{"stream", options_.name},
                                {"lease_id", lease.batch.lease_id},
                                {"lease_no", lease.batch.lease_no},
                                {"entries", lease.open},
                                {"bytes", lease.batch.bytes}});
  metrics_.entries_claimed.Increment(lease.open);
  held_entries_ += lease.open;
  held_bytes_ += lease.batch.bytes;
  leases_.push_back(std::move(owned));
  metrics_.active_leases.Set(static_cast<double>(leases_.size()));
  if (same_presence) {
    dispatch(lease);
  } else {
    withhold(lease);
    give_back_unsent();
  }
  // Mostly of keys that must not go on yet. They may once this is written, and a claim that is
  // under way then would bring the same again, and so on.
  if (lease.open < static_cast<std::int32_t>(lease.entries.size() / 2)) churning_ = true;
}

bool StreamDrain::something_unwritten() const {
  return settling_ || std::any_of(leases_.begin(), leases_.end(),
                                  [](const auto& lease) { return !lease->unsettled.empty(); });
}

// While nothing is found the pause doubles up to the idle ceiling, with jitter, so that workers and
// streams do not poll in step.
void StreamDrain::back_off(bool found_entries) {
  const DrainOptions& drain = host_.options();
  pause_ = found_entries ? drain.poll_active : std::min(pause_ * 2, drain.poll_idle);
  host_.look_at(*this, host_.now() + between(pause_ - pause_ / 5, pause_, host_.random()));
}

void StreamDrain::nothing_due() {
  count_open_time();
  expects_entries_ = false;
  back_off(false);
}

// Keys whose failures are written, with nothing at the emitter and no claim under way that began
// before, may go on.
void StreamDrain::clear_keys() {
  if (blocked_keys_.empty()) return;
  std::vector<HeldKey*> still;
  for (HeldKey* key : blocked_keys_) {
    const bool quiet = key->unsettled == 0 && key->sent == 0;
    if (quiet && key->clear_after == 0) key->clear_after = claims_begun_;
    if (!quiet || claims_ended_ < key->clear_after) {
      still.push_back(key);
      continue;
    }
    key->blocked = false;
    key->run.broken.store(false, std::memory_order_release);
    keys_.forget_if_idle(*key);
  }
  blocked_keys_ = std::move(still);
}

}  // namespace outfall
