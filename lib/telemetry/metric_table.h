#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace outfall {

enum class MetricType : std::uint8_t { counter, gauge, histogram };

// Who sets a metric, and so where it can be found.
enum class MetricScope : std::uint8_t {
  stream,    // every worker, for each stream of its configuration, from zero on
  worker,    // every worker, once
  database,  // the one worker that samples the database, as of its last sample
};

// One value for each row of the table of metrics, in its order.
enum class Metric : std::uint8_t {
  attempts_total,
  claims_total,
  entries_claimed_total,
  entries_settled_total,
  returned_total,
  stale_settles_total,
  lease_lost_total,
  duplicates_possible_total,
  dead_lettered_total,
  claim_repicks_total,
  claim_takeovers_total,
  breaker_open_seconds_total,
  claim_duration_seconds,
  settle_duration_seconds,
  attempt_duration_seconds,
  delivery_latency_seconds,
  in_flight_entries,
  in_flight_bytes,
  active_leases,
  breaker_state,
  paused,
  consecutive_failures,
  last_success_timestamp_seconds,
  claim_floor_lag,
  build_info,
  heartbeat_timestamp_seconds,
  schema_version,
  database_connected,
  database_errors_total,
  database_reconnects_total,
  config_last_reload_successful,
  config_last_reload_timestamp_seconds,
  log_lines_total,
  log_lines_suppressed_total,
  process_cpu_seconds_total,
  process_resident_memory_bytes,
  process_virtual_memory_bytes,
  process_open_fds,
  process_max_fds,
  process_start_time_seconds,
  entries,
  entries_count_limit,
  oldest_due_age_seconds,
  oldest_blocked_age_seconds,
  oldest_retried_age_seconds,
  oldest_deferred_age_seconds,
  oldest_created_age_seconds,
  unbound_entries,
  dead_letters,
  pauses,
  leases,
  oldest_xmin_age_transactions,
  oldest_transaction_age_seconds,
  dead_tuples,
  receipts_partitions,
  sample_timestamp_seconds,
};
inline constexpr std::size_t kMetrics =
    static_cast<std::size_t>(Metric::sample_timestamp_seconds) + 1;

// One label of a metric, for the reference page.
struct MetricLabel {
  std::string_view name;
  std::string_view values;  // what bounds them, for the reference
};

// One row: everything that the code and the reference page know about a metric.
struct MetricSpec {
  Metric id;
  std::string_view name;  // in full, as scraped
  MetricType type;
  MetricScope scope;
  std::string_view unit;
  std::span<const MetricLabel> labels;
  std::string_view help;                 // one sentence without its full stop
  std::span<const double> buckets = {};  // upper bounds, histograms only
};

// All rows, in the order of the enumeration, and one of them. Constant data with static lifetime;
// any thread.
[[nodiscard]] std::span<const MetricSpec, kMetrics> metric_table() noexcept;
[[nodiscard]] const MetricSpec& metric_spec(Metric id) noexcept;
// As in the exposition format: "counter".
[[nodiscard]] std::string_view to_string(MetricType type) noexcept;

// docs/reference/metrics.md, made from the table; a test compares the two.
[[nodiscard]] std::string metrics_reference();

}  // namespace outfall
