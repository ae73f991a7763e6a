#include "drain/stream_drain.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/crash_point.h"
#include "core/headers.h"

namespace outfall {

namespace {

constexpr std::size_t kManyLanes = 10000;

constexpr std::size_t kLaneCharacters = 200;

// The first characters of UTF-8 text, as many as sql's lane_of() takes.
std::string_view cut(std::string_view text) {
  if (text.size() <= kLaneCharacters) return text;
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U;
    if (begins && ++characters > kLaneCharacters) return text.substr(0, i);
  }
  return text;
}

// The lane of an envelope by the stream's selector, as sql's lane_of() finds it; empty where there
// is none.
std::string_view select_lane(const std::string& selector, const Envelope& envelope,
                             std::string& buffer) {
  if (selector.empty()) return {};
  if (selector == "type") return cut(envelope.type);
  if (selector == "source") return cut(envelope.source);
  if (selector == "subject") return cut(envelope.subject);
  const std::string_view wanted =
      std::string_view(selector).substr(std::string_view("header.").size());
  buffer.clear();
  for_each_header(envelope.headers_json, [&](std::string_view name, std::string_view value) {
    if (name == wanted) buffer = value;
  });
  return cut(buffer);
}

}  // namespace

StreamDrain::StreamDrain(StreamOptions options, Emitter& emitter, StreamMetrics& metrics,
                         DrainHost& host)
    : options_(std::move(options)),
      emitter_(emitter),
      metrics_(metrics),
      attempt_duration_(metrics.attempt_duration),
      host_(host),
      key_window_(emitter.capabilities().key_window),
      pause_(host.options().poll_active) {
}

void StreamDrain::set_options(StreamOptions options) {
  options_ = std::move(options);
  for (auto& [name, lane] : lanes_) lane->breaker.set_policy(options_.breaker);
}

HeldLane& StreamDrain::lane_of(const Envelope& envelope) {
  std::string buffer;
  const std::string_view name = select_lane(options_.lane, envelope, buffer);
  const auto found = lanes_.find(name);
  if (found != lanes_.end()) return *found->second;
  forget_idle_lanes();
  auto lane = std::make_unique<HeldLane>(options_.breaker);
  lane->name = name;
  // The series starts with one closed breaker, the first lane's.
  if (!lanes_.empty()) metrics_.breakers(BreakerState::closed).Increment();
  return *lanes_.emplace(lane->name, std::move(lane)).first->second;
}

// Lanes come from the entries, so their number is nobody's to bound but ours.
void StreamDrain::forget_idle_lanes() {
  if (lanes_.size() < kManyLanes) return;
  const std::size_t before = lanes_.size();
  std::erase_if(lanes_, [](const auto& item) {
    return item.second->held == 0 && item.second->breaker.state() == BreakerState::closed;
  });
  metrics_.breakers(BreakerState::closed).Decrement(static_cast<double>(before - lanes_.size()));
}

// Whether the entry may go to its destination now; a probe of an open breaker is marked as one.
bool StreamDrain::admit(HeldEntry& entry) {
  switch (entry.lane->breaker.admit(host_.now())) {
    case Breaker::Admission::send:
      return true;
    case Breaker::Admission::probe:
      entry.probe = true;
      count_breaker(BreakerState::open, BreakerState::half_open);
      return true;
    case Breaker::Admission::wait:
      return false;
  }
  return false;
}

// Hands a lease's entries to the emitter, except those whose key or lane is closed, which are given
// back, and those that wait for the one before them.
void StreamDrain::dispatch(HeldLease& lease) {
  std::vector<EmitItem> items;
  items.reserve(lease.entries.size());
  const bool may_send = host_.may_send() && !stopping_;
  for (HeldEntry& entry : lease.entries) {
    HeldKey* key = entry.key;
    if (!may_send || (key != nullptr && key->blocked)) {
      give_back(entry);
      continue;
    }
    if (key != nullptr && must_wait(*key)) {
      (key->last_waiting != nullptr ? key->last_waiting->next_waiting : key->first_waiting) =
          &entry;
      key->last_waiting = &entry;
      continue;
    }
    if (!admit(entry)) {
      give_back(entry);
      continue;
    }
    if (const auto item = begin_send(entry)) items.push_back(*item);
  }
  send(lease, std::move(items));
}

