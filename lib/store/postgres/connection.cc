#include "store/postgres/connection.h"

#include <algorithm>
#include <cerrno>
#include <poll.h>
#include <system_error>

#include "core/crash_point.h"

namespace outfall::postgres {

namespace {

constexpr Milliseconds kClientMargin{2000};  // how much later than the server's timeout ours fires

// No disk, no memory, a limit, or an error of the server's own system, in answer to a statement. It
// was rolled back and its session lives, so that another session would only meet the same.
bool lacks_resources(std::string_view state) {
  constexpr std::string_view kTooManyConnections = "53300";
  return (state.starts_with("53") && state != kTooManyConnections) || state.starts_with("58");
}

StoreErrorKind kind_of(std::string_view state) {
  const auto starts = [&](std::string_view prefix) { return state.starts_with(prefix); };
  if (state == "25006") return StoreErrorKind::read_only;
  if (state == "57014") return StoreErrorKind::timeout;  // query_canceled
  if (state == "55P03") return StoreErrorKind::timeout;  // lock_not_available
  if (starts("40")) return StoreErrorKind::conflict;
  if (state == "42501") return StoreErrorKind::denied;
  if (lacks_resources(state)) return StoreErrorKind::timeout;
  // 53300: too many connections; 57P: shutdown, crash recovery; 08: connection.
  if (starts("53") || starts("57P") || starts("08")) return StoreErrorKind::unavailable;
  if (starts("28") || starts("3D"))
    return StoreErrorKind::unavailable;  // may be mended on the server
  if (state == "42P01" || state == "42883" || state == "3F000" || state == "42703")
    return StoreErrorKind::schema;
  if (starts("P0") && state != "P0001") return StoreErrorKind::defect;
  if (starts("OF")) return StoreErrorKind::refused;  // outfall's own refusals
  return StoreErrorKind::defect;
}

// The call is on its way, and whether it takes effect is unknown to us.
void sent_point([[maybe_unused]] const std::string& sql) {
#ifdef OUTFALL_CRASH_POINTS
  for (const char* function : {"claim", "settle", "release"}) {
    if (sql.find("." + std::string(function) + "(") != std::string::npos)
      crash_point(function, "sent");
  }
#endif
}

// libpq quotes what it does not understand of a connection string, which may be a piece of a
// password with a typing error in front.
void check_understood(const std::string& url) {
  char* words = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
      PQconninfoParse(url.c_str(), &words), PQconninfoFree);
  PQfreemem(words);
  if (options != nullptr) return;
  throw StoreError(
      StoreErrorKind::unavailable,
      "libpq does not understand the connection string, of which nothing is shown here",
      "look for a typing error in the names of parameters in database.url");
}

std::string hint_for(StoreErrorKind kind) {
  switch (kind) {
    case StoreErrorKind::denied:
      return "grant the worker's role membership in outbox_worker";
    case StoreErrorKind::schema:
      return "check database.url and database.schema; `outfall doctor` tells what is there";
    case StoreErrorKind::read_only:
      return "database.url must lead to the primary";
    case StoreErrorKind::unavailable:
      return "check database.url and that the server accepts connections";
    default:
      return {};
  }
}

// Which of the things that database.url names did not work; libpq has only words for it.
std::string connect_hint(std::string_view failure) {
  if (failure.find("no password supplied") != std::string_view::npos)
    return "the server asks for a password: name a file that holds database.url with it by "
           "database.url_file, or put it into a password file of libpq";
  if (failure.find("password authentication failed") != std::string_view::npos)
    return "check user and password in database.url, or in the file that they are read from";
  return hint_for(StoreErrorKind::unavailable);
}

}  // namespace

StoreError error_from(const PGresult* result, const std::string& fallback) {
  const char* state = result == nullptr ? nullptr : PQresultErrorField(result, PG_DIAG_SQLSTATE);
  if (state == nullptr) {
    return {StoreErrorKind::unavailable, libpq_words(fallback.c_str()),
            hint_for(StoreErrorKind::unavailable)};
  }
  const StoreErrorKind kind = kind_of(state);
  const char* message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  const char* hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
  // A refusal is written for people; of anything else the code says more than the words.
  const std::string suffix =
      kind == StoreErrorKind::refused ? std::string() : std::string(" (SQLSTATE ") + state + ")";
  const std::string own_hint =
      lacks_resources(state)
          ? "see to the database server's disk, memory and log; it is tried again"
          : hint_for(kind);
  return {kind, libpq_words(message) + suffix, hint != nullptr ? std::string(hint) : own_hint,
          state};
}

std::string quote_identifier(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted += '"';
}

