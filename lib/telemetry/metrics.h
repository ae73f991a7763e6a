#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <prometheus/family.h>
#include <prometheus/registry.h>

#include "core/clock.h"
#include "core/mutex.h"
#include "telemetry/database_sample.h"
#include "telemetry/metric_table.h"
#include "telemetry/process_metrics.h"
#include "telemetry/stream_metrics.h"

namespace outfall {

class Logger;

inline constexpr std::string_view kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

// Bounds on labels whose values come from outside; the rest goes under kOtherLabel.
inline constexpr std::size_t kMaxDeadLetterReasons = 50;
inline constexpr std::size_t kMaxUnboundStreams = 20;
inline constexpr std::string_view kOtherLabel = "other";

// Reasons that every stream can meet: there from the start, so that an alert has a zero to rise
// from.
inline constexpr std::array<std::string_view, 2> kCommonDeadLetterReasons = {
    "outbox.max_retry_attempts_exceeded", "worker.abandoned"};

// The label `kind` of outfall_database_errors_total.
enum class DatabaseErrorKind : std::uint8_t {
  connect,          // no connection could be made
  connection_lost,  // it broke while in use
  read_only,        // the server is a standby or was switched to read only
  timeout,          // statement_timeout or lock_timeout
  conflict,         // deadlock or serialization failure
  permission,       // the role may not do this
  schema,           // a table or function is missing or another than expected
  other,
};
inline constexpr std::size_t kDatabaseErrorKinds = 8;
[[nodiscard]] std::string_view to_string(DatabaseErrorKind kind) noexcept;

// The labels of outfall_build_info.
struct BuildLabels {
  std::string version;
  std::string revision;
  std::string compiler;
};

// All metrics of the process, made from the one table (metric_table.h) at construction with the
// value 0. Every member may be called from any thread; nothing blocks beyond a short mutex.
// References got from it live as long as it does. Owned by main().
class Metrics {
 public:
  Metrics(const BuildLabels& build, const Clock& clock);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The series of a stream, created at the first call. Names come from the configuration, never
  // from entries, and are there for as long as the process runs.
  [[nodiscard]] StreamMetrics& stream(std::string_view name);

  // The series of one kind, there from the start.
  [[nodiscard]] prometheus::Counter& database_errors(DatabaseErrorKind kind) noexcept {
    return *database_errors_[static_cast<std::size_t>(kind)];
  }
  // A gauge or counter of the table that has no labels, e.g. gauge(Metric::schema_version). Aborts
  // for any other: a defect of the code.
  [[nodiscard]] prometheus::Gauge& gauge(Metric id) const;
  [[nodiscard]] prometheus::Counter& counter(Metric id) const;

  // Families that an emitter's kind names, made at the first call. Throws std::invalid_argument
  // where the name is another type's already: a defect of the kind.
  [[nodiscard]] prometheus::Family<prometheus::Counter>& emitter_counters(const std::string& name,
                                                                          const std::string& help);
  [[nodiscard]] prometheus::Family<prometheus::Gauge>& emitter_gauges(const std::string& name,
                                                                      const std::string& help);

  // The sampler's last result replaces the one before; withdraw() when another worker samples now,
  // so that no stale number stays behind.
  void publish(DatabaseSample sample);
  void withdraw();

  // Counts of `log` appear in the metrics from now on; it outlives this object.
  void watch(const Logger& log);

  // The body of /metrics, of type kMetricsContentType.
  [[nodiscard]] std::string serialize() const;
  // The same before it is text.
  [[nodiscard]] std::vector<prometheus::MetricFamily> collect() const;

 private:
  friend class StreamMetrics;
  [[nodiscard]] prometheus::Counter& add_counter(Metric id, const prometheus::Labels& labels);
  [[nodiscard]] prometheus::Gauge& add_gauge(Metric id, const prometheus::Labels& labels);
  [[nodiscard]] HistogramSeries add_histogram(Metric id, const prometheus::Labels& labels);
  [[nodiscard]] std::string bounded_reason(std::string_view code);
  void build_families();

  prometheus::Registry registry_;
  std::array<prometheus::Family<prometheus::Counter>*, kMetrics> counters_{};
  std::array<prometheus::Family<prometheus::Gauge>*, kMetrics> gauges_{};
  std::array<prometheus::Family<prometheus::Histogram>*, kMetrics> histograms_{};
  std::array<prometheus::Counter*, kMetrics> plain_counters_{};
  std::array<prometheus::Gauge*, kMetrics> plain_gauges_{};
  std::array<prometheus::Counter*, kDatabaseErrorKinds> database_errors_{};
  ProcessMetrics process_;

  mutable Mutex mutex_;
  std::map<std::string, std::unique_ptr<StreamMetrics>, std::less<>> streams_
      OUTFALL_GUARDED_BY(mutex_);
  std::set<std::string, std::less<>> reasons_ OUTFALL_GUARDED_BY(mutex_);
  std::shared_ptr<const DatabaseSample> sample_ OUTFALL_GUARDED_BY(mutex_);
  const Logger* log_ OUTFALL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace outfall
