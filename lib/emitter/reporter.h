#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace outfall {

enum class ReportLevel : std::uint8_t { debug, info, warning, error };

// A metric of one kind of emitter. It is scraped as `outfall_<kind>_<name>` with the label
// `emitter`, and one more where `label` is set, whose values must be bounded (brokers, not
// endpoints or partitions).
struct EmitterMetricSpec {
  std::string_view name = {};  // with its unit: "queue_messages", "rtt_seconds", "requests_total"
  bool counter = false;        // else a gauge
  std::string_view label = {};
  std::string_view help = {};  // one sentence without its full stop
};

// How an emitter speaks to operators beside its outcomes: log lines and metrics of its own. The
// daemon implements it; an emitter gets it by its context and may use it from any thread until its
// destructor has returned. Never blocks for I/O other than the log's, and never throws.
class EmitterReporter {
 public:
  virtual ~EmitterReporter() = default;

  // `message` is short and constant, `detail` says the particulars: never payloads or secrets.
  // Lines of one `id` ("broker_down", "stderr") are limited in their rate; those of an empty id are
  // not.
  virtual void log(ReportLevel level, std::string_view id, std::string_view message,
                   std::string_view detail = {}) noexcept = 0;

  // `metric` is the place of a row in EmitterKind::metrics. A series appears with its first value
  // and goes with forget().
  virtual void set(std::size_t metric, double value, std::string_view label = {}) noexcept = 0;
  virtual void add(std::size_t metric, double amount, std::string_view label = {}) noexcept = 0;
  virtual void forget(std::size_t metric, std::string_view label) noexcept = 0;
};

}  // namespace outfall