Connection::Connection(const ConnectOptions& options) : options_(options) {
  check_understood(options.url);
  // libpq waits for at least two seconds.
  const auto connect_timeout = std::max(
      std::chrono::ceil<std::chrono::seconds>(options.connect_timeout), std::chrono::seconds(2));
  const std::string connect_seconds = std::to_string(connect_timeout.count());
  const std::string tcp_timeout = std::to_string(options.tcp_user_timeout.count());
  // A pooler in transaction mode refuses start-up options; there the role carries them.
  const std::string session_options =
      "-c statement_timeout=" + std::to_string(options.statement_timeout.count()) +
      " -c default_transaction_isolation=read\\ committed -c jit=off -c extra_float_digits=0" +
      " -c idle_in_transaction_session_timeout=60000 -c idle_session_timeout=" +
      std::to_string(options.idle_session_timeout.count()) +
      (options.by_index ? " -c enable_seqscan=off -c enable_bitmapscan=off" : "");
  std::vector<const char*> keys{
      "dbname",          "application_name",    "connect_timeout",  "keepalives",
      "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
      "client_encoding", "target_session_attrs"};
  std::vector<const char*> values{options.url.c_str(),
                                  options.application_name.c_str(),
                                  connect_seconds.c_str(),
                                  "1",
                                  "10",
                                  "5",
                                  "3",
                                  tcp_timeout.c_str(),
                                  "UTF8",
                                  options.read_write ? "read-write" : "any"};
  if (!options.pooler) {
    keys.push_back("options");
    values.push_back(session_options.c_str());
  }
  Connecting attempt = quiet_connect(std::move(keys), std::move(values), connect_timeout);
  if (attempt.connection == nullptr) {
    const std::string& what = attempt.failure;
    if (what.find("read-only") != std::string::npos) {
      throw StoreError(StoreErrorKind::read_only, what, hint_for(StoreErrorKind::read_only));
    }
    throw StoreError(StoreErrorKind::unavailable, what, connect_hint(what));
  }
  connection_ = std::move(attempt.connection);
  PQsetnonblocking(connection_.get(), 1);
}

std::string Connection::qualified(std::string_view name) const {
  return quote_identifier(options_.schema) + "." + std::string(name);
}

bool Connection::standby() const {
  const char* state = PQparameterStatus(connection_.get(), "in_hot_standby");
  return state != nullptr && std::string_view(state) == "on";
}

MonotonicTime Connection::call_deadline() const {
  return std::chrono::steady_clock::now() + options_.statement_timeout + kClientMargin;
}

void Connection::lost(const std::string& what) {
  connection_.reset();
  throw StoreError(StoreErrorKind::unavailable, what, hint_for(StoreErrorKind::unavailable));
}

void Connection::wait(bool for_write, MonotonicTime deadline) {
  while (true) {
    const auto left = std::chrono::ceil<Milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) lost("the database did not answer in time");
    pollfd entry{PQsocket(connection_.get()),
                 static_cast<short>(POLLIN | (for_write ? POLLOUT : 0)), 0};
    const int ready = poll(&entry, 1, static_cast<int>(left.count()));
    if (ready > 0) return;
    if (ready < 0 && errno != EINTR) {
      lost("poll: " + std::generic_category().message(errno));
    }
  }
}

void Connection::flush(MonotonicTime deadline) {
  while (true) {
    const int pending = PQflush(connection_.get());
    if (pending == 0) return;
    if (pending < 0) lost(libpq_words(PQerrorMessage(connection_.get())));
    wait(true, deadline);
    // Reading while writing, so that neither side blocks on a full buffer.
    if (PQconsumeInput(connection_.get()) == 0)
      lost(libpq_words(PQerrorMessage(connection_.get())));
  }
}

PGresult* Connection::next_result(MonotonicTime deadline) {
  while (PQisBusy(connection_.get()) != 0) {
    wait(false, deadline);
    if (PQconsumeInput(connection_.get()) == 0)
      lost(libpq_words(PQerrorMessage(connection_.get())));
  }
  return PQgetResult(connection_.get());
}

// The result of one statement; reads up to the end of its results (or, in a pipeline, its sync
// point).
Result Connection::receive(MonotonicTime deadline) {
  const bool pipeline = PQpipelineStatus(connection_.get()) != PQ_PIPELINE_OFF;
  std::unique_ptr<PGresult, decltype(&PQclear)> kept{nullptr, PQclear};
  bool failed = false;
  int ends = 0;
  while (true) {
    PGresult* result = next_result(deadline);
    if (result == nullptr) {
      if (PQstatus(connection_.get()) == CONNECTION_BAD) break;
      if (!pipeline || ++ends > 4) break;
      continue;
    }
    const ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_PIPELINE_SYNC) {
      PQclear(result);
      break;
    }
    const bool ok = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
    if (!failed || ok) {
      kept.reset(result);
    } else {
      PQclear(result);
    }
    failed = failed || !ok;
    if (failed && PQstatus(connection_.get()) == CONNECTION_BAD) break;
  }
  if (kept == nullptr || failed || PQstatus(connection_.get()) == CONNECTION_BAD) {
    const StoreError error = error_from(kept.get(), PQerrorMessage(connection_.get()));
    // Whatever it died of, nothing is known of the statement.
    if (PQstatus(connection_.get()) == CONNECTION_BAD) lost(error.what());
    throw error;
  }
  return Result(kept.release());
}

