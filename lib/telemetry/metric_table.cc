#include "telemetry/metric_table.h"

#include <array>
#include <iterator>

#include <fmt/format.h>

namespace outfall {
namespace {

// A claim or a settle is one round trip to the database.
constexpr std::array kStatementSeconds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                          0.05,   0.1,   0.25,   0.5,   1.0,  2.5};
constexpr std::array kAttemptSeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                        0.25,  0.5,    1.0,   2.5,  5.0,   10.0, 30.0};
// Up to an hour, so that the end of an outage still shows; 15 ms is the promise for an idle stream.
constexpr std::array kLatencySeconds = {0.001, 0.0025, 0.005, 0.01,  0.015, 0.025, 0.05,
                                        0.1,   0.25,   0.5,   1.0,   2.5,   5.0,   10.0,
                                        30.0,  60.0,   300.0, 900.0, 3600.0};

constexpr MetricLabel kStream = {"stream", "streams of the configuration"};
constexpr std::array kByStream = {kStream};
constexpr std::array kByOutcome = {
    kStream, MetricLabel{"outcome", "the outcomes of docs/concepts/outcomes.md"}};
constexpr std::array kByResult = {kStream, MetricLabel{"result", "`entries`, `empty`, `busy`"}};
constexpr std::array kByReason = {
    kStream, MetricLabel{"reason", "error codes, after the first 50 distinct ones `other`"}};
constexpr std::array kByBreaker = {kStream, MetricLabel{"state", "`closed`, `half_open`, `open`"}};
constexpr std::array kByBuild = {MetricLabel{"version", "one"}, MetricLabel{"revision", "one"},
                                 MetricLabel{"compiler", "one"}};
constexpr std::array kByErrorKind = {
    MetricLabel{"kind",
                "`connect`, `connection_lost`, `read_only`, `timeout`, `conflict`, `permission`, "
                "`schema`, `other`"}};
constexpr std::array kByLevel = {
    MetricLabel{"level", "`trace`, `debug`, `info`, `warning`, `error`"}};
constexpr std::array kByStatus = {
    kStream, MetricLabel{"status", "`pending`, `deferred`, `retryable_failure`, `held`"}};
constexpr std::array kByUnboundStream = {
    MetricLabel{"stream", "the 20 streams with most such entries, the rest is `other`"}};
constexpr std::array kByPause = {kStream, MetricLabel{"of", "`stream`, `destination`"}};
constexpr std::array kByLeaseState = {MetricLabel{"state", "`active`, `expired`"}};
constexpr std::array kByTable = {MetricLabel{"table", "tables of the outbox schema"}};

using enum MetricType;
using enum MetricScope;

