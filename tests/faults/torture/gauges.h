#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <sys/types.h>
#include <vector>

namespace outfall::torture {

// What must stay within bounds while a system runs for long. Pure, but for the functions of /proc.
// One thread at a time.

struct Bound {
  std::string name;  // "worker memory"
  std::string unit;
  double most = 0;  // at no time more than this
  // Nor, in the last quarter, more than so many times the first; 0: not judged, as what never gets
  // smaller again stays what the worst moment has made it.
  double growth = 1;
  double growth_room = 0;  // and so much
};

class Gauges {
 public:
  explicit Gauges(std::vector<Bound> bounds);

  // One value, at a share (0 to 1) of the whole time. The name must have a bound.
  void add(const std::string& name, double share, double value);

  struct Line {
    Bound bound;
    double first = 0;  // median of the first quarter
    double last = 0;   // of the last one
    double most = 0;
    std::array<double, 10> tenths{};  // medians of each tenth of the time
    bool too_much = false;
    bool grows = false;
    bool unseen = false;  // not one value in the first or the last quarter
    [[nodiscard]] bool ok() const { return !too_much && !grows && !unseen; }
  };
  // In the order of the bounds. Growth says nothing about a short time, in which all begins.
  [[nodiscard]] std::vector<Line> lines(bool judge_growth) const;
  // The same as a table in Markdown.
  [[nodiscard]] static std::string table(const std::vector<Line>& lines);
  // What is not judged by its growth, tenth by tenth, so that a reader sees whether it goes on.
  [[nodiscard]] static std::string tenths(const std::vector<Line>& lines);

 private:
  struct Series {
    Bound bound;
    std::vector<double> first = {};
    std::vector<double> last = {};
    std::array<std::vector<double>, 10> tenths = {};
    double most = 0;
  };
  std::vector<Series> series_;
};

// 0 where the process is gone.
[[nodiscard]] std::int64_t rss_bytes(pid_t pid);
[[nodiscard]] std::int64_t open_files(pid_t pid);

}  // namespace outfall::torture
