#include "telemetry/sample_families.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "core/status.h"
#include "telemetry/metrics.h"
#include "telemetry/process_metrics.h"

namespace outfall {
namespace {

using Families = std::vector<prometheus::MetricFamily>;
using Label = prometheus::ClientMetric::Label;

double seconds(std::chrono::microseconds time) {
  return std::chrono::duration<double>(time).count();
}

void add(prometheus::MetricFamily& family, std::vector<Label> labels, double value) {
  prometheus::ClientMetric& sample = family.metric.emplace_back();
  sample.label = std::move(labels);
  sample.gauge.value = value;
}

void add_single(Families& out, Metric id, double value) {
  add(out.emplace_back(family_of(id)), {}, value);
}

// One family with one sample for each stream.
void add_by_stream(Families& out, Metric id, const DatabaseSample& sample, auto value_of) {
  prometheus::MetricFamily& family = out.emplace_back(family_of(id));
  for (const auto& stream : sample.streams) {
    add(family, {{"stream", stream.name}}, value_of(stream));
  }
}

void add_entries(Families& out, const DatabaseSample& sample) {
  prometheus::MetricFamily& family = out.emplace_back(family_of(Metric::entries));
  for (const auto& stream : sample.streams) {
    const std::pair<EntryStatus, std::int64_t> counts[] = {
        {EntryStatus::pending, stream.pending},
        {EntryStatus::deferred, stream.deferred},
        {EntryStatus::retryable_failure, stream.retryable_failure},
        {EntryStatus::held, stream.held},
    };
    for (const auto& [status, count] : counts) {
      add(family, {{"stream", stream.name}, {"status", std::string(to_string(status))}},
          static_cast<double>(count));
    }
  }
}

void add_pauses(Families& out, const DatabaseSample& sample) {
  prometheus::MetricFamily& family = out.emplace_back(family_of(Metric::pauses));
  for (const auto& stream : sample.streams) {
    add(family, {{"stream", stream.name}, {"of", "stream"}}, stream.paused ? 1 : 0);
    add(family, {{"stream", stream.name}, {"of", "destination"}},
        static_cast<double>(stream.paused_destinations));
  }
}

// Producers choose these names, so only the largest few become labels.
void add_unbound(Families& out, const DatabaseSample& sample) {
  std::vector<std::pair<std::string_view, std::int64_t>> streams(sample.unbound_entries.begin(),
                                                                 sample.unbound_entries.end());
  std::stable_sort(streams.begin(), streams.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  prometheus::MetricFamily& family = out.emplace_back(family_of(Metric::unbound_entries));
  double rest = 0;
  std::size_t named = 0;
  for (const auto& [name, entries] : streams) {
    if (named < kMaxUnboundStreams && name != kOtherLabel) {
      ++named;
      add(family, {{"stream", std::string(name)}}, static_cast<double>(entries));
    } else {
      rest += static_cast<double>(entries);
    }
  }
  add(family, {{"stream", std::string(kOtherLabel)}}, rest);
}

}  // namespace

Families sample_families(const DatabaseSample& sample) {
  Families out;
  add_entries(out, sample);
  add_single(out, Metric::entries_count_limit, static_cast<double>(sample.entries_count_limit));
  add_by_stream(out, Metric::oldest_due_age_seconds, sample,
                [](const auto& s) { return seconds(s.oldest_due_age); });
  add_by_stream(out, Metric::oldest_blocked_age_seconds, sample,
                [](const auto& s) { return seconds(s.oldest_blocked_age); });
  add_by_stream(out, Metric::oldest_retried_age_seconds, sample,
                [](const auto& s) { return seconds(s.oldest_retried_age); });
  add_by_stream(out, Metric::oldest_deferred_age_seconds, sample,
                [](const auto& s) { return seconds(s.oldest_deferred_age); });
  add_by_stream(out, Metric::oldest_created_age_seconds, sample,
                [](const auto& s) { return seconds(s.oldest_created_age); });
  add_by_stream(out, Metric::dead_letters, sample,
                [](const auto& s) { return static_cast<double>(s.dead_letters); });
  add_pauses(out, sample);
  add_unbound(out, sample);
  prometheus::MetricFamily& leases = out.emplace_back(family_of(Metric::leases));
  add(leases, {{"state", "active"}}, static_cast<double>(sample.leases_active));
  add(leases, {{"state", "expired"}}, static_cast<double>(sample.leases_expired));
  if (sample.oldest_xmin_age_transactions) {
    add_single(out, Metric::oldest_xmin_age_transactions,
               static_cast<double>(*sample.oldest_xmin_age_transactions));
  }
  if (sample.oldest_transaction_age) {
    add_single(out, Metric::oldest_transaction_age_seconds,
               seconds(*sample.oldest_transaction_age));
  }
  if (!sample.dead_tuples.empty()) {
    prometheus::MetricFamily& family = out.emplace_back(family_of(Metric::dead_tuples));
    for (const auto& [table, rows] : sample.dead_tuples) {
      add(family, {{"table", table}}, static_cast<double>(rows));
    }
  }
  if (sample.receipts_partitions) {
    add_single(out, Metric::receipts_partitions, static_cast<double>(*sample.receipts_partitions));
  }
  add_single(out, Metric::sample_timestamp_seconds,
             seconds(std::chrono::microseconds(sample.taken_at.time_since_epoch())));
  return out;
}

}  // namespace outfall