constexpr std::array<MetricSpec, kMetrics> kTable = {{
    {Metric::attempts_total, "outfall_attempts_total", counter, stream, "attempts", kByOutcome,
     "Delivery attempts by their outcome; blocked and shutdown mean that the entry was not sent"},
    {Metric::claims_total, "outfall_claims_total", counter, stream, "claims", kByResult,
     "Claims by what they brought: entries, nothing to do, or another worker was claiming"},
    {Metric::entries_claimed_total, "outfall_entries_claimed_total", counter, stream, "entries",
     kByStream, "Entries that this worker has leased"},
    {Metric::entries_settled_total, "outfall_entries_settled_total", counter, stream, "entries",
     kByStream, "Entries whose outcome this worker has written to the database"},
    {Metric::returned_total, "outfall_returned_total", counter, stream, "entries", kByStream,
     "Entries given back unchanged, because of an outage, a failed key or a stop"},
    {Metric::stale_settles_total, "outfall_stale_settles_total", counter, stream, "settles",
     kByStream,
     "Settles that were refused because their lease was gone; their entries are sent again"},
    {Metric::lease_lost_total, "outfall_lease_lost_total", counter, stream, "leases", kByStream,
     "Leases that were taken over or gone when this worker wanted to renew them"},
    {Metric::duplicates_possible_total, "outfall_duplicates_possible_total", counter, stream,
     "entries", kByStream,
     "Entries that the sink may receive twice, since an answer or a lease was lost"},
    {Metric::dead_lettered_total, "outfall_dead_lettered_total", counter, stream, "entries",
     kByReason, "Entries that became dead letters"},
    {Metric::claim_repicks_total, "outfall_claim_repicks_total", counter, stream, "picks",
     kByStream,
     "Picks repeated within a claim, because a writer with lower ids had ended meanwhile"},
    {Metric::claim_takeovers_total, "outfall_claim_takeovers_total", counter, stream, "leases",
     kByStream, "Leases of dead workers that this worker has taken over"},
    {Metric::breaker_open_seconds_total, "outfall_breaker_open_seconds_total", counter, stream,
     "seconds", kByStream, "Time during which at least one breaker of the stream was open"},
    {Metric::claim_duration_seconds, "outfall_claim_duration_seconds", histogram, stream, "seconds",
     kByStream, "Time from sending a claim to having read its answer", kStatementSeconds},
    {Metric::settle_duration_seconds, "outfall_settle_duration_seconds", histogram, stream,
     "seconds", kByStream, "Time from sending a settle to having read its answer",
     kStatementSeconds},
    {Metric::attempt_duration_seconds, "outfall_attempt_duration_seconds", histogram, stream,
     "seconds", kByStream, "Duration of single delivery attempts as the emitter measured them",
     kAttemptSeconds},
    {Metric::delivery_latency_seconds, "outfall_delivery_latency_seconds", histogram, stream,
     "seconds", kByStream, "Age of delivered entries when they were settled, from their creation",
     kLatencySeconds},
    {Metric::in_flight_entries, "outfall_in_flight_entries", gauge, stream, "entries", kByStream,
     "Entries that this worker has claimed and not settled yet"},
    {Metric::in_flight_bytes, "outfall_in_flight_bytes", gauge, stream, "bytes", kByStream,
     "Memory that those entries take"},
    {Metric::active_leases, "outfall_active_leases", gauge, stream, "leases", kByStream,
     "Leases that this worker holds"},
    {Metric::breaker_state, "outfall_breaker_state", gauge, stream, "breakers", kByBreaker,
     "Breakers of the stream by state, at first one that is closed; a stream without lanes has "
     "one"},
    {Metric::paused, "outfall_paused", gauge, stream, "boolean", kByStream,
     "1 while nothing of the stream is claimed, since it or the only destination that it has is "
     "paused; outfall_pauses tells which"},
    {Metric::consecutive_failures, "outfall_consecutive_failures", gauge, stream, "attempts",
     kByStream, "Attempts without a delivery since the last delivery"},
    {Metric::last_success_timestamp_seconds, "outfall_last_success_timestamp_seconds", gauge,
     stream, "seconds", kByStream, "Time of the last settled delivery, 0 if there was none yet"},
    {Metric::claim_floor_lag, "outfall_claim_floor_lag", gauge, stream, "ids", kByStream,
     "Ids between where the next claim begins to read and the highest id given out; grows with the "
     "backlog, and for one claim after a long writer has ended"},
    {Metric::build_info, "outfall_build_info", gauge, worker, "constant 1", kByBuild,
     "What was built, as labels"},
    {Metric::heartbeat_timestamp_seconds,
     "outfall_heartbeat_timestamp_seconds",
     gauge,
     worker,
     "seconds",
     {},
     "Time of the main loop's last turn"},
    {Metric::schema_version,
     "outfall_schema_version",
     gauge,
     worker,
     "version",
     {},
     "Highest migration found in the database, 0 if there is none or it was not asked yet"},
    {Metric::database_connected,
     "outfall_database_connected",
     gauge,
     worker,
     "boolean",
     {},
     "1 while the worker has a connection to a writable database"},
    {Metric::database_errors_total, "outfall_database_errors_total", counter, worker, "errors",
     kByErrorKind, "Statements and connection attempts that failed"},
    {Metric::database_reconnects_total,
     "outfall_database_reconnects_total",
     counter,
     worker,
     "connections",
     {},
     "Connections made anew after one was lost"},
    {Metric::config_last_reload_successful,
     "outfall_config_last_reload_successful",
     gauge,
     worker,
     "boolean",
     {},
     "0 while the configuration on disk was refused and an older one is in force"},
    {Metric::config_last_reload_timestamp_seconds,
     "outfall_config_last_reload_timestamp_seconds",
     gauge,
     worker,
     "seconds",
     {},
     "Time at which the configuration in force was read"},
    {Metric::log_lines_total, "outfall_log_lines_total", counter, worker, "lines", kByLevel,
     "Log lines written"},
    {Metric::log_lines_suppressed_total,
     "outfall_log_lines_suppressed_total",
     counter,
     worker,
     "lines",
     {},
     "Log lines left out because they repeated an earlier one"},
    {Metric::process_cpu_seconds_total,
     "process_cpu_seconds_total",
     counter,
     worker,
     "seconds",
     {},
     "User and system CPU time spent"},
    {Metric::process_resident_memory_bytes,
     "process_resident_memory_bytes",
     gauge,
     worker,
     "bytes",
     {},
     "Resident memory"},
    {Metric::process_virtual_memory_bytes,
     "process_virtual_memory_bytes",
     gauge,
     worker,
     "bytes",
     {},
     "Virtual memory"},
    {Metric::process_open_fds,
     "process_open_fds",
     gauge,
     worker,
     "file descriptors",
     {},
     "Open file descriptors"},
    {Metric::process_max_fds,
     "process_max_fds",
     gauge,
     worker,
     "file descriptors",
     {},
     "Limit of open file descriptors"},
    {Metric::process_start_time_seconds,
     "process_start_time_seconds",
     gauge,
     worker,
     "seconds",
     {},
     "Time at which the process started"},
    {Metric::entries, "outfall_entries", gauge, database, "entries", kByStatus,
     "Live entries by status, counted up to outfall_entries_count_limit: a value at the limit "
     "means at least so many"},
    {Metric::entries_count_limit,
     "outfall_entries_count_limit",
     gauge,
     database,
     "entries",
     {},
     "Where the counts of outfall_entries and outfall_unbound_entries end"},
    {Metric::oldest_due_age_seconds, "outfall_oldest_due_age_seconds", gauge, database, "seconds",
     kByStream,
     "How long the oldest entry that could be delivered now has been waiting, 0 if there is none"},
    {Metric::oldest_blocked_age_seconds, "outfall_oldest_blocked_age_seconds", gauge, database,
     "seconds", kByStream, "Age of the oldest held entry, 0 if there is none"},
    {Metric::oldest_retried_age_seconds, "outfall_oldest_retried_age_seconds", gauge, database,
     "seconds", kByStream,
     "Age of the oldest entry that has failed and waits for its next attempt or is in it, 0 if "
     "there is none; since its creation, its scheduled time, its last replay or its last retry by "
     "an operator, and among the outfall_entries_count_limit whose next attempt comes first"},
    {Metric::oldest_deferred_age_seconds, "outfall_oldest_deferred_age_seconds", gauge, database,
     "seconds", kByStream,
     "As outfall_oldest_retried_age_seconds, of what was deferred: by what its emitter said, or as "
     "the probe of a destination that did not answer"},
    {Metric::oldest_created_age_seconds, "outfall_oldest_created_age_seconds", gauge, database,
     "seconds", kByStream, "Age of the oldest live entry of any status, 0 if there is none"},
    {Metric::unbound_entries, "outfall_unbound_entries", gauge, database, "entries",
     kByUnboundStream, "Entries in streams that no running worker serves"},
    {Metric::dead_letters, "outfall_dead_letters", gauge, database, "entries", kByStream,
     "Dead letters that nobody has replayed or discarded"},
    {Metric::pauses, "outfall_pauses", gauge, database, "pauses", kByPause,
     "Pauses in force: 1 for a stream that an operator has paused, and the destinations that an "
     "operator or their own answer has paused"},
    {Metric::leases, "outfall_leases", gauge, database, "leases", kByLeaseState,
     "Leases of all workers; expired ones wait to be taken over"},
    {Metric::oldest_xmin_age_transactions,
     "outfall_oldest_xmin_age_transactions",
     gauge,
     database,
     "transactions",
     {},
     "Transactions since the oldest snapshot that vacuum has to respect"},
    {Metric::oldest_transaction_age_seconds,
     "outfall_oldest_transaction_age_seconds",
     gauge,
     database,
     "seconds",
     {},
     "Age of the oldest open transaction"},
    {Metric::dead_tuples, "outfall_dead_tuples", gauge, database, "rows", kByTable,
     "Dead rows that vacuum has not removed, as PostgreSQL estimates them"},
    {Metric::receipts_partitions,
     "outfall_receipts_partitions",
     gauge,
     database,
     "partitions",
     {},
     "Daily partitions of the receipts, without the default one"},
    {Metric::sample_timestamp_seconds,
     "outfall_sample_timestamp_seconds",
     gauge,
     database,
     "seconds",
     {},
     "Time of the sample that the metrics of the database come from"},
}};

