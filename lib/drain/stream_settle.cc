// The settling side of StreamDrain: outcomes are written lease by lease, in the order of the
// leases, and one settle of a stream at a time, so that the outcomes of a key are written in their
// order.
#include <algorithm>
#include <utility>

#include "drain/settle.h"

namespace outfall {

namespace {

// Outcomes of a lease that is not complete wait this long for company.
constexpr Milliseconds kSettleDelay{20};
// Pause before a settle that the server refused is tried again.
constexpr Milliseconds kRetryDelay{500};

// The lease was gone. In doubt, our own first try may have ended it as well as another worker that
// has it now: which of them cannot be told, so that its deliveries count as possible duplicates.
void count_stale(const std::string& stream, const SettleRequest& request, StreamMetrics& metrics,
                 DrainHost& host) {
  metrics.stale_settles.Increment();
  metrics.duplicates_possible.Increment(static_cast<double>(request.delivered.size()));
  host.log().limited(
      LogLevel::warning, "stale_settle/" + stream,
      request.in_doubt
          ? "the lease is gone after a settle whose answer was lost; where another worker took it "
            "over, its entries may be delivered twice"
          : "the lease was taken over before its outcomes were written; its entries may be "
            "delivered twice",
      {{"stream", stream},
       {"lease_id", request.lease_id},
       {"delivered", request.delivered.size()}});
}

}  // namespace

void StreamDrain::end_of_turn() {
  count_open_time();
  attempt_duration_.flush();
  metrics_.in_flight_entries.Set(held_entries_);
  metrics_.in_flight_bytes.Set(static_cast<double>(held_bytes_));
  forget_done_leases();
  let_go_of_decided_rows();
  settle();
}

bool StreamDrain::worth_settling(const HeldLease& lease, MonotonicTime now) const {
  if (lease.unsettled.empty()) return false;
  return lease.open == 0 || stopping_ || now - lease.unsettled.since >= kSettleDelay;
}

void StreamDrain::settle() {
  if (settling_) return;
  const MonotonicTime now = host_.now();
  // Everything up to the last lease that is worth it, so that no outcome overtakes an earlier one.
  // A lease of which something is aside is written whole: of what stays in it, only what is not
  // decided keeps its key busy.
  const bool with_aside = aside_is_due(now);
  std::int64_t up_to = -1;
  bool waiting = false;
  for (const auto& lease : leases_) {
    if (worth_settling(*lease, now) || (with_aside && lease->aside > 0))
      up_to = lease->batch.lease_no;
    waiting = waiting || !lease->unsettled.empty();
  }
  if (up_to < 0 && !with_aside) {
    if (waiting && !settle_timer_) {
      settle_timer_ = true;
      host_.post_at(now + kSettleDelay, [this] {
        settle_timer_ = false;
        settle();
      });
    }
    return;
  }
  auto batch = std::make_shared<Settle>();
  batch->taken = now;
  for (const auto& lease : leases_) {
    if (lease->batch.lease_no > up_to) break;
    if (lease->unsettled.empty()) continue;
    take_part(*lease, *batch);
  }
  if (with_aside) try_those_aside(*batch);
  settling_ = true;
  submit(batch);
}

// Moves a lease's outcomes into a part of the settle.
void StreamDrain::take_part(HeldLease& lease, Settle& settle) {
  Unsettled taken = std::exchange(lease.unsettled, {});
  settle.amount = settle.amount + taken.amount;
  SettlePart& part = settle.parts.emplace_back();
  SettleRequest& request = part.request;
  request.lease_id = lease.batch.lease_id;
  request.provider = options_.provider;
  request.receipts = options_.receipts;
  request.hold_key = options_.policy.on_dead_letter == OnDeadLetter::hold_key;
  if (!std::is_sorted(taken.delivered.begin(), taken.delivered.end())) {
    // Entries of a lease lie in id order, so their addresses do: sort both arrays by them.
    std::vector<std::size_t> order(taken.delivered.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return taken.delivered[a] < taken.delivered[b];
    });
    std::vector<HeldEntry*> delivered;
    std::vector<std::string> record_ids;
    for (const std::size_t i : order) {
      delivered.push_back(taken.delivered[i]);
      if (!taken.record_ids.empty()) record_ids.push_back(std::move(taken.record_ids[i]));
    }
    taken.delivered = std::move(delivered);
    taken.record_ids = std::move(record_ids);
  }
  request.delivered.reserve(taken.delivered.size());
  for (const HeldEntry* entry : taken.delivered)
    request.delivered.push_back(entry->leased->envelope.entry_id);
  request.record_ids = std::move(taken.record_ids);
  request.others = std::move(taken.others);
  request.returned = std::move(taken.returned);
  lease.settling = true;
  part.lease = &lease;
  part.failed_keys = std::move(taken.failed_keys);
  part.delivered = std::move(taken.delivered);
  if (!aside_.empty()) {
    std::vector<std::int32_t> hashes;
    for (const SettlePart& first : aside_) {
      if (first.key != nullptr) hashes.push_back(first.key->hash);
    }
    std::sort(hashes.begin(), hashes.end());
    std::vector<SettlePart> followers;
    split_off_followers(part, hashes, followers);
    for (SettlePart& follower : followers) put_aside(std::move(follower));
  }
  list_busy_keys(lease, part.request.busy_keys);
}

