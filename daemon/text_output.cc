#include "daemon/text_output.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/cloudevents.h"
#include "core/text.h"

namespace outfall {
namespace {

// Columns on a terminal, as good as code points tell.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned>(c) & 0xc0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t to, bool right) {
  const std::string pad(to - std::min(to, width(text)), ' ');
  return right ? pad + text : text + pad;
}

// C0, DEL and C1, which terminals obey.
bool is_control(std::string_view sequence) {
  const auto first = static_cast<unsigned char>(sequence[0]);
  return first < 0x20 || first == 0x7f ||
         (first == 0xc2 && sequence.size() == 2 && static_cast<unsigned char>(sequence[1]) < 0xa0);
}

}  // namespace

std::string printable(std::string_view text, std::size_t max) {
  std::string result;
  std::size_t characters = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (max != 0 && characters == max) return result + "…";
    const std::size_t length = utf8_length(text.substr(at));
    const std::string_view sequence = text.substr(at, std::max<std::size_t>(length, 1));
    if (length == 0 || is_control(sequence)) {
      if (sequence == "\n") {
        result += "\\n";
      } else if (sequence == "\t") {
        result += "\\t";
      } else {
        for (const char c : sequence)
          result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      }
    } else {
      result += sequence;
    }
    at += sequence.size();
    ++characters;
  }
  return result;
}

std::string utc(WallTime time) {
  std::string text;
  if (!append_rfc3339(text, time)) return "beyond the year 9999";
  return text;
}

std::string utc_second(WallTime time) {
  std::string text = utc(time);
  constexpr std::size_t kSeconds = 19;
  if (text.ends_with("Z")) text.replace(kSeconds, std::string::npos, "Z");
  return text;
}

std::string age(std::chrono::microseconds duration) {
  const std::int64_t seconds = std::max<std::int64_t>(0, duration.count() / 1'000'000);
  if (seconds < 60) return fmt::format("{}s", seconds);
  if (seconds < 3600) return fmt::format("{}m {}s", seconds / 60, seconds % 60);
  if (seconds < 86400) return fmt::format("{}h {}m", seconds / 3600, seconds % 3600 / 60);
  return fmt::format("{}d {}h", seconds / 86400, seconds % 86400 / 3600);
}

std::string age_of_seconds(double seconds) {
  return age(std::chrono::microseconds(static_cast<std::int64_t>(seconds * 1e6)));
}

std::string grouped(std::int64_t number) {
  std::string digits = std::to_string(number);
  for (std::ptrdiff_t at = std::ssize(digits) - 3; at > (number < 0 ? 1 : 0); at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

std::string counted(std::int64_t number, std::string_view what) {
  std::string noun(what);
  if (number != 1) {
    if (noun.ends_with("y")) {
      noun.replace(noun.size() - 1, 1, "ies");
    } else {
      noun += 's';
    }
  }
  return grouped(number) + " " + noun;
}

std::string shell_quoted(std::string_view text) {
  const bool plain = !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("._-:/@%+=,").find(c) != std::string_view::npos;
  });
  if (plain) return std::string(text);
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

void TextTable::add(std::vector<std::string> cells) {
  constexpr std::size_t kMaxCell = 60;
  for (std::string& cell : cells) cell = printable(cell, kMaxCell);
  rows_.push_back(std::move(cells));
}

void TextTable::write(std::ostream& out) const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    widths.push_back(width(columns_[i].title));
    for (const auto& row : rows_) widths[i] = std::max(widths[i], width(row[i]));
  }
  const auto line = [&](auto&& cell) {
    std::string text;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      text += (i == 0 ? "" : "  ") + padded(cell(i), widths[i], columns_[i].right);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out << text << '\n';
  };
  line([&](std::size_t i) { return columns_[i].title; });
  for (const auto& row : rows_) line([&](std::size_t i) { return row[i]; });
}

void TextFields::add(std::string name, std::string_view value) {
  if (!value.empty()) fields_.emplace_back(std::move(name), printable(value));
}

void TextFields::write(std::ostream& out) const {
  std::size_t widest = 0;
  for (const auto& [name, value] : fields_) widest = std::max(widest, width(name));
  for (const auto& [name, value] : fields_) {
    out << indent_ << padded(name, widest, false) << "  " << value << '\n';
  }
}

}  // namespace outfall
