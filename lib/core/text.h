#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace outfall {

// Small pure helpers for text that leaves the process. None throws anything but std::bad_alloc.

inline constexpr std::string_view kHexDigits = "0123456789abcdef";
// U+FFFD, for what is no valid UTF-8.
inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";

// Of an ASCII letter; any other byte stays as it is.
[[nodiscard]] constexpr char lower_ascii(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Without the blanks at its ends; what is a blank differs by where the text is from.
[[nodiscard]] constexpr std::string_view trimmed(std::string_view text,
                                                 std::string_view blanks = " \t") noexcept {
  const std::size_t first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

// How many bytes the UTF-8 sequence at the start of `text` has: 1 to 4, or 0 where it is not valid
// (stray or missing continuation, overlong form, surrogate, beyond U+10FFFF, empty text).
[[nodiscard]] std::size_t utf8_length(std::string_view text) noexcept;

[[nodiscard]] bool is_valid_utf8(std::string_view text) noexcept;

// Appends the UTF-8 form of a code point up to U+10FFFF that is no surrogate.
void append_utf8(std::string& out, std::uint32_t code_point);

// Appends a JSON string with its quotes. Quote, backslash and control characters are escaped, all
// other valid UTF-8 stays as it is, each byte of an invalid sequence becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);

// Appends standard base64 with padding.
void append_base64(std::string& out, std::string_view bytes);

}  // namespace outfall
