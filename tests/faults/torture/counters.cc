#include "tests/faults/torture/counters.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <string>
#include <tuple>

namespace outfall::torture {

namespace {

constexpr std::array<std::string_view, 2> kCounters = {"outfall_attempts_total",
                                                       "outfall_dead_lettered_total"};

// The streams of the torture have names that need no escaping.
std::string label(std::string_view labels, std::string_view name) {
  const std::string begin = std::string(name) + "=\"";
  const std::size_t at = labels.find(begin);
  if (at == std::string_view::npos) return {};
  const std::string_view value = labels.substr(at + begin.size());
  return std::string(value.substr(0, value.find('"')));
}

std::string_view next_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

}  // namespace

std::vector<boost::json::object> counters_in(std::string_view metrics) {
  std::map<std::tuple<std::string, std::string, std::string>, double> sums;
  while (!metrics.empty()) {
    const std::string_view line = next_line(metrics);
    const std::size_t open = line.find('{');
    const std::size_t close = line.rfind("} ");
    if (open == std::string_view::npos || close == std::string_view::npos) continue;
    for (const std::string_view name : kCounters) {
      if (line.substr(0, open) != name) continue;
      const std::string_view labels = line.substr(open, close - open);
      double value = 0;
      std::from_chars(line.data() + close + 2, line.data() + line.size(), value);
      sums[{std::string(name), label(labels, "stream"), label(labels, "outcome")}] += value;
    }
  }
  std::vector<boost::json::object> counters;
  for (const auto& [of, value] : sums) {
    const auto& [name, stream, outcome] = of;
    auto& counter = counters.emplace_back(boost::json::object{
        {"f", "counter"}, {"name", name}, {"stream", stream}, {"value", value}});
    if (!outcome.empty()) counter["outcome"] = outcome;
  }
  return counters;
}

double sum_of(std::string_view metrics, std::string_view name, std::string_view label) {
  double sum = 0;
  while (!metrics.empty()) {
    const std::string_view line = next_line(metrics);
    const std::size_t space = line.rfind(' ');
    if (space == std::string_view::npos || !line.starts_with(name)) continue;
    const std::string_view labels = line.substr(name.size(), space - name.size());
    if (!labels.empty() && labels.front() != '{') continue;  // another name that begins like it
    if (labels.find(label) == std::string_view::npos) continue;
    double value = 0;
    std::from_chars(line.data() + space + 1, line.data() + line.size(), value);
    sum += value;
  }
  return sum;
}

void add_in_flight(std::string_view metrics, boost::json::object& gauge) {
  for (const char* name : {kInFlightEntries, kInFlightBytes})
    gauge[name] = std::llround(sum_of(metrics, std::string("outfall_") + name));
}

}  // namespace outfall::torture
