#include "telemetry/log_format.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <iterator>

#include <fmt/format.h>

namespace outfall {
namespace {

constexpr std::array<std::string_view, 6> kLevelNames = {"trace",   "debug", "info",
                                                         "warning", "error", "off"};
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr std::string_view kCutMark = "\xE2\x80\xA6";

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

// Length of the valid UTF-8 sequence at the start of `text`, 0 if there is none (RFC 3629: no
// overlong forms, no surrogates, nothing above U+10FFFF).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if (!is_continuation(text[i])) return 0;
  }
  if ((lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xED && byte(1) > 0x9F) ||
      (lead == 0xF0 && byte(1) < 0x90) || (lead == 0xF4 && byte(1) > 0x8F)) {
    return 0;
  }
  return length;
}

void append_escaped_control(std::string& out, unsigned char c) {
  switch (c) {
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", c);
  }
}

// Appends `text` so that it is valid UTF-8 on one line; quotes and backslashes are escaped only
// where it stands between quotes.
void append_clean(std::string& out, std::string_view text, bool quoted) {
  bool cut = false;
  if (text.size() > kMaxLogValueBytes) {
    std::size_t end = kMaxLogValueBytes;
    while (end > kMaxLogValueBytes - 3 && is_continuation(text[end])) --end;
    text = text.substr(0, end);
    cut = true;
  }
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text.front());
    const std::size_t length = utf8_length(text);
    if (length == 0) {
      out += kReplacement;
    } else if (c < 0x20 || c == 0x7F) {
      append_escaped_control(out, c);
    } else {
      if (quoted && (c == '"' || c == '\\')) out += '\\';
      out += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  if (cut) out += kCutMark;
}

bool needs_quotes(std::string_view text) {
  return text.empty() || std::any_of(text.begin(), text.end(), [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return byte <= 0x20 || byte >= 0x7F || c == '"' || c == '=' || c == '\\';
         });
}

struct ValueAppender {
  std::string& out;
  LogFormat format;

  void operator()(std::string_view value) const {
    if (format == LogFormat::json || needs_quotes(value)) {
      append_log_string(out, value);
    } else {
      append_clean(out, value, false);
    }
  }
  void operator()(bool value) const { out += value ? "true" : "false"; }
  void operator()(double value) const {
    // JSON knows no infinities and no NaN.
    if (std::isfinite(value)) {
      fmt::format_to(std::back_inserter(out), "{}", value);
    } else {
      out += "null";
    }
  }
  void operator()(const Uuid& value) const {
    quote_in_json([&] { out += value.to_string(); });
  }
  void operator()(WallTime value) const {
    quote_in_json([&] { append_timestamp(out, value); });
  }
  void operator()(std::integral auto value) const {
    fmt::format_to(std::back_inserter(out), "{}", value);
  }

  void quote_in_json(auto append) const {
    if (format == LogFormat::json) out += '"';
    append();
    if (format == LogFormat::json) out += '"';
  }
};

}  // namespace

std::string_view to_string(LogLevel level) noexcept {
  return kLevelNames[static_cast<std::size_t>(level)];
}

std::optional<LogLevel> log_level_from(std::string_view name) noexcept {
  for (std::size_t i = 0; i < kLevelNames.size(); ++i) {
    if (kLevelNames[i] == name) return static_cast<LogLevel>(i);
  }
  return std::nullopt;
}

std::optional<LogFormat> log_format_from(std::string_view name) noexcept {
  if (name == "text") return LogFormat::text;
  if (name == "json") return LogFormat::json;
  return std::nullopt;
}

void append_log_string(std::string& out, std::string_view text) {
  out += '"';
  append_clean(out, text, true);
  out += '"';
}

void append_timestamp(std::string& out, WallTime time) {
  const auto ms = std::chrono::floor<std::chrono::milliseconds>(time);
  const auto day = std::chrono::floor<std::chrono::days>(ms);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(ms - day);
  fmt::format_to(std::back_inserter(out), "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                 static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                 static_cast<unsigned>(date.day()), clock.hours().count(), clock.minutes().count(),
                 clock.seconds().count(), clock.subseconds().count());
}

void append_json_line(std::string& out, WallTime time, LogLevel level, std::string_view message,
                      std::span<const LogField> fields) {
  out += "{\"ts\":\"";
  append_timestamp(out, time);
  out += "\",\"level\":\"";
  out += to_string(level);
  out += "\",\"msg\":";
  append_log_string(out, message);
  for (const LogField& field : fields) {
    out += ",\"";
    out += field.name.text;
    out += "\":";
    std::visit(ValueAppender{out, LogFormat::json}, field.value.get());
  }
  out += '}';
}

void append_text_line(std::string& out, WallTime time, LogLevel level, std::string_view message,
                      std::span<const LogField> fields) {
  append_timestamp(out, time);
  out += ' ';
  out += to_string(level);
  out += ' ';
  append_clean(out, message, false);
  for (const LogField& field : fields) {
    out += ' ';
    out += field.name.text;
    out += '=';
    std::visit(ValueAppender{out, LogFormat::text}, field.value.get());
  }
}

}  // namespace outfall
