#include "store/postgres/leased_entries.h"

#include <memory>
#include <utility>

namespace outfall::postgres {

namespace {

constexpr char kJsonbVersion = '\1';

std::string_view optional_text(const Result& result, int row, int column) {
  return result.is_null(row, column) ? std::string_view{} : result.bytes(row, column);
}

// jsonb's binary format is one version byte, then its text.
std::string_view jsonb_text(const Result& result, int row, int column) {
  if (result.is_null(row, column)) return {};
  const std::string_view bytes = result.bytes(row, column);
  if (!bytes.starts_with(kJsonbVersion)) {
    throw StoreError(StoreErrorKind::defect, "the database sent headers in an unknown format");
  }
  return bytes.substr(1);
}

// Columns of leased_entries, in the order in which the function declares them.
enum EntryColumn : int {
  kId,
  kEnvelopeId,
  kKey,
  kKeyHash,
  kType,
  kSource,
  kSubject,
  kContentType,
  kDataSchema,
  kHeaders,
  kPayload,
  kPayloadBinary,
  kOccurredAt,
  kCreatedAt,
  kAttempts,
  kAttemptsBase,
  kLimitsFrom
};

LeasedEntry entry_from(const Result& rows, int row, std::string_view stream) {
  LeasedEntry leased;
  Envelope& envelope = leased.envelope;
  envelope.entry_id = rows.int8(row, kId);
  envelope.envelope_id = rows.uuid(row, kEnvelopeId);
  envelope.stream = stream;
  if (!rows.is_null(row, kKey)) {
    envelope.key = rows.bytes(row, kKey);
    leased.key_hash = rows.int4(row, kKeyHash);
  }
  envelope.type = rows.bytes(row, kType);
  envelope.source = optional_text(rows, row, kSource);
  envelope.subject = optional_text(rows, row, kSubject);
  envelope.content_type = optional_text(rows, row, kContentType);
  envelope.data_schema = optional_text(rows, row, kDataSchema);
  envelope.headers_json = jsonb_text(rows, row, kHeaders);
  if (!rows.is_null(row, kPayload)) {
    envelope.payload_kind = PayloadKind::json;
    envelope.payload = rows.bytes(row, kPayload);
  } else if (!rows.is_null(row, kPayloadBinary)) {
    envelope.payload_kind = PayloadKind::binary;
    envelope.payload = rows.bytes(row, kPayloadBinary);
  }
  if (!rows.is_null(row, kOccurredAt)) envelope.occurred_at = rows.timestamp(row, kOccurredAt);
  envelope.created_at = rows.timestamp(row, kCreatedAt);
  envelope.attempts = rows.int4(row, kAttempts);
  leased.attempts_base = rows.int4(row, kAttemptsBase);
  leased.limits_from =
      rows.is_null(row, kLimitsFrom) ? envelope.created_at : rows.timestamp(row, kLimitsFrom);
  return leased;
}

// What the views of a batch point into.
struct BatchOwner {
  std::string stream;
  std::shared_ptr<const void> rows;
};

}  // namespace

void fill_batch(LeasedBatch& batch, const Result& rows, const std::string& stream) {
  auto owner = std::make_shared<BatchOwner>(BatchOwner{stream, rows.share()});
  batch.entries.reserve(static_cast<std::size_t>(rows.rows()));
  for (int row = 0; row < rows.rows(); ++row) {
    batch.entries.push_back(entry_from(rows, row, owner->stream));
    batch.bytes += batch.entries.back().bytes();
  }
  batch.owner = std::move(owner);
}

}  // namespace outfall::postgres
