#include "daemon/time_arguments.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "core/number.h"
#include "core/quantity.h"
#include "daemon/commands.h"
#include "daemon/text_output.h"

namespace outfall {
namespace {

// Reads a text from its start; what does not fit makes it failed, for good.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : rest_(text) {}

  [[nodiscard]] bool ended() const { return rest_.empty(); }
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] bool at(std::string_view any) const {
    return !rest_.empty() && any.find(rest_[0]) != std::string_view::npos;
  }
  bool skip(std::string_view any) {
    if (!at(any)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(std::string_view any) { failed_ |= !skip(any); }

  // Exactly so many digits.
  int digits(std::size_t count) {
    const std::string_view text = rest_.substr(0, count);
    const auto value = parse_number<int>(text);
    if (text.size() < count || text[0] == '-' || !value) {
      failed_ = true;
      return 0;
    }
    rest_.remove_prefix(count);
    return *value;
  }

  // What follows the decimal point; digits beyond microseconds are read and dropped.
  std::chrono::microseconds fraction() {
    std::int64_t value = 0;
    std::int64_t unit = 1'000'000;
    failed_ |= !at("0123456789");
    for (; at("0123456789"); rest_.remove_prefix(1)) {
      unit /= 10;
      value += (rest_[0] - '0') * unit;
    }
    return std::chrono::microseconds(value);
  }

 private:
  std::string_view rest_;
  bool failed_ = false;
};

// What to add to a local time for UTC.
std::chrono::minutes parse_offset(Cursor& cursor) {
  if (cursor.skip("Z") || cursor.ended()) return {};
  const bool ahead = cursor.at("+");
  cursor.expect("+-");
  const std::chrono::hours hours(cursor.digits(2));
  cursor.skip(":");
  const std::chrono::minutes offset = hours + std::chrono::minutes(cursor.digits(2));
  return ahead ? -offset : offset;
}

std::optional<WallTime> parse_iso(std::string_view text) {
  Cursor cursor(text);
  const std::chrono::year year(cursor.digits(4));
  cursor.expect("-");
  const std::chrono::month month(static_cast<unsigned>(cursor.digits(2)));
  cursor.expect("-");
  const std::chrono::day day(static_cast<unsigned>(cursor.digits(2)));
  const std::chrono::year_month_day date = year / month / day;
  if (cursor.failed() || !date.ok()) return {};
  WallTime time = std::chrono::sys_days(date);
  if (cursor.ended()) return time;

  cursor.expect("T ");
  const int hour = cursor.digits(2);
  cursor.expect(":");
  const int minute = cursor.digits(2);
  const int second = cursor.skip(":") ? cursor.digits(2) : 0;
  if (cursor.failed() || hour > 23 || minute > 59 || second > 60) return {};
  time += std::chrono::hours(hour) + std::chrono::minutes(minute) + std::chrono::seconds(second);
  if (cursor.skip(".")) time += cursor.fraction();
  time += parse_offset(cursor);
  if (cursor.failed() || !cursor.ended()) return {};
  return time;
}

}  // namespace

WallTime parse_moment(std::string_view option, const std::string& text, WallTime now) {
  if (const auto ago = parse_duration(text)) {
    // Beyond what a time can hold is as good as the beginning.
    const auto longest = std::chrono::duration_cast<Milliseconds>(now - WallTime{});
    return now - std::min(*ago, longest);
  }
  // A year that RFC 3339 has, and PostgreSQL.
  constexpr WallTime kFirst = std::chrono::sys_days(std::chrono::year(1) / 1 / 1);
  constexpr WallTime kEnd = std::chrono::sys_days(std::chrono::year(10000) / 1 / 1);
  const auto time = parse_iso(text);
  if (time && *time >= kFirst && *time < kEnd) return *time;
  throw CommandError(ExitCode::usage,
                     fmt::format("{}: \"{}\" is not a time", option, printable(text)),
                     "write a time such as 2026-03-01T12:00:00Z, or how long ago, such as 2h");
}

Milliseconds parse_span(std::string_view option, const std::string& text, Milliseconds least) {
  const auto span = parse_duration(text);
  if (span && *span >= least && *span <= std::chrono::hours(24)) return *span;
  throw CommandError(
      ExitCode::usage, fmt::format("{}: \"{}\" is not a time to use", option, printable(text)),
      fmt::format("write a whole number and one unit of ms, s, m or h, from {} to 24h",
                  format_duration(least)));
}

double parse_rate(const std::string& text) {
  const std::size_t end = std::min(text.find('/'), text.size());
  const std::string_view unit = std::string_view(text).substr(end);
  const std::int32_t count =
      parse_number<std::int32_t>(std::string_view(text).substr(0, end)).value_or(0);
  if (count > 0 && (unit.empty() || unit == "/s")) return count;
  if (count > 0 && unit == "/m") return count / 60.0;
  throw CommandError(ExitCode::usage, fmt::format("--rate: \"{}\" is not a rate", printable(text)),
                     "write how many a second or a minute, such as 50/s or 600/m");
}

}  // namespace outfall