// From here on the entry counts as sent. Nothing where it has its outcome without being handed
// over.
std::optional<EmitItem> StreamDrain::begin_send(HeldEntry& entry) {
  entry.state = HeldEntry::State::sent;
  if (entry.key != nullptr) ++entry.key->sent;
  if (OUTFALL_RULE_BROKEN("settle-before-answer"))
    entry.lease->unsettled.delivered.push_back(&entry);
  if (too_large(entry)) return std::nullopt;
  return EmitItem{&entry.leased->envelope, reinterpret_cast<std::uint64_t>(&entry),
                  entry.lane->name, entry.key == nullptr ? nullptr : &entry.key->run};
}

// An entry above the stream's limit fails without being sent.
bool StreamDrain::too_large(HeldEntry& entry) {
  const auto bytes = static_cast<std::int64_t>(entry.leased->envelope.payload.size());
  if (options_.max_payload_bytes == 0 || bytes <= options_.max_payload_bytes) return false;
  Completion completion;
  completion.outcome =
      Outcome::of(OutcomeKind::failed, "outbox.payload_too_large",
                  "the payload has " + std::to_string(bytes) + " bytes; max_payload is " +
                      std::to_string(options_.max_payload_bytes));
  completed(entry, completion);
  return true;
}

// A delivery must end this long before others may think that the lease is free.
Milliseconds StreamDrain::send_margin() const {
  return std::max<Milliseconds>(host_.options().lease / 10, Milliseconds{200});
}

void StreamDrain::send(HeldLease& lease, std::vector<EmitItem> items) {
  if (items.empty()) return;
  OUTFALL_CRASH_POINT("send", "begun");
  emitter_.emit({std::move(items), lease.batch.owner, lease.deadline});
  OUTFALL_CRASH_POINT("send", "handed_over");
}

// Whether the emitter has as many entries of the key as it takes at a time.
bool StreamDrain::must_wait(const HeldKey& key) const {
  return key_window_ > 0 && (key.sent >= key_window_ || key.first_waiting != nullptr);
}

// The next waiting entry of a key that has room again at the emitter.
void StreamDrain::send_next_of(HeldKey& key) {
  if (key.first_waiting == nullptr || key.sent >= key_window_ || key.blocked) return;
  HeldEntry& entry = *key.first_waiting;
  key.first_waiting = entry.next_waiting;
  if (key.first_waiting == nullptr) key.last_waiting = nullptr;
  if (!host_.may_send() || stopping_ || !admit(entry)) {
    give_back(entry);
    return;
  }
  if (const auto item = begin_send(entry)) send(*entry.lease, {*item});
}

// The entry has its outcome: its places in key, lane and worker are free.
void StreamDrain::close_entry(HeldEntry& entry) {
  const bool sent = entry.state == HeldEntry::State::sent;
  entry.state = HeldEntry::State::done;
  --entry.lane->held;
  note_fill(*entry.lane);
  --entry.lease->open;
  --held_entries_;
  host_.account(*this, -1, -static_cast<std::int64_t>(entry.leased->envelope.payload.size()));
  if (entry.key == nullptr) return;
  HeldKey& key = *entry.key;
  if (sent) --key.sent;
  --key.held;
  keys_.note_fill(key, *entry.leased->envelope.key, options_.key_limit(), host_.now());
}

void StreamDrain::note_fill(HeldLane& lane) {
  if (lane.held >= options_.lane_in_flight) {
    if (!lane.full_since) lane.full_since = host_.now();
  } else if (lane.full_since && lane.held <= options_.lane_in_flight / 2) {
    lane.full_since.reset();
  }
}

// From now on nothing of this key is sent; what waits for its turn is given back. `unsettled`: an
// outcome has to be written before the key is free again.
void StreamDrain::block(HeldKey& key, bool unsettled) {
  key.clear_after = 0;
  if (unsettled) ++key.unsettled;
  if (key.blocked) return;
  key.run.broken.store(true, std::memory_order_release);
  key.blocked = true;
  blocked_keys_.push_back(&key);
  while (key.first_waiting != nullptr) {
    HeldEntry& entry = *key.first_waiting;
    key.first_waiting = entry.next_waiting;
    if (key.first_waiting == nullptr) key.last_waiting = nullptr;
    if (entry.state == HeldEntry::State::waiting) give_back(entry);
  }
}

// Not sent, and nobody's fault: it leaves the lease as it is. Later entries of its key must follow
// it.
void StreamDrain::give_back(HeldEntry& entry) {
  if (entry.state == HeldEntry::State::done) return;
  close_entry(entry);
  metrics_.returned.Increment();
  if (!entry.lease->lost) {
    Unsettled& unsettled = entry.lease->unsettled;
    if (unsettled.empty()) unsettled.since = host_.now();
    unsettled.returned.push_back(entry.leased->envelope.entry_id);
    if (entry.key != nullptr) unsettled.failed_keys.push_back(entry.key);
  }
  if (entry.key != nullptr) block(*entry.key, !entry.lease->lost);
}

