#include "telemetry/log_format.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <iterator>

#include <fmt/format.h>

#include "core/text.h"

namespace outfall {
namespace {

constexpr std::array<std::string_view, 6> kLevelNames = {"trace",   "debug", "info",
                                                         "warning", "error", "off"};
constexpr std::string_view kCutMark = "\xE2\x80\xA6";

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

// The part of `text` that is written, ending between two characters.
std::string_view bounded(std::string_view text) {
  if (text.size() <= kMaxLogValueBytes) return text;
  std::size_t end = kMaxLogValueBytes;
  while (end > kMaxLogValueBytes - 3 && is_continuation(text[end])) --end;
  return text.substr(0, end);
}

void append_quoted(std::string& out, std::string_view text) {
  const std::string_view part = bounded(text);
  append_json_string(out, part);
  if (part.size() == text.size()) return;
  out.pop_back();
  out += kCutMark;
  out += '"';
}

// The same without quotes, for text whose quotes and backslashes may stand as they are.
void append_bare(std::string& out, std::string_view text) {
  std::string quoted;
  append_quoted(quoted, text);
  for (std::size_t i = 1; i + 1 < quoted.size(); ++i) {
    if (quoted[i] == '\\' && (quoted[i + 1] == '"' || quoted[i + 1] == '\\')) ++i;
    out += quoted[i];
  }
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
      append_quoted(out, value);
    } else {
      append_bare(out, value);
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
  append_quoted(out, message);
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
  append_text_message(out, message, fields);
}

void append_text_message(std::string& out, std::string_view message,
                         std::span<const LogField> fields) {
  append_bare(out, message);
  for (const LogField& field : fields) {
    out += ' ';
    out += field.name.text;
    out += '=';
    std::visit(ValueAppender{out, LogFormat::text}, field.value.get());
  }
}

void append_plain_value(std::string& out, const LogValue& value) {
  if (const auto* text = std::get_if<std::string_view>(&value.get())) {
    out += bounded(*text);
  } else {
    std::visit(ValueAppender{out, LogFormat::text}, value.get());
  }
}

}  // namespace outfall
