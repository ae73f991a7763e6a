// Records for Kafka: the topic that a template makes of an entry, its headers, key, value and size.

#include <charconv>
#include <string>

#include "emitters/kafka/mapping.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"
#include "tests/fuzz/text_input.h"

namespace outfall::fuzz {
namespace {

using namespace kafka;

void check_topic(const TopicTemplate& topic, const Envelope& envelope) {
  require(!topic.constant() || is_topic_name(topic.text()), "a constant topic has a topic's name");
  std::string name;
  const bool made = topic.expand(envelope, name);
  require(!made || !name.empty(), "a topic has a name");
  require(!topic.constant() || (made && name == topic.text()), "a constant topic is its text");
  require(made || !topic.constant(), "what is missing is named");
}

std::int64_t bytes_of_headers(const Headers& headers) {
  std::int64_t bytes = 0;
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  for (std::size_t i = 0; rd_kafka_header_get_all(headers.get(), i, &name, &value, &size) ==
                          RD_KAFKA_RESP_ERR_NO_ERROR;
       ++i) {
    require(value != nullptr, "no header is null");
    bytes += static_cast<std::int64_t>(std::string_view(name).size() + size + 2);
  }
  return bytes;
}

}  // namespace

void kafka_record(std::string_view input) {
  const EntryText entry(input);
  auto parsed = TopicTemplate::parse(entry.option("topic"));
  if (auto* problem = std::get_if<std::string>(&parsed)) {
    return require(!problem->empty(), "a problem has words");
  }
  check_topic(std::get<TopicTemplate>(parsed), entry.envelope());

  Settings settings(std::move(std::get<TopicTemplate>(parsed)));
  const std::string_view format = entry.option("format");
  settings.format = format == "structured" ? Format::structured
                    : format == "debezium" ? Format::debezium
                                           : Format::binary;
  settings.key_encoding = entry.option("encoding") == "json"          ? Encoding::json
                          : entry.option("encoding") == "json_schema" ? Encoding::json_schema
                                                                      : Encoding::raw;
  settings.id_encoding = settings.key_encoding;
  settings.partition_header = entry.option("partition_header");
  const Envelope& envelope = entry.envelope();
  Mapping mapping(settings);
  Mapped mapped;
  const auto problem = mapping.map(envelope, mapped);
  require(mapped.timestamp_ms > 0, "Kafka has no time before 1970");
  require(mapped.partition >= RD_KAFKA_PARTITION_UA || problem, "a partition is one");
  require(mapped.key.has_value() == envelope.key.has_value(), "a key stays one");
  if (settings.format != Format::structured) {
    require(mapped.value.has_value() == (envelope.payload_kind != PayloadKind::none),
            "only a tombstone is one");
    require(!mapped.value || *mapped.value == envelope.payload, "the value is the payload");
  }
  const std::int64_t least = bytes_of_headers(mapped.headers) +
                             static_cast<std::int64_t>(mapped.key.value_or("").size()) +
                             static_cast<std::int64_t>(mapped.value.value_or("").size());
  require(mapped.wire_bytes >= least, "the size counts all that goes out");
}

}  // namespace outfall::fuzz
