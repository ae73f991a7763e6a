#include "telemetry/metrics.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/text_serializer.h>

#include "telemetry/log.h"
#include "telemetry/sample_families.h"

namespace outfall {
namespace {

constexpr std::array<std::string_view, kDatabaseErrorKinds> kErrorKindNames = {
    "connect",  "connection_lost", "read_only", "timeout",
    "conflict", "permission",      "schema",    "other"};

// Metrics that are rendered when they are asked for instead of being kept in the registry.
bool is_rendered(const MetricSpec& spec) {
  return spec.scope == MetricScope::database || spec.name.starts_with("process_") ||
         spec.id == Metric::log_lines_total || spec.id == Metric::log_lines_suppressed_total;
}

// Stable dotted codes only: whatever else an emitter's program may answer would become a label.
bool is_error_code(std::string_view code) {
  return !code.empty() && code.size() <= 64 && std::all_of(code.begin(), code.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

std::vector<prometheus::MetricFamily> log_families(const Logger& log) {
  prometheus::MetricFamily lines = family_of(Metric::log_lines_total);
  for (const LogLevel level :
       {LogLevel::trace, LogLevel::debug, LogLevel::info, LogLevel::warning, LogLevel::error}) {
    prometheus::ClientMetric& sample = lines.metric.emplace_back();
    sample.label.push_back({"level", std::string(to_string(level))});
    sample.counter.value = static_cast<double>(log.lines(level));
  }
  prometheus::MetricFamily suppressed = family_of(Metric::log_lines_suppressed_total);
  suppressed.metric.emplace_back().counter.value = static_cast<double>(log.suppressed());
  return {std::move(lines), std::move(suppressed)};
}

void append(std::vector<prometheus::MetricFamily>& out,
            std::vector<prometheus::MetricFamily> families) {
  std::move(families.begin(), families.end(), std::back_inserter(out));
}

}  // namespace

std::string_view to_string(DatabaseErrorKind kind) noexcept {
  return kErrorKindNames[static_cast<std::size_t>(kind)];
}

Metrics::Metrics(const BuildLabels& build, const Clock& clock)
    : process_(clock), reasons_(kCommonDeadLetterReasons.begin(), kCommonDeadLetterReasons.end()) {
  build_families();
  add_gauge(
      Metric::build_info,
      {{"version", build.version}, {"revision", build.revision}, {"compiler", build.compiler}})
      .Set(1);
  for (std::size_t i = 0; i < kDatabaseErrorKinds; ++i) {
    database_errors_[i] =
        &add_counter(Metric::database_errors_total, {{"kind", std::string(kErrorKindNames[i])}});
  }
}

Metrics::~Metrics() = default;

void Metrics::build_families() {
  for (const MetricSpec& spec : metric_table()) {
    if (is_rendered(spec)) continue;
    const auto i = static_cast<std::size_t>(spec.id);
    const std::string name(spec.name);
    const std::string help(spec.help);
    switch (spec.type) {
      case MetricType::counter:
        counters_[i] = &prometheus::BuildCounter().Name(name).Help(help).Register(registry_);
        if (spec.labels.empty()) plain_counters_[i] = &counters_[i]->Add({});
        break;
      case MetricType::gauge:
        gauges_[i] = &prometheus::BuildGauge().Name(name).Help(help).Register(registry_);
        if (spec.labels.empty()) plain_gauges_[i] = &gauges_[i]->Add({});
        break;
      case MetricType::histogram:
        histograms_[i] = &prometheus::BuildHistogram().Name(name).Help(help).Register(registry_);
        break;
    }
  }
}

prometheus::Counter& Metrics::add_counter(Metric id, const prometheus::Labels& labels) {
  return counters_[static_cast<std::size_t>(id)]->Add(labels);
}

prometheus::Gauge& Metrics::add_gauge(Metric id, const prometheus::Labels& labels) {
  return gauges_[static_cast<std::size_t>(id)]->Add(labels);
}

HistogramSeries Metrics::add_histogram(Metric id, const prometheus::Labels& labels) {
  const std::span<const double> bounds = metric_spec(id).buckets;
  auto& series = histograms_[static_cast<std::size_t>(id)]->Add(
      labels, prometheus::Histogram::BucketBoundaries(bounds.begin(), bounds.end()));
  return {series, bounds};
}

prometheus::Gauge& Metrics::gauge(Metric id) const {
  prometheus::Gauge* const gauge = plain_gauges_[static_cast<std::size_t>(id)];
  if (gauge == nullptr) std::abort();
  return *gauge;
}

prometheus::Counter& Metrics::counter(Metric id) const {
  prometheus::Counter* const counter = plain_counters_[static_cast<std::size_t>(id)];
  if (counter == nullptr) std::abort();
  return *counter;
}

prometheus::Family<prometheus::Counter>& Metrics::emitter_counters(const std::string& name,
                                                                   const std::string& help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry_);
}

prometheus::Family<prometheus::Gauge>& Metrics::emitter_gauges(const std::string& name,
                                                               const std::string& help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry_);
}

StreamMetrics& Metrics::stream(std::string_view name) {
  const MutexLock lock(mutex_);
  if (const auto found = streams_.find(name); found != streams_.end()) return *found->second;
  std::unique_ptr<StreamMetrics> made(new StreamMetrics(*this, std::string(name)));
  return *streams_.emplace(std::string(name), std::move(made)).first->second;
}

std::string Metrics::bounded_reason(std::string_view code) {
  if (!is_error_code(code)) return std::string(kOtherLabel);
  const MutexLock lock(mutex_);
  if (!reasons_.contains(code)) {
    if (reasons_.size() >= kMaxDeadLetterReasons) return std::string(kOtherLabel);
    reasons_.emplace(code);
  }
  return std::string(code);
}

void Metrics::publish(DatabaseSample sample) {
  auto next = std::make_shared<const DatabaseSample>(std::move(sample));
  const MutexLock lock(mutex_);
  sample_ = std::move(next);
}

void Metrics::withdraw() {
  const MutexLock lock(mutex_);
  sample_.reset();
}

void Metrics::watch(const Logger& log) {
  const MutexLock lock(mutex_);
  log_ = &log;
}

std::vector<prometheus::MetricFamily> Metrics::collect() const {
  std::shared_ptr<const DatabaseSample> sample;
  const Logger* log = nullptr;
  {
    const MutexLock lock(mutex_);
    sample = sample_;
    log = log_;
  }
  auto out = registry_.Collect();
  append(out, process_.Collect());
  if (log != nullptr) append(out, log_families(*log));
  if (sample) append(out, sample_families(*sample));
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return out;
}

std::string Metrics::serialize() const {
  return prometheus::TextSerializer().Serialize(collect());
}

}  // namespace outfall
