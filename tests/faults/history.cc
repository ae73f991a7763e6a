#include "tests/faults/history.h"

#include <algorithm>

namespace outfall::test::history {

Names::Names() : indexes_(0, Hash{this}, Equal{this}) {
}

Index Names::of(std::string_view text) {
  if (const auto found = indexes_.find(text); found != indexes_.end()) return *found;
  const auto index = static_cast<Index>(places_.size());
  places_.push_back({characters_.size(), static_cast<std::uint32_t>(text.size())});
  characters_.insert(characters_.end(), text.begin(), text.end());
  indexes_.insert(index);
  return index;
}

std::string_view Names::text(Index index) const {
  if (index >= places_.size()) return "?";
  return {characters_.data() + places_[index].offset, places_[index].length};
}

bool Fault::touches_sink(Index sink) const {
  return all_sinks || std::find(sinks.begin(), sinks.end(), sink) != sinks.end();
}

bool Fault::touches_worker(Index worker) const {
  return all_workers || std::find(workers.begin(), workers.end(), worker) != workers.end();
}

bool Fault::may_be_late() const {
  return late.value_or(touches_sinks() || kind == "F3" || kind.starts_with("F3-"));
}

Index History::entry_index(std::string_view id) {
  const Index index = ids.of(id);
  if (index >= entries.size()) entries.resize(index + std::size_t{1});
  return index;
}

Entry& History::entry(std::string_view id) {
  return entries[entry_index(id)];
}

Index History::lease(std::string_view id, std::string_view worker) {
  const Index index = leases.of(id);
  if (index >= lease_facts.size()) lease_facts.resize(index + std::size_t{1});
  if (!worker.empty()) lease_facts[index].worker = workers.of(worker);
  return index;
}

// A counter that falls belongs to a new process.
void History::count(const std::string& worker, const std::string& name, Index stream, double value,
                    Micros at) {
  Counter& counter = counters[{worker, name, stream}];
  if (value < counter.value) counter.before += counter.value;
  counter.value = value;
  Micros& told = counted_at[workers.of(worker)];
  told = std::max(told, at);
}

void History::gauge(const std::string& worker, const std::string& name, double value) {
  const auto [it, added] = gauges.try_emplace({worker, name}, value);
  if (!added) it->second = std::max(it->second, value);
}

StreamRules History::rules(Index stream) const {
  const auto found = stream_rules.find(stream);
  return found == stream_rules.end() ? StreamRules{} : found->second;
}

}  // namespace outfall::test::history