void StreamDrain::log_outcome(const HeldEntry& entry, const Outcome& outcome) {
  const Envelope& envelope = entry.leased->envelope;
  host_.log().trace("outcome", {{"stream", options_.name},
                                {"lease_id", entry.lease->batch.lease_id},
                                {"entry_id", envelope.entry_id},
                                {"envelope_id", envelope.envelope_id},
                                {"outcome", to_string(outcome.kind)},
                                {"error_code", outcome.error ? outcome.error->code : ""},
                                {"record_id", outcome.record_id}});
}

void StreamDrain::completed(HeldEntry& entry, Completion& completion) {
  HeldLease& lease = *entry.lease;
  HeldLane& lane = *entry.lane;
  Outcome& outcome = completion.outcome;
  OUTFALL_CRASH_POINT("outcome", "taken");
  if (host_.log().enabled(LogLevel::trace)) log_outcome(entry, outcome);
  metrics_.attempts(outcome.kind).Increment();
  if (completion.duration.count() > 0) attempt_duration_.observe(completion.duration);
  const bool broken = OUTFALL_RULE_BROKEN("settle-before-answer");
  if (outcome.kind != OutcomeKind::delivered && !broken) {
    decide_other(entry, outcome);
    return;
  }
  const BreakerState before = lane.breaker.state();
  lane.breaker.record(BreakerSignal::answered, entry.probe, host_.now(), host_.random());
  lane_changed(lane, before);
  close_entry(entry);
  if (!lease.lost && !broken) {
    Unsettled& unsettled = lease.unsettled;
    if (unsettled.empty()) unsettled.since = host_.now();
    if (!outcome.record_id.empty() && unsettled.record_ids.empty()) {
      unsettled.record_ids.resize(unsettled.delivered.size());
    }
    if (!unsettled.record_ids.empty() || !outcome.record_id.empty()) {
      unsettled.record_ids.push_back(std::move(outcome.record_id));
    }
    unsettled.delivered.push_back(&entry);
  }
  if (entry.key != nullptr) {
    send_next_of(*entry.key);
    keys_.forget_if_idle(*entry.key);
  }
}

AttemptContext StreamDrain::attempt_context(const HeldEntry& entry, MonotonicTime now) const {
  const HeldLease& lease = *entry.lease;
  const Envelope& envelope = entry.leased->envelope;
  const auto open_time = entry.lane->breaker.open_time(now) - entry.lane_open_time;
  // By the database's clock at the claim, and by ours only from there on.
  const auto age =
      std::chrono::duration_cast<Milliseconds>(lease.batch.claimed_at - envelope.created_at) +
      std::chrono::duration_cast<Milliseconds>(now - lease.batch.asked_at - open_time);
  return {.attempts = envelope.attempts,
          .attempts_base = entry.leased->attempts_base,
          .age = std::max(age, Milliseconds{0}),
          .breaker_open = entry.lane->breaker.state() != BreakerState::closed};
}

void StreamDrain::tell_lane(HeldEntry& entry, OutcomeKind kind, const Transition& transition,
                            MonotonicTime now) {
  HeldLane& lane = *entry.lane;
  const BreakerState before = lane.breaker.state();
  const bool unsent = kind == OutcomeKind::blocked || kind == OutcomeKind::shutdown;
  if (entry.probe && unsent) {
    lane.breaker.return_probe(now);
  } else {
    lane.breaker.record(transition.breaker, entry.probe, now, host_.random());
  }
  lane_changed(lane, before, transition.error_code, transition.error_message);
  if (transition.parks_destination) park(lane, transition);
}

// An entry that brings its destination down would else be each of its probes, being the first in
// line again by then, and the lane would stay closed because of it.
void StreamDrain::leave_next_probes_to_others(const HeldEntry& entry, Transition& transition,
                                              MonotonicTime now) const {
  const auto probe_at = entry.lane->breaker.next_probe();
  if (!probe_at || transition.counts_attempt) return;
  const auto pause = std::chrono::ceil<Milliseconds>(*probe_at - now);
  transition.delay = std::max(transition.delay, 3 * pause + host_.options().poll_idle);
  if (transition.next || transition.parks_destination) return;
  // Given back it would be first in line: a delay is kept only with what is written.
  transition.next = EntryStatus::deferred;
  transition.blocks_key = options_.policy.ordering == Ordering::key;
}

