#pragma once

#include <chrono>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"

// How commands write for people. Pure.

namespace outfall {

// Text from outside as it may stand on a terminal: control characters and what is not UTF-8 as
// escapes, and no more than `max` characters (0: all), with "…" where it was cut.
[[nodiscard]] std::string printable(std::string_view text, std::size_t max = 0);

[[nodiscard]] std::string utc(WallTime time);         // "2026-03-01T12:00:00.000001Z"
[[nodiscard]] std::string utc_second(WallTime time);  // "2026-03-01T12:00:00Z", cut
// "0s", "42s", "3m 12s", "2d 4h": the two largest units.
[[nodiscard]] std::string age(std::chrono::microseconds duration);
[[nodiscard]] std::string age_of_seconds(double seconds);
// 12,345
[[nodiscard]] std::string grouped(std::int64_t number);
// 1 entry, 2 entries; "dead letter", "stream", ... take an s.
[[nodiscard]] std::string counted(std::int64_t number, std::string_view what);
// An argument for a shell, in quotes where it needs them.
[[nodiscard]] std::string shell_quoted(std::string_view text);

// Columns that line up. Cells are made printable by add().
class TextTable {
 public:
  struct Column {
    std::string title;
    bool right = false;  // for numbers
  };
  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> cells);
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  void write(std::ostream& out) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Lines of "name  value" that line up; a field with an empty value is left out.
class TextFields {
 public:
  explicit TextFields(std::string indent = {}) : indent_(std::move(indent)) {}
  void add(std::string name, std::string_view value);
  void write(std::ostream& out) const;

 private:
  std::string indent_;
  std::vector<std::pair<std::string, std::string>> fields_;
};

}  // namespace outfall
