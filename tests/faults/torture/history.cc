#include "tests/faults/torture/history.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <stdexcept>
#include <tuple>

namespace outfall::torture {

namespace json = boost::json;

std::int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::int64_t monotonic_us(std::chrono::system_clock::time_point time) {
  const auto wall_us = [](std::chrono::system_clock::time_point at) {
    return std::chrono::duration_cast<std::chrono::microseconds>(at.time_since_epoch()).count();
  };
  static const std::int64_t kApart = wall_us(std::chrono::system_clock::now()) - now_us();
  return wall_us(time) - kApart;
}

void History::add(json::object event) {
  const std::lock_guard lock(mutex_);
  if (!event.contains("at_us")) event["at_us"] = now_us();
  events_.push_back(std::move(event));
}

void History::committing(const Place& place) {
  add({{"f", "committing"},
       {"id", place.id},
       {"stream", place.stream},
       {"key", place.key.empty() ? json::value(nullptr) : json::value(place.key)},
       {"n", place.n}});
}

void History::committed(const std::string& id) {
  add({{"f", "committed"}, {"id", id}});
  const std::lock_guard lock(mutex_);
  ++committed_;
}

void History::rolled_back(const std::string& id) {
  add({{"f", "rolled_back"}, {"id", id}});
}

void History::commit_unknown(const std::string& id) {
  add({{"f", "commit_unknown"}, {"id", id}});
}

void History::arrived(const std::string& sink, const Place& place) {
  const std::lock_guard lock(mutex_);
  events_.push_back({{"f", "arrived"},
                     {"at_us", now_us()},
                     {"sink", sink},
                     {"seq", ++arrived_},
                     {"id", place.id},
                     {"stream", place.stream},
                     {"key", place.key.empty() ? json::value(nullptr) : json::value(place.key)},
                     {"n", place.n}});
}

void History::worker(const std::string& name, std::string_view event, int code) {
  add({{"f", "worker"}, {"worker", name}, {"event", event}, {"code", code}});
}

void History::arrivals_from_outcomes(const std::string& sink) {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::int64_t> places;
  std::vector<std::tuple<std::int64_t, std::int64_t, std::string>> delivered;
  for (const json::object& event : events_) {
    if (event.at("f") == "committing")
      places[std::string(event.at("id").as_string())] = event.at("n").as_int64();
  }
  for (const json::object& event : events_) {
    if (event.at("f") != "outcome" || event.at("outcome") != "delivered") continue;
    const std::string id(event.at("id").as_string());
    delivered.emplace_back(event.at("at_us").as_int64(), places[id], id);
  }
  std::sort(delivered.begin(), delivered.end());
  for (const auto& [at_us, n, id] : delivered) {
    events_.push_back(
        {{"f", "arrived"}, {"at_us", at_us}, {"sink", sink}, {"seq", ++arrived_}, {"id", id}});
  }
}

std::int64_t History::entries() const {
  const std::lock_guard lock(mutex_);
  return committed_;
}

std::int64_t History::arrivals() const {
  const std::lock_guard lock(mutex_);
  return arrived_;
}

void History::write(const std::filesystem::path& file) const {
  const std::lock_guard lock(mutex_);
  std::ofstream out(file);
  for (const json::object& event : events_) out << json::serialize(event) << "\n";
  if (!out.flush()) throw std::runtime_error("cannot write " + file.string());
}

}  // namespace outfall::torture