// The keys of what stays in the lease.
void StreamDrain::list_busy_keys(const HeldLease& lease, std::vector<std::int32_t>& hashes) const {
  if (lease.open > 0) {
    for (const HeldEntry& entry : lease.entries) {
      if (entry.state != HeldEntry::State::done && entry.key != nullptr)
        hashes.push_back(entry.leased->key_hash);
    }
  }
  if (lease.aside > 0) {
    for (const SettlePart& part : aside_) {
      if (part.lease == &lease && part.key != nullptr) hashes.push_back(part.key->hash);
    }
  }
  std::sort(hashes.begin(), hashes.end());
  hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
}

// What belongs to a lease that was given up meanwhile is not written any more: an outcome before
// it, which was confirmed, may be undone.
void StreamDrain::submit(const std::shared_ptr<Settle>& settle) {
  settle->begun = host_.now();
  for (std::size_t i = settle->next; i < settle->parts.size(); ++i) {
    SettlePart& part = settle->parts[i];
    if (!part.lease->lost) continue;
    part.result.stale = true;
    part.request.in_doubt = false;
  }
  host_.submit({.urgency = DatabasePool::Urgency::settle,
                .run =
                    [this, settle](StoreSession& session) {
                      while (settle->next < settle->parts.size()) {
                        SettlePart& part = settle->parts[settle->next];
                        if (!part.result.stale && !part.aside && !part.request.empty())
                          part.result = session.settle(part.request);
                        ++settle->next;
                      }
                      host_.post([this, settle] { settled(settle); });
                    },
                .failed =
                    [this, settle](const StoreError& error) {
                      host_.post([this, settle, error] { settle_failed(settle, error); });
                    }});
}

// The call's fate is unknown after a lost session: the same request is asked again, marked as in
// doubt. At once the first time; a settle that costs a second session may be what ends them.
void StreamDrain::settle_failed(const std::shared_ptr<Settle>& settle, const StoreError& error) {
  SettlePart& part = settle->parts[settle->next];
  const bool again = part.request.in_doubt;
  // Behind a pooler a settle may be the first to meet another server, and while it is refused
  // nothing else asks.
  host_.recover_leases();
  if (error.session_lost()) part.request.in_doubt = true;
  if (part.lease->lost || (error.session_lost() && !again)) return submit(settle);
  settle_refused_ = settle_refused_ || !error.session_lost();
  if (take_apart(*settle, error)) return submit(settle);
  host_.log().limited(LogLevel::error, "settle/" + options_.name, "settle failed, trying again",
                      {{"stream", options_.name},
                       {"lease_id", part.request.lease_id},
                       {"error", error.what()},
                       {"hint", error.hint()}});
  host_.post_at(host_.now() + kRetryDelay, [this, settle] { submit(settle); });
}

void StreamDrain::settled(const std::shared_ptr<Settle>& settle) {
  settling_ = false;
  host_.written(settle->amount);
  metrics_.settle_duration.observe(
      std::chrono::duration_cast<std::chrono::microseconds>(host_.now() - settle->begun));
  for (SettlePart& part : settle->parts) {
    part.lease->settling = false;
    if (part.aside) {
      keep_aside(std::move(part));
    } else {
      took_effect(part, settle->taken);
    }
  }
  for (HeldKey* key : settle->failed_keys) written(*key);
  clear_keys();
  end_of_turn();
  const bool refused = std::exchange(settle_refused_, false);
  const bool calm = churning_ && !something_unwritten() && !claim_under_way();
  churning_ = churning_ && !calm;
  if (calm || refused) host_.look_at(*this, host_.now());
}

void StreamDrain::took_effect(SettlePart& part, MonotonicTime taken) {
  HeldLease& lease = *part.lease;
  for (HeldKey* key : part.failed_keys) written(*key);
  if (part.key != nullptr) written(*part.key);
  if (part.request.empty()) return;
  if (part.result.stale) {
    count_stale(options_.name, part.request, metrics_, host_);
    lose(lease);
    return;
  }
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(host_.now() - taken);
  // Another lease of the same settle may have met a crash of the server, which then also undoes
  // what it had confirmed of this one a moment before.
  host_.log().debug(lease.lost ? "settled before its lease was given up" : "settled",
                    {{"stream", options_.name},
                     {"lease_id", part.request.lease_id},
                     {"delivered", part.request.delivered.size()},
                     {"others", part.request.others.size()},
                     {"returned", part.request.returned.size()},
                     {"took_us", took.count()}});
  metrics_.entries_settled.Increment(
      static_cast<double>(part.request.delivered.size() + part.request.others.size()));
  for (const SettledOther& other : part.request.others) {
    if (other.status == EntryStatus::dead_lettered) metrics_.dead_lettered(other.code);
  }
  if (part.request.delivered.empty()) return;
  LocalHistogram latency(metrics_.delivery_latency);
  for (const HeldEntry* entry : part.delivered) {
    latency.observe(part.result.settled_at - entry->leased->envelope.created_at);
  }
  last_success_ = part.result.settled_at;
  metrics_.last_success_timestamp_seconds.Set(
      std::chrono::duration<double>(last_success_.time_since_epoch()).count());
  if (consecutive_failures_ != 0) {
    consecutive_failures_ = 0;
    metrics_.consecutive_failures.Set(0);
  }
}

// One outcome that blocks its key is in the database.
void StreamDrain::written(HeldKey& key) {
  --key.unsettled;
  key.clear_after = 0;
}

}  // namespace outfall
