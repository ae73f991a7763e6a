#include "drain/held.h"

namespace outfall {

HeldKey& HeldKeys::arrive(std::int32_t hash) {
  std::unique_ptr<HeldKey>& key = keys_[hash];
  if (key == nullptr) {
    key = std::make_unique<HeldKey>();
    key->hash = hash;
  }
  ++key->held;
  return *key;
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

void HeldKeys::note_fill(HeldKey& key, std::string_view name, std::int32_t limit) {
  if (key.held >= limit) {
    full_.try_emplace(key.hash, name);
  } else if (!full_.empty() && key.held < limit / 2) {
    full_.erase(key.hash);
  }
}

std::vector<Room> HeldKeys::full() const {
  std::vector<Room> rooms;
  rooms.reserve(full_.size());
  for (const auto& [hash, name] : full_) rooms.push_back({name, 0});
  return rooms;
}

}  // namespace outfall
