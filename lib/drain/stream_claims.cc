// The claiming side of StreamDrain: when to claim and how much, and what arrives.
#include <algorithm>
#include <utility>

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
  if (!may_begin_claim() || stopping_ || !host_.may_claim()) return false;
  const DrainHost::Amount allowance = host_.allowance(*this);
  // The first claim is in doubt where it is not under way: what is answered was taken in.
  HeldClaim* again = !claims_.empty() && !claims_.front().under_way ? &claims_.front() : nullptr;
  if (again != nullptr && (again->leased || again->given_up)) {
    // It has its lease, and the room for it, and what was claimed after it waits for it; or what it
    // brings is given back.
    submit_claim(*again, make_request({.entries = 1, .bytes = 1}, again->lease_id));
    return true;
  }
  if (!has_room(allowance)) {
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
  ClaimRequest request =
      make_request(allowance, again != nullptr ? again->lease_id : host_.random().uuid());
  leave_lanes_room(request);
  look_at_probes();
  if (request.max_entries <= 0 || !has_useful_room()) {
    // The destination is closed or full.
    if (held_entries_ + leased_soon() > 0) host_.wants_room(*this);
    return false;
  }
  // One that is asked again began when it was asked first: its pick may be that old.
  if (again == nullptr) {
    again = &claims_.emplace_back();
    again->lease_id = request.lease_id;
    ++claims_begun_;
  }
  again->may_bring = {request.max_entries, request.max_bytes};
  host_.claim_begins(*this, again->may_bring);
  submit_claim(*again, std::move(request));
  return true;
}

bool StreamDrain::has_room(DrainHost::Amount allowance) {
  return allowance.entries > 0 && allowance.bytes > 0 &&
         ((held_entries_ == 0 && !claim_under_way() && !something_unwritten()) ||
          allowance.entries >= smallest_useful_claim(host_.options()));
}

bool StreamDrain::may_begin_claim() const {
  if (!claim_under_way()) return true;
  return claims_.size() == 1 && may_read_ahead(claims_.front());
}

bool StreamDrain::claim_under_way() const {
  return std::any_of(claims_.begin(), claims_.end(),
                     [](const HeldClaim& claim) { return claim.under_way; });
}

// While the entries of a lease are read nobody knows their lanes and keys. So there is no claim
// beside that where several lanes share the stream, where its only one is not open, or where one
// key may be full. Nor beside one that is asked again: it may find its lease gone and take others.
bool StreamDrain::may_read_ahead(const HeldClaim& claim) const {
  return claim.leased && claim.leased->more && !claim.in_doubt && options_.lane.empty() &&
         !churning_ &&
         keys_.largest_room_taken() + claim.leased->largest_key < options_.key_limit() &&
         (lanes_.empty() || lanes_.begin()->second->breaker.state() == BreakerState::closed);
}

// Entries of leases that are being read.
std::int32_t StreamDrain::leased_soon() const {
  std::int32_t entries = 0;
  for (const HeldClaim& claim : claims_) entries += claim.leased ? claim.leased->entries : 0;
  return entries;
}

void StreamDrain::submit_claim(HeldClaim& claim, ClaimRequest request) {
  claim.under_way = true;
  const MonotonicTime asked_at = host_.now();
  const Uuid lease_id = request.lease_id;
  auto result = std::make_shared<ClaimResult>();
  host_.submit({.urgency = DatabasePool::Urgency::claim,
                .run =
                    [this, request = std::move(request), result, asked_at,
                     presence = host_.presence()](StoreSession& session) {
                      const Uuid id = request.lease_id;
                      *result = session.claim(request, [this, id](const LeasedSoon& leased) {
                        host_.post([this, id, leased] { claim_leased(id, leased); });
                      });
                      host_.post([this, id, result, asked_at, presence] {
                        claim_returned(id, *result, asked_at, presence);
                      });
                    },
                .failed =
                    [this, lease_id](const StoreError& error) {
                      host_.post([this, error, lease_id] { claim_failed(error, lease_id); });
                    }});
}

