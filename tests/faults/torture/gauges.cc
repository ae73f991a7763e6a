#include "tests/faults/torture/gauges.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <unistd.h>

#include <fmt/format.h>

namespace outfall::torture {

namespace {

constexpr double kFirstQuarter = 0.25;
constexpr double kLastQuarter = 0.75;

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::string figure(double value) {
  return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.1f}", value);
}

}  // namespace

Gauges::Gauges(std::vector<Bound> bounds) {
  for (Bound& bound : bounds) series_.push_back({.bound = std::move(bound)});
}

void Gauges::add(const std::string& name, double share, double value) {
  const auto found = std::find_if(series_.begin(), series_.end(),
                                  [&](const Series& each) { return each.bound.name == name; });
  if (found == series_.end()) throw std::logic_error("no bound for " + name);
  found->most = std::max(found->most, value);
  const auto tenth = static_cast<std::size_t>(share * 10);
  found->tenths.at(std::min<std::size_t>(tenth, 9)).push_back(value);
  if (share <= kFirstQuarter) found->first.push_back(value);
  if (share >= kLastQuarter) found->last.push_back(value);
}

std::vector<Gauges::Line> Gauges::lines(bool judge_growth) const {
  std::vector<Line> lines;
  for (const Series& each : series_) {
    Line line{.bound = each.bound,
              .first = median(each.first),
              .last = median(each.last),
              .most = each.most,
              .unseen = each.first.empty() || each.last.empty()};
    line.too_much = line.most > each.bound.most;
    std::transform(each.tenths.begin(), each.tenths.end(), line.tenths.begin(), median);
    line.grows = judge_growth && each.bound.growth > 0 &&
                 line.last > line.first * each.bound.growth + each.bound.growth_room;
    lines.push_back(line);
  }
  return lines;
}

std::string Gauges::table(const std::vector<Line>& lines) {
  constexpr auto kRow = "| {:<36} | {:>13} | {:>12} | {:>9} | {:>9} | {:<12} | {:<14} |\n";
  std::string text = fmt::format(kRow, "gauge", "first quarter", "last quarter", "most", "bound",
                                 "unit", "verdict");
  text += fmt::format(kRow, "---", "---", "---", "---", "---", "---", "---");
  for (const Line& line : lines) {
    const char* verdict = line.unseen     ? "NEVER SEEN"
                          : line.too_much ? "TOO MUCH"
                          : line.grows    ? "GROWS"
                                          : "ok";
    text += fmt::format(kRow, line.bound.name, figure(line.first), figure(line.last),
                        figure(line.most), figure(line.bound.most), line.bound.unit, verdict);
  }
  return text;
}

std::string Gauges::tenths(const std::vector<Line>& lines) {
  std::string text;
  for (const Line& line : lines) {
    if (line.bound.growth > 0) continue;
    text += line.bound.name + " by tenths of the time:";
    for (const double value : line.tenths) text += ' ' + figure(value);
    text += ' ' + line.bound.unit + '\n';
  }
  return text;
}

std::int64_t rss_bytes(pid_t pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::int64_t size = 0;
  std::int64_t resident = 0;
  statm >> size >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

std::int64_t open_files(pid_t pid) {
  std::error_code gone;
  const std::filesystem::directory_iterator files("/proc/" + std::to_string(pid) + "/fd", gone);
  return gone ? 0 : std::distance(begin(files), end(files));
}

}  // namespace outfall::torture
