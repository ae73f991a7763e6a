#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <sys/types.h>
#include <vector>

#include <boost/json.hpp>

namespace outfall::torture {

// By what it is seen that a fault has met somebody. No I/O here. One thread.

// Of a fault's line in the history: where it was to strike at a step, its worker had been seen
// stopped there before, and was let go on after that only.
[[nodiscard]] bool struck_at_its_step(const boost::json::object& line);

// That the sessions of the workers were ended and that they have made new ones: one is listed that
// was not there when the first were ended.
class EndedSessions {
 public:
  // Those that have been ended just now, by their process.
  void ended(const std::vector<std::int64_t>& pids);
  // Those that are there now, ended next or not.
  [[nodiscard]] bool made_anew(const std::vector<std::int64_t>& pids) const;

 private:
  std::set<std::int64_t> first_;
};

// That a number which each worker counts has grown since a moment. A process that has begun since
// then counted from zero. Of one that could not be asked then, since it was stopped or too busy,
// the first that it tells is the beginning: what it has counted before may be older.
class Growth {
 public:
  struct Told {
    std::string worker;
    pid_t process = 0;            // 0: there is none
    std::optional<double> value;  // nothing: it could not be asked
  };
  void since(const std::vector<Told>& all);
  [[nodiscard]] bool seen_in(const std::vector<Told>& all);

 private:
  std::map<std::pair<std::string, pid_t>, std::optional<double>> before_;
};

}  // namespace outfall::torture