ClaimRequest StreamDrain::make_request(DrainHost::Amount allowance, const Uuid& lease_id) {
  const DrainOptions& drain = host_.options();
  ClaimRequest request;
  request.stream = options_.name;
  request.lease_id = lease_id;
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
  std::int32_t largest = keys_.largest_room_taken();
  for (const HeldClaim& claim : claims_) largest += claim.leased ? claim.leased->largest_key : 0;
  if (largest > options_.key_limit() / 2)
    request.max_entries = std::min(request.max_entries, std::max(1, drain.batch_entries / 2));
  request.keys = keys_.full();
  close_keys_aside(request.keys);
  request.dead_workers = host_.dead_workers();
  return request;
}

void StreamDrain::leave_lanes_room(ClaimRequest& request) const {
  const MonotonicTime now = host_.now();
  if (options_.lane.empty() && lanes_.empty()) {
    request.max_entries =
        std::min(request.max_entries, std::max(options_.lane_in_flight - leased_soon(), 0));
  }
  for (const auto& [name, lane] : lanes_) {
    std::int32_t room = options_.lane_in_flight - lane->held - leased_soon();
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
}

// Where the stream is one lane, a claim would else follow each of its answers, for a few entries.
bool StreamDrain::has_useful_room() const {
  const std::int32_t soon = leased_soon();
  if (!options_.lane.empty() || held_entries_ + soon == 0) return true;
  const HeldLane* lane = lanes_.empty() ? nullptr : lanes_.begin()->second.get();
  if (lane != nullptr && lane->breaker.state() != BreakerState::closed) return true;
  const std::int32_t most = std::min(host_.options().batch_entries, options_.lane_in_flight);
  const std::int32_t held = (lane != nullptr ? lane->held : 0) + soon;
  return options_.lane_in_flight - held >= std::max(1, most / 2);
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

HeldClaim* StreamDrain::claim_of(const Uuid& lease_id) {
  const auto it = std::find_if(claims_.begin(), claims_.end(),
                               [&](const HeldClaim& claim) { return claim.lease_id == lease_id; });
  return it == claims_.end() ? nullptr : &*it;
}

// There is a lease, and its entries are on their way. The next claim need not wait for them: it is
// another connection's, and the server can do both at once.
void StreamDrain::claim_leased(const Uuid& lease_id, const LeasedSoon& leased) {
  HeldClaim* claim = claim_of(lease_id);
  if (claim == nullptr || !claim->under_way || claim->given_up) return;
  claim->leased = leased;
  const DrainHost::Amount less{claim->may_bring.entries - leased.entries, 0};
  claim->may_bring = claim->may_bring - less;
  host_.claim_brings(*this, less, {});
  if (!leased.more) return;
  expects_entries_ = true;
  host_.look_at(*this, host_.now());
}

void StreamDrain::claim_failed(const StoreError& error, const Uuid& lease_id) {
  HeldClaim& claim = *claim_of(lease_id);
  claim.under_way = false;
  // Entries of a lease that this worker does not know of would be overtaken by later ones.
  claim.in_doubt = true;
  let_room_go(claim);
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

void StreamDrain::claim_returned(const Uuid& lease_id, ClaimResult& result, MonotonicTime asked_at,
                                 std::uint64_t presence) {
  HeldClaim& claim = *claim_of(lease_id);
  claim.under_way = false;
  claim.took = host_.now() - asked_at;
  metrics_.claim_duration.observe(
      std::chrono::duration_cast<std::chrono::microseconds>(claim.took));
  if (result.other_workers) host_.saw_workers(*this, *result.other_workers);
  // While the stream is busy, a claim in doubt stays so.
  const bool asks_again_later = claim.in_doubt && result.status == ClaimStatus::busy;
  if (asks_again_later) {
    let_room_go(claim);
    found_busy();
  } else {
    // Its lease is gone, and what was claimed after it may come before what it brings now.
    if (claim.leased && claim.in_doubt && !result.repeated) {
      for (HeldClaim& each : claims_) each.given_up = true;
    }
    claim.presence = presence;
    claim.answer = std::move(result);
  }
  take_answers();
  // What is left waits for one before it that is in doubt, which no look may have found free to
  // ask.
  if (!asks_again_later && !claims_.empty() && !claim_under_way())
    host_.look_at(*this, host_.now());
  host_.claim_ended();
}

// A claim that has its lease keeps the room for what is in it.
void StreamDrain::let_room_go(HeldClaim& claim) {
  if (!claim.leased) host_.claim_brings(*this, std::exchange(claim.may_bring, {}), {});
}

// Another claim of the stream is under way, mostly for a millisecond or two.
void StreamDrain::found_busy() {
  metrics_.claims(ClaimSeries::busy).Increment();
  clear_keys();
  busy_pause_ = std::min(busy_pause_ * 2, kLongestBusyPause);
  host_.look_at(*this, host_.now() + between(busy_pause_ / 2, busy_pause_, host_.random()));
}

void StreamDrain::take_answers() {
  while (!claims_.empty() && claims_.front().answer) {
    HeldClaim claim = std::move(claims_.front());
    claims_.pop_front();
    take_answer(claim);
  }
}

void StreamDrain::take_answer(HeldClaim& claim) {
  ClaimResult& result = *claim.answer;
  const bool found = result.status == ClaimStatus::batch;
  host_.claim_brings(*this, claim.may_bring, found ? amount_of(result.batch) : DrainHost::Amount{});
  ++claims_ended_;
  if (result.status == ClaimStatus::busy) return found_busy();
  busy_pause_ = Milliseconds{1};
  paused_ = result.status == ClaimStatus::paused;
  metrics_.paused.Set(paused_ ? 1 : 0);
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
  metrics_.claims(found ? ClaimSeries::entries : ClaimSeries::empty).Increment();
  if (found) arrived(std::move(result.batch), claim);
  clear_keys();
  end_of_turn();
  expects_entries_ = found || result.more;
  if (result.more) {
    pause_ = host_.options().poll_active;
    host_.look_at(*this, host_.now());
  } else if (claim.took > kLongWalk && result.other_workers && !result.other_workers->empty()) {
    pause_ = std::max(pause_, std::chrono::ceil<Milliseconds>(3 * claim.took));
    host_.look_at(*this, host_.now() + pause_);
  } else {
    back_off(found);
  }
}

// All leases are given up, also those that these claims have brought or may bring: what is under
// way or in doubt is given back when it is answered. Until then the next claim waits, as it may
// bring what comes after that.
void StreamDrain::give_up_claims() {
  for (auto it = claims_.begin(); it != claims_.end();) {
    if (it->under_way || it->in_doubt) {
      it->given_up = true;
      it->leased.reset();
      if (!it->under_way) let_room_go(*it);
      ++it;
      continue;
    }
    host_.claim_brings(*this, it->may_bring, {});
    ++claims_ended_;
    it = claims_.erase(it);
  }
}

// Puts the entries of a lease under their keys and lanes.
void StreamDrain::place_entries(HeldLease& lease) {
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
}

// Hands a batch's entries on. Asked for in another presence, or before all leases were given up,
// the lease may be gone, and its entries are given back. It may be there as well, if the claim took
// effect later than that: nobody else would ever end a lease of a worker that lives.
void StreamDrain::arrived(LeasedBatch batch, const HeldClaim& claim) {
  auto owned = std::make_unique<HeldLease>();
  HeldLease& lease = *owned;
  lease.stream = this;
  lease.batch = std::move(batch);
  lease.open = static_cast<std::int32_t>(lease.batch.entries.size());
  lease.deadline = std::make_shared<SendDeadline>(lease.batch.valid_until - send_margin());
  place_entries(lease);
  host_.log().debug("claimed", {{"stream", options_.name},
                                {"lease_id", lease.batch.lease_id},
                                {"lease_no", lease.batch.lease_no},
                                {"entries", lease.open},
                                {"bytes", lease.batch.bytes}});
  metrics_.entries_claimed.Increment(lease.open);
  held_entries_ += lease.open;
  held_bytes_ += lease.batch.bytes;
  const auto after = std::find_if(leases_.begin(), leases_.end(), [&](const auto& other) {
    return other->batch.lease_no > lease.batch.lease_no;
  });
  leases_.insert(after, std::move(owned));
  metrics_.active_leases.Set(static_cast<double>(leases_.size()));
  if (claim.presence == host_.presence() && !claim.given_up) {
    dispatch(lease);
  } else {
    withhold(lease);
    give_back_unsent();
  }
  // Mostly of keys that must not go on yet. They may once this is written, and a claim that is
  // under way then would bring the same again, and so on.
  if (2 * lease.open < static_cast<std::int32_t>(lease.entries.size())) churning_ = true;
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
