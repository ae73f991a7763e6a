#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include "core/breaker.h"
#include "core/outcome.h"
#include "telemetry/local_histogram.h"

namespace outfall {

class Metrics;

// The label `result` of outfall_claims_total: what a claim brought.
enum class ClaimSeries : std::uint8_t { entries, empty, busy };

[[nodiscard]] std::string_view to_string(ClaimSeries result) noexcept;

// The series of one stream, all there from its first use. Got once from Metrics::stream() and kept;
// lives as long as its Metrics. Every member may be used from any thread. Counters and gauges are
// atomics (Increment(n) once a batch rather than once an entry); a histogram takes a mutex, so what
// happens for each entry goes through a LocalHistogram. The meanings stand in metric_table.cc.
class StreamMetrics {
 public:
  StreamMetrics(const StreamMetrics&) = delete;
  StreamMetrics& operator=(const StreamMetrics&) = delete;

  [[nodiscard]] const std::string& name() const noexcept { return name_; }

  [[nodiscard]] prometheus::Counter& attempts(OutcomeKind outcome) noexcept {
    return *attempts_[static_cast<std::size_t>(outcome)];
  }
  [[nodiscard]] prometheus::Counter& claims(ClaimSeries result) noexcept {
    return *claims_[static_cast<std::size_t>(result)];
  }
  [[nodiscard]] prometheus::Gauge& breakers(BreakerState state) noexcept {
    return *breakers_[static_cast<std::size_t>(state)];
  }
  // `reason` is the error code; what is no code, or beyond the bound on distinct ones, is "other".
  // Looks the series up under a mutex: for the rare event that it is.
  void dead_lettered(std::string_view reason, double n = 1);

  prometheus::Counter& entries_claimed;
  prometheus::Counter& entries_settled;
  prometheus::Counter& returned;
  prometheus::Counter& stale_settles;
  prometheus::Counter& lease_lost;
  prometheus::Counter& duplicates_possible;
  prometheus::Counter& claim_repicks;
  prometheus::Counter& claim_takeovers;
  prometheus::Counter& breaker_open_seconds;

  HistogramSeries claim_duration;
  HistogramSeries settle_duration;
  HistogramSeries attempt_duration;
  HistogramSeries delivery_latency;

  prometheus::Gauge& in_flight_entries;
  prometheus::Gauge& in_flight_bytes;
  prometheus::Gauge& active_leases;
  prometheus::Gauge& paused;
  prometheus::Gauge& consecutive_failures;
  prometheus::Gauge& last_success_timestamp_seconds;
  prometheus::Gauge& claim_floor_lag;

 private:
  friend class Metrics;
  StreamMetrics(Metrics& metrics, std::string name);

  Metrics& metrics_;
  const std::string name_;
  std::array<prometheus::Counter*, kOutcomeKinds> attempts_{};
  std::array<prometheus::Counter*, 3> claims_{};
  std::array<prometheus::Gauge*, 3> breakers_{};
};

}  // namespace outfall