void StreamDrain::decide_other(HeldEntry& entry, Outcome& outcome) {
  HeldLease& lease = *entry.lease;
  const MonotonicTime now = host_.now();
  Transition transition =
      decide(outcome, attempt_context(entry, now), options_.policy, host_.random());
  tell_lane(entry, outcome.kind, transition, now);
  if (entry.probe) leave_next_probes_to_others(entry, transition, now);
  if (transition.possible_duplicate) metrics_.duplicates_possible.Increment();
  if (!transition.next || *transition.next == EntryStatus::held) {
    give_back(entry);
    return;
  }
  close_entry(entry);
  if (lease.lost) {
    if (entry.key != nullptr) block(*entry.key, false);
    return;
  }
  Unsettled& unsettled = lease.unsettled;
  if (unsettled.empty()) unsettled.since = now;
  unsettled.others.push_back(settled_other(entry, transition));
  if (entry.key == nullptr) return;
  if (transition.blocks_key) {
    unsettled.failed_keys.push_back(entry.key);
    block(*entry.key, true);
  } else {
    // The emitter broke the run; with nothing of the key out, the entries behind begin the next
    // one.
    if (entry.key->sent == 0 && !entry.key->blocked) {
      entry.key->run.broken.store(false, std::memory_order_release);
    }
    send_next_of(*entry.key);
    keys_.forget_if_idle(*entry.key);
  }
}

SettledOther StreamDrain::settled_other(const HeldEntry& entry, Transition& transition) {
  const Envelope& envelope = entry.leased->envelope;
  SettledOther other{.id = envelope.entry_id,
                     .status = *transition.next,
                     .counted = transition.counts_attempt,
                     .delay = transition.delay,
                     .code = std::move(transition.error_code),
                     .message = std::move(transition.error_message)};
  if (other.status != EntryStatus::dead_lettered) {
    ++consecutive_failures_;
    metrics_.consecutive_failures.Set(static_cast<double>(consecutive_failures_));
    return other;
  }
  other.code = transition.reason_code;
  other.message = transition.reason;
  metrics_.dead_lettered(other.code);
  host_.log().limited(LogLevel::warning, "dead_letter/" + options_.name + "/" + other.code,
                      "dead-lettered",
                      {{"stream", options_.name},
                       {"envelope_id", envelope.envelope_id},
                       {"entry_id", envelope.entry_id},
                       {"error_code", other.code}});
  return other;
}

// Every lane's breaker stands in the gauge of one state.
void StreamDrain::count_breaker(BreakerState before, BreakerState after) {
  metrics_.breakers(before).Decrement();
  metrics_.breakers(after).Increment();
}

// What follows when the lane's breaker is no longer in the state `before`; nothing when it is.
void StreamDrain::lane_changed(HeldLane& lane, BreakerState before, std::string_view error_code,
                               std::string_view error) {
  const BreakerState after = lane.breaker.state();
  if (after == before) return;
  count_breaker(before, after);
  const std::string id = "breaker/" + options_.name + "/" + lane.name;
  if (after == BreakerState::closed) {
    const auto away =
        std::chrono::duration_cast<std::chrono::seconds>(host_.now() - lane.away_since);
    host_.log().limited(
        LogLevel::warning, id + "/again", "destination answers again",
        {{"stream", options_.name}, {"lane", lane.name}, {"after_seconds", away.count()}});
    host_.look_at(*this, host_.now());
    return;
  }
  if (before == BreakerState::closed) lane.away_since = host_.now();
  if (!error_code.empty()) lane.error = fmt::format("{}: {}", error_code, error);
  host_.log().limited(LogLevel::warning, id, "destination unavailable",
                      {{"stream", options_.name},
                       {"lane", lane.name},
                       {"breaker", to_string(after)},
                       {"error_code", error_code},
                       {"error", error}});
  if (const auto probe_at = lane.breaker.next_probe()) host_.look_at(*this, *probe_at);
}

// The destination is closed until an operator resumes it: written to the database, where every
// claim of every worker sees it. Until that has happened the breaker holds the lane.
void StreamDrain::park(HeldLane& lane, const Transition& transition) {
  if (lane.parking) return;
  lane.parking = true;
  host_.log().warning(
      "destination parked until it is resumed",
      {{"stream", options_.name}, {"lane", lane.name}, {"error_code", transition.error_code}});
  const std::string reason = transition.error_code + ": " + transition.error_message;
  const auto done = [this, name = lane.name] {
    host_.post([this, name] {
      if (const auto found = lanes_.find(name); found != lanes_.end())
        found->second->parking = false;
    });
  };
  host_.submit(
      {.urgency = DatabasePool::Urgency::settle,
       .run =
           [stream = options_.name, name = lane.name, reason, done](StoreSession& session) {
             session.park_destination(stream, name, reason);
             done();
           },
       .failed =
           [done](const StoreError&) {
             done(); /* its next answer parks it */
           }});
}

