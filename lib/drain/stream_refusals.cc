// Outcomes that the database refuses to write. As long as nothing is known but that, the settle is
// tried again as it is; when it goes on and the error is about what is written, the settle is taken
// apart until the entries are found that it is for. These keep their places in their leases and
// their keys closed, and all else goes on. What they are waiting for is that somebody mends the
// cause: given back instead, they would be delivered again and be refused again, for ever.
#include <algorithm>
#include <iterator>
#include <utility>

#include "drain/settle.h"

namespace outfall {

namespace {

// With the pause after each, some seconds: what passes by itself, passes.
constexpr int kPatience = 5;
// A settle that is refused for more entries than this is not refused because of them.
constexpr std::size_t kMostAside = 100;
constexpr Milliseconds kTryAsideAgain{5000};

// The server has an objection of its own, and it is not about locks, resources or versions. One
// about rights or a table that is not there may be a trigger's, which is about what is written.
bool is_about_data(const StoreError& error) {
  if (error.code().empty()) return false;
  return error.kind() == StoreErrorKind::defect || error.kind() == StoreErrorKind::denied ||
         error.kind() == StoreErrorKind::schema;
}

const HeldEntry& held_entry(const HeldLease& lease, EntryId id) {
  return *std::lower_bound(lease.entries.begin(), lease.entries.end(), id,
                           [](const HeldEntry& entry, EntryId wanted) {
                             return entry.leased->envelope.entry_id < wanted;
                           });
}

// Of a part with one entry.
const HeldEntry& only_entry(const SettlePart& part) {
  const SettleRequest& request = part.request;
  if (!part.delivered.empty()) return *part.delivered.front();
  return held_entry(*part.lease,
                    request.others.empty() ? request.returned.front() : request.others.front().id);
}

void add_key(std::vector<std::int32_t>& hashes, std::int32_t hash) {
  const auto place = std::lower_bound(hashes.begin(), hashes.end(), hash);
  if (place == hashes.end() || *place != hash) hashes.insert(place, hash);
}

void add_keys_of(const SettlePart& part, std::vector<std::int32_t>& hashes) {
  const auto add = [&](const HeldEntry& entry) {
    if (entry.key != nullptr) hashes.push_back(entry.leased->key_hash);
  };
  for (const HeldEntry* entry : part.delivered) add(*entry);
  for (const SettledOther& other : part.request.others) add(held_entry(*part.lease, other.id));
  for (const EntryId id : part.request.returned) add(held_entry(*part.lease, id));
  std::sort(hashes.begin(), hashes.end());
  hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
}

// A part of the same lease that writes nothing yet.
SettlePart part_beside(const SettlePart& part) {
  SettlePart beside;
  beside.lease = part.lease;
  beside.request.lease_id = part.request.lease_id;
  beside.request.provider = part.request.provider;
  beside.request.receipts = part.request.receipts;
  beside.request.hold_key = part.request.hold_key;
  beside.request.busy_keys = part.request.busy_keys;
  return beside;
}

template <typename Element>
void move_tail(std::vector<Element>& from, std::size_t first, std::vector<Element>& to) {
  if (first >= from.size()) return;
  const auto begin = from.begin() + static_cast<std::ptrdiff_t>(first);
  to.assign(std::make_move_iterator(begin), std::make_move_iterator(from.end()));
  from.erase(begin, from.end());
}

// Takes the second half of a part's entries away from it. Delivered ones come last, behind a dead
// letter of their key, and in order, so that of a key none is written before an earlier one.
SettlePart second_half(SettlePart& part) {
  SettleRequest& request = part.request;
  SettlePart second = part_beside(part);
  const std::size_t half = request.size() / 2;
  const std::size_t others = request.others.size();
  const std::size_t unsent = others + request.returned.size();
  const auto after = [half](std::size_t before) { return half > before ? half - before : 0; };
  move_tail(request.delivered, after(unsent), second.request.delivered);
  move_tail(request.record_ids, after(unsent), second.request.record_ids);
  move_tail(part.delivered, after(unsent), second.delivered);
  move_tail(request.returned, after(others), second.request.returned);
  move_tail(request.others, half, second.request.others);
  return second;
}

}  // namespace

// Whether the refused part has been made smaller, or set aside, so that the settle may go on.
bool StreamDrain::take_apart(Settle& settle, const StoreError& error) {
  if (!is_about_data(error)) return false;
  SettlePart& part = settle.parts[settle.next];
  if (!part.again && ++settle.refusals < kPatience) return false;
  if (part.request.size() == 1) {
    if (!part.again && !may_keep_aside(settle)) return false;
    set_aside(settle, error);
    return true;
  }
  part.request.in_doubt = false;  // it was refused, so that no try before had taken effect
  settle.failed_keys.insert(settle.failed_keys.end(), part.failed_keys.begin(),
                            part.failed_keys.end());
  part.failed_keys.clear();
  SettlePart second = second_half(part);
  add_keys_of(second, part.request.busy_keys);
  settle.parts.insert(settle.parts.begin() + static_cast<std::ptrdiff_t>(settle.next) + 1,
                      std::move(second));
  return true;
}

// A lease keeps all its payloads for what is aside of it, and these count for no bound any more.
bool StreamDrain::may_keep_aside(const Settle& settle) const {
  const auto refused =
      std::count_if(aside_.begin(), aside_.end(), [](const auto& p) { return p.refused; });
  if (static_cast<std::size_t>(refused) + settle.refused >= kMostAside) return false;
  std::int64_t bytes = settle.parts[settle.next].lease->batch.bytes;
  for (const auto& lease : leases_) {
    const bool keeps = lease->aside > 0 ||
                       std::any_of(settle.parts.begin(), settle.parts.end(), [&](const auto& p) {
                         return p.aside && p.lease == lease.get();
                       });
    if (keeps && lease.get() != settle.parts[settle.next].lease) bytes += lease->batch.bytes;
  }
  return bytes <= host_.options().max_in_flight_bytes;
}

// The next part is one entry that is refused: nothing of its key is sent or written before it is
// written itself.
void StreamDrain::set_aside(Settle& settle, const StoreError& error) {
  SettlePart& part = settle.parts[settle.next];
  const HeldEntry& entry = only_entry(part);
  host_.log().limited(LogLevel::error, "aside/" + options_.name,
                      "the database refuses the outcome of an entry; it stays leased and its key "
                      "waits, while this is tried again",
                      {{"stream", options_.name},
                       {"lease_id", part.request.lease_id},
                       {"entry_id", entry.leased->envelope.entry_id},
                       {"envelope_id", entry.leased->envelope.envelope_id},
                       {"sqlstate", error.code()},
                       {"error", error.what()}});
  part.aside = true;
  part.refused = true;
  part.request.in_doubt = false;
  ++settle.refused;
  ++settle.next;
  settle.failed_keys.insert(settle.failed_keys.end(), part.failed_keys.begin(),
                            part.failed_keys.end());
  part.failed_keys.clear();
  if (entry.key == nullptr) return;
  const std::int32_t hash = entry.leased->key_hash;
  if (part.key == nullptr) {
    part.key = &keys_.of(hash);
    block(*part.key, true);
  }
  take_followers(settle, hash);
}

// What was delivered of the key behind an entry that is aside is aside, too. Of the leases that
// hold any of it the key stays busy.
void StreamDrain::take_followers(Settle& settle, std::int32_t key_hash) {
  std::vector<HeldLease*> holders{settle.parts[settle.next - 1].lease};
  std::vector<SettlePart> followers;
  for (std::size_t i = settle.next; i < settle.parts.size(); ++i) {
    if (settle.parts[i].aside) continue;
    const std::size_t before = followers.size();
    split_off_followers(settle.parts[i], std::span(&key_hash, 1), followers);
    if (followers.size() > before) holders.push_back(settle.parts[i].lease);
  }
  for (std::size_t i = settle.next; i < settle.parts.size(); ++i) {
    if (std::find(holders.begin(), holders.end(), settle.parts[i].lease) != holders.end())
      add_key(settle.parts[i].request.busy_keys, key_hash);
  }
  std::move(followers.begin(), followers.end(), std::back_inserter(settle.parts));
}

// `key_hashes` ascend.
void StreamDrain::split_off_followers(SettlePart& part, std::span<const std::int32_t> key_hashes,
                                      std::vector<SettlePart>& into) {
  for (std::size_t i = 0; i < part.delivered.size();) {
    const HeldEntry& entry = *part.delivered[i];
    const std::int32_t key_hash = entry.leased->key_hash;
    if (entry.key == nullptr ||
        !std::binary_search(key_hashes.begin(), key_hashes.end(), key_hash)) {
      ++i;
      continue;
    }
    SettlePart follower = part_beside(part);
    const auto at = static_cast<std::ptrdiff_t>(i);
    follower.aside = true;
    follower.key = &keys_.of(key_hash);
    block(*follower.key, true);
    follower.delivered.push_back(part.delivered[i]);
    follower.request.delivered.push_back(part.request.delivered[i]);
    part.delivered.erase(part.delivered.begin() + at);
    part.request.delivered.erase(part.request.delivered.begin() + at);
    if (!part.request.record_ids.empty()) {
      follower.request.record_ids.push_back(std::move(part.request.record_ids[i]));
      part.request.record_ids.erase(part.request.record_ids.begin() + at);
    }
    into.push_back(std::move(follower));
  }
}

// A refused part of a settle that is over.
void StreamDrain::keep_aside(SettlePart part) {
  if (part.lease->lost) {
    metrics_.duplicates_possible.Increment(static_cast<double>(part.delivered.size()));
    if (part.key != nullptr) written(*part.key);
    return;
  }
  put_aside(std::move(part));
  const MonotonicTime now = host_.now();
  if (aside_due_ > now) return;
  aside_due_ = now + kTryAsideAgain;
  host_.post_at(aside_due_, [this] { settle(); });
}

void StreamDrain::put_aside(SettlePart part) {
  part.again = true;
  ++part.lease->aside;
  aside_.push_back(std::move(part));
}

bool StreamDrain::aside_is_due(MonotonicTime now) const {
  return !aside_.empty() && now >= aside_due_;
}

void StreamDrain::try_those_aside(Settle& settle) {
  std::vector<SettlePart> parts = std::exchange(aside_, {});
  for (std::size_t i = 0; i < parts.size(); ++i) {
    SettlePart& part = parts[i];
    part.aside = part.refused = false;
    part.lease->settling = true;
    --part.lease->aside;
    part.request.busy_keys.clear();
    list_busy_keys(*part.lease, part.request.busy_keys);
    for (std::size_t j = i + 1; j < parts.size(); ++j) {
      if (parts[j].lease == part.lease && parts[j].key != nullptr)
        add_key(part.request.busy_keys, parts[j].key->hash);
    }
  }
  std::move(parts.begin(), parts.end(), std::back_inserter(settle.parts));
}

void StreamDrain::drop_those_aside(HeldLease& lease) {
  if (lease.aside == 0) return;
  lease.aside = 0;
  std::vector<SettlePart> kept;
  for (SettlePart& part : aside_) {
    if (part.lease == &lease) {
      metrics_.duplicates_possible.Increment(static_cast<double>(part.delivered.size()));
      if (part.key != nullptr) written(*part.key);
    } else {
      kept.push_back(std::move(part));
    }
  }
  aside_ = std::move(kept);
}

// A claim would bring their later entries only to have them given back.
void StreamDrain::close_keys_aside(std::vector<Room>& keys) const {
  for (const SettlePart& part : aside_) {
    if (part.key == nullptr) continue;
    const std::string_view name = *only_entry(part).leased->envelope.key;
    const bool listed = std::any_of(keys.begin(), keys.end(),
                                    [name](const Room& room) { return room.name == name; });
    if (!listed) keys.push_back({std::string(name), 0});
  }
}

}  // namespace outfall
