#include "telemetry/stream_metrics.h"

#include <utility>

#include "telemetry/metrics.h"

namespace outfall {
namespace {

constexpr std::array<std::string_view, 3> kClaimSeries = {"entries", "empty", "busy"};
// In the order of BreakerState.
constexpr std::array<std::string_view, 3> kBreakerStates = {"closed", "open", "half_open"};

}  // namespace

std::string_view to_string(ClaimSeries result) noexcept {
  return kClaimSeries[static_cast<std::size_t>(result)];
}

StreamMetrics::StreamMetrics(Metrics& m, std::string name)
    : entries_claimed(m.add_counter(Metric::entries_claimed_total, {{"stream", name}})),
      entries_settled(m.add_counter(Metric::entries_settled_total, {{"stream", name}})),
      returned(m.add_counter(Metric::returned_total, {{"stream", name}})),
      stale_settles(m.add_counter(Metric::stale_settles_total, {{"stream", name}})),
      lease_lost(m.add_counter(Metric::lease_lost_total, {{"stream", name}})),
      duplicates_possible(m.add_counter(Metric::duplicates_possible_total, {{"stream", name}})),
      claim_repicks(m.add_counter(Metric::claim_repicks_total, {{"stream", name}})),
      claim_takeovers(m.add_counter(Metric::claim_takeovers_total, {{"stream", name}})),
      breaker_open_seconds(m.add_counter(Metric::breaker_open_seconds_total, {{"stream", name}})),
      claim_duration(m.add_histogram(Metric::claim_duration_seconds, {{"stream", name}})),
      settle_duration(m.add_histogram(Metric::settle_duration_seconds, {{"stream", name}})),
      attempt_duration(m.add_histogram(Metric::attempt_duration_seconds, {{"stream", name}})),
      delivery_latency(m.add_histogram(Metric::delivery_latency_seconds, {{"stream", name}})),
      in_flight_entries(m.add_gauge(Metric::in_flight_entries, {{"stream", name}})),
      in_flight_bytes(m.add_gauge(Metric::in_flight_bytes, {{"stream", name}})),
      active_leases(m.add_gauge(Metric::active_leases, {{"stream", name}})),
      paused(m.add_gauge(Metric::paused, {{"stream", name}})),
      consecutive_failures(m.add_gauge(Metric::consecutive_failures, {{"stream", name}})),
      last_success_timestamp_seconds(
          m.add_gauge(Metric::last_success_timestamp_seconds, {{"stream", name}})),
      claim_floor_lag(m.add_gauge(Metric::claim_floor_lag, {{"stream", name}})),
      metrics_(m),
      name_(std::move(name)) {
  for (std::size_t i = 0; i < attempts_.size(); ++i) {
    attempts_[i] = &m.add_counter(
        Metric::attempts_total,
        {{"stream", name_}, {"outcome", std::string(to_string(static_cast<OutcomeKind>(i)))}});
  }
  for (std::size_t i = 0; i < claims_.size(); ++i) {
    claims_[i] = &m.add_counter(Metric::claims_total,
                                {{"stream", name_}, {"result", std::string(kClaimSeries[i])}});
    breakers_[i] = &m.add_gauge(Metric::breaker_state,
                                {{"stream", name_}, {"state", std::string(kBreakerStates[i])}});
  }
  breakers(BreakerState::closed).Set(1);
  const auto start_at_zero = [&](std::string_view reason) {
    static_cast<void>(m.add_counter(Metric::dead_lettered_total,
                                    {{"stream", name_}, {"reason", std::string(reason)}}));
  };
  for (const std::string_view reason : kCommonDeadLetterReasons) start_at_zero(reason);
  start_at_zero(kOtherLabel);
}

void StreamMetrics::dead_lettered(std::string_view reason, double n) {
  metrics_
      .add_counter(Metric::dead_lettered_total,
                   {{"stream", name_}, {"reason", metrics_.bounded_reason(reason)}})
      .Increment(n);
}

}  // namespace outfall
