#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "core/clock.h"
#include "core/ids.h"

namespace outfall {

// From the least to the most urgent; `off` is above all, so that nothing is written.
enum class LogLevel : std::uint8_t { trace, debug, info, warning, error, off };
enum class LogFormat : std::uint8_t { text, json };

// Names as in the settings log.level and log.format; the way back is nullopt for what is none.
[[nodiscard]] std::string_view to_string(LogLevel level) noexcept;
[[nodiscard]] std::optional<LogLevel> log_level_from(std::string_view name) noexcept;
[[nodiscard]] std::optional<LogFormat> log_format_from(std::string_view name) noexcept;

// Longer text values are cut, so that no field can flood the log.
inline constexpr std::size_t kMaxLogValueBytes = 4096;

// The name of a field: lower_snake_case and none of the names that every line has anyway. Checked
// when it is compiled, so that no line can become invalid JSON by a name or carry one key twice.
class LogName {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): a literal is to be written as a name.
  consteval LogName(const char* name) : text(name) {
    bool ok = !text.empty() && text != "ts" && text != "level" && text != "msg";
    for (const char c : text) {
      ok = ok && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_');
    }
    if (!ok) throw "a log field's name is lower_snake_case and not ts, level or msg";
  }
  std::string_view text;
};

// A field's value by its type. Text is a view into the caller's memory: a LogField lives no longer
// than the call that it is passed to.
class LogValue {
 public:
  using Variant =
      std::variant<std::string_view, std::int64_t, std::uint64_t, double, bool, Uuid, WallTime>;

  // NOLINTBEGIN(google-explicit-constructor): values are written as they are.
  LogValue(std::string_view value) : value_(value) {}
  LogValue(const char* value) : value_(std::string_view(value)) {}
  LogValue(const std::string& value) : value_(std::string_view(value)) {}
  LogValue(std::same_as<bool> auto value) : value_(value) {}
  template <std::signed_integral T>
  LogValue(T value) : value_(static_cast<std::int64_t>(value)) {}
  template <std::unsigned_integral T>
  requires(!std::same_as<T, bool>) LogValue(T value) : value_(static_cast<std::uint64_t>(value)) {}
  LogValue(double value) : value_(value) {}
  LogValue(const Uuid& value) : value_(value) {}
  LogValue(WallTime value) : value_(value) {}
  // NOLINTEND(google-explicit-constructor)

  [[nodiscard]] const Variant& get() const noexcept { return value_; }

 private:
  Variant value_;
};

// A name and its value, as a line has them. Lives no longer than its LogValue.
struct LogField {
  LogName name;
  LogValue value;
};

// One line without its newline, appended to `out`. JSON: an object with ts, level, msg and the
// fields in order. Text: `ts level msg name=value …`, values quoted where they need it. Both are
// one line of valid UTF-8 whatever the input holds: control characters are escaped, bad bytes
// become U+FFFD.
void append_json_line(std::string& out, WallTime time, LogLevel level, std::string_view message,
                      std::span<const LogField> fields);
void append_text_line(std::string& out, WallTime time, LogLevel level, std::string_view message,
                      std::span<const LogField> fields);
// The text line without ts and level: `msg name=value …`.
void append_text_message(std::string& out, std::string_view message,
                         std::span<const LogField> fields);
// A value as text, cut to kMaxLogValueBytes, without quotes and escapes.
void append_plain_value(std::string& out, const LogValue& value);

// RFC 3339 in UTC with milliseconds: 2026-11-21T08:08:38.042Z.
void append_timestamp(std::string& out, WallTime time);

}  // namespace outfall
