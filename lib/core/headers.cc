#include "core/headers.h"

#include <cstdint>
#include <optional>
#include <string>

#include "core/text.h"

namespace outfall {
namespace {

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  void skip_space() {
    const std::size_t next = text_.find_first_not_of(" \t\r\n", at_);
    at_ = next == std::string_view::npos ? text_.size() : next;
  }

  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  [[nodiscard]] bool at_end() const { return at_ == text_.size(); }

  // A string token. The result points into the text, or into `buffer` where it held an escape.
  std::optional<std::string_view> string(std::string& buffer) {
    if (!take('"')) return std::nullopt;
    const std::size_t start = at_;
    bool escaped = false;
    buffer.clear();
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        const std::string_view raw = text_.substr(start, at_++ - start);
        return escaped ? std::string_view(buffer) : raw;
      }
      if (static_cast<std::uint8_t>(c) < 0x20) return std::nullopt;
      if (c == '\\') {
        if (!escaped) buffer.assign(text_, start, at_ - start);
        escaped = true;
        ++at_;
        if (!escape(buffer)) return std::nullopt;
        continue;
      }
      if (escaped) buffer += c;
      ++at_;
    }
    return std::nullopt;
  }

 private:
  // What follows a backslash.
  bool escape(std::string& out) {
    if (at_ >= text_.size()) return false;
    const char c = text_[at_++];
    if (c == 'u') return unicode_escape(out);
    static constexpr std::string_view kFrom = "\"\\/bfnrt";
    static constexpr std::string_view kTo = "\"\\/\b\f\n\r\t";
    const std::size_t index = kFrom.find(c);
    if (index == std::string_view::npos) return false;
    out += kTo[index];
    return true;
  }

  bool unicode_escape(std::string& out) {
    const auto first = hex4();
    if (!first || *first == 0) return false;
    if (*first < 0xd800 || *first > 0xdfff) {
      append_utf8(out, *first);
      return true;
    }
    if (*first > 0xdbff || !take('\\') || !take('u')) return false;
    const auto second = hex4();
    if (!second || *second < 0xdc00 || *second > 0xdfff) return false;
    append_utf8(out, 0x10000 + ((*first - 0xd800) << 10) + (*second - 0xdc00));
    return true;
  }

  std::optional<std::uint32_t> hex4() {
    if (text_.size() - at_ < 4) return std::nullopt;
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = text_[at_++];
      std::uint32_t digit = 0;
      if (c >= '0' && c <= '9') {
        digit = static_cast<std::uint32_t>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        digit = static_cast<std::uint32_t>(c - 'a' + 10);
      } else if (c >= 'A' && c <= 'F') {
        digit = static_cast<std::uint32_t>(c - 'A' + 10);
      } else {
        return std::nullopt;
      }
      value = value << 4 | digit;
    }
    return value;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

bool for_each_header(std::string_view json, const HeaderVisitor& visit) {
  if (json.empty()) return true;
  Reader reader(json);
  reader.skip_space();
  if (!reader.take('{')) return false;
  reader.skip_space();
  if (!reader.take('}')) {
    std::string name_buffer;
    std::string value_buffer;
    do {
      reader.skip_space();
      const auto name = reader.string(name_buffer);
      if (!name) return false;
      reader.skip_space();
      if (!reader.take(':')) return false;
      reader.skip_space();
      const auto value = reader.string(value_buffer);
      if (!value) return false;
      visit(*name, *value);
      reader.skip_space();
    } while (reader.take(','));
    if (!reader.take('}')) return false;
  }
  reader.skip_space();
  return reader.at_end();
}

}  // namespace outfall
