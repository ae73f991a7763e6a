#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace outfall::bench {

// One figure. `ratio` is value / floor, both of the same round; `cpu_us_per_entry` is the worker's
// and the server's CPU time together.
struct Measurement {
  std::string benchmark = {};
  std::string name = {};  // `case` in JSON
  double value = 0;
  std::string unit = {};
  std::optional<double> floor = {};
  std::optional<double> worker_cpu_us = {};    // per entry
  std::optional<double> server_cpu_us = {};    // per entry
  std::optional<std::int64_t> rss_bytes = {};  // peak of the worker
  std::string note = {};                       // for people

  [[nodiscard]] std::optional<double> ratio() const;
  [[nodiscard]] std::optional<double> cpu_us_per_entry() const;
};

// Collects figures, shows each as soon as it is there, and writes them all as JSON.
class Report {
 public:
  void add(Measurement measurement);
  // A line about what is going on, to standard error.
  static void progress(std::string_view text);

  void print_table() const;
  void write_json(const std::filesystem::path& file) const;

 private:
  std::vector<Measurement> measurements_;
};

// Of an odd number of rounds, the one whose ratio lies in the middle: its value and its floor were
// measured side by side. The memory is the highest of all rounds.
[[nodiscard]] Measurement median_by_ratio(std::vector<Measurement> rounds);
[[nodiscard]] Measurement median_by_value(std::vector<Measurement> rounds);

// The figures of a benchmark that measures every case once a round.
class Rounds {
 public:
  void add(Measurement one);
  // One of each name, in the order in which the names first came: what `median` makes of its
  // rounds.
  void report(Report& report,
              const std::function<Measurement(std::vector<Measurement>)>& median) const;

 private:
  std::vector<std::string> order_;
  std::map<std::string, std::vector<Measurement>> rounds_;
};

// The value below which `share` of the sorted values lie.
[[nodiscard]] double percentile(const std::vector<double>& sorted, double share);

}  // namespace outfall::bench