// The lease is another worker's now: nothing of it is written, and of its keys nothing is sent.
void StreamDrain::lose(HeldLease& lease) {
  if (lease.lost) return;
  lease.lost = true;
  lease.deadline->move(MonotonicTime::min());
  metrics_.lease_lost.Increment();
  host_.log().limited(
      LogLevel::warning, "lease_lost/" + options_.name, "lease lost",
      {{"stream", options_.name}, {"lease_id", lease.batch.lease_id}, {"entries", lease.open}});
  for (HeldKey* key : lease.unsettled.failed_keys) written(*key);
  // Whoever has it now sends what was delivered and is not written, or is on its way.
  metrics_.duplicates_possible.Increment(static_cast<double>(
      lease.unsettled.delivered.size() +
      static_cast<std::size_t>(std::count_if(
          lease.entries.begin(), lease.entries.end(),
          [](const HeldEntry& entry) { return entry.state == HeldEntry::State::sent; }))));
  lease.unsettled = {};
  forgive(lease);
  for (HeldEntry& entry : lease.entries) {
    if (entry.state == HeldEntry::State::done) continue;
    if (entry.key != nullptr) block(*entry.key, false);
    if (entry.state == HeldEntry::State::waiting) give_back(entry);
  }
}

// Whoever took the lease counted a worker that died with its entries; this one did not.
void StreamDrain::forgive(const HeldLease& lease) {
  std::vector<EntryId> ids;
  ids.reserve(lease.batch.entries.size());
  for (const LeasedEntry& leased : lease.batch.entries) ids.push_back(leased.envelope.entry_id);
  host_.submit({.urgency = DatabasePool::Urgency::renew,
                .run = [ids = std::move(ids)](StoreSession& session) { session.forgive(ids); },
                .failed = [](const StoreError&) { /* the count is only a suspicion */ }});
}

void StreamDrain::forget_done_leases() {
  leases_.remove_if([](const std::unique_ptr<HeldLease>& lease) {
    return lease->open == 0 && !lease->settling && lease->unsettled.empty();
  });
  metrics_.active_leases.Set(static_cast<double>(leases_.size()));
}

void StreamDrain::lose_all() {
  // A claim in doubt is given up with the rest; while it is being asked again, its answer ends it.
  if (claim_in_doubt_ && !claiming_) ++claims_ended_;
  claim_in_doubt_.reset();
  for (const auto& lease : leases_) lose(*lease);
  forget_done_leases();
  clear_keys();
}

void StreamDrain::collect_leases(MonotonicTime horizon, std::vector<Uuid>& leases) const {
  for (const auto& lease : leases_) {
    if (!lease->lost && lease->batch.valid_until < horizon) leases.push_back(lease->batch.lease_id);
  }
}

void StreamDrain::renewed(const std::vector<Uuid>& asked, const std::vector<Uuid>& kept,
                          MonotonicTime valid_until) {
  for (const auto& lease : leases_) {
    const Uuid& id = lease->batch.lease_id;
    if (std::find(asked.begin(), asked.end(), id) == asked.end()) continue;
    if (std::find(kept.begin(), kept.end(), id) != kept.end()) {
      lease->batch.valid_until = valid_until;
      lease->deadline->move(valid_until - send_margin());
    } else if (!lease->settling) {
      // One that is being settled may just be gone because the settle was the last.
      lose(*lease);
    }
  }
  forget_done_leases();
  clear_keys();
}

void StreamDrain::stop() {
  stopping_ = true;
  give_back_unsent();
}

void StreamDrain::give_back_unsent() {
  for (const auto& lease : leases_) {
    for (HeldEntry& entry : lease->entries) {
      if (entry.state == HeldEntry::State::waiting) give_back(entry);
    }
  }
  end_of_turn();
}

StreamDrain::Report StreamDrain::report() const {
  Report report{.stream = options_.name,
                .emitter = options_.emitter,
                .held_entries = held_entries_,
                .leases = leases_.size(),
                .keys = keys_.size(),
                .paused = paused_,
                .lanes = {},
                .consecutive_failures = consecutive_failures_,
                .last_success = last_success_};
  for (const auto& [name, lane] : lanes_) {
    if (lane->breaker.state() != BreakerState::closed)
      report.lanes.push_back(
          {name, lane->breaker.state(), lane->error,
           std::chrono::duration_cast<Milliseconds>(host_.now() - lane->away_since)});
  }
  return report;
}

}  // namespace outfall
