#include "store/postgres/operator_rows.h"

#include "core/cloudevents.h"

namespace outfall::postgres {

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

Params filter_params(const DeadLetterFilter& filter, std::optional<std::int32_t> limit) {
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
  limit ? params.int4(*limit) : params.null(kInt4);
  return params;
}

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

DeadLetterContent dead_letter_content_from(const Row& row) {
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

}  // namespace outfall::postgres
