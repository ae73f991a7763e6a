#include "emitters/kafka/mapping.h"

#include <algorithm>
#include <array>
#include <new>

#include "core/cloudevents.h"
#include "core/headers.h"
#include "core/number.h"
#include "core/text.h"

namespace outfall::kafka {
namespace {

constexpr std::string_view kContentType = "content-type";
constexpr auto kAttributeHeaders =
    std::to_array<std::string_view>({"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time",
                                     "ce_subject", "ce_dataschema", "ce_datacontenttype"});

// Debezium's schemas of a text column and of a uuid column.
constexpr std::string_view kTextSchema = R"({"type":"string","optional":false})";
constexpr std::string_view kUuidSchema =
    R"({"type":"string","optional":false,"name":"io.debezium.data.Uuid","version":1})";

// A record batch without its records.
constexpr std::int64_t kBatchOverhead = 61;

// Bytes of a number in zigzag encoding, for numbers that are not negative.
std::int64_t varint_bytes(std::int64_t number) noexcept {
  std::int64_t bytes = 1;
  for (auto rest = static_cast<std::uint64_t>(number) << 1; rest >= 0x80; rest >>= 7) ++bytes;
  return bytes;
}

std::int64_t field_bytes(const std::optional<std::string_view>& field) noexcept {
  if (!field) return 1;
  const auto size = static_cast<std::int64_t>(field->size());
  return varint_bytes(size) + size;
}

// The canonical text of an id, without an allocation.
std::array<char, 36> text_of(const Uuid& id) noexcept {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::array<char, 36> text{};
  std::size_t at = 0;
  for (std::size_t i = 0; i < id.bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text[at++] = '-';
    text[at++] = kDigits[id.bytes[i] >> 4];
    text[at++] = kDigits[id.bytes[i] & 15];
  }
  return text;
}

std::int64_t milliseconds(WallTime time) noexcept {
  return std::chrono::floor<Milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

std::int64_t timestamp_ms_of(const Envelope& envelope) noexcept {
  const std::int64_t time = milliseconds(effective_time(envelope));
  return time > 0 ? time : milliseconds(envelope.created_at);
}

std::optional<DeliveryError> Mapping::map(const Envelope& envelope, Mapped& mapped) {
  headers_ = 0;
  header_bytes_ = 0;
  mapped.partition = RD_KAFKA_PARTITION_UA;
  mapped.timestamp_ms = timestamp_ms_of(envelope);
  mapped.headers.reset(rd_kafka_headers_new(12));
  if (!mapped.headers) throw std::bad_alloc();
  map_key(envelope, mapped);
  map_value(envelope, mapped);
  add_attributes(envelope, mapped);
  if (!envelope.headers_json.empty()) add_entry_headers(envelope, mapped);
  // Attributes, timestamp delta and offset delta take a byte each.
  const std::int64_t record = 3 + field_bytes(mapped.key) + field_bytes(mapped.value) +
                              varint_bytes(static_cast<std::int64_t>(headers_)) + header_bytes_;
  mapped.wire_bytes = kBatchOverhead + varint_bytes(record) + record;
  return map_partition(envelope, mapped);
}

void Mapping::encode(std::string& out, std::string_view text, Encoding encoding,
                     std::string_view schema) {
  out.clear();
  if (encoding == Encoding::raw) {
    out = text;
    return;
  }
  if (encoding == Encoding::json_schema)
    out.append("{\"schema\":").append(schema).append(",\"payload\":");
  append_json_string(out, text);
  if (encoding == Encoding::json_schema) out += '}';
}

void Mapping::map_key(const Envelope& envelope, Mapped& mapped) {
  mapped.key = envelope.key;
  if (!envelope.key || settings_.key_encoding == Encoding::raw) return;
  encode(key_, *envelope.key, settings_.key_encoding, kTextSchema);
  mapped.key = key_;
}

void Mapping::map_value(const Envelope& envelope, Mapped& mapped) {
  mapped.value_is_ours = settings_.format == Format::structured;
  mapped.value.reset();
  if (mapped.value_is_ours) {
    value_.clear();
    append_cloudevent_json(value_, envelope);
    mapped.value = value_;
  } else if (envelope.payload_kind != PayloadKind::none) {
    mapped.value = envelope.payload;
  }
}

std::optional<DeliveryError> Mapping::map_partition(const Envelope& envelope, Mapped& mapped) {
  if (settings_.partition_header.empty() ||
      !find_header(envelope, settings_.partition_header, scratch_)) {
    return std::nullopt;
  }
  const auto partition = parse_number<std::int32_t>(scratch_);
  if (partition && *partition >= 0) {
    mapped.partition = *partition;
    return std::nullopt;
  }
  return DeliveryError{"kafka.invalid_partition", "the header " + settings_.partition_header +
                                                      " is not the number of a partition"};
}

void Mapping::add(Mapped& mapped, std::string_view name, std::string_view value) {
  // A null value would be another thing than an empty one.
  const char* const data = value.data() != nullptr ? value.data() : "";
  if (rd_kafka_header_add(mapped.headers.get(), name.data() != nullptr ? name.data() : "",
                          static_cast<ssize_t>(name.size()), data,
                          static_cast<ssize_t>(value.size())) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    throw std::bad_alloc();
  }
  ++headers_;
  header_bytes_ += field_bytes(name) + field_bytes(value);
}

std::string_view Mapping::source_of(const Envelope& envelope) {
  if (!envelope.source.empty()) return envelope.source;
  if (source_stream_ != envelope.stream || source_.empty()) {
    source_ = effective_source(envelope);
    source_stream_ = envelope.stream;
  }
  return source_;
}

void Mapping::add_attributes(const Envelope& envelope, Mapped& mapped) {
  const std::array<char, 36> id = text_of(envelope.envelope_id);
  const std::string_view id_text(id.data(), id.size());
  if (settings_.format == Format::debezium) {
    encode(scratch_, id_text, settings_.id_encoding, kUuidSchema);
    add(mapped, "id", scratch_);
    if (settings_.type_header.empty()) return;
    // Kafka Connect has one converter for all headers.
    encode(scratch_, envelope.type, settings_.id_encoding, kTextSchema);
    add(mapped, settings_.type_header, scratch_);
    return;
  }
  if (settings_.format == Format::structured) {
    add(mapped, kContentType, "application/cloudevents+json; charset=UTF-8");
    return;
  }
  add(mapped, "ce_specversion", "1.0");
  add(mapped, "ce_id", id_text);
  add(mapped, "ce_source", source_of(envelope));
  add(mapped, "ce_type", envelope.type);
  scratch_.clear();
  if (append_rfc3339(scratch_, effective_time(envelope))) add(mapped, "ce_time", scratch_);
  if (!envelope.subject.empty()) add(mapped, "ce_subject", envelope.subject);
  if (!envelope.data_schema.empty()) add(mapped, "ce_dataschema", envelope.data_schema);
  const std::string_view content_type = effective_content_type(envelope);
  if (!content_type.empty()) add(mapped, kContentType, content_type);
}

bool Mapping::is_own_header(std::string_view name) const noexcept {
  if (settings_.format == Format::debezium) return name == "id" || name == settings_.type_header;
  return name == kContentType ||
         std::ranges::find(kAttributeHeaders, name) != kAttributeHeaders.end();
}

void Mapping::add_entry_headers(const Envelope& envelope, Mapped& mapped) {
  for_each_header(envelope.headers_json, [&](std::string_view name, std::string_view value) {
    if (is_own_header(name)) return;
    add(mapped, name, value);
    if (settings_.format != Format::binary) return;
    // The trace that the event began in, beside the one of this hop.
    if (name == "traceparent") add(mapped, "ce_traceparent", value);
    if (name == "tracestate") add(mapped, "ce_tracestate", value);
  });
}

}  // namespace outfall::kafka
