#include "tests/faults/torture/witness.h"

#include <algorithm>

namespace outfall::torture {

bool struck_at_its_step(const boost::json::object& line) {
  if (line.at("point").as_string().empty()) return true;
  const auto time = [&](const char* name) -> std::optional<std::int64_t> {
    const boost::json::value* value = line.if_contains(name);
    return value == nullptr ? std::nullopt : std::optional(value->as_int64());
  };
  const auto stopped = time("stopped_us");
  const auto struck = time("struck_us");
  const auto released = time("released_us");
  return stopped && struck && released && *stopped <= *struck && *struck <= *released;
}

void EndedSessions::ended(const std::vector<std::int64_t>& pids) {
  // One that is being ended is listed for a while.
  if (first_.empty()) first_.insert(pids.begin(), pids.end());
}

bool EndedSessions::made_anew(const std::vector<std::int64_t>& pids) const {
  return !first_.empty() && std::any_of(pids.begin(), pids.end(),
                                        [this](std::int64_t pid) { return !first_.contains(pid); });
}

void Growth::since(const std::vector<Told>& all) {
  before_.clear();
  for (const Told& told : all) {
    if (told.process != 0) before_[{told.worker, told.process}] = told.value;
  }
}

bool Growth::seen_in(const std::vector<Told>& all) {
  bool seen = false;
  for (const Told& told : all) {
    if (told.process == 0 || !told.value) continue;
    const auto known = before_.find({told.worker, told.process});
    if (known == before_.end()) {
      seen = seen || *told.value > 0;
    } else if (known->second) {
      seen = seen || *told.value > *known->second;
    } else {
      known->second = told.value;
    }
  }
  return seen;
}

}  // namespace outfall::torture