constexpr bool rows_stand_in_order() {
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    if (kTable[i].id != static_cast<Metric>(i)) return false;
  }
  return true;
}
static_assert(rows_stand_in_order(), "the table must follow the order of enum Metric");

void append_row(std::string& out, const MetricSpec& spec) {
  std::string labels;
  for (const MetricLabel& label : spec.labels) {
    if (!labels.empty()) labels += ", ";
    labels += fmt::format("`{}`", label.name);
  }
  fmt::format_to(std::back_inserter(out), "| `{}` | {} | {} | {} | {}. |\n", spec.name,
                 to_string(spec.type), spec.unit, labels, spec.help);
}

void append_section(std::string& out, MetricScope scope, std::string_view title,
                    std::string_view text) {
  fmt::format_to(std::back_inserter(out),
                 "\n## {}\n\n{}\n\n| name | type | unit | labels | meaning |\n"
                 "| --- | --- | --- | --- | --- |\n",
                 title, text);
  for (const MetricSpec& spec : kTable) {
    if (spec.scope == scope) append_row(out, spec);
  }
}

void append_labels(std::string& out) {
  out += "\n## Labels\n\n| label | on | values |\n| --- | --- | --- |\n";
  for (const MetricSpec& spec : kTable) {
    for (const MetricLabel& label : spec.labels) {
      if (&label == kByStream.data() || label.values == kStream.values) continue;
      fmt::format_to(std::back_inserter(out), "| `{}` | `{}` | {} |\n", label.name, spec.name,
                     label.values);
    }
  }
  fmt::format_to(std::back_inserter(out), "| `{}` | everywhere else | {} |\n", kStream.name,
                 kStream.values);
}