void Connection::ensure_prepared(const std::string& sql, const Params& params) {
  if (options_.pooler || prepared_.contains(sql)) return;
  const std::string name = std::to_string(std::hash<std::string>{}(sql));
  if (PQsendPrepare(connection_.get(), name.c_str(), sql.c_str(), params.size(), params.types()) ==
      0) {
    lost(libpq_words(PQerrorMessage(connection_.get())));
  }
  const MonotonicTime deadline = call_deadline();
  flush(deadline);
  (void)receive(deadline);
  prepared_.insert(sql);
}

void Connection::send(const std::string& sql, const Params& params) {
  const std::vector<const char*> values = params.values();
  const std::vector<int> formats = params.formats();
  int sent = 0;
  if (options_.pooler) {
    sent = PQsendQueryParams(connection_.get(), sql.c_str(), params.size(), params.types(),
                             values.data(), params.lengths(), formats.data(), 1);
  } else {
    const std::string name = std::to_string(std::hash<std::string>{}(sql));
    sent = PQsendQueryPrepared(connection_.get(), name.c_str(), params.size(), values.data(),
                               params.lengths(), formats.data(), 1);
  }
  if (sent == 0) lost(libpq_words(PQerrorMessage(connection_.get())));
}

void Connection::send_timeout(Milliseconds timeout) {
  const std::string sql = "SET statement_timeout = " + std::to_string(timeout.count());
  if (PQsendQueryParams(connection_.get(), sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 1) ==
      0) {
    lost(libpq_words(PQerrorMessage(connection_.get())));
  }
}

Result Connection::query(const std::string& sql, const Params& params) {
  if (connection_ == nullptr)
    throw StoreError(StoreErrorKind::unavailable, "the connection was lost");
  ensure_prepared(sql, params);
  const MonotonicTime deadline = call_deadline();
  send(sql, params);
  flush(deadline);
  sent_point(sql);
  return receive(deadline);
}

std::pair<Result, Result> Connection::query_both(
    const std::string& first, const Params& first_params, const std::string& second,
    const Params& second_params, const std::function<void(const Result&)>& after_first) {
  if (options_.pooler) {
    Result one = query(first, first_params);
    if (after_first) after_first(one);
    return {std::move(one), query(second, second_params)};
  }
  if (connection_ == nullptr)
    throw StoreError(StoreErrorKind::unavailable, "the connection was lost");
  ensure_prepared(first, first_params);
  ensure_prepared(second, second_params);
  const MonotonicTime deadline = call_deadline();
  // Two sync points: the first statement's transaction, and with it its locks, ends before the
  // second one's result is read.
  if (PQenterPipelineMode(connection_.get()) == 0)
    lost(libpq_words(PQerrorMessage(connection_.get())));
  // Each Execute message starts the server's clock anew, so the claim runs under the timeout before
  // it.
  send_timeout(options_.claim_timeout);
  send(first, first_params);
  if (PQpipelineSync(connection_.get()) == 0) lost(libpq_words(PQerrorMessage(connection_.get())));
  send_timeout(options_.statement_timeout);
  send(second, second_params);
  if (PQpipelineSync(connection_.get()) == 0) lost(libpq_words(PQerrorMessage(connection_.get())));
  flush(deadline);
  sent_point(first);
  const auto [one, two] = receive_both(deadline, after_first);
  return {*one, *two};
}

// The results of a pipeline of two. Both are read, also when one is an error, so that the
// connection is out of pipeline mode afterwards: what is sent in it goes without a Sync, and the
// server would wait for that with the locks of the statement.
std::pair<std::optional<Result>, std::optional<Result>> Connection::receive_both(
    MonotonicTime deadline, const std::function<void(const Result&)>& after_first) {
  std::optional<StoreError> failure;
  const auto next = [&](bool is_first) -> std::optional<Result> {
    try {
      Result result = receive(deadline);
      if (is_first && after_first) after_first(result);
      return result;
    } catch (const StoreError& error) {
      if (connection_ == nullptr) throw;
      if (!failure) failure = error;
      return std::nullopt;
    }
  };
  std::optional<Result> one = next(true);
  std::optional<Result> two = next(false);
  if (PQexitPipelineMode(connection_.get()) == 0)
    lost(libpq_words(PQerrorMessage(connection_.get())));
  if (!two) {
    // Its failure has undone the SET before it.
    script("SET statement_timeout = " + std::to_string(options_.statement_timeout.count()));
  }
  if (failure) throw StoreError(*failure);
  return {std::move(one), std::move(two)};
}

Result Connection::script(const std::string& sql) {
  if (connection_ == nullptr)
    throw StoreError(StoreErrorKind::unavailable, "the connection was lost");
  const MonotonicTime deadline = call_deadline();
  if (PQsendQuery(connection_.get(), sql.c_str()) == 0)
    lost(libpq_words(PQerrorMessage(connection_.get())));
  flush(deadline);
  return receive(deadline);
}

}  // namespace outfall::postgres
