#include "store/postgres/operator_store.h"

#include <utility>

#include <fmt/format.h>

#include "core/cloudevents.h"
#include "store/postgres/migrator.h"

namespace outfall::postgres {
namespace {

constexpr Oid kText = 25, kInt8 = 20, kUuid = 2950, kTextArray = 1009, kInt8Array = 1016,
              kUuidArray = 2951;

std::optional<RefusalReason> refusal_reason(const std::string& code) {
  if (code == "OF001") return RefusalReason::leased;
  if (code == "OF002") return RefusalReason::not_found;
  if (code == "OF003") return RefusalReason::ambiguous;
  if (code == "OF004") return RefusalReason::wrong_state;
  if (code == "OF005") return RefusalReason::incomplete;
  return {};
}

void push(Params& params, const std::optional<std::string>& text) {
  text ? params.text(*text) : params.null(kText);
}

void push(Params& params, const std::optional<WallTime>& time) {
  std::string text;
  if (time && !append_rfc3339(text, *time)) {
    throw StoreError(StoreErrorKind::defect, "a time beyond the year 9999 was given");
  }
  params.text_or_null(text);
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

constexpr std::string_view kFilter =
    "p_ids => $1, p_envelope_ids => $2, p_stream => $3, p_type => $4, p_key => $5, "
    "p_reason_code => $6, p_from => $7::timestamptz, p_to => $8::timestamptz, p_after => $9, "
    "p_limit => $10";

Params filter_params(const DeadLetterFilter& filter, std::int32_t limit) {
  Params params;
  filter.ids.empty() ? params.null(kInt8Array) : params.int8_array(filter.ids);
  filter.envelope_ids.empty() ? params.null(kUuidArray) : params.uuid_array(filter.envelope_ids);
  push(params, filter.stream);
  push(params, filter.type);
  push(params, filter.key);
  push(params, filter.reason_code);
  push(params, filter.since);
  push(params, filter.until);
  filter.after ? params.int8(*filter.after) : params.null(kInt8);
  params.int4(limit);
  return params;
}

// The columns of a result by their names.
class Row {
 public:
  Row(const Result& rows, int row) : rows_(rows), row_(row) {}

  [[nodiscard]] bool is_null(const char* name) const {
    return rows_.is_null(row_, rows_.column(name));
  }
  [[nodiscard]] std::string text(const char* name) const {
    return is_null(name) ? std::string() : std::string(rows_.bytes(row_, rows_.column(name)));
  }
  [[nodiscard]] std::optional<std::string> optional_text(const char* name) const {
    if (is_null(name)) return {};
    return text(name);
  }
  // jsonb's binary format is one version byte, then its text.
  [[nodiscard]] std::string jsonb(const char* name) const {
    const std::string bytes = text(name);
    return bytes.empty() ? bytes : bytes.substr(1);
  }
  [[nodiscard]] std::int32_t int4(const char* name) const {
    return rows_.int4(row_, rows_.column(name));
  }
  [[nodiscard]] std::int64_t int8(const char* name) const {
    return rows_.int8(row_, rows_.column(name));
  }
  [[nodiscard]] bool boolean(const char* name) const {
    return rows_.boolean(row_, rows_.column(name));
  }
  [[nodiscard]] Uuid uuid(const char* name) const { return rows_.uuid(row_, rows_.column(name)); }
  [[nodiscard]] WallTime time(const char* name) const {
    return rows_.timestamp(row_, rows_.column(name));
  }

 private:
  const Result& rows_;
  int row_;
};

DeadLetter dead_letter_from(const Row& row, const char* id_column) {
  return {.entry_id = row.int8(id_column),
          .envelope_id = row.uuid("envelope_id"),
          .stream = row.text("stream"),
          .key = row.optional_text("key"),
          .type = row.text("type"),
          .reason_code = row.text("reason_code"),
          .reason = row.text("reason"),
          .attempts = row.int4("attempts"),
          .replays = row.int4("replays"),
          .holds_key = row.boolean("holds_key"),
          .created_at = row.time("created_at"),
          .dead_lettered_at = row.time("dead_lettered_at"),
          .last_error_code = row.text("last_error_code"),
          .last_error_message = row.text("last_error_message")};
}

void push(Params& params, std::optional<OperatorStore::Streams> streams) {
  streams ? params.text_array(*streams) : params.null(kTextArray);
}

}  // namespace

PostgresOperatorStore::PostgresOperatorStore(const ConnectOptions& options) : connection_(options) {
  const SchemaState schema = read_schema_state(connection_);
  if (schema.fit != SchemaFit::fits) throw StoreError(StoreErrorKind::schema, schema.detail);
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
  if (connection_.options().pooler) return {};
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
  const Row row(rows, 0);
  DeadLetterContent content;
  content.letter = dead_letter_from(row, "id");
  content.source = row.optional_text("source");
  content.subject = row.optional_text("subject");
  content.content_type = row.optional_text("content_type");
  content.data_schema = row.optional_text("data_schema");
  if (!row.is_null("occurred_at")) content.occurred_at = row.time("occurred_at");
  content.headers = row.jsonb("headers");
  content.payload_is_binary = !row.is_null("payload_binary");
  content.payload = row.optional_text(content.payload_is_binary ? "payload_binary" : "payload");
  return content;
}

Result PostgresOperatorStore::change_dead_letters(std::string_view function,
                                                  const DeadLetterFilter& filter,
                                                  std::int32_t limit,
                                                  const std::optional<Requester>& by) {
  Params params = filter_params(filter, limit);
  params.boolean(!by).text(by ? by->actor : std::string()).text(by ? by->reason : std::string());
  return call(function,
              fmt::format("{}, p_dry_run => $11, p_actor => $12, p_reason => $13", kFilter),
              params);
}

DeadLetterChunk PostgresOperatorStore::replay(const DeadLetterFilter& filter, std::int32_t limit,
                                              const std::optional<Requester>& by) {
  const Result rows = change_dead_letters("replay_dead_letters", filter, limit, by);
  const Row row(rows, 0);
  DeadLetterChunk chunk{.done = row.int4("replayed"),
                        .skipped = row.int4("skipped"),
                        .last_id = {},
                        .more = row.boolean("more")};
  if (!row.is_null("last_id")) chunk.last_id = row.int8("last_id");
  return chunk;
}

DeadLetterChunk PostgresOperatorStore::discard(const DeadLetterFilter& filter, std::int32_t limit,
                                               const std::optional<Requester>& by) {
  const Result rows = change_dead_letters("discard_dead_letters", filter, limit, by);
  const Row row(rows, 0);
  DeadLetterChunk chunk{
      .done = row.int4("discarded"), .skipped = 0, .last_id = {}, .more = row.boolean("more")};
  if (!row.is_null("last_id")) chunk.last_id = row.int8("last_id");
  return chunk;
}

}  // namespace outfall::postgres
