#include "daemon/emitter_reporter.h"

namespace outfall {
namespace {

LogLevel log_level(ReportLevel level) {
  switch (level) {
    case ReportLevel::debug:
      return LogLevel::debug;
    case ReportLevel::info:
      return LogLevel::info;
    case ReportLevel::warning:
      return LogLevel::warning;
    case ReportLevel::error:
      return LogLevel::error;
  }
  return LogLevel::error;
}

// The series of a label's value, made by `make` at its first use.
template <typename Series, typename Make>
Series& series_of(std::map<std::string, Series*, std::less<>>& all, std::string_view label,
                  Make make) {
  const auto found = all.find(label);
  return found != all.end() ? *found->second : *(all[std::string(label)] = &make());
}

}  // namespace

DaemonReporter::DaemonReporter(std::string emitter, const EmitterKind& kind, Metrics& metrics,
                               Logger& log)
    : emitter_(std::move(emitter)), log_(log) {
  for (const EmitterMetricSpec& spec : kind.metrics) {
    const std::string name = "outfall_" + std::string(kind.kind) + "_" + std::string(spec.name);
    Family family;
    family.label = spec.label;
    if (spec.counter) {
      family.counters = &metrics.emitter_counters(name, std::string(spec.help));
    } else {
      family.gauges = &metrics.emitter_gauges(name, std::string(spec.help));
    }
    families_.push_back(std::move(family));
    if (!spec.label.empty()) continue;
    // Series without a label of their own are there from the start, so that an alert has a zero.
    if (spec.counter) add(families_.size() - 1, 0, {});
    if (!spec.counter) set(families_.size() - 1, 0, {});
  }
}

prometheus::Labels DaemonReporter::labels(const Family& family, std::string_view label) const {
  prometheus::Labels labels{{"emitter", emitter_}};
  if (!family.label.empty()) labels.emplace(std::string(family.label), std::string(label));
  return labels;
}

void DaemonReporter::set(std::size_t metric, double value, std::string_view label) noexcept try {
  const MutexLock lock(mutex_);
  Family& family = families_.at(metric);
  series_of(family.gauge_series, label, [&]() -> prometheus::Gauge& {
    return family.gauges->Add(labels(family, label));
  }).Set(value);
} catch (...) {  // Out of memory: a missing number must not stop deliveries.
}

void DaemonReporter::add(std::size_t metric, double amount, std::string_view label) noexcept try {
  const MutexLock lock(mutex_);
  Family& family = families_.at(metric);
  series_of(family.counter_series, label, [&]() -> prometheus::Counter& {
    return family.counters->Add(labels(family, label));
  }).Increment(amount);
} catch (...) {  // As above.
}

void DaemonReporter::forget(std::size_t metric, std::string_view label) noexcept try {
  const MutexLock lock(mutex_);
  Family& family = families_.at(metric);
  if (const auto it = family.gauge_series.find(label); it != family.gauge_series.end()) {
    family.gauges->Remove(it->second);
    family.gauge_series.erase(it);
  }
  if (const auto it = family.counter_series.find(label); it != family.counter_series.end()) {
    family.counters->Remove(it->second);
    family.counter_series.erase(it);
  }
} catch (...) {  // As above.
}

void DaemonReporter::log(ReportLevel level, std::string_view id, std::string_view message,
                         std::string_view detail) noexcept try {
  const LogLevel at = log_level(level);
  if (id.empty()) {
    log_.log(at, message, {{"emitter", emitter_}, {"detail", detail}});
  } else {
    log_.limited(at, "emitter/" + emitter_ + "/" + std::string(id), message,
                 {{"emitter", emitter_}, {"detail", detail}});
  }
} catch (...) {  // As above.
}

}  // namespace outfall
