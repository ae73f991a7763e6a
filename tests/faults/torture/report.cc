#include "tests/faults/torture/report.h"

#include <algorithm>
#include <fstream>
#include <stdexcept>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace outfall::torture {

namespace json = boost::json;
using test::history::Anomaly;

namespace {

std::string kind_of(const Case& of) {
  if (!of.shape.empty()) return "as " + of.shape;
  if (of.fault.find('+') != std::string::npos) return "pairs";
  return of.fault.substr(0, of.fault.find('.'));
}

std::string seconds(std::int64_t us) {
  return fmt::format("{:.1f} s", static_cast<double>(us) / 1e6);
}

}  // namespace

std::string anomalies_of(const Result& result) {
  std::string text = result.problem;
  for (const std::string& missed : result.missed)
    text += fmt::format("{}not reached: {}", text.empty() ? "" : ", ", missed);
  for (std::size_t i = 0; i < test::history::kAnomalies; ++i) {
    if (result.verdict.found[i] == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", result.verdict.found[i],
                        to_string(static_cast<Anomaly>(i)));
  }
  return text;
}

void Report::Line::add(const Result& result) {
  const test::history::Verdict& verdict = result.verdict;
  ++runs;
  injected += static_cast<int>(result.injected.size());
  entries += verdict.committed;
  lost += verdict.count(Anomaly::lost);
  explained += verdict.dup_explained;
  unexplained += verdict.count(Anomaly::dup_unexplained);
  order += verdict.count(Anomaly::reorder) + verdict.count(Anomaly::gap);
  std::size_t all = 0;
  for (const std::size_t found : verdict.found) all += found;
  others += all - verdict.count(Anomaly::lost) - verdict.count(Anomaly::dup_unexplained) -
            verdict.count(Anomaly::reorder) - verdict.count(Anomaly::gap) +
            (result.problem.empty() ? 0 : 1) + result.missed.size();
  for (const auto& [kind, fault] : verdict.faults)
    recovery_us = std::max(recovery_us, fault.longest_recovery);
}

void Report::add(Result result) {
  const std::string what = !result.skipped.empty() ? "skipped: " + result.skipped
                           : !result.ok()          ? "BROKEN: " + anomalies_of(result)
                                                   : "ok";
  fmt::print(stderr, "{:>4} {:<58} {:>5.1f} s  {}\n", results_.size() + 1, result.of.name(),
             result.seconds, what);
  for (const auto& sample : result.verdict.samples)
    fmt::print(stderr, "       {}: {}\n", to_string(sample.anomaly), sample.text);
  if (!result.kept.empty())
    fmt::print(stderr, "       kept in {}; again: ops/torture --run {}\n", result.kept.string(),
               result.of.name());
  results_.push_back(std::move(result));
}

void Report::complain(std::string what) {
  fmt::print(stderr, "BROKEN: {}\n", what);
  problems_.push_back(std::move(what));
}

void Report::order_as(const std::vector<Case>& cases) {
  std::map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < cases.size(); ++i) places.emplace(cases[i].name(), i);
  std::stable_sort(results_.begin(), results_.end(), [&](const Result& one, const Result& other) {
    return places[one.of.name()] < places[other.of.name()];
  });
}

bool Report::ok() const {
  return problems_.empty() &&
         std::all_of(results_.begin(), results_.end(), [this](const Result& result) {
           return result.ok() && (result.skipped.empty() || !skips_fail_);
         });
}

std::map<std::string, Report::Line> Report::lines() const {
  std::map<std::string, Line> lines;
  for (const Result& result : results_) {
    if (result.skipped.empty()) lines[kind_of(result.of)].add(result);
  }
  return lines;
}

Report::Line Report::total() const {
  Line all;
  for (const Result& result : results_) {
    if (result.skipped.empty()) all.add(result);
  }
  return all;
}

std::string Report::table() const {
  constexpr auto kRow =
      "| {:<18} | {:>4} | {:>8} | {:>8} | {:>4} | {:>9} | {:>11} | {:>5} | {:>6} | {:>8} |\n";
  std::string text = fmt::format(kRow, "fault", "runs", "injected", "entries", "lost", "explained",
                                 "unexplained", "order", "others", "recovery");
  text += fmt::format(kRow, "---", "---", "---", "---", "---", "---", "---", "---", "---", "---");
  const auto row = [&](const std::string& name, const Line& line) {
    text +=
        fmt::format(kRow, name, line.runs, line.injected, line.entries, line.lost, line.explained,
                    line.unexplained, line.order, line.others, seconds(line.recovery_us));
  };
  const auto all = lines();
  for (const FaultKind& kind : fault_kinds()) {
    if (const auto found = all.find(kind.name); found != all.end()) row(kind.name, found->second);
  }
  if (const auto pairs = all.find("pairs"); pairs != all.end()) row("pairs", pairs->second);
  for (const Shape& shape : shapes()) {
    const std::string name = "as " + shape.name;
    if (const auto found = all.find(name); found != all.end()) row(name, found->second);
  }
  row("all", total());
  for (const Result& result : results_) {
    if (!result.skipped.empty())
      text += fmt::format("skipped{}: {}: {}\n", skips_fail_ ? ", which must not be here" : "",
                          result.of.name(), result.skipped);
    for (const std::string& missed : result.missed)
      text += fmt::format("not reached: {}: {}\n", result.of.name(), missed);
  }
  for (const std::string& problem : problems_) text += problem + "\n";
  return text;
}

void Report::write_json(const std::filesystem::path& file, std::uint64_t seed) const {
  json::array runs;
  for (const Result& result : results_) {
    json::object anomalies;
    for (std::size_t i = 0; i < test::history::kAnomalies; ++i)
      anomalies[to_string(static_cast<Anomaly>(i))] = result.verdict.found[i];
    std::int64_t recovery_us = 0;
    for (const auto& [kind, fault] : result.verdict.faults)
      recovery_us = std::max(recovery_us, fault.longest_recovery);
    runs.push_back({{"run", result.of.name()},
                    {"ok", result.ok()},
                    {"problem", result.problem},
                    {"skipped", result.skipped},
                    {"missed", json::value_from(result.missed)},
                    {"injected", json::value_from(result.injected)},
                    {"entries", result.verdict.committed},
                    {"arrivals", result.verdict.arrivals},
                    {"dup_explained", result.verdict.dup_explained},
                    {"anomalies", anomalies},
                    {"recovery_us", recovery_us},
                    {"seconds", result.seconds}});
  }
  const Line all = total();
  std::ofstream out(file);
  out << json::serialize(json::object{{"seed", seed},
                                      {"ok", ok()},
                                      {"runs", all.runs},
                                      {"injected", all.injected},
                                      {"entries", all.entries},
                                      {"lost", all.lost},
                                      {"dup_explained", all.explained},
                                      {"dup_unexplained", all.unexplained},
                                      {"order_violations", all.order},
                                      {"others", all.others},
                                      {"longest_recovery_us", all.recovery_us},
                                      {"problems", json::value_from(problems_)},
                                      {"each", runs}})
      << "\n";
  if (!out.flush()) throw std::runtime_error("cannot write " + file.string());
}

}  // namespace outfall::torture
