#include "drain/held.h"

#include <algorithm>

namespace outfall {

HeldKey& HeldKeys::of(std::int32_t hash) {
  std::unique_ptr<HeldKey>& key = keys_[hash];
  if (key == nullptr) {
    key = std::make_unique<HeldKey>();
    key->hash = hash;
  }
  return *key;
}

HeldKey& HeldKeys::arrive(std::int32_t hash) {
  HeldKey& key = of(hash);
  ++key.held;
  return key;
}

void HeldKeys::leave(HeldKey& key) {
  --key.held;
  forget_if_idle(key);
}

void HeldKeys::forget_if_idle(HeldKey& key) {
  if (key.held == 0 && !key.blocked && key.unsettled == 0) {
    full_.erase(key.hash);
    keys_.erase(key.hash);
  }
}

void HeldKeys::note_fill(HeldKey& key, std::string_view name, std::int32_t limit,
                         MonotonicTime now) {
  if (key.held >= limit) {
    full_.try_emplace(key.hash, Full{std::string(name), now});
  } else if (!full_.empty() && key.held < limit / 2) {
    full_.erase(key.hash);
  }
}

std::vector<Room> HeldKeys::full() const {
  std::vector<Room> rooms;
  rooms.reserve(full_.size());
  for (const auto& [hash, full] : full_) rooms.push_back({full.name, 0});
  return rooms;
}

std::optional<MonotonicTime> HeldKeys::last_full_since() const {
  std::optional<MonotonicTime> last;
  for (const auto& [hash, full] : full_) last = std::max(last.value_or(full.since), full.since);
  return last;
}

std::int32_t HeldKeys::largest_room_taken() const {
  std::int32_t largest = 0;
  for (const auto& [hash, key] : keys_) {
    if (key->held > largest && !full_.contains(hash)) largest = key->held;
  }
  return largest;
}

}  // namespace outfall
