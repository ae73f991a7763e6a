// The leases of StreamDrain: how long they last, and what follows when they do not.
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "drain/stream_drain.h"

namespace outfall {

namespace {

// Of all that the batch's views point to, only the keys are left.
void keep_only_keys(LeasedBatch& batch) {
  auto keys = std::make_shared<std::string>();
  for (const LeasedEntry& leased : batch.entries) *keys += leased.envelope.key.value_or("");
  std::string_view rest = *keys;
  for (LeasedEntry& leased : batch.entries) {
    Envelope& envelope = leased.envelope;
    for (std::string_view* view : {&envelope.stream, &envelope.type, &envelope.source,
                                   &envelope.subject, &envelope.content_type, &envelope.data_schema,
                                   &envelope.headers_json, &envelope.payload}) {
      *view = {};
    }
    if (!envelope.key) continue;
    envelope.key = rest.substr(0, envelope.key->size());
    rest.remove_prefix(envelope.key->size());
  }
  batch.owner = std::move(keys);
}

}  // namespace

void StreamDrain::collect_leases(MonotonicTime horizon, std::vector<Uuid>& leases) const {
  for (const auto& lease : leases_) {
    if (lease->lost) continue;
    if (lease->withheld || lease->batch.valid_until < horizon)
      leases.push_back(lease->batch.lease_id);
  }
}

void StreamDrain::renewed(const std::vector<Uuid>& asked, const std::vector<Uuid>& kept,
                          MonotonicTime valid_until, bool present) {
  for (const auto& lease : leases_) {
    const Uuid& id = lease->batch.lease_id;
    if (std::find(asked.begin(), asked.end(), id) == asked.end()) continue;
    if (std::find(kept.begin(), kept.end(), id) != kept.end()) {
      lease->batch.valid_until = valid_until;
      lease->withheld = lease->withheld && !present;
      if (!lease->withheld) lease->deadline->move(valid_until - send_margin());
    } else if (!lease->settling) {
      // One that is being settled may just be gone because the settle was the last.
      lose(*lease);
    }
  }
  forget_done_leases();
  clear_keys();
}

void StreamDrain::give_back_unsent() {
  for (const auto& lease : leases_) {
    for (HeldEntry& entry : lease->entries) {
      if (entry.state == HeldEntry::State::waiting) give_back(entry);
    }
  }
  end_of_turn();
}

void StreamDrain::withhold_unsent() {
  for (const auto& lease : leases_) withhold(*lease);
  give_back_unsent();
}

void StreamDrain::withhold(HeldLease& lease) {
  lease.withheld = true;
  lease.deadline->end();
}

// The lease is another worker's now: nothing of it is written, and of its keys nothing is sent.
void StreamDrain::lose(HeldLease& lease) {
  if (lease.lost) return;
  lease.lost = true;
  lease.deadline->end();
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
  host_.written(lease.unsettled.amount);
  lease.unsettled = {};
  drop_those_aside(lease);
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

void StreamDrain::lose_all() {
  give_up_claims();
  for (const auto& lease : leases_) lose(*lease);
  forget_done_leases();
  clear_keys();
}

// Outcomes are written by ids, so that the payloads of a lease that is decided need not wait for
// the database. Keys stay: of an entry that the database refuses, the key is closed by its name.
void StreamDrain::let_go_of_decided_rows() {
  for (const auto& lease : leases_) {
    if (lease->open > 0 || lease->bare) continue;
    lease->bare = true;
    keep_only_keys(lease->batch);
  }
}

void StreamDrain::forget_done_leases() {
  leases_.remove_if([](const std::unique_ptr<HeldLease>& lease) {
    return lease->open == 0 && !lease->settling && lease->unsettled.empty() && lease->aside == 0;
  });
  metrics_.active_leases.Set(static_cast<double>(leases_.size()));
}

}  // namespace outfall
