// CloudEvents in the JSON format: one line that another parser reads, with the entry's attributes
// and exactly its payload.

#include "core/cloudevents.h"

#include <string>

#include <boost/json.hpp>

#include "core/headers.h"
#include "core/text.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"
#include "tests/fuzz/text_input.h"

namespace outfall::fuzz {
namespace {

namespace json = boost::json;

json::value parsed(std::string_view text) {
  json::parse_options options;
  options.max_depth = 20'000;
  json::error_code failed;
  json::value value = json::parse(text, failed, {}, options);
  require(!failed, "an event is JSON");
  return value;
}

// What append_json_string() makes of text that may not be UTF-8.
std::string replaced(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    out += length == 0 ? "\xef\xbf\xbd" : text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

void check_text(const json::object& event, std::string_view name, std::string_view expected) {
  const json::value* member = event.if_contains(name);
  if (expected.empty()) return require(member == nullptr, "what is not set has no attribute");
  require(member != nullptr && member->is_string() &&
              std::string_view(member->get_string()) == replaced(expected),
          "an attribute is what the entry says");
}

void check_data(const json::object& event, const Envelope& envelope) {
  const json::value* data = event.if_contains("data");
  const json::value* base64 = event.if_contains("data_base64");
  if (envelope.payload_kind == PayloadKind::none) {
    return require(data == nullptr && base64 == nullptr, "a tombstone has no data");
  }
  require((data == nullptr) != (base64 == nullptr), "data stands in one form");
  if (base64 != nullptr) {
    std::string expected;
    append_base64(expected, envelope.payload);
    require(base64->is_string() && std::string_view(base64->get_string()) == expected,
            "data_base64 is the payload");
  } else if (is_json_content_type(effective_content_type(envelope))) {
    require(*data == parsed(envelope.payload), "data is the payload");
  } else {
    require(data->is_string() && std::string_view(data->get_string()) == envelope.payload,
            "data as text is the payload");
  }
}

void check_extensions(const json::object& event, const Envelope& envelope) {
  std::map<std::string, std::string> expected;
  const bool readable =
      for_each_header(envelope.headers_json, [&](std::string_view name, std::string_view value) {
        if (is_extension_name(name)) expected[std::string(name)] = replaced(value);
      });
  if (!readable) return;  // which the database rules out
  for (const auto& [name, value] : expected) {
    const json::value* member = event.if_contains(name);
    require(
        member != nullptr && member->is_string() && std::string_view(member->get_string()) == value,
        "a header that can be an extension is one");
  }
}

}  // namespace

void cloudevents(std::string_view input) {
  const EntryText entry(input);
  const Envelope& envelope = entry.envelope();
  std::string text;
  append_cloudevent_json(text, envelope);
  require(text.find('\n') == std::string::npos && text.find('\r') == std::string::npos,
          "an event is one line");
  const json::value value = parsed(text);
  require(value.is_object(), "an event is an object");
  const json::object& event = value.get_object();
  check_text(event, "specversion", "1.0");
  check_text(event, "id", envelope.envelope_id.to_string());
  check_text(event, "source", effective_source(envelope));
  check_text(event, "type", envelope.type);
  check_text(event, "subject", envelope.subject);
  check_text(event, "datacontenttype", effective_content_type(envelope));
  check_text(event, "dataschema", envelope.data_schema);
  check_text(event, "partitionkey", envelope.key.value_or(std::string_view{}));
  check_data(event, envelope);
  check_extensions(event, envelope);
}

}  // namespace outfall::fuzz
