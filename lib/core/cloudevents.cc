#include "core/cloudevents.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/headers.h"
#include "core/text.h"

namespace outfall {
namespace {

constexpr auto kOwnAttributes =
    std::to_array<std::string_view>({"specversion", "id", "source", "type", "time", "subject",
                                     "datacontenttype", "dataschema", "data", "partitionkey"});

// The type and subtype without parameters and surrounding space.
std::string_view media_type(std::string_view content_type) noexcept {
  content_type = content_type.substr(0, content_type.find(';'));
  const std::size_t first = content_type.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return content_type.substr(first, content_type.find_last_not_of(" \t") + 1 - first);
}

bool equal_ignoring_case(std::string_view text, std::string_view lower_text) noexcept {
  return std::ranges::equal(text, lower_text, {}, lower_ascii);
}

bool ends_with(std::string_view text, std::string_view lower_end) noexcept {
  return text.size() > lower_end.size() &&
         equal_ignoring_case(text.substr(text.size() - lower_end.size()), lower_end);
}

bool is_text(std::string_view content_type) noexcept {
  return equal_ignoring_case(media_type(content_type).substr(0, 5), "text/");
}

void append_number(std::string& out, unsigned value, int width) {
  std::array<char, 10> digits{};
  for (int i = width - 1; i >= 0; --i, value /= 10) {
    digits[static_cast<std::size_t>(i)] = static_cast<char>('0' + value % 10);
  }
  out.append(digits.data(), static_cast<std::size_t>(width));
}

// Every member comes after specversion, so each begins with a comma.
void append_name(std::string& out, std::string_view name) {
  out += ",\"";
  out += name;
  out += "\":";
}

void append_attribute(std::string& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  append_name(out, name);
  append_json_string(out, value);
}

// JSON text holds line breaks only between tokens: inside strings they are escaped.
void append_on_one_line(std::string& out, std::string_view json) {
  const std::size_t start = out.size();
  out += json;
  for (const char line_break : {'\n', '\r'}) {
    for (std::size_t i = out.find(line_break, start); i != std::string::npos;
         i = out.find(line_break, i + 1)) {
      out[i] = ' ';
    }
  }
}

void append_data(std::string& out, const Envelope& envelope, std::string_view content_type) {
  if (envelope.payload_kind == PayloadKind::none) return;
  if (envelope.payload_kind == PayloadKind::json && is_json_content_type(content_type)) {
    append_name(out, "data");
    append_on_one_line(out, envelope.payload);
  } else if (is_text(content_type) && !is_json_content_type(content_type) &&
             is_valid_utf8(envelope.payload)) {
    append_name(out, "data");
    append_json_string(out, envelope.payload);
  } else {
    append_name(out, "data_base64");
    out += '"';
    append_base64(out, envelope.payload);
    out += '"';
  }
}

}  // namespace

bool is_json_content_type(std::string_view content_type) noexcept {
  const std::string_view type = media_type(content_type);
  return ends_with(type, "/json") || ends_with(type, "+json");
}

bool is_extension_name(std::string_view name) noexcept {
  if (name.empty() || name.size() > 20) return false;
  const auto legal = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return std::ranges::all_of(name, legal) &&
         std::ranges::find(kOwnAttributes, name) == kOwnAttributes.end();
}

bool append_rfc3339(std::string& out, WallTime time) {
  constexpr WallTime kFirst = std::chrono::sys_days{std::chrono::year{0} / 1 / 1};
  constexpr WallTime kEnd = std::chrono::sys_days{std::chrono::year{10000} / 1 / 1};
  if (time < kFirst || time >= kEnd) return false;
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date{day};
  const std::chrono::hh_mm_ss clock{time - day};
  append_number(out, static_cast<unsigned>(static_cast<int>(date.year())), 4);
  out += '-';
  append_number(out, static_cast<unsigned>(date.month()), 2);
  out += '-';
  append_number(out, static_cast<unsigned>(date.day()), 2);
  out += 'T';
  append_number(out, static_cast<unsigned>(clock.hours().count()), 2);
  out += ':';
  append_number(out, static_cast<unsigned>(clock.minutes().count()), 2);
  out += ':';
  append_number(out, static_cast<unsigned>(clock.seconds().count()), 2);
  out += '.';
  append_number(out, static_cast<unsigned>(clock.subseconds().count()), 6);
  out += 'Z';
  return true;
}

void append_cloudevent_json(std::string& out, const Envelope& envelope) {
  out += R"({"specversion":"1.0")";
  append_name(out, "id");
  append_json_string(out, envelope.envelope_id.to_string());
  append_attribute(out, "source", effective_source(envelope));
  append_attribute(out, "type", envelope.type);
  append_name(out, "time");
  out += '"';
  if (append_rfc3339(out, effective_time(envelope))) {
    out += '"';
  } else {
    out.resize(out.size() - std::string_view(R"(,"time":")").size());
  }
  append_attribute(out, "subject", envelope.subject);
  const std::string_view content_type = effective_content_type(envelope);
  append_attribute(out, "datacontenttype", content_type);
  append_attribute(out, "dataschema", envelope.data_schema);
  append_attribute(out, "partitionkey", envelope.key.value_or(std::string_view{}));
  for_each_header(envelope.headers_json, [&](std::string_view name, std::string_view value) {
    if (is_extension_name(name)) append_attribute(out, name, value);
  });
  append_data(out, envelope, content_type);
  out += '}';
}

}  // namespace outfall
