#include "tests/bench/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <stdexcept>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace outfall::bench {

namespace {

// Four significant digits are more than two runs have in common.
std::string figure(std::optional<double> value) {
  if (!value) return "-";
  const double magnitude = std::abs(*value);
  if (magnitude >= 1000) return fmt::format("{:.0f}", *value);
  if (magnitude >= 100) return fmt::format("{:.1f}", *value);
  return magnitude >= 1 ? fmt::format("{:.2f}", *value) : fmt::format("{:.4f}", *value);
}

std::string mebibytes(std::optional<std::int64_t> bytes) {
  return bytes ? fmt::format("{:.1f}", static_cast<double>(*bytes) / (1 << 20)) : "-";
}

boost::json::value json_number(std::optional<double> value) {
  if (!value || !std::isfinite(*value)) return nullptr;
  return *value;
}

template <typename Key>
Measurement median(std::vector<Measurement> rounds, Key key) {
  if (rounds.empty()) throw std::logic_error("no rounds");
  std::sort(rounds.begin(), rounds.end(),
            [&](const Measurement& a, const Measurement& b) { return key(a) < key(b); });
  Measurement middle = rounds[rounds.size() / 2];
  for (const Measurement& round : rounds)
    middle.rss_bytes = std::max(middle.rss_bytes, round.rss_bytes);
  return middle;
}

}  // namespace

std::optional<double> Measurement::ratio() const {
  if (!floor || *floor == 0) return std::nullopt;
  return value / *floor;
}

std::optional<double> Measurement::cpu_us_per_entry() const {
  if (!worker_cpu_us && !server_cpu_us) return std::nullopt;
  return worker_cpu_us.value_or(0) + server_cpu_us.value_or(0);
}

void Report::progress(std::string_view text) {
  fmt::print(stderr, "  {}\n", text);
}

void Report::add(Measurement measurement) {
  progress(fmt::format("{} {}: {} {}", measurement.benchmark, measurement.name,
                       figure(measurement.value), measurement.unit));
  measurements_.push_back(std::move(measurement));
}

void Report::print_table() const {
  constexpr auto kRow = "{:<13} {:<52} {:>9} {:<14} {:>9} {:>7} {:>9} {:>9} {:>8}  {}\n";
  fmt::print(kRow, "benchmark", "case", "value", "unit", "floor", "ratio", "worker us", "server us",
             "RSS MiB", "");
  for (const Measurement& m : measurements_) {
    fmt::print(kRow, m.benchmark, m.name, figure(m.value), m.unit, figure(m.floor),
               m.ratio() ? fmt::format("{:.3f}", *m.ratio()) : "-", figure(m.worker_cpu_us),
               figure(m.server_cpu_us), mebibytes(m.rss_bytes), m.note);
  }
  std::fflush(stdout);
}

void Report::write_json(const std::filesystem::path& file) const {
  std::ofstream out(file);
  const char* separator = "[\n";
  for (const Measurement& m : measurements_) {
    const boost::json::object object = {
        {"benchmark", m.benchmark},
        {"case", m.name},
        {"value", json_number(m.value)},
        {"unit", m.unit},
        {"floor", json_number(m.floor)},
        {"ratio", json_number(m.ratio())},
        {"cpu_us_per_entry", json_number(m.cpu_us_per_entry())},
        {"worker_cpu_us_per_entry", json_number(m.worker_cpu_us)},
        {"server_cpu_us_per_entry", json_number(m.server_cpu_us)},
        {"rss_bytes", m.rss_bytes ? boost::json::value(*m.rss_bytes) : boost::json::value()},
        {"note", m.note}};
    out << separator << boost::json::serialize(object);
    separator = ",\n";
  }
  out << (measurements_.empty() ? "[]\n" : "\n]\n");
  out.close();
  if (!out) throw std::runtime_error("cannot write " + file.string());
}

Measurement median_by_ratio(std::vector<Measurement> rounds) {
  return median(std::move(rounds),
                [](const Measurement& m) { return m.ratio().value_or(m.value); });
}

Measurement median_by_value(std::vector<Measurement> rounds) {
  return median(std::move(rounds), [](const Measurement& m) { return m.value; });
}

void Rounds::add(Measurement one) {
  auto& rounds = rounds_[one.name];
  if (rounds.empty()) order_.push_back(one.name);
  rounds.push_back(std::move(one));
}

void Rounds::report(Report& report,
                    const std::function<Measurement(std::vector<Measurement>)>& median) const {
  for (const std::string& name : order_) report.add(median(rounds_.at(name)));
}

double percentile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) throw std::logic_error("no values");
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::clamp<std::size_t>(rank, 1, sorted.size()) - 1];
}

}  // namespace outfall::bench
