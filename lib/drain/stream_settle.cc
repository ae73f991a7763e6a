// The settling side of StreamDrain: outcomes are written lease by lease, in the order of the
// leases, and one settle of a stream at a time, so that the outcomes of a key are written in their
// order.
#include <algorithm>
#include <utility>

#include "drain/stream_drain.h"

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

struct StreamDrain::Settle {
  struct Part {
    HeldLease* lease = nullptr;
    SettleRequest request;
    std::vector<HeldKey*> failed_keys;
    std::vector<HeldEntry*> delivered;
    SettleResult result;
    bool done = false;
  };
  std::vector<Part> parts;
  std::size_t next = 0;  // the first part that is not known to be written
  MonotonicTime begun;
};

void StreamDrain::end_of_turn() {
  attempt_duration_.flush();
  metrics_.in_flight_entries.Set(held_entries_);
  forget_done_leases();
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
  std::int64_t up_to = -1;
  bool waiting = false;
  for (const auto& lease : leases_) {
    if (worth_settling(*lease, now)) up_to = lease->batch.lease_no;
    waiting = waiting || !lease->unsettled.empty();
  }
  if (up_to < 0) {
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
  for (const auto& lease : leases_) {
    if (lease->batch.lease_no > up_to) break;
    if (lease->unsettled.empty()) continue;
    SettleRequest request = take_request(*lease, *batch);
    batch->parts.back().request = std::move(request);
  }
  settling_ = true;
  submit(batch);
}

// Moves a lease's outcomes into a request.
SettleRequest StreamDrain::take_request(HeldLease& lease, Settle& settle) {
  Unsettled taken = std::exchange(lease.unsettled, {});
  SettleRequest request;
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
  if (lease.open > 0) {
    for (const HeldEntry& entry : lease.entries) {
      if (entry.state != HeldEntry::State::done && entry.key != nullptr) {
        request.busy_keys.push_back(entry.leased->key_hash);
      }
    }
    std::sort(request.busy_keys.begin(), request.busy_keys.end());
    request.busy_keys.erase(std::unique(request.busy_keys.begin(), request.busy_keys.end()),
                            request.busy_keys.end());
  }
  lease.settling = true;
  Settle::Part part;
  part.lease = &lease;
  part.failed_keys = std::move(taken.failed_keys);
  part.delivered = std::move(taken.delivered);
  settle.parts.push_back(std::move(part));
  return request;
}

// What belongs to a lease that was given up meanwhile is not written any more: an outcome before
// it, which was confirmed, may be undone.
void StreamDrain::submit(const std::shared_ptr<Settle>& settle) {
  settle->begun = host_.now();
  for (std::size_t i = settle->next; i < settle->parts.size(); ++i) {
    Settle::Part& part = settle->parts[i];
    if (!part.lease->lost) continue;
    part.result.stale = true;
    part.request.in_doubt = false;
  }
  host_.submit({.urgency = DatabasePool::Urgency::settle,
                .run =
                    [this, settle](StoreSession& session) {
                      while (settle->next < settle->parts.size()) {
                        Settle::Part& part = settle->parts[settle->next];
                        if (!part.result.stale) part.result = session.settle(part.request);
                        part.done = true;
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
  Settle::Part& part = settle->parts[settle->next];
  const bool again = part.request.in_doubt;
  if (error.session_lost()) part.request.in_doubt = true;
  if (part.lease->lost || (error.session_lost() && !again)) return submit(settle);
  host_.log().limited(LogLevel::error, "settle/" + options_.name, "settle failed, trying again",
                      {{"stream", options_.name},
                       {"lease_id", part.request.lease_id},
                       {"error", error.what()},
                       {"hint", error.hint()}});
  host_.post_at(host_.now() + kRetryDelay, [this, settle] { submit(settle); });
}

void StreamDrain::settled(const std::shared_ptr<Settle>& settle) {
  settling_ = false;
  metrics_.settle_duration.observe(
      std::chrono::duration_cast<std::chrono::microseconds>(host_.now() - settle->begun));
  for (std::size_t i = 0; i < settle->parts.size(); ++i) took_effect(*settle, i);
  clear_keys();
  end_of_turn();
  if (std::exchange(churning_, false)) host_.look_at(*this, host_.now());
}

void StreamDrain::took_effect(Settle& settle, std::size_t index) {
  Settle::Part& part = settle.parts[index];
  HeldLease& lease = *part.lease;
  lease.settling = false;
  for (HeldKey* key : part.failed_keys) written(*key);
  if (part.result.stale) {
    count_stale(options_.name, part.request, metrics_, host_);
    lose(lease);
    return;
  }
  host_.log().debug("settled", {{"stream", options_.name},
                                {"lease_id", part.request.lease_id},
                                {"delivered", part.request.delivered.size()},
                                {"others", part.request.others.size()},
                                {"returned", part.request.returned.size()}});
  metrics_.entries_settled.Increment(
      static_cast<double>(part.request.delivered.size() + part.request.others.size()));
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
