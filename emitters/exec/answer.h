#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "core/ids.h"
#include "core/outcome.h"

namespace outfall {

// The longest answer, without its line break.
inline constexpr std::size_t kMaxAnswerBytes = 64 * 1024;

// One line of a program's output, understood.
struct Answer {
  std::string id;  // as the program wrote it
  Outcome outcome;
};

// Reads an answer; docs/reference/emitters/exec.md has the grammar. The other alternative says what
// is wrong with the line, without quoting it. Pure; throws only std::bad_alloc.
[[nodiscard]] std::variant<Answer, std::string> parse_answer(std::string_view line);

// A quoted piece of a line for the log: one line of printable text, bounded, secrets masked.
[[nodiscard]] std::string excerpt(std::string_view line);

// Cuts a stream of bytes into lines of at most `max_bytes`. A plain value for one thread.
class LineSplitter {
 public:
  explicit LineSplitter(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  // Calls `visit(line, is_whole)` for each line, without its break. A line that is too long is
  // visited once, as soon as that is clear, with its beginning and `is_whole` false; its rest is
  // skipped. Stops and returns false as soon as `visit` does; then only clear() may follow.
  template <typename Visit>
  bool feed(std::string_view data, Visit visit) {
    while (!data.empty()) {
      const std::size_t end = data.find('\n');
      const std::string_view piece = data.substr(0, end);
      const bool is_ended = end != std::string_view::npos;
      data.remove_prefix(is_ended ? end + 1 : data.size());
      if (!add(piece, visit)) return false;
      if (!is_ended) return true;
      if (!skipping_ && !visit(std::string_view(line_), true)) return false;
      clear();
    }
    return true;
  }

  // What came after the last line break.
  [[nodiscard]] std::string_view rest() const noexcept {
    return skipping_ ? std::string_view{} : std::string_view(line_);
  }
  void clear() noexcept {
    line_.clear();
    skipping_ = false;
  }

 private:
  template <typename Visit>
  bool add(std::string_view piece, Visit& visit) {
    if (skipping_) return true;
    line_.append(piece.substr(0, max_bytes_ + 1 - line_.size()));
    if (line_.size() <= max_bytes_) return true;
    line_.resize(max_bytes_);
    skipping_ = true;
    return visit(std::string_view(line_), false);
  }

  std::size_t max_bytes_;
  std::string line_;
  bool skipping_ = false;
};

}  // namespace outfall
