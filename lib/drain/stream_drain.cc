#include "drain/stream_drain.h"

#include <algorithm>

#include "core/crash_point.h"

namespace outfall {

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
    if (refuse_too_large(entry)) {
      if (key != nullptr) keys_.forget_if_idle(*key);
      continue;
    }
    if (!admit(entry)) {
      give_back(entry);
      continue;
    }
    items.push_back(begin_send(entry));
  }
  send(lease, std::move(items));
}

// From here on the entry counts as sent.
EmitItem StreamDrain::begin_send(HeldEntry& entry) {
  entry.state = HeldEntry::State::sent;
  if (entry.key != nullptr) ++entry.key->sent;
  if (OUTFALL_RULE_BROKEN("settle-before-answer"))
    entry.lease->unsettled.delivered.push_back(&entry);
  LaneGate& gate = entry.lane->gate;
  return {.envelope = &entry.leased->envelope,
          .token = reinterpret_cast<std::uint64_t>(&entry),
          .lane = entry.lane->name,
          .run = entry.key == nullptr ? nullptr : &entry.key->run,
          .gate = entry.probe ? nullptr : &gate,
          .gate_closings = gate.closings.load(std::memory_order_relaxed)};
}

// An entry above the stream's limit fails without being sent. Its lane learns nothing from that,
// for the destination was not asked; and the caller goes on with its key, for it is often in the
// middle of that.
bool StreamDrain::refuse_too_large(HeldEntry& entry) {
  const auto bytes = static_cast<std::int64_t>(entry.leased->envelope.payload.size());
  if (options_.max_payload_bytes == 0 || bytes <= options_.max_payload_bytes) return false;
  const Outcome outcome =
      Outcome::of(OutcomeKind::failed, "outbox.payload_too_large",
                  "the payload has " + std::to_string(bytes) + " bytes; max_payload is " +
                      std::to_string(options_.max_payload_bytes));
  if (host_.log().enabled(LogLevel::trace)) log_outcome(entry, outcome);
  metrics_.attempts(outcome.kind).Increment();
  const MonotonicTime now = host_.now();
  Transition transition =
      decide(outcome, attempt_context(entry, now), options_.policy, host_.random());
  conclude(entry, transition, now);
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

// The next waiting entries of a key, as far as it has room at the emitter. The key is forgotten
// when nothing is left to know of it.
void StreamDrain::send_next_of(HeldKey& key) {
  while (key.first_waiting != nullptr && key.sent < key_window_ && !key.blocked) {
    HeldEntry& entry = *key.first_waiting;
    key.first_waiting = entry.next_waiting;
    if (key.first_waiting == nullptr) key.last_waiting = nullptr;
    const bool may_send = host_.may_send() && !stopping_;
    if (may_send && refuse_too_large(entry)) continue;
    if (may_send && admit(entry)) {
      send(*entry.lease, {begin_send(entry)});
    } else {
      give_back(entry);
    }
  }
  keys_.forget_if_idle(key);
}

// The entry has its outcome: its places in key, lane and worker are free.
void StreamDrain::close_entry(HeldEntry& entry) {
  const bool sent = entry.state == HeldEntry::State::sent;
  entry.state = HeldEntry::State::done;
  --entry.lane->held;
  note_fill(*entry.lane);
  --entry.lease->open;
  --held_entries_;
  held_bytes_ -= entry.leased->bytes();
  host_.let_go(*this, entry.leased->bytes());
  if (!entry.lease->lost) {
    const DrainHost::Amount one{1, entry.leased->bytes()};
    entry.lease->unsettled.amount = entry.lease->unsettled.amount + one;
    host_.unwritten(one);
  }
  if (entry.key == nullptr) return;
  HeldKey& key = *entry.key;
  if (sent) --key.sent;
  --key.held;
  keys_.note_fill(key, *entry.leased->envelope.key, options_.key_limit(), host_.now());
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

// No breaker opens and no attempt is counted, so that this is all that says why entries wait.
void StreamDrain::log_deferral(const Transition& transition) {
  host_.log().limited(LogLevel::warning, "deferred/" + options_.name, "deferred",
                      {{"stream", options_.name},
                       {"error_code", transition.error_code},
                       {"error", transition.error_message}});
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
  if (entry.key != nullptr) send_next_of(*entry.key);
}

AttemptContext StreamDrain::attempt_context(const HeldEntry& entry, MonotonicTime now) const {
  const HeldLease& lease = *entry.lease;
  const Envelope& envelope = entry.leased->envelope;
  const auto open_time = entry.lane->breaker.open_time(now) - entry.lane_open_time;
  // By the database's clock at the claim, and by ours only from there on.
  const auto age =
      std::chrono::duration_cast<Milliseconds>(lease.batch.claimed_at - entry.leased->limits_from) +
      std::chrono::duration_cast<Milliseconds>(now - lease.batch.asked_at - open_time);
  return {.attempts = envelope.attempts,
          .attempts_base = entry.leased->attempts_base,
          .age = std::max(age, Milliseconds{0}),
          .suspect = entry.lane->breaker.is_suspect()};
}

void StreamDrain::decide_other(HeldEntry& entry, Outcome& outcome) {
  const MonotonicTime now = host_.now();
  Transition transition =
      decide(outcome, attempt_context(entry, now), options_.policy, host_.random());
  const bool unsent = outcome.kind == OutcomeKind::blocked ||
                      outcome.kind == OutcomeKind::shutdown || !outcome.destination_asked;
  if (outcome.kind == OutcomeKind::deferred && outcome.error) log_deferral(transition);
  tell_lane(entry, unsent, transition, now);
  if (transition.possible_duplicate) metrics_.duplicates_possible.Increment();
  if (!transition.next || *transition.next == EntryStatus::held) {
    give_back(entry);
  } else if (conclude(entry, transition, now)) {
    send_next_of(*entry.key);
  }
}

// Takes down what becomes of an entry that was not delivered. True when its key may go on, which is
// left to the caller, as is forgetting the key.
bool StreamDrain::conclude(HeldEntry& entry, Transition& transition, MonotonicTime now) {
  HeldLease& lease = *entry.lease;
  close_entry(entry);
  if (lease.lost) {
    if (entry.key != nullptr) block(*entry.key, false);
    return false;
  }
  Unsettled& unsettled = lease.unsettled;
  if (unsettled.empty()) unsettled.since = now;
  unsettled.others.push_back(settled_other(entry, transition));
  if (entry.key == nullptr) return false;
  if (transition.blocks_key) {
    unsettled.failed_keys.push_back(entry.key);
    block(*entry.key, true);
    return false;
  }
  // The emitter broke the run; with nothing of the key out, the entries behind begin the next one.
  if (entry.key->sent == 0 && !entry.key->blocked) {
    entry.key->run.broken.store(false, std::memory_order_release);
  }
  return true;
}

SettledOther StreamDrain::settled_other(const HeldEntry& entry, Transition& transition) {
  const Envelope& envelope = entry.leased->envelope;
  SettledOther other{.id = envelope.entry_id,
                     .status = *transition.next,
                     .counted = transition.counts_attempt,
                     .delay = transition.delay,
                     .code = std::move(transition.error_code),
                     .message = std::move(transition.error_message)};
  // A dead letter counts, too: where every entry becomes one, nothing gets through.
  ++consecutive_failures_;
  metrics_.consecutive_failures.Set(static_cast<double>(consecutive_failures_));
  if (other.status != EntryStatus::dead_lettered) return other;
  other.code = transition.reason_code;
  other.message = transition.reason;
  host_.log().limited(LogLevel::warning, "dead_letter/" + options_.name + "/" + other.code,
                      "dead-lettered",
                      {{"stream", options_.name},
                       {"envelope_id", envelope.envelope_id},
                       {"entry_id", envelope.entry_id},
                       {"error_code", other.code}});
  return other;
}

void StreamDrain::stop() {
  stopping_ = true;
  aside_due_ = host_.now();
  give_back_unsent();
}

bool StreamDrain::idle() const {
  const bool only_aside = std::all_of(leases_.begin(), leases_.end(), [](const auto& lease) {
    return lease->open == 0 && lease->unsettled.empty();
  });
  return only_aside && !claim_under_way() && !settling_;
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