void append_buckets(std::string& out) {
  out += "\n## Buckets\n\nUpper bounds in seconds; each histogram has `+Inf` as well.\n\n";
  for (const MetricSpec& spec : kTable) {
    if (spec.type != histogram) continue;
    fmt::format_to(std::back_inserter(out), "- `{}`: {}\n", spec.name,
                   fmt::join(spec.buckets, ", "));
  }
}

}  // namespace

std::span<const MetricSpec, kMetrics> metric_table() noexcept {
  return kTable;
}

const MetricSpec& metric_spec(Metric id) noexcept {
  return kTable[static_cast<std::size_t>(id)];
}

std::string_view to_string(MetricType type) noexcept {
  switch (type) {
    case counter:
      return "counter";
    case gauge:
      return "gauge";
    case histogram:
      return "histogram";
  }
  return "untyped";
}

std::string metrics_reference() {
  std::string out =
      "# Metrics\n\n"
      "`GET /metrics` on the admin port (setting `admin.listen`) answers in the Prometheus text "
      "format 0.0.4.\nThis page is made from the table in `lib/telemetry/metric_table.cc`; a test "
      "fails when they differ.\n\n"
      "Every series of a configured stream exists from the start with the value 0, so that rates "
      "and alerts need\nno special case for the first event. Timestamps are Unix times; ages are "
      "measured by the database's clock.\n";
  append_section(
      out, stream, "Streams",
      "What this worker does, for each stream of its configuration. Sum over the workers "
      "of a database.");
  append_section(out, worker, "Worker", "The process itself.");
  append_section(
      out, database, "Database",
      "What stands in the database. Of the workers with the same streams one samples it and "
      "exports these; the\nothers do not have them. Behind a transaction pooler they "
      "take turns, and all have them. Do not sum over\nworkers: take the maximum.");
  out +=
      "\n## Emitters\n\n"
      "Emitters have series of their own, each with the label `emitter`, the name of its table in "
      "the configuration.\nTheir pages list them: [kafka](emitters/kafka.md#metrics), "
      "[webhook](emitters/webhook.md#metrics) and\n[exec](emitters/exec.md#metrics). `noop` and "
      "`stdout` have none.\n";
  append_labels(out);
  append_buckets(out);
  return out;
}

}  // namespace outfall
