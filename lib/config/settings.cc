#include "config/settings.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "config/conninfo.h"

namespace outfall {
namespace {

constexpr std::int64_t kSecond = 1000;
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kHour = 60 * kMinute;
constexpr std::int64_t kDay = 24 * kHour;
constexpr std::int64_t kKiB = 1024;
constexpr std::int64_t kMiB = 1024 * kKiB;
constexpr std::int64_t kGiB = 1024 * kMiB;

constexpr std::array<std::string_view, 2> kPoolers = {"none", "transaction"};
constexpr std::array<std::string_view, 5> kLevels = {"trace", "debug", "info", "warning", "error"};
constexpr std::array<std::string_view, 2> kFormats = {"text", "json"};
constexpr std::array<std::string_view, 2> kOrderings = {"key", "none"};
constexpr std::array<std::string_view, 2> kOnDeadLetter = {"continue", "hold-key"};
constexpr std::array<std::string_view, 2> kOnOff = {"on", "off"};

constexpr auto kDatabase = std::to_array<SettingSpec>({
    {.name = "url",
     .type = SettingType::string,
     .default_value = "",
     .summary =
         "The PostgreSQL database that holds the outbox: a libpq URI or a list of key=value "
         "pairs. All that libpq knows works in it, such as sslmode, passfile or several hosts, "
         "but for what outfall sets itself: application_name, client_encoding, connect_timeout, "
         "options, target_session_attrs, tcp_user_timeout and keepalives.",
     .required = true,
     .secret = true,
     .shown = redact_conninfo},
    {.name = "schema",
     .type = SettingType::string,
     .default_value = "\"outbox\"",
     .summary = "The schema of the outbox's tables and functions. Several outboxes can live in one "
                "database, each in a schema of its own and with workers of its own."},
    {.name = "pooler",
     .type = SettingType::choice,
     .default_value = "\"none\"",
     .summary =
         "What stands between outfall and the server: `none` for direct connections, "
         "`transaction` for a pooler in transaction mode such as PgBouncer. With `transaction` "
         "outfall uses no session state, and the work of a killed worker resumes only when its "
         "leases have expired (drain.lease) instead of within about two seconds. Nor can it then "
         "set the server's own limit for statements: outfall's role must carry it, by `ALTER USER "
         "… SET "
         "statement_timeout = '10s'`.",
     .choices = kPoolers},
    {.name = "connections",
     .type = SettingType::integer,
     .default_value = "4",
     .summary =
         "How many connections one worker keeps, shared by all its streams. More connections "
         "let more claims and settles run side by side, and cost the server one backend each.",
     .min = 2,
     .max = 64},
    {.name = "connect_timeout",
     .type = SettingType::duration,
     .default_value = "\"5s\"",
     .summary =
         "How long one attempt to connect may take, per host. When it has passed, the attempt "
         "has failed and the next one follows after a pause (database.reconnect_max).",
     .min = kSecond,
     .max = 10 * kMinute},
    {.name = "statement_timeout",
     .type = SettingType::duration,
     .default_value = "\"10s\"",
     .summary =
         "How long the server may work on one statement other than a claim before it cancels "
         "it. A cancelled settle is tried again while its lease lasts.",
     .min = 100,
     .max = kHour},
    {.name = "claim_timeout",
     .type = SettingType::duration,
     .default_value = "\"2s\"",
     .summary =
         "How long the server may work on one claim before it cancels it. A claim holds the lock "
         "of its stream, so a slow one makes the other workers of the stream wait this long; no "
         "longer than drain.lease.",
     .min = 50,
     .max = kMinute},
    {.name = "tcp_user_timeout",
     .type = SettingType::duration,
     .default_value = "\"10s\"",
     .summary =
         "How long sent data may stay unacknowledged by the server's machine before the "
         "connection counts as lost. Shorter notices a vanished server sooner; 0s leaves it to "
         "the operating system, which may wait a quarter of an hour.",
     .min = 0,
     .max = 10 * kMinute},
    {.name = "reconnect_max",
     .type = SettingType::duration,
     .default_value = "\"5s\"",
     .summary =
         "The longest pause between two attempts to connect while the database is away. The "
         "pauses grow up to it, so it bounds how late the return of the database is noticed.",
     .min = 100,
     .max = 10 * kMinute},
});

constexpr auto kWorker = std::to_array<SettingSpec>({
    {.name = "instance",
     .type = SettingType::string,
     .default_value = "",
     .summary =
         "A label for this worker in leases, status, metrics and logs; the host name where it is "
         "not set. Nothing depends on it: two workers with one label both work."},
});

constexpr auto kAdmin = std::to_array<SettingSpec>({
    {.name = "enabled",
     .type = SettingType::boolean,
     .default_value = "true",
     .summary =
         "Whether `outfall run` serves /metrics, /livez, /readyz and /status over HTTP, and to "
         "who has the token what operators do."},
    {.name = "listen",
     .type = SettingType::string,
     .default_value = "\"127.0.0.1:9464\"",
     .summary =
         "The IP address and port of the admin server. It speaks plain HTTP: on an address other "
         "than the loopback everybody who can reach it reads metrics and status. Port 0 takes "
         "any free port and logs which."},
    {.name = "token",
     .type = SettingType::string,
     .default_value = "",
     .summary =
         "The bearer token that a request below /v1 must carry: those change state, or show what "
         "entries say. Where it is not set they are refused. It goes over plain HTTP.",
     .secret = true,
     .reload = Reload::live},
});

constexpr auto kLog = std::to_array<SettingSpec>({
    {.name = "level",
     .type = SettingType::choice,
     .default_value = "\"info\"",
     .summary =
         "The least important messages that are written. `debug` adds a line per batch, `trace` a "
         "line per entry; no level writes payloads.",
     .reload = Reload::live,
     .choices = kLevels},
    {.name = "format",
     .type = SettingType::choice,
     .default_value = "\"text\"",
     .summary =
         "`text` for people, `json` for one JSON object a line. Where standard error is systemd's "
         "journal, text has every field as one of the journal's own, such as OUTFALL_STREAM.",
     .reload = Reload::live,
     .choices = kFormats},
});

constexpr auto kDrain = std::to_array<SettingSpec>({
    {.name = "lease",
     .type = SettingType::duration,
     .default_value = "\"30s\"",
     .summary =
         "How long a claimed batch belongs to its worker unless the worker renews it, which it "
         "does in time. It bounds how long the work of a vanished worker waits when nothing else "
         "shows that the worker is gone.",
     .min = kSecond,
     .max = kHour},
    {.name = "shutdown_timeout",
     .type = SettingType::duration,
     .default_value = "\"25s\"",
     .summary =
         "How long a stopping worker waits for deliveries that are under way; the rest goes back "
         "to the stream. Keep it below the time after which your supervisor kills (systemd's "
         "TimeoutStopSec, Kubernetes' terminationGracePeriodSeconds).",
     .reload = Reload::live,
     .min = 0,
     .max = kHour},
    {.name = "poll_idle",
     .type = SettingType::duration,
     .default_value = "\"250ms\"",
     .summary =
         "The longest pause between two looks for new entries while there are none. It is the "
         "most that an entry waits in a quiet stream; shorter costs more queries.",
     .reload = Reload::live,
     .min = 1,
     .max = kMinute},
    {.name = "poll_active",
     .type = SettingType::duration,
     .default_value = "\"3ms\"",
     .summary =
         "The pause between two looks for new entries while entries keep coming, with batches "
         "that are not full; after a full batch there is none. No longer than drain.poll_idle.",
     .reload = Reload::live,
     .min = 1,
     .max = 10 * kSecond},
    {.name = "max_in_flight",
     .type = SettingType::integer,
     .default_value = "8000",
     .summary =
         "How many entries the worker holds in memory, claimed and not settled yet, over all "
         "streams. It bounds memory, and how many entries a killed worker may deliver twice.",
     .min = 1,
     .max = 1'000'000},
    {.name = "max_in_flight_bytes",
     .type = SettingType::bytes,
     .default_value = "\"16MiB\"",
     .summary = "How many bytes of payloads and headers the worker holds in memory over all "
                "streams. A single larger entry still passes, alone.",
     .min = 64 * kKiB,
     .max = 64 * kGiB},
    {.name = "batch_entries",
     .type = SettingType::integer,
     .default_value = "1000",
     .summary = "The most entries that one claim takes. No more than drain.max_in_flight.",
     .min = 1,
     .max = 10'000},
    {.name = "batch_bytes",
     .type = SettingType::bytes,
     .default_value = "\"1MiB\"",
     .summary =
         "The most bytes that one claim takes beyond its first entry, which always fits. Payloads "
         "are read after the claim has let go of its stream, so a large claim costs memory and "
         "time but stops no other worker. No more than drain.max_in_flight_bytes.",
     .min = kKiB,
     .max = kGiB},
    {.name = "sampler_interval",
     .type = SettingType::duration,
     .default_value = "\"5s\"",
     .summary =
         "How often backlog numbers (entries by status, ages, dead letters) are read for metrics "
         "and status. One worker per database reads them for all.",
     .min = kSecond,
     .max = kHour},
});

constexpr auto kReceipts = std::to_array<SettingSpec>({
    {.name = "retention",
     .type = SettingType::duration,
     .default_value = "\"7d\"",
     .summary =
         "How long receipts of delivered entries are kept; older ones are dropped by whole days. "
         "As long as its receipt is there, `outfall entry show` can tell where an entry went.",
     .reload = Reload::live,
     .min = kDay,
     .max = 3650 * kDay},
});

constexpr auto kStreams = std::to_array<SettingSpec>({
    {.name = "emitter",
     .type = SettingType::string,
     .default_value = "",
     .summary = "The emitter that delivers this stream: the NAME of an [emitters.NAME] table.",
     .required = true},
    {.name = "ordering",
     .type = SettingType::choice,
     .default_value = "\"key\"",
     .summary =
         "`key` delivers the entries of one key one after the other, in order; while one of them "
         "waits for a retry, the later ones of its key wait too. `none` delivers without regard "
         "to keys and is faster.",
     .choices = kOrderings},
    {.name = "lane",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary =
         "What names the destination inside the stream: `type`, `source`, `subject` or "
         "`header.NAME`. Each lane has a breaker and limits of its own, so that one destination "
         "that is down does not stop the others. Of a longer value the first 200 characters count. "
         "Empty: the stream is one lane."},
    {.name = "on_dead_letter",
     .type = SettingType::choice,
     .default_value = "\"continue\"",
     .summary =
         "What becomes of the later entries of a key when one of its entries is dead-lettered: "
         "`continue` delivers them, `hold-key` holds them until the dead letter is replayed or "
         "discarded (with `ordering = \"key\"`).",
     .reload = Reload::live,
     .choices = kOnDeadLetter},
    {.name = "retry.initial",
     .type = SettingType::duration,
     .default_value = "\"1s\"",
     .summary =
         "The longest pause before the first retry. Each further one doubles it up to retry.max; "
         "the pause is drawn at random between a tenth of retry.initial and that bound.",
     .reload = Reload::live,
     .min = 1,
     .max = kDay},
    {.name = "retry.max",
     .type = SettingType::duration,
     .default_value = "\"5m\"",
     .summary = "The bound of the growing pauses between retries. No shorter than retry.initial.",
     .reload = Reload::live,
     .min = 1,
     .max = 30 * kDay},
    {.name = "retry.max_attempts",
     .type = SettingType::integer,
     .default_value = "20",
     .summary =
         "After how many counted attempts an entry is dead-lettered; 0 never gives up. Attempts "
         "during an outage of the destination are not counted.",
     .reload = Reload::live,
     .min = 0,
     .max = 1'000'000},
    {.name = "retry.max_age",
     .type = SettingType::duration,
     .default_value = "\"0s\"",
     .summary =
         "After how long since its creation, or since its scheduled time, its last replay or its "
         "last "
         "retry by an operator where that is later, a failing entry is dead-lettered at its next "
         "failure, leaving out the time in which its destination was down; 0s is off.",
     .reload = Reload::live,
     .min = 0,
     .max = 3650 * kDay},
    {.name = "retry.after_max",
     .type = SettingType::duration,
     .default_value = "\"24h\"",
     .summary =
         "The longest pause that a destination may ask for (Retry-After); a longer one is cut to "
         "it.",
     .reload = Reload::live,
     .min = 0,
     .max = 365 * kDay},
    {.name = "defer_delay",
     .type = SettingType::duration,
     .default_value = "\"30s\"",
     .summary = "How long a deferred entry waits where the emitter did not say until when.",
     .reload = Reload::live,
     .min = 1,
     .max = 30 * kDay},
    {.name = "receipts",
     .type = SettingType::choice,
     .default_value = "\"on\"",
     .summary =
         "Whether a receipt is written for every delivered entry. With `off` the database forgets "
         "an entry when it is delivered.",
     .reload = Reload::live,
     .choices = kOnOff},
    {.name = "max_payload",
     .type = SettingType::bytes,
     .default_value = "0",
     .summary =
         "The largest payload that is delivered; an entry with a larger one is dead-lettered "
         "without an attempt. 0 is no limit.",
     .reload = Reload::live,
     .min = 0,
     .max = kGiB},
    {.name = "max_abandoned",
     .type = SettingType::integer,
     .default_value = "5",
     .summary =
         "How many workers may die while they hold an entry before it is suspected of killing "
         "them and dead-lettered; it is tried alone first, so that no other entry suffers.",
     .reload = Reload::live,
     .min = 1,
     .max = 1000},
    {.name = "key_in_flight",
     .type = SettingType::integer,
     .default_value = "1000",
     .summary = "How many entries of one key the worker holds at once, and never more than half of "
                "lane_in_flight. Further ones wait, so that a hot key does not fill the worker.",
     .reload = Reload::live,
     .min = 1,
     .max = 1'000'000},
    {.name = "lane_in_flight",
     .type = SettingType::integer,
     .default_value = "2000",
     .summary =
         "How many entries of one lane the worker holds at once. Further ones wait, so that a "
         "slow destination does not fill the worker.",
     .reload = Reload::live,
     .min = 1,
     .max = 1'000'000},
    {.name = "breaker.failures",
     .type = SettingType::integer,
     .default_value = "5",
     .summary =
         "How many failures in a row that are the destination's fault open the breaker of its "
         "lane, once it has answered nothing for breaker.probe_initial, or ten times as many "
         "whenever. From that many on no attempt is counted. While it is open, only one probe at "
         "a time is sent. A destination that says it is unavailable opens it at once.",
     .reload = Reload::live,
     .min = 1,
     .max = 1'000'000},
    {.name = "breaker.probe_initial",
     .type = SettingType::duration,
     .default_value = "\"200ms\"",
     .summary = "The pause before the first probe of an open breaker; it doubles up to "
                "breaker.probe_max.",
     .reload = Reload::live,
     .min = 1,
     .max = kHour},
    {.name = "breaker.probe_max",
     .type = SettingType::duration,
     .default_value = "\"3s\"",
     .summary = "The longest pause between two probes, and so the most by which the return of a "
                "destination is noticed late. No shorter than breaker.probe_initial.",
     .reload = Reload::live,
     .min = 1,
     .max = kDay},
});

constexpr auto kEmitters = std::to_array<SettingSpec>({
    {.name = "kind",
     .type = SettingType::string,
     .default_value = "",
     .summary = "Which emitter this is. Its other settings depend on it.",
     .required = true},
});

constexpr auto kTables = std::to_array<TableSpec>({
    {.name = "database", .summary = "Where the outbox is.", .settings = kDatabase},
    {.name = "worker", .summary = "Who this process is.", .settings = kWorker},
    {.name = "admin",
     .summary = "The HTTP server for metrics, probes, status and operators.",
     .settings = kAdmin},
    {.name = "log", .summary = "What is logged, and how.", .settings = kLog},
    {.name = "drain",
     .summary = "How the worker claims, holds and settles entries, over all its streams.",
     .settings = kDrain},
    {.name = "receipts",
     .summary = "The record of what was delivered, over all streams.",
     .settings = kReceipts},
    {.name = "streams",
     .summary =
         "One table for each stream that this worker serves. NAME is the text that producers "
         "write into the column `stream`.",
     .named = true,
     .settings = kStreams},
    {.name = "emitters",
     .summary = "One table for each way to deliver; several streams can share one.",
     .named = true,
     .settings = kEmitters},
});

}  // namespace

std::span<const TableSpec> setting_tables() noexcept {
  return kTables;
}

const TableSpec& setting_table(std::string_view name) {
  const auto found = std::ranges::find(kTables, name, &TableSpec::name);
  if (found == kTables.end()) std::abort();
  return *found;
}

bool is_table_name(std::string_view name) noexcept {
  const auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (name.empty() || name.size() > 63 || !alphanumeric(name.front())) return false;
  return std::ranges::all_of(
      name, [&](char c) { return alphanumeric(c) || c == '_' || c == '.' || c == '-'; });
}

}  // namespace outfall
