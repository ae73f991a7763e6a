#include "store/postgres/operator_store.h"

#include <utility>

#include <fmt/format.h>

#include "store/postgres/migrator.h"
#include "store/postgres/operator_rows.h"

namespace outfall::postgres {
namespace {

std::optional<RefusalReason> refusal_reason(const std::string& code) {
  if (code == "OF001") return RefusalReason::leased;
  if (code == "OF002") return RefusalReason::not_found;
  if (code == "OF003") return RefusalReason::ambiguous;
  if (code == "OF004") return RefusalReason::wrong_state;
  if (code == "OF005") return RefusalReason::incomplete;
  return {};
}

// As in the arguments of every function that takes one entry.
constexpr std::string_view kTarget = "p_envelope_id => $1, p_entry_id => $2, p_stream => $3";

Params target_params(const EntryTarget& entry) {
  Params params;
  entry.envelope_id ? params.uuid(*entry.envelope_id) : params.null(kUuid);
  entry.entry_id ? params.int8(*entry.entry_id) : params.null(kInt8);
  push(params, entry.stream);
  return params;
}

void push(Params& params, std::optional<OperatorStore::Streams> streams) {
  streams ? params.text_array(*streams) : params.null(kTextArray);
}

}  // namespace

PostgresOperatorStore::PostgresOperatorStore(const ConnectOptions& options) : connection_(options) {
  const SchemaState schema = read_schema_state(connection_);
  if (schema.fit != SchemaFit::fits) {
    throw StoreError(StoreErrorKind::schema, schema.detail, schema.hint);
  }
}

Result PostgresOperatorStore::call(std::string_view function, std::string_view arguments,
                                   const Params& params) {
  try {
    return connection_.query(
        fmt::format("SELECT * FROM {}({})", connection_.qualified(function), arguments), params);
  } catch (const StoreError& error) {
    if (const auto reason = refusal_reason(error.code())) throw OperatorRefusal(*reason, error);
    throw;
  }
}

WallTime PostgresOperatorStore::now() {
  return connection_.query("SELECT clock_timestamp()", Params()).timestamp(0, 0);
}

std::string PostgresOperatorStore::role() {
  const Result rows = connection_.query("SELECT quote_ident(session_user)", Params());
  return std::string(rows.bytes(0, 0));
}

std::string PostgresOperatorStore::status(std::optional<Streams> streams) {
  Params params;
  push(params, streams);
  return Row(call("status", "p_streams => $1", params), 0).jsonb("status");
}

std::string PostgresOperatorStore::explain(const Uuid& envelope_id,
                                           std::optional<Streams> streams) {
  Params params;
  params.uuid(envelope_id);
  push(params, streams);
  return Row(call("explain_entry", "p_envelope_id => $1, p_streams => $2", params), 0)
      .jsonb("explain_entry");
}

std::optional<Uuid> PostgresOperatorStore::envelope_of(EntryId entry_id) {
  const Result rows = call("envelope_of", "p_entry_id => $1", Params().int8(entry_id));
  if (rows.is_null(0, 0)) return {};
  return rows.uuid(0, 0);
}

std::optional<std::vector<std::string>> PostgresOperatorStore::served(Streams streams) {
  if (connection_.options().pooler || standby()) return {};
  const Result rows = call("served_streams", "p_streams => $1", Params().text_array(streams));
  std::vector<std::string> served;
  for (int row = 0; row < rows.rows(); ++row) served.emplace_back(rows.bytes(row, 0));
  return served;
}

// `params` hold what `arguments` name; actor and reason follow.
OperationRecord PostgresOperatorStore::operate(std::string_view function,
                                               std::string_view arguments, Params params,
                                               const Requester& by) {
  const int given = params.size();
  params.text(by.actor).text(by.reason);
  const Result rows = call(
      function, fmt::format("{}, p_actor => ${}, p_reason => ${}", arguments, given + 1, given + 2),
      params);
  const Row row(rows, 0);
  OperationRecord record{.operation_id = row.int8("operation_id"),
                         .done_at = row.time("done_at"),
                         .action = row.text("action"),
                         .stream = row.text("stream"),
                         .entry_id = {},
                         .envelope_id = {},
                         .detail = row.jsonb("detail")};
  if (!row.is_null("entry_id")) record.entry_id = row.int8("entry_id");
  if (!row.is_null("envelope_id")) record.envelope_id = row.uuid("envelope_id");
  return record;
}

OperationRecord PostgresOperatorStore::retry(const EntryTarget& entry, const Requester& by) {
  return operate("retry_entry", kTarget, target_params(entry), by);
}

OperationRecord PostgresOperatorStore::dead_letter(const EntryTarget& entry, bool hold_key,
                                                   const Requester& by) {
  Params params = target_params(entry);
  params.boolean(hold_key);
  return operate("dead_letter_entry", fmt::format("{}, p_hold_key => $4", kTarget),
                 std::move(params), by);
}

OperationRecord PostgresOperatorStore::discard(const EntryTarget& entry, const Requester& by) {
  return operate("discard_entry", kTarget, target_params(entry), by);
}

OperationRecord PostgresOperatorStore::pause_stream(const std::string& stream,
                                                    const Requester& by) {
  return operate("pause_stream", "p_stream => $1", Params().text(stream), by);
}

OperationRecord PostgresOperatorStore::resume_stream(const std::string& stream,
                                                     const Requester& by) {
  return operate("resume_stream", "p_stream => $1", Params().text(stream), by);
}

OperationRecord PostgresOperatorStore::pause_destination(const std::string& stream,
                                                         const std::string& lane,
                                                         const Requester& by) {
  return operate("pause_destination", "p_stream => $1, p_lane => $2",
                 Params().text(stream).text(lane), by);
}

OperationRecord PostgresOperatorStore::resume_destination(const std::string& stream,
                                                          const std::string& lane,
                                                          const Requester& by) {
  return operate("resume_destination", "p_stream => $1, p_lane => $2",
                 Params().text(stream).text(lane), by);
}

std::vector<DeadLetter> PostgresOperatorStore::dead_letters(const DeadLetterFilter& filter,
                                                            std::int32_t limit) {
  const Result rows = call("list_dead_letters", kFilter, filter_params(filter, limit));
  std::vector<DeadLetter> letters;
  for (int row = 0; row < rows.rows(); ++row) {
    letters.push_back(dead_letter_from(Row(rows, row), "entry_id"));
  }
  return letters;
}

DeadLetterContent PostgresOperatorStore::dead_letter_content(const EntryTarget& entry) {
  const Result rows = call("show_dead_letter", kTarget, target_params(entry));
  return dead_letter_content_from(Row(rows, 0));
}

}  // namespace outfall::postgres
