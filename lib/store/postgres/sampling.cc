#include "store/postgres/sampling.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "store/postgres/migrator.h"
#include "store/postgres/postgres_store.h"

namespace outfall::postgres {
namespace {

// float8 comes as the bits of a double in network order, as int8 does.
std::chrono::microseconds seconds(const Result& rows, int row, const char* column) {
  const int at = rows.column(column);
  if (rows.is_null(row, at)) return {};
  const double value = std::bit_cast<double>(rows.int8(row, at));
  return std::chrono::microseconds(static_cast<std::int64_t>(value * 1e6));
}

std::int64_t count(const Result& rows, int row, const char* column) {
  return rows.int8(row, rows.column(column));
}

}  // namespace

PostgresSampling::PostgresSampling(const ConnectOptions& options, std::vector<std::string> streams,
                                   ClaimFloors& floors)
    : connection_(options), streams_(std::move(streams)), floors_(floors) {
  schema_version_ = check_schema(connection_);
  if (!options.pooler) call("serve_streams", "p_streams => $1", Params().text_array(streams_));
}

Result PostgresSampling::call(std::string_view function, std::string_view arguments,
                              const Params& params) {
  return connection_.query(
      fmt::format("SELECT * FROM {}({})", connection_.qualified(function), arguments), params);
}

bool PostgresSampling::elected(bool for_transaction) {
  return call("become_sampler", "p_streams => $1, p_for_transaction => $2",
              Params().text_array(streams_).boolean(for_transaction))
      .boolean(0, 0);
}

std::optional<DatabaseLook> PostgresSampling::look(std::int32_t count_limit) {
  if (!connection_.options().pooler) {
    if (!elected_) elected_ = elected(false);
    if (!elected_) return {};
    return read(count_limit);
  }
  connection_.script("BEGIN");
  try {
    std::optional<DatabaseLook> look;
    if (elected(true)) look = read(count_limit);
    connection_.script("COMMIT");
    return look;
  } catch (const StoreError& error) {
    if (!error.session_lost()) connection_.script("ROLLBACK");
    throw;
  }
}

DatabaseLook PostgresSampling::read(std::int32_t count_limit) {
  DatabaseLook look;
  look.count_limit = count_limit;
  look.taken_at = connection_.query("SELECT clock_timestamp()", Params()).timestamp(0, 0);
  read_streams(look, count_limit);
  read_unbound(look, count_limit);
  const Result row = call("sample_database", "", Params());
  look.oldest_xmin_age_transactions = count(row, 0, "oldest_xmin_age_transactions");
  if (!row.is_null(0, row.column("oldest_transaction_seconds"))) {
    look.oldest_transaction = seconds(row, 0, "oldest_transaction_seconds");
  }
  look.dead_tuples_entries = count(row, 0, "dead_tuples_entries");
  look.dead_tuples_leases = count(row, 0, "dead_tuples_leases");
  look.receipts_partitions = row.int4(0, row.column("receipts_partitions"));
  look.receipts_in_default = row.boolean(0, row.column("receipts_in_default"));
  return look;
}

void PostgresSampling::read_streams(DatabaseLook& look, std::int32_t count_limit) {
  const ClaimFloors::Sample floors = floors_.sample(streams_);
  const Result rows =
      call("sample_streams", "p_streams => $1, p_floors => $2, p_cap => $3, p_lease_floors => $4",
           Params()
               .text_array(streams_)
               .int8_array(floors.starts)
               .int4(count_limit)
               .int8_array(floors.lease_floors));
  for (int row = 0; row < rows.rows(); ++row) {
    look.streams.push_back({.name = std::string(rows.bytes(row, rows.column("stream"))),
                            .paused = rows.boolean(row, rows.column("paused")),
                            .paused_destinations = count(rows, row, "paused_destinations"),
                            .pending = count(rows, row, "pending"),
                            .deferred = count(rows, row, "deferred"),
                            .retryable_failure = count(rows, row, "retryable_failure"),
                            .held = count(rows, row, "held"),
                            .dead_letters = count(rows, row, "dead_letters"),
                            .oldest_due = seconds(rows, row, "oldest_due_seconds"),
                            .oldest_blocked = seconds(rows, row, "oldest_blocked_seconds"),
                            .oldest_retried = seconds(rows, row, "oldest_retried_seconds"),
                            .oldest_deferred = seconds(rows, row, "oldest_deferred_seconds"),
                            .oldest_created = seconds(rows, row, "oldest_created_seconds"),
                            .leases_active = count(rows, row, "leases_active"),
                            .leases_expired = count(rows, row, "leases_expired")});
  }
}

// Streams that are not ours and that no other worker serves either.
void PostgresSampling::read_unbound(DatabaseLook& look, std::int32_t count_limit) {
  const Result rows = call("unbound_streams", "p_streams => $1, p_cap => $2",
                           Params().text_array(streams_).int4(count_limit));
  std::vector<std::string> names;
  for (int row = 0; row < rows.rows(); ++row) {
    names.emplace_back(rows.bytes(row, rows.column("stream")));
    look.unbound.push_back({.name = names.back(),
                            .entries = count(rows, row, "entries"),
                            .oldest_created = seconds(rows, row, "oldest_created_seconds")});
  }
  if (names.empty()) return;
  const Result served = call("served_streams", "p_streams => $1", Params().text_array(names));
  for (int row = 0; row < served.rows(); ++row) {
    std::erase_if(look.unbound,
                  [&](const UnboundStream& stream) { return stream.name == served.bytes(row, 0); });
  }
}

ReceiptsMaintenance PostgresSampling::maintain_receipts(Milliseconds retention) {
  const Result row = call("maintain_receipts", "p_retention => $1::interval",
                          Params().text(fmt::format("{} milliseconds", retention.count())));
  ReceiptsMaintenance done;
  done.ran = row.boolean(0, row.column("ran"));
  if (!done.ran) return done;
  done.created = row.text_array(0, row.column("created"));
  done.dropped = row.text_array(0, row.column("dropped"));
  done.deleted = row.int8(0, row.column("deleted"));
  done.postponed = row.text_array(0, row.column("postponed"));
  done.more = row.boolean(0, row.column("more"));
  return done;
}

}  // namespace outfall::postgres
