#include "daemon/doctor.h"

#include <algorithm>

#include <fmt/format.h>

#include "daemon/json_fields.h"
#include "daemon/text_output.h"

namespace outfall {
namespace {

namespace json = boost::json;

constexpr std::int64_t kOldestVersion = 150000;
constexpr double kSessionsWorthAWarning = 0.9;

std::string bytes_text(std::int64_t bytes) {
  constexpr std::int64_t kMebibyte = 1 << 20;
  return fmt::format("{} MiB", grouped(bytes / kMebibyte));
}

// "outfall" or "\"Weird role\"", as SQL wants it.
std::string identifier(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string literal(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("''") : std::string(1, c);
  return quoted + "'";
}

void judge_writing(const json::object& server, Findings& findings) {
  if (flag_field(server, "in_recovery")) {
    findings.push_back(
        {"read_only", Severity::critical, "server",
         "the server is a standby: nothing can be claimed or settled there",
         "let database.url lead to the primary; with several hosts in it the one that "
         "can be written is chosen"});
  } else if (flag_field(server, "read_only")) {
    findings.push_back(
        {"read_only", Severity::critical, "default_transaction_read_only",
         "transactions are read-only: nothing can be claimed or settled",
         "set default_transaction_read_only = off for the server, the database and the "
         "role, or let database.url lead to the primary"});
  }
}

void judge_durability(const json::object& server, Findings& findings) {
  if (!flag_field(server, "fsync")) {
    findings.push_back({"fsync", Severity::critical, "fsync",
                        "fsync is off: a crash of the machine may lose or damage committed entries",
                        "set fsync = on in postgresql.conf and reload the server"});
  }
  if (!flag_field(server, "full_page_writes")) {
    findings.push_back({"full_page_writes", Severity::warning, "full_page_writes",
                        "full_page_writes is off: a crash of the machine may damage tables, unless "
                        "the file system never tears a page",
                        "set full_page_writes = on in postgresql.conf and reload the server"});
  }
}

// Behind a pooler the session is nobody's own, so that the role has to carry what outfall sets
// elsewhere.
void judge_pooled_session(const json::object& server, Findings& findings) {
  const std::string set = text_field(server, "set_for_role");
  if (text_field(server, "isolation") != "read committed") {
    findings.push_back({"isolation", Severity::critical, "default_transaction_isolation",
                        fmt::format("transactions begin as {}, and claims need read committed",
                                    text_field(server, "isolation")),
                        set + " default_transaction_isolation = 'read committed';"});
  }
  if (text_field(server, "statement_timeout") == "0") {
    findings.push_back({"statement_timeout", Severity::warning, "statement_timeout",
                        "no statement ever times out: a claim that hangs keeps its stream from all "
                        "other workers",
                        set + " statement_timeout = '10s';"});
  }
}

// Nobody resumes a destination but an operator, also where its own answer has paused it.
void judge_destinations(const json::object& stream, Findings& findings) {
  const json::array paused = array_field(stream, "destinations");
  if (paused.empty()) return;
  const auto since = [](const json::value& one) {
    return text_field(one.as_object(), "paused_at");
  };
  const json::object& oldest = std::ranges::min_element(paused, {}, since)->as_object();
  const std::string name = printable(text_field(stream, "stream"));
  findings.push_back(
      {"paused_destination", Severity::note, name,
       fmt::format("{} of the stream {} {} paused, {}since {} by {}: {}",
                   counted(static_cast<std::int64_t>(paused.size()), "destination"), name,
                   paused.size() == 1 ? "is" : "are", paused.size() == 1 ? "" : "the first ",
                   time_field(oldest, "paused_at"), printable(text_field(oldest, "paused_by"), 60),
                   printable(text_field(oldest, "paused_reason"), 200)),
       fmt::format("`outfall destinations list --stream {}` shows them; `outfall destinations "
                   "resume` when they may go on",
                   shell_quoted(text_field(stream, "stream")))});
}

// What fails again and again is not due meanwhile: the backlog of its stream looks young.
void judge_retried(const json::object& stream, const DoctorLimits& limits, Findings& findings) {
  const double seconds = number_field(stream, "oldest_retried_seconds");
  if (seconds * 1000 < static_cast<double>(limits.retried.count())) return;
  const std::string name = printable(text_field(stream, "stream"));
  findings.push_back(
      {"retried", Severity::warning, name,
       fmt::format("{} of the stream {} failed and {} tried again, the oldest is {} old",
                   counted(integer_field(stream, "retryable_failure"), "entry"), name,
                   integer_field(stream, "retryable_failure") == 1 ? "is" : "are",
                   age_of_seconds(seconds)),
       "last_error_code in the table entries says what they fail of; mend the destination before "
       "retry.max_attempts is used up, or pause it (`outfall destinations pause`)"});
}

// Neither is what is put off again and again, and it costs no attempts: it never becomes a dead
// letter that somebody would see.
void judge_deferred(const json::object& stream, const DoctorLimits& limits, Findings& findings) {
  const double seconds = number_field(stream, "oldest_deferred_seconds");
  if (seconds * 1000 < static_cast<double>(limits.retried.count())) return;
  const std::int64_t deferred = integer_field(stream, "deferred");
  const std::string name = printable(text_field(stream, "stream"));
  findings.push_back(
      {"deferred", Severity::warning, name,
       fmt::format("{} of the stream {} {} deferred, the oldest is {} old",
                   counted(deferred, "entry"), name, deferred == 1 ? "is" : "are",
                   age_of_seconds(seconds)),
       "where a breaker is open (`outfall status`) they are its probes; else their emitter puts "
       "them off: last_error_code in the table entries, the log or the emitter's program says "
       "why"});
}

void judge_held(const json::object& stream, const DoctorLimits& limits, Findings& findings) {
  const std::string name = printable(text_field(stream, "stream"));
  const double held_seconds = number_field(stream, "oldest_blocked_seconds");
  if (held_seconds * 1000 < static_cast<double>(limits.held.count())) return;
  const std::int64_t held = integer_field(stream, "held");
  findings.push_back({"held", Severity::warning, name,
                      fmt::format("{} of the stream {} {} held behind others, the oldest for {}",
                                  counted(held, "entry"), name, held == 1 ? "is" : "are",
                                  age_of_seconds(held_seconds)),
                      "`outfall entry show` of one says what it waits for"});
}

// Whether a running worker serves it, and whether that helps.
void judge_served(const json::object& stream, const DoctorLimits& limits, Findings& findings) {
  const std::string name = printable(text_field(stream, "stream"));
  const double due_seconds = number_field(stream, "oldest_due_seconds");
  const json::value* served = stream.if_contains("served");
  if (served != nullptr && served->is_bool() && !served->as_bool()) {
    const bool waits = due_seconds > 0;
    findings.push_back(
        {"no_worker", waits ? Severity::critical : Severity::note, name,
         fmt::format("no running worker serves the stream {}{}", name,
                     waits ? fmt::format(", and its oldest entry has been waiting for {}",
                                         age_of_seconds(due_seconds))
                           : std::string()),
         "start `outfall run`; where it runs, its log and `outfall health` say why it has no "
         "session"});
  } else if (due_seconds * 1000 >= static_cast<double>(limits.waiting.count())) {
    findings.push_back(
        {"waiting", Severity::warning, name,
         fmt::format("the oldest entry of the stream {} that could be delivered has been waiting "
                     "for {}, although a worker serves it",
                     name, age_of_seconds(due_seconds)),
         "`outfall health` says whether the worker answers, its log why nothing goes out, and "
         "`outfall top` whether the backlog shrinks"});
  }
}

// What an operator must know of one stream of the configuration.
void judge_stream(const json::object& stream, const DoctorLimits& limits, Findings& findings) {
  const std::string name = printable(text_field(stream, "stream"));
  if (flag_field(stream, "paused")) {
    findings.push_back(
        {"paused", Severity::note, name,
         fmt::format("the stream {} was paused by {}: {}", name,
                     printable(text_field(stream, "paused_by"), 60),
                     printable(text_field(stream, "paused_reason"), 200)),
         fmt::format("`outfall streams resume {} --reason ...`", shell_quoted(name))});
    return;
  }
  judge_served(stream, limits, findings);
  judge_held(stream, limits, findings);
  judge_retried(stream, limits, findings);
  judge_deferred(stream, limits, findings);
  if (const std::int64_t dead = integer_field(stream, "dead_letters"); dead > 0) {
    findings.push_back(
        {"dead_letters", Severity::note, name,
         fmt::format("the stream {} has {} that nobody has decided about", name,
                     counted(dead, "dead letter")),
         fmt::format("`outfall dead-letters list --stream {}`", shell_quoted(name))});
  }
}

}  // namespace

std::string_view to_string(Severity severity) noexcept {
  switch (severity) {
    case Severity::note:
      return "note";
    case Severity::warning:
      return "warning";
    case Severity::critical:
      return "critical";
  }
  return "critical";
}

Findings judge_server(const json::object& server, bool pooler) {
  Findings findings;
  if (integer_field(server, "version_number") < kOldestVersion) {
    findings.push_back({"version", Severity::critical, "server",
                        fmt::format("the server is PostgreSQL {}", text_field(server, "version")),
                        "upgrade it to 15 or newer"});
  }
  if (const std::string encoding = text_field(server, "encoding"); encoding != "UTF8") {
    findings.push_back({"encoding", Severity::critical, text_field(server, "database"),
                        fmt::format("the database has the encoding {}: a batch with an error "
                                    "message that it cannot hold is never settled",
                                    encoding),
                        "create a database with ENCODING 'UTF8' TEMPLATE template0, migrate and "
                        "restore there, and let database.url lead to it"});
  }
  judge_writing(server, findings);
  judge_durability(server, findings);
  if (!flag_field(server, "autovacuum")) {
    findings.push_back(
        {"autovacuum", Severity::critical, "autovacuum",
         "autovacuum is off: what is delivered is never removed, and claims become "
         "slower and slower",
         "set autovacuum = on and track_counts = on in postgresql.conf and reload the "
         "server"});
  }
  const double sessions = number_field(server, "sessions");
  const double limit = number_field(server, "sessions_limit");
  if (sessions >= kSessionsWorthAWarning * limit) {
    findings.push_back(
        {"sessions", Severity::warning, "max_connections",
         fmt::format("{} of the {} sessions that the server allows are in use", sessions, limit),
         "raise max_connections, or put a pooler between the server and the "
         "applications"});
  }
  if (pooler) judge_pooled_session(server, findings);
  return findings;
}

Findings judge_tables(const json::array& tables) {
  Findings findings;
  for (const json::value& value : tables) {
    const json::object& table = value.as_object();
    const std::string name = text_field(table, "table");
    findings.push_back({"table_autovacuum", Severity::critical, name,
                        fmt::format("autovacuum is switched off for the table {}, which has {}",
                                    name, counted(integer_field(table, "dead_tuples"), "dead row")),
                        text_field(table, "change")});
  }
  return findings;
}

Findings judge_transactions(const json::object& transactions, const DoctorLimits& limits) {
  Findings findings;
  const double limit = std::chrono::duration<double>(limits.long_transaction).count();
  for (const json::value& value : array_field(transactions, "open")) {
    const json::object& open = value.as_object();
    if (number_field(open, "seconds") < limit) continue;
    const std::int64_t pid = integer_field(open, "pid");
    findings.push_back(
        {"long_transaction", Severity::warning, std::to_string(pid),
         fmt::format("session {} of role {} ({}, {}) has had a transaction open for {}: vacuum "
                     "removes nothing that was deleted since, and claims have to pass over it",
                     pid, printable(text_field(open, "role"), 60),
                     printable(text_field(open, "application"), 60), text_field(open, "state"),
                     age_of_seconds(number_field(open, "seconds"))),
         fmt::format("let it end, or SELECT pg_terminate_backend({}); "
                     "idle_in_transaction_session_timeout ends those that were forgotten",
                     pid)});
  }
  for (const json::value& value : array_field(transactions, "prepared")) {
    const json::object& prepared = value.as_object();
    if (number_field(prepared, "seconds") < limit) continue;
    const std::string gid = text_field(prepared, "gid");
    findings.push_back(
        {"prepared_transaction", Severity::warning, printable(gid, 200),
         fmt::format("the transaction {} of role {} was prepared {} ago and has not been finished: "
                     "its entries are not delivered, and vacuum removes nothing since",
                     printable(gid, 200), printable(text_field(prepared, "role"), 60),
                     age_of_seconds(number_field(prepared, "seconds"))),
         fmt::format("ask its transaction manager, then COMMIT PREPARED {0}; or ROLLBACK PREPARED "
                     "{0};",
                     printable(literal(gid)))});
  }
  if (!flag_field(transactions, "sees_all")) {
    findings.push_back(
        {"visibility", Severity::note, "pg_read_all_stats",
         "this role does not see how long the transactions of others have been open",
         "GRANT pg_read_all_stats to it; the metrics of the worker need it as well"});
  }
  return findings;
}

namespace {

// Of a lock for which others wait, or of locked rows, for which nobody has to.
std::string what_is_locked(const json::object& lock, bool age_known) {
  const std::string age =
      age_known ? " in a transaction of " + age_of_seconds(number_field(lock, "seconds")) : "";
  if (flag_field(lock, "rows")) {
    return fmt::format(
        "has changed or locked rows of streams{}: nothing is claimed from these streams until it "
        "ends",
        age);
  }
  const std::int64_t waiting = integer_field(lock, "waiting");
  return fmt::format("has locked {} of the outbox{}, and {} for it: what needs it is not done",
                     printable(text_field(lock, "tables"), 100), age,
                     counted(waiting, "session") + (waiting == 1 ? " waits" : " wait"));
}

}  // namespace

Findings judge_locks(const json::array& locks, const DoctorLimits& limits) {
  Findings findings;
  const double limit = std::chrono::duration<double>(limits.locked).count();
  for (const json::value& value : locks) {
    const json::object& lock = value.as_object();
    // A role that may not see others knows no age, and a prepared transaction tells none here.
    const bool age_known = lock.at("seconds").is_number();
    if (age_known && number_field(lock, "seconds") < limit) continue;
    const std::int64_t pid = integer_field(lock, "pid");
    const std::string what = what_is_locked(lock, age_known);
    if (pid == 0) {
      findings.push_back({"lock", Severity::critical, "prepared", "a prepared transaction " + what,
                          "find it in pg_prepared_xacts and ask its transaction manager, then "
                          "COMMIT PREPARED or ROLLBACK PREPARED"});
      continue;
    }
    findings.push_back({"lock", Severity::critical, std::to_string(pid),
                        fmt::format("session {} of role {} ({}, {}) {}", pid,
                                    printable(text_field(lock, "role"), 60),
                                    printable(text_field(lock, "application"), 60),
                                    text_field(lock, "state"), what),
                        fmt::format("let it end, or SELECT pg_terminate_backend({})", pid)});
  }
  return findings;
}

Findings judge_slots(const json::array& slots) {
  Findings findings;
  for (const json::value& value : slots) {
    const json::object& slot = value.as_object();
    const std::string name = text_field(slot, "slot");
    const std::string drop = fmt::format("SELECT pg_drop_replication_slot({});", literal(name));
    if (flag_field(slot, "lost")) {
      findings.push_back(
          {"replication_slot", Severity::warning, name,
           fmt::format("the replication slot {} has lost what its reader needs", name),
           "set up its reader anew, and " + drop});
      continue;
    }
    findings.push_back(
        {"replication_slot", Severity::warning, name,
         fmt::format("nobody reads the replication slot {}, which keeps {} of write-ahead log{}",
                     name, bytes_text(integer_field(slot, "retained_bytes")),
                     flag_field(slot, "keeps_rows") ? ", and vacuum from removing rows" : ""),
         "start its reader, or " + drop + " max_slot_wal_keep_size bounds what a slot may keep"});
  }
  return findings;
}

Findings judge_privileges(const json::object& privileges, std::string_view schema) {
  const std::string role = text_field(privileges, "role");
  const json::array missing = array_field(privileges, "missing");
  const bool may_use = flag_field(privileges, "schema");
  if (may_use && missing.empty()) return {};
  std::string what = fmt::format("the role {} may not do all that a worker does", printable(role));
  std::string first = may_use ? std::string(missing.front().as_string())
                              : fmt::format("USAGE ON SCHEMA {}", identifier(schema));
  what += fmt::format("; it lacks {}", first);
  const std::size_t others = missing.size() - (may_use ? 1 : 0);
  if (others > 0)
    what += fmt::format(" and {}", counted(static_cast<std::int64_t>(others), "more right"));
  if (!flag_field(privileges, "member")) {
    // Whoever looks with a login of their own is not to make a worker of it.
    if (const std::string of = text_field(privileges, "operator"); !of.empty() && may_use) {
      return {{"privileges", Severity::note, role,
               fmt::format("{} is the login of a person (a member of {}) and no worker's: whether "
                           "the worker may do all that it does was not judged",
                           printable(role), of),
               "run `outfall doctor` with the worker's login to have that judged as well"}};
    }
    return {{"privileges", Severity::critical, role, what,
             fmt::format("GRANT outbox_worker TO {};", identifier(role))}};
  }
  std::string grants;
  if (!may_use) grants += fmt::format("GRANT {} TO outbox_worker; ", first);
  for (const json::value& right : missing) {
    grants += fmt::format("GRANT {} TO outbox_worker; ", right.as_string().c_str());
  }
  grants.pop_back();
  return {{"privileges", Severity::critical, role, what, grants}};
}

Findings judge_clock(std::chrono::microseconds offset, std::chrono::microseconds uncertainty,
                     const DoctorLimits& limits) {
  const auto distance = std::chrono::abs(offset);
  if (distance - uncertainty < limits.clock_offset) return {};
  return {{"clock", Severity::warning, "clock",
           fmt::format("the clock of this machine is {} {} that of the database", age(distance),
                       offset.count() > 0 ? "behind" : "ahead of"),
           "synchronise both (chrony, systemd-timesyncd). Leases and retries go by the database's "
           "clock; the times of webhook signatures, Kafka records and logs by this one"}};
}

Findings judge_streams(const json::object& status, const DoctorLimits& limits) {
  Findings findings;
  for (const json::value& value : array_field(status, "unbound")) {
    const json::object& stream = value.as_object();
    if (flag_field(stream, "served")) continue;
    const std::string name = printable(text_field(stream, "stream"));
    findings.push_back(
        {"unbound_stream", Severity::critical, name,
         fmt::format("nobody serves the stream {}, which has {}, the oldest of them {} old", name,
                     counted(integer_field(stream, "entries"), "entry"),
                     age_of_seconds(number_field(stream, "oldest_created_seconds"))),
         fmt::format("add [streams.{}] to the configuration of a worker, or correct the producer",
                     name)});
  }
  for (const json::value& value : array_field(status, "streams")) {
    judge_stream(value.as_object(), limits, findings);
    judge_destinations(value.as_object(), findings);
  }
  return findings;
}

Findings judge_worker(const json::object& status, const std::string& address) {
  Findings findings;
  for (const json::value& value : array_field(status, "streams")) {
    const json::object& stream = value.as_object();
    const std::string name = printable(text_field(stream, "stream"));
    for (const json::value& one : array_field(stream, "breakers")) {
      const json::object& breaker = one.as_object();
      const std::string lane = printable(text_field(breaker, "lane"));
      const std::string error = printable(text_field(breaker, "error"), 200);
      findings.push_back(
          {"breaker", Severity::critical, name,
           fmt::format("the worker at {} has held back {} of the stream {} for {}{}{}", address,
                       lane.empty() ? "everything" : "what is for " + lane, name,
                       age_of_seconds(number_field(breaker, "away_seconds")),
                       error.empty() ? "" : ": ", error),
           "mend the destination, or what it refuses of ours (credentials, certificates). Nothing "
           "is to be restarted: the worker probes every few seconds, unless the destination is "
           "paused (`outfall destinations list`)"});
    }
  }
  return findings;
}

}  // namespace outfall
