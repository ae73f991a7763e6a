#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <librdkafka/rdkafka.h>

#include "core/envelope.h"
#include "core/outcome.h"
#include "emitters/kafka/settings.h"

namespace outfall::kafka {

struct HeadersDeleter {
  void operator()(rd_kafka_headers_t* headers) const noexcept { rd_kafka_headers_destroy(headers); }
};
using Headers = std::unique_ptr<rd_kafka_headers_t, HeadersDeleter>;

// One envelope as it goes to Kafka. Views point into the envelope or into the Mapping.
struct Mapped {
  std::optional<std::string_view> key;
  std::optional<std::string_view> value;  // absent: a tombstone
  bool value_is_ours = false;             // lives until the next map() only, so it must be copied
  std::int64_t timestamp_ms = 0;
  std::int32_t partition = RD_KAFKA_PARTITION_UA;
  Headers headers;
  // What the broker measures against the topic's max.message.bytes when the record is alone in its
  // batch and not compressed.
  std::int64_t wire_bytes = 0;
};

// The time that the envelope's record gets: Kafka has none before 1970.
[[nodiscard]] std::int64_t timestamp_ms_of(const Envelope& envelope) noexcept;

// Makes records of envelopes, as docs/reference/emitters/kafka.md describes. Keeps buffers between
// calls; one thread at a time. Throws std::bad_alloc only.
class Mapping {
 public:
  // `settings` outlives it.
  explicit Mapping(const Settings& settings) : settings_(settings) {}

  // What is wrong with the envelope itself, or nullopt.
  [[nodiscard]] std::optional<DeliveryError> map(const Envelope& envelope, Mapped& mapped);

 private:
  void map_key(const Envelope& envelope, Mapped& mapped);
  void map_value(const Envelope& envelope, Mapped& mapped);
  [[nodiscard]] std::optional<DeliveryError> map_partition(const Envelope& envelope,
                                                           Mapped& mapped);
  void add_attributes(const Envelope& envelope, Mapped& mapped);
  void add_entry_headers(const Envelope& envelope, Mapped& mapped);
  void add(Mapped& mapped, std::string_view name, std::string_view value);
  [[nodiscard]] bool is_own_header(std::string_view name) const noexcept;
  [[nodiscard]] std::string_view source_of(const Envelope& envelope);
  void encode(std::string& out, std::string_view text, Encoding encoding, std::string_view schema);

  const Settings& settings_;
  std::string key_;
  std::string value_;
  std::string scratch_;
  std::string source_;  // of the stream below, for entries without one
  std::string source_stream_;
  std::size_t headers_ = 0;
  std::int64_t header_bytes_ = 0;
};

}  // namespace outfall::kafka
