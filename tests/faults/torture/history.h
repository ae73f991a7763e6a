#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

namespace outfall::torture {

// Microseconds of CLOCK_MONOTONIC, by which every line of a history is dated.
[[nodiscard]] std::int64_t now_us();
// The same for a time of the wall clock. The two are compared once, so that equal times stay so.
[[nodiscard]] std::int64_t monotonic_us(std::chrono::system_clock::time_point time);

// An envelope as producers make it and sinks see it.
struct Place {
  std::string id;  // the envelope's
  std::string stream;
  std::string key;     // empty: none
  std::int64_t n = 0;  // within the key, from 1
};

// What happened in one run, as JSON lines that outfall_history_check judges (docs/internals/
// faults.md has the format). Any thread; nothing is written to disk before write().
class History {
 public:
  History() = default;
  History(const History&) = delete;
  History& operator=(const History&) = delete;
  virtual ~History() = default;

  virtual void committing(const Place& place);
  virtual void committed(const std::string& id);
  virtual void rolled_back(const std::string& id);
  virtual void commit_unknown(const std::string& id);
  // `seq` is counted here: the order in which a sink tells of what it got is its own.
  virtual void arrived(const std::string& sink, const Place& place);
  void worker(const std::string& name, std::string_view event, int code = 0);
  void add(boost::json::object event);  // at_us is added where it is missing

  // For an emitter without an outside: what its workers have logged as delivered has arrived. The
  // log's times are exact to a millisecond; within one, entries are taken to come in their order.
  void arrivals_from_outcomes(const std::string& sink);

  [[nodiscard]] std::int64_t entries() const;   // committed for sure
  [[nodiscard]] std::int64_t arrivals() const;  // copies included
  void write(const std::filesystem::path& file) const;

 private:
  mutable std::mutex mutex_;
  std::vector<boost::json::object> events_;
  std::int64_t committed_ = 0;
  std::int64_t arrived_ = 0;
};

}  // namespace outfall::torture
