#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/ids.h"

namespace outfall {

// What the producer wrote into the payload columns. `none` is a tombstone: both columns null.
enum class PayloadKind : std::uint8_t { none, json, binary };

// The immutable thing to deliver. Every view points into memory that the batch it came with keeps
// alive (EmitBatch::owner); copying an Envelope copies views only. Attributes that the producer
// left null are empty, except for `key`, where empty and absent differ.
struct Envelope {
  EntryId entry_id = 0;
  Uuid envelope_id;  // stable over retries and replays: the consumer's idempotency key
  std::string_view stream;
  std::optional<std::string_view> key;  // ordering scope, Kafka message key
  std::string_view type;
  std::string_view source;  // as written; see effective_source()
  std::string_view subject;
  std::string_view content_type;  // as written; see effective_content_type()
  std::string_view data_schema;
  std::string_view headers_json;  // JSON object of string members, or empty
  PayloadKind payload_kind = PayloadKind::none;
  std::string_view payload;  // exact bytes as written
  std::optional<WallTime> occurred_at;
  WallTime created_at;
  std::int32_t attempts = 0;  // counted attempts before this one
};

// CloudEvents 1.0 requires `source`; a producer need not set it. Then it is "/outfall/<stream>".
[[nodiscard]] std::string effective_source(const Envelope& envelope);

// The declared content type, else application/json or application/octet-stream by payload kind, and
// empty for a tombstone.
[[nodiscard]] std::string_view effective_content_type(const Envelope& envelope) noexcept;

// The event's time: occurred_at, or created_at where the producer did not say.
[[nodiscard]] WallTime effective_time(const Envelope& envelope) noexcept;

}  // namespace outfall
