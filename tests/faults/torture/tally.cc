#include "tests/faults/torture/tally.h"

#include <algorithm>

#include <fmt/format.h>

namespace outfall::torture {

namespace {

constexpr std::int64_t kRecentUs = 120'000'000;
constexpr std::size_t kSamples = 10;

bool overlaps(const Tally::Disturbance& one, std::int64_t from_us, std::int64_t until_us) {
  return one.from_us <= until_us && from_us <= one.until_us;
}

}  // namespace

void Tally::committing(const Place& place) {
  const std::lock_guard lock(mutex_);
  Key& key = keys_[place.key];
  key.name = place.key;
  // What failed before it was put to commit has taken a place, too.
  while (++key.given < place.n) key.holes.push_back(key.given);
  key.open[place.n] = {.state = State::committing, .id = place.id};
  ending_[place.id] = {&key, place.n};
}

Tally::Whose Tally::take(const std::string& id) {
  return ending_.extract(id).mapped();
}

void Tally::ended(const std::string& id, std::int64_t& counter, State state) {
  const std::lock_guard lock(mutex_);
  ++counter;
  const Whose whose = take(id);
  const auto entry = whose.key->open.find(whose.n);
  if (entry != whose.key->open.end()) entry->second.state = state;
}

void Tally::committed(const std::string& id) {
  ended(id, so_far_.committed, State::committed);
}

void Tally::rolled_back(const std::string& id) {
  const std::lock_guard lock(mutex_);
  ++so_far_.rolled_back;
  const Whose whose = take(id);
  if (whose.key->open.erase(whose.n) == 0)
    wrong(so_far_.phantom, "arrived and was rolled back", {id, "", whose.key->name, whose.n});
  whose.key->holes.push_back(whose.n);
}

void Tally::commit_unknown(const std::string& id) {
  ended(id, so_far_.in_doubt, State::unknown);
}

void Tally::wrong(std::int64_t& counter, const char* what, const Place& place) {
  ++counter;
  if (so_far_.samples.size() < kSamples)
    so_far_.samples.push_back(
        fmt::format("{}: entry {}, place {} of {}", what, place.id, place.n, place.key));
}

bool Tally::is_hole(const Key& key, std::int64_t n) {
  return std::binary_search(key.holes.begin(), key.holes.end(), n);
}

void Tally::arrived(const std::string& /*sink*/, const Place& place) {
  const std::lock_guard lock(mutex_);
  const std::int64_t at_us = now_us();
  ++so_far_.arrivals;
  const auto found = keys_.find(place.key);
  if (found == keys_.end() || place.n < 1 || place.n > found->second.given ||
      is_hole(found->second, place.n)) {
    wrong(so_far_.phantom, "arrived and was never committed", place);
    return;
  }
  Key& key = found->second;
  const auto entry = key.open.find(place.n);
  if (entry != key.open.end() && entry->second.id != place.id) {
    wrong(so_far_.phantom, "arrived in the place of another", place);
    return;
  }
  if (entry == key.open.end()) {
    check_turn(key, place, at_us);
    copy(key, place, at_us);
    key.last = place.n;
    return;
  }
  // One whose commit was in doubt binds no order: it may come after later ones.
  const bool in_turn = place.n > key.high;
  if (in_turn) check_turn(key, place, at_us);
  first_arrival(key, entry, at_us);
  if (in_turn) key.last = place.n;
}

// What comes next has to be the next of its key, or one from before.
void Tally::check_turn(const Key& key, const Place& place, std::int64_t at_us) {
  bool skipped = false;
  for (std::int64_t n = key.last + 1; n < place.n; ++n) {
    if (is_hole(key, n)) continue;
    const auto open = key.open.find(n);
    if (open == key.open.end()) {
      skipped = true;
    } else if (open->second.state != State::unknown) {
      wrong(so_far_.reorder, "arrived before an earlier one of its key", place);
      return;
    }
  }
  if (skipped) skips_.push_back({key.copied_us, at_us});
}

void Tally::first_arrival(Key& key, std::map<std::int64_t, Open>::iterator entry,
                          std::int64_t at_us) {
  ++so_far_.delivered;
  key.high = std::max(key.high, entry->first);
  while (!key.recent.empty() && key.recent.front().at_us < at_us - kRecentUs)
    key.recent.pop_front();
  key.recent.push_back(
      {.n = entry->first, .at_us = at_us, .id = std::hash<std::string>()(entry->second.id)});
  key.open.erase(entry);
  key.copied_us = 0;
}

void Tally::copy(Key& key, const Place& place, std::int64_t at_us) {
  const auto first = std::find_if(key.recent.rbegin(), key.recent.rend(),
                                  [&](const Recent& each) { return each.n == place.n; });
  if (first == key.recent.rend()) {
    copies_.push_back({.first_us = at_us, .at_us = at_us});
    key.copied_us = at_us;
    return;
  }
  if (first->id != std::hash<std::string>()(place.id))
    wrong(so_far_.phantom, "arrived in the place of another", place);
  copies_.push_back({.first_us = first->at_us, .at_us = at_us, .number = ++first->copies});
  key.copied_us = first->at_us;
}

Tally::Findings Tally::judge(const std::vector<Disturbance>& disturbances,
                             std::int64_t send_timeout_us) const {
  const std::lock_guard lock(mutex_);
  Findings findings = so_far_;
  const auto sample = [&](std::string text) {
    if (findings.samples.size() < kSamples) findings.samples.push_back(std::move(text));
  };
  for (const auto& [name, key] : keys_) {
    for (const auto& [n, entry] : key.open) {
      if (entry.state == State::unknown) continue;
      ++findings.lost;
      sample(fmt::format("never arrived: entry {}, place {} of {}", entry.id, n, name));
    }
  }
  for (const Copy& each : copies_) {
    int allowed = 0;
    for (const Disturbance& one : disturbances) {
      if (overlaps(one, each.first_us - send_timeout_us, each.at_us)) allowed += one.copies;
    }
    ++(each.number <= allowed ? findings.explained : findings.unexplained);
    if (each.number > allowed)
      sample(fmt::format("copy {} without a reason, {} ms after the first", each.number,
                         (each.at_us - each.first_us) / 1000));
  }
  for (const Skip& each : skips_) {
    const bool late = std::any_of(disturbances.begin(), disturbances.end(), [&](const auto& one) {
      return one.late && overlaps(one, each.copied_us - send_timeout_us, each.at_us);
    });
    if (late && each.copied_us > 0) continue;
    ++findings.gap;
    sample("a key went on from an earlier place and left entries out");
  }
  return findings;
}

std::vector<std::string> Tally::in_doubt() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> ids;
  for (const auto& [name, key] : keys_) {
    for (const auto& [n, entry] : key.open) {
      if (entry.state == State::unknown) ids.push_back(entry.id);
    }
  }
  return ids;
}

}  // namespace outfall::torture
