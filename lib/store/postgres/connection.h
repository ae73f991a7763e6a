#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <libpq-fe.h>

#include "core/clock.h"
#include "core/ids.h"
#include "store/postgres/quiet_connect.h"
#include "store/store_error.h"

namespace outfall::postgres {

// How to reach the database; see [database] in the configuration reference.
struct ConnectOptions {
  std::string url;  // libpq URI or key=value
  std::string schema = "outbox";
  bool pooler = false;  // transaction pooler in between: no session state, no prepared statements
  Milliseconds connect_timeout{5000};
  Milliseconds statement_timeout{10000};
  Milliseconds claim_timeout{2000};
  Milliseconds tcp_user_timeout{10000};
  // The server ends a session that has asked nothing for so long; 0: never. Not through a pooler.
  Milliseconds idle_session_timeout{0};
  std::string application_name = "outfall";
  bool read_write = true;  // refuse a standby and a read-only server
  // Plans without sequential scans, for statements that stay prepared: one that was planned while a
  // table was nearly empty would else read all of it when it is not. Not through a pooler, where
  // each is planned anew.
  bool by_index = false;
  // What hints tell people to run, for them to paste: a worker's log is read elsewhere.
  std::string migrate_command = "outfall migrate";
};

// Parameters of one statement in binary format. Values are copied; null is pushed explicitly.
class Params {
 public:
  Params& null(Oid type);
  Params& text(std::string_view value);
  Params& text_or_null(std::string_view value);  // empty becomes null
  Params& boolean(bool value);
  Params& int4(std::int32_t value);
  Params& int8(std::int64_t value);
  Params& uuid(const Uuid& value);
  Params& timestamp_or_null(const std::optional<WallTime>& value);
  Params& timestamp_array_with_nulls(std::span<const std::optional<WallTime>> values);
  Params& int4_array(std::span<const std::int32_t> values);
  Params& int8_array(std::span<const std::int64_t> values);
  Params& text_array(std::span<const std::string> values);
  // An empty element becomes null.
  Params& text_array_with_nulls(std::span<const std::string> values);
  Params& bool_array(std::span<const bool> values);
  Params& uuid_array(std::span<const Uuid> values);

  [[nodiscard]] int size() const { return static_cast<int>(types_.size()); }
  [[nodiscard]] const Oid* types() const { return types_.data(); }
  // Pointers into this object, valid until the next push.
  [[nodiscard]] std::vector<const char*> values() const;
  [[nodiscard]] const int* lengths() const { return lengths_.data(); }
  [[nodiscard]] std::vector<int> formats() const { return std::vector<int>(types_.size(), 1); }

 private:
  void begin(Oid type);
  void end();
  void put16(std::uint16_t value);
  void put32(std::uint32_t value);
  void put64(std::uint64_t value);
  void array_header(Oid element, std::size_t count, bool nulls);

  std::string buffer_;
  std::vector<Oid> types_;
  std::vector<std::ptrdiff_t> offsets_;  // -1: null
  std::vector<int> lengths_;
};

// A binary result. Views stay valid as long as the result or a copy of share() lives.
class Result {
 public:
  explicit Result(PGresult* result) : result_(result, PQclear) {}
  [[nodiscard]] int rows() const { return PQntuples(result_.get()); }
  [[nodiscard]] bool is_null(int row, int column) const {
    return PQgetisnull(result_.get(), row, column) != 0;
  }
  [[nodiscard]] std::string_view bytes(int row, int column) const {
    return {PQgetvalue(result_.get(), row, column),
            static_cast<std::size_t>(PQgetlength(result_.get(), row, column))};
  }
  // Those below throw StoreError (defect) where the value is not of their type's size, as a null
  // is.
  [[nodiscard]] bool boolean(int row, int column) const;
  [[nodiscard]] std::int32_t int4(int row, int column) const;
  [[nodiscard]] std::int64_t int8(int row, int column) const;
  [[nodiscard]] Uuid uuid(int row, int column) const;
  // The last instant that there is for those that cannot be told, such as infinity.
  [[nodiscard]] WallTime timestamp(int row, int column) const;
  // Nulls in arrays are left out.
  [[nodiscard]] std::vector<std::int64_t> int8_array(int row, int column) const;
  [[nodiscard]] std::vector<std::string> text_array(int row, int column) const;
  [[nodiscard]] std::vector<Uuid> uuid_array(int row, int column) const;
  [[nodiscard]] int column(const char* name) const { return PQfnumber(result_.get(), name); }
  [[nodiscard]] PGresult* get() const { return result_.get(); }
  [[nodiscard]] std::shared_ptr<const void> share() const { return result_; }

 private:
  std::shared_ptr<PGresult> result_;
};

// One libpq connection. One thread at a time. Every call blocks for at most the connect or
// statement timeout plus a margin, also when the server hangs with its socket open, and throws
// StoreError. libpq and not libpqxx: binary results, pipelines and a deadline on the client's side
// (docs/internals/architecture.md).
class Connection {
 public:
  explicit Connection(const ConnectOptions& options);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  [[nodiscard]] const ConnectOptions& options() const { return options_; }
  // `"schema".name`, quoted.
  [[nodiscard]] std::string qualified(std::string_view name) const;

  // One statement, one round trip. Prepared on first use unless there is a pooler.
  Result query(const std::string& sql, const Params& params);
  // Two statements, each its own transaction, in one round trip where there is no pooler. The
  // server cancels the first one after claim_timeout; behind a pooler, which forbids session
  // settings, after statement_timeout like every other. `after_first`, if any, is called with
  // the first result, before the second one is there.
  std::pair<Result, Result> query_both(const std::string& first, const Params& first_params,
                                       const std::string& second, const Params& second_params,
                                       const std::function<void(const Result&)>& after_first = {});
  // Simple protocol, for scripts; may hold several statements and returns the last one's text
  // result.
  Result script(const std::string& sql);

  [[nodiscard]] int socket() const { return PQsocket(connection_.get()); }
  // What the server said of itself last; false where that is not known, as behind some poolers.
  [[nodiscard]] bool standby() const;

 private:
  void send(const std::string& sql, const Params& params);
  void send_timeout(Milliseconds timeout);
  void ensure_prepared(const std::string& sql, const Params& params);
  Result receive(MonotonicTime deadline);
  std::pair<std::optional<Result>, std::optional<Result>> receive_both(
      MonotonicTime deadline, const std::function<void(const Result&)>& after_first);
  PGresult* next_result(MonotonicTime deadline);
  void flush(MonotonicTime deadline);
  void wait(bool for_write, MonotonicTime deadline);
  [[nodiscard]] MonotonicTime call_deadline() const;
  [[noreturn]] void lost(const std::string& what);

  ConnectOptions options_;
  PgHandle connection_{nullptr, PQfinish};
  std::set<std::string> prepared_;
};

// Quotes an identifier for SQL text.
[[nodiscard]] std::string quote_identifier(std::string_view name);
// Turns a failed result (or, with null, a failed connection) into the right StoreError.
[[nodiscard]] StoreError error_from(const PGresult* result, const std::string& fallback);

}  // namespace outfall::postgres
