// The table of metrics, the registry that is made from it and the reference page must say the same;
// and no input may make the number of series grow without bound.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/histogram.h>

#include "telemetry/heartbeat.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace outfall {
namespace {

using testing::HasSubstr;
using testing::Not;

// "name{label=\"value\",…}" -> value, labels sorted by name.
using Series = std::map<std::string, double>;

Series series_of(const Metrics& metrics) {
  Series out;
  for (const auto& family : metrics.collect()) {
    for (const auto& metric : family.metric) {
      auto labels = metric.label;
      std::sort(labels.begin(), labels.end());
      std::string key = family.name;
      for (const auto& label : labels) key += "," + label.name + "=" + label.value;
      double value = metric.gauge.value;
      if (family.type == prometheus::MetricType::Counter) value = metric.counter.value;
      if (family.type == prometheus::MetricType::Histogram) {
        value = static_cast<double>(metric.histogram.sample_count);
      }
      EXPECT_TRUE(out.emplace(key, value).second) << "twice: " << key;
    }
  }
  return out;
}

bool is_snake_case(std::string_view name) {
  const auto is_letter = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return !name.empty() && is_letter(name.front()) && !name.ends_with('_') &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

DatabaseSample full_sample() {
  DatabaseSample sample;
  sample.taken_at = WallTime(std::chrono::seconds(1'795'248'518));
  sample.entries_count_limit = 10'000;
  DatabaseSample::Stream& orders = sample.streams.emplace_back();
  orders.name = "orders";
  orders.pending = 10'000;
  orders.held = 7;
  orders.dead_letters = 3;
  orders.paused = true;
  orders.paused_destinations = 2;
  orders.oldest_due_age = std::chrono::milliseconds(1500);
  orders.oldest_retried_age = std::chrono::seconds(700);
  orders.oldest_deferred_age = std::chrono::seconds(800);
  sample.unbound_entries = {{"typo", 12}};
  sample.leases_active = 4;
  sample.oldest_xmin_age_transactions = 99;
  sample.oldest_transaction_age = std::chrono::seconds(60);
  sample.dead_tuples = {{"entries", 5}};
  sample.receipts_partitions = 9;
  return sample;
}

class TelemetryMetrics : public testing::Test {
 protected:
  Metrics metrics_{{"1.2.3", "abcdef", "g++ 12"}, system_clock()};
};

TEST_F(TelemetryMetrics, NamesFollowThePrometheusRules) {
  const std::set<std::string_view> bare_units = {"seconds", "bytes"};
  std::set<std::string_view> names;
  for (const MetricSpec& spec : metric_table()) {
    SCOPED_TRACE(spec.name);
    const std::string name(spec.name);
    EXPECT_TRUE(names.insert(spec.name).second);
    EXPECT_TRUE(is_snake_case(name));
    EXPECT_TRUE(name.starts_with("outfall_") || name.starts_with("process_"));
    EXPECT_EQ(spec.type == MetricType::counter, name.ends_with("_total"));
    EXPECT_THAT(name, Not(HasSubstr("milli")));
    for (const char* reserved : {"_count", "_sum", "_bucket", "_info_total"}) {
      EXPECT_FALSE(name.ends_with(reserved));
    }
    for (const std::string_view unit : bare_units) {
      const std::string suffix = "_" + std::string(unit);
      EXPECT_EQ(spec.unit == unit, name.ends_with(suffix) || name.ends_with(suffix + "_total"))
          << "unit " << spec.unit;
    }
    EXPECT_FALSE(spec.help.empty());
    EXPECT_FALSE(spec.help.ends_with('.'));
    EXPECT_EQ(spec.type == MetricType::histogram, !spec.buckets.empty());
    EXPECT_TRUE(std::is_sorted(spec.buckets.begin(), spec.buckets.end()));
    for (const MetricLabel& label : spec.labels) {
      EXPECT_TRUE(is_snake_case(label.name));
      EXPECT_NE(label.name, "le");
      EXPECT_EQ(name.find(std::string(label.name) + "_"), std::string::npos)
          << "a label's name has no place in the metric's";
      EXPECT_FALSE(label.values.empty());
    }
  }
}

TEST_F(TelemetryMetrics, WhatIsExportedIsTheTable) {
  metrics_.watch(Logger::null());
  static_cast<void>(metrics_.stream("orders"));
  metrics_.publish(full_sample());
  std::map<std::string, const MetricSpec*> expected;
  for (const MetricSpec& spec : metric_table()) expected[std::string(spec.name)] = &spec;
  for (const auto& family : metrics_.collect()) {
    SCOPED_TRACE(family.name);
    const auto found = expected.find(family.name);
    ASSERT_NE(found, expected.end());
    const MetricSpec& spec = *found->second;
    EXPECT_EQ(family.help, spec.help);
    EXPECT_FALSE(family.metric.empty());
    std::set<std::string_view> spec_labels;
    for (const MetricLabel& label : spec.labels) spec_labels.insert(label.name);
    for (const auto& metric : family.metric) {
      std::set<std::string_view> labels;
      for (const auto& label : metric.label) labels.insert(label.name);
      EXPECT_EQ(labels, spec_labels);
    }
    expected.erase(found);
  }
  for (const auto& [name, spec] : expected) ADD_FAILURE() << name << " is not exported";
}

TEST_F(TelemetryMetrics, ReferencePageIsMadeFromTheTable) {
  const std::string path = OUTFALL_METRICS_REFERENCE;
  if (std::getenv("OUTFALL_UPDATE_DOCS") != nullptr) std::ofstream(path) << metrics_reference();
  std::ifstream file(path);
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(page, metrics_reference())
      << "run this test with OUTFALL_UPDATE_DOCS=1 and commit " << path;
}

TEST_F(TelemetryMetrics, SeriesOfAStreamStartAtZero) {
  static_cast<void>(metrics_.stream("orders"));
  const Series series = series_of(metrics_);
  for (const char* key : {
           "outfall_attempts_total,outcome=delivered,stream=orders",
           "outfall_attempts_total,outcome=shutdown,stream=orders",
           "outfall_claims_total,result=busy,stream=orders",
           "outfall_dead_lettered_total,reason=worker.abandoned,stream=orders",
           "outfall_dead_lettered_total,reason=other,stream=orders",
           "outfall_delivery_latency_seconds,stream=orders",
           "outfall_breaker_state,state=open,stream=orders",
           "outfall_database_errors_total,kind=read_only",
       }) {
    ASSERT_TRUE(series.contains(key)) << key;
    EXPECT_EQ(series.at(key), 0) << key;
  }
  EXPECT_EQ(series.at("outfall_breaker_state,state=closed,stream=orders"), 1);
  EXPECT_EQ(series.at("outfall_build_info,compiler=g++ 12,revision=abcdef,version=1.2.3"), 1);
}

TEST_F(TelemetryMetrics, HandlesOfAStreamAreTheSameAtEachCall) {
  StreamMetrics& orders = metrics_.stream("orders");
  EXPECT_EQ(&metrics_.stream("orders"), &orders);
  EXPECT_NE(&metrics_.stream("bills"), &orders);
  EXPECT_EQ(orders.name(), "orders");
  orders.attempts(OutcomeKind::retryable_failure).Increment(5);
  orders.claims(ClaimSeries::busy).Increment();
  orders.in_flight_bytes.Set(42);
  metrics_.stream("bills").entries_settled.Increment(2);
  metrics_.gauge(Metric::schema_version).Set(7);
  metrics_.counter(Metric::database_reconnects_total).Increment();
  metrics_.database_errors(DatabaseErrorKind::timeout).Increment();
  const Series series = series_of(metrics_);
  EXPECT_EQ(series.at("outfall_attempts_total,outcome=retryable_failure,stream=orders"), 5);
  EXPECT_EQ(series.at("outfall_claims_total,result=busy,stream=orders"), 1);
  EXPECT_EQ(series.at("outfall_in_flight_bytes,stream=orders"), 42);
  EXPECT_EQ(series.at("outfall_in_flight_bytes,stream=bills"), 0);
  EXPECT_EQ(series.at("outfall_entries_settled_total,stream=bills"), 2);
  EXPECT_EQ(series.at("outfall_schema_version"), 7);
  EXPECT_EQ(series.at("outfall_database_reconnects_total"), 1);
  EXPECT_EQ(series.at("outfall_database_errors_total,kind=timeout"), 1);
}

TEST_F(TelemetryMetrics, DeadLetterReasonsAreBounded) {
  StreamMetrics& orders = metrics_.stream("orders");
  for (int i = 0; i < 200; ++i) orders.dead_lettered("exec.code_" + std::to_string(i));
  orders.dead_lettered("exec.code_0", 4);
  metrics_.stream("bills").dead_lettered("exec.code_199");
  metrics_.stream("bills").dead_lettered("worker.abandoned");
  orders.dead_lettered("no code: a sentence with \"quotes\"\n");
  orders.dead_lettered(std::string(1000, 'x'));
  orders.dead_lettered("");
  const Series series = series_of(metrics_);
  const std::string prefix = "outfall_dead_lettered_total,reason=";
  std::set<std::string> reasons;
  double total = 0;
  for (const auto& [key, value] : series) {
    if (!key.starts_with(prefix)) continue;
    reasons.insert(key.substr(prefix.size(), key.find(",stream") - prefix.size()));
    total += value;
  }
  EXPECT_EQ(reasons.size(), kMaxDeadLetterReasons + 1);
  EXPECT_EQ(total, 209);
  EXPECT_EQ(series.at(prefix + "exec.code_0,stream=orders"), 5);
  EXPECT_EQ(series.at(prefix + "other,stream=bills"), 1);
  EXPECT_EQ(series.at(prefix + "worker.abandoned,stream=bills"), 1);
}

TEST_F(TelemetryMetrics, SampleIsReplacedAndWithdrawnAsAWhole) {
  metrics_.publish(full_sample());
  Series series = series_of(metrics_);
  EXPECT_EQ(series.at("outfall_entries,status=pending,stream=orders"), 10'000);
  EXPECT_EQ(series.at("outfall_entries,status=held,stream=orders"), 7);
  EXPECT_EQ(series.at("outfall_entries,status=deferred,stream=orders"), 0);
  EXPECT_EQ(series.at("outfall_oldest_due_age_seconds,stream=orders"), 1.5);
  EXPECT_EQ(series.at("outfall_oldest_retried_age_seconds,stream=orders"), 700);
  EXPECT_EQ(series.at("outfall_oldest_deferred_age_seconds,stream=orders"), 800);
  EXPECT_EQ(series.at("outfall_dead_letters,stream=orders"), 3);
  EXPECT_EQ(series.at("outfall_pauses,of=stream,stream=orders"), 1);
  EXPECT_EQ(series.at("outfall_pauses,of=destination,stream=orders"), 2);
  EXPECT_EQ(series.at("outfall_unbound_entries,stream=typo"), 12);
  EXPECT_EQ(series.at("outfall_unbound_entries,stream=other"), 0);
  EXPECT_EQ(series.at("outfall_leases,state=active"), 4);
  EXPECT_EQ(series.at("outfall_leases,state=expired"), 0);
  EXPECT_EQ(series.at("outfall_dead_tuples,table=entries"), 5);
  EXPECT_EQ(series.at("outfall_sample_timestamp_seconds"), 1'795'248'518);

  DatabaseSample next;
  next.streams.emplace_back().name = "bills";
  metrics_.publish(next);
  series = series_of(metrics_);
  EXPECT_FALSE(series.contains("outfall_entries,status=pending,stream=orders"));
  EXPECT_FALSE(series.contains("outfall_unbound_entries,stream=typo"));
  EXPECT_FALSE(series.contains("outfall_receipts_partitions"));
  EXPECT_EQ(series.at("outfall_entries,status=pending,stream=bills"), 0);
  EXPECT_EQ(series.at("outfall_pauses,of=stream,stream=bills"), 0);
  EXPECT_EQ(series.at("outfall_pauses,of=destination,stream=bills"), 0);

  metrics_.withdraw();
  for (const auto& [key, value] : series_of(metrics_)) {
    EXPECT_FALSE(key.starts_with("outfall_entries,") || key.starts_with("outfall_leases,")) << key;
  }
}

TEST_F(TelemetryMetrics, UnboundStreamsAreBoundedToTheLargest) {
  DatabaseSample sample;
  for (int i = 1; i <= 100; ++i) sample.unbound_entries["made-up-" + std::to_string(i)] = i;
  sample.unbound_entries["other"] = 1'000'000;
  metrics_.publish(sample);
  std::size_t named = 0;
  for (const auto& [key, value] : series_of(metrics_)) {
    if (key.starts_with("outfall_unbound_entries,stream=made-up-")) {
      ++named;
      EXPECT_GT(value, 80) << key;
    }
  }
  EXPECT_EQ(named, kMaxUnboundStreams);
  EXPECT_EQ(series_of(metrics_).at("outfall_unbound_entries,stream=other"),
            1'000'000 + 80 * 81 / 2);
}

TEST_F(TelemetryMetrics, TextFormatEscapesLabels) {
  DatabaseSample sample;
  sample.unbound_entries["a \"b\"\\\n c"] = 1;
  metrics_.publish(sample);
  const std::string text = metrics_.serialize();
  EXPECT_THAT(text, HasSubstr("\noutfall_unbound_entries{stream=\"a \\\"b\\\"\\\\\\n c\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("\n# TYPE outfall_database_connected gauge\n"));
  EXPECT_EQ(kMetricsContentType, "text/plain; version=0.0.4; charset=utf-8");
}

TEST_F(TelemetryMetrics, LocalHistogramCountsAsTheSeriesWould) {
  StreamMetrics& orders = metrics_.stream("orders");
  const auto bounds = orders.delivery_latency.bounds;
  prometheus::Histogram direct({bounds.begin(), bounds.end()});
  {
    LocalHistogram local(orders.delivery_latency);
    const auto observe = [&](std::int64_t us, std::uint64_t n) {
      local.observe(std::chrono::microseconds(us), n);
      for (std::uint64_t i = 0; i < n; ++i) {
        direct.Observe(static_cast<double>(std::max<std::int64_t>(us, 0)) / 1e6);
      }
    };
    for (const double bound : bounds) {
      const auto us = static_cast<std::int64_t>(bound * 1e6 + 0.5);
      observe(us - 1, 1);
      observe(us, 2);
      observe(us + 1, 3);
    }
    observe(-5'000'000, 7);
    EXPECT_EQ(orders.delivery_latency.series.Collect().histogram.sample_count, 0U);
    local.flush();
    local.flush();
    observe(123'456, 10);
  }
  const auto got = orders.delivery_latency.series.Collect().histogram;
  const auto want = direct.Collect().histogram;
  ASSERT_EQ(got.bucket.size(), want.bucket.size());
  for (std::size_t i = 0; i < got.bucket.size(); ++i) {
    EXPECT_EQ(got.bucket[i].cumulative_count, want.bucket[i].cumulative_count) << i;
  }
  EXPECT_EQ(got.sample_count, want.sample_count);
  EXPECT_NEAR(got.sample_sum, want.sample_sum, 1e-6);
}

TEST_F(TelemetryMetrics, HistogramSeriesTakesNegativeTimesAsZero) {
  StreamMetrics& orders = metrics_.stream("orders");
  orders.claim_duration.observe(std::chrono::microseconds(-1));
  orders.claim_duration.observe(std::chrono::milliseconds(4));
  const auto histogram = orders.claim_duration.series.Collect().histogram;
  EXPECT_EQ(histogram.sample_count, 2U);
  EXPECT_NEAR(histogram.sample_sum, 0.004, 1e-9);
}

TEST_F(TelemetryMetrics, LogLinesAreCounted) {
  Logger log(system_clock(), LogLevel::info, LogFormat::text);
  metrics_.watch(log);
  testing::internal::CaptureStderr();
  log.warning("one");
  for (int i = 0; i < 3; ++i) log.limited(LogLevel::error, "id", "again");
  static_cast<void>(testing::internal::GetCapturedStderr());
  const Series series = series_of(metrics_);
  EXPECT_EQ(series.at("outfall_log_lines_total,level=warning"), 1);
  EXPECT_EQ(series.at("outfall_log_lines_total,level=error"), 1);
  EXPECT_EQ(series.at("outfall_log_lines_total,level=info"), 0);
  EXPECT_EQ(series.at("outfall_log_lines_suppressed_total"), 2);
}

TEST_F(TelemetryMetrics, ProcessMetricsAreThoseOfThisProcess) {
  const Series before = series_of(metrics_);
  const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const Series after = series_of(metrics_);
  close(fd);
  EXPECT_EQ(after.at("process_open_fds"), before.at("process_open_fds") + 1);
  EXPECT_GE(after.at("process_cpu_seconds_total"), before.at("process_cpu_seconds_total"));
  EXPECT_GT(after.at("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(after.at("process_virtual_memory_bytes"), after.at("process_resident_memory_bytes"));
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_LE(after.at("process_start_time_seconds"), now + 1);
  EXPECT_GT(after.at("process_start_time_seconds"), now - 3600);
  EXPECT_GT(after.at("process_max_fds"), 0);
}

TEST_F(TelemetryMetrics, HeartbeatKnowsItsAge) {
  class ManualClock final : public Clock {
   public:
    [[nodiscard]] MonotonicTime monotonic() const noexcept override { return now; }
    [[nodiscard]] WallTime wall() const noexcept override {
      return WallTime(std::chrono::seconds(1000));
    }
    MonotonicTime now{std::chrono::hours(1)};
  } clock;
  Heartbeat heartbeat(clock, metrics_.gauge(Metric::heartbeat_timestamp_seconds));
  EXPECT_EQ(heartbeat.age(), Milliseconds(0));
  clock.now += Milliseconds(2500);
  EXPECT_EQ(heartbeat.age(), Milliseconds(2500));
  heartbeat.beat();
  EXPECT_EQ(heartbeat.age(), Milliseconds(0));
  EXPECT_EQ(series_of(metrics_).at("outfall_heartbeat_timestamp_seconds"), 1000);
}

TEST_F(TelemetryMetrics, EveryMemberMayBeCalledFromAnyThread) {
  constexpr int kRounds = 200;
  std::atomic<bool> done{false};
  std::vector<std::thread> writers;
  for (int t = 0; t < 3; ++t) {
    writers.emplace_back([this, t] {
      for (int i = 0; i < kRounds; ++i) {
        StreamMetrics& stream = metrics_.stream("s" + std::to_string((i + t) % 5));
        stream.entries_claimed.Increment(2);
        stream.dead_lettered("code." + std::to_string(i));
        LocalHistogram local(stream.delivery_latency);
        local.observe(std::chrono::milliseconds(i), 3);
        local.flush();
        if (i % 2 == 0) metrics_.publish(full_sample());
        if (i % 7 == 0) metrics_.withdraw();
      }
    });
  }
  std::thread reader([&] {
    while (!done) EXPECT_FALSE(metrics_.serialize().empty());
  });
  for (auto& writer : writers) writer.join();
  done = true;
  reader.join();
  const Series series = series_of(metrics_);
  double claimed = 0;
  double observed = 0;
  for (const auto& [key, value] : series) {
    if (key.starts_with("outfall_entries_claimed_total")) claimed += value;
    if (key.starts_with("outfall_delivery_latency_seconds")) observed += value;
  }
  EXPECT_EQ(claimed, 3 * kRounds * 2);
  EXPECT_EQ(observed, 3 * kRounds * 3);
}

}  // namespace
}  // namespace outfall
