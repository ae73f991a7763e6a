#include "core/error_text.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/text.h"

namespace outfall {
namespace {

constexpr std::string_view kMask = "***";
constexpr std::string_view kEllipsis = "\xe2\x80\xa6";

// Names whose value is a secret wherever they are followed by '=' or ':'.
constexpr auto kSecretNames = std::to_array<std::string_view>(
    {"password", "passwd", "pwd", "secret", "token", "api_key", "apikey", "api-key", "access_key",
     "signature", "authorization", "cookie"});
// Schemes of HTTP authentication; the word after them is the secret.
constexpr auto kSchemes = std::to_array<std::string_view>({"bearer", "basic"});

bool is_word(char c) {
  return (lower_ascii(c) >= 'a' && lower_ascii(c) <= 'z') || (c >= '0' && c <= '9');
}

bool starts_with_ignoring_case(std::string_view text, std::string_view lower_prefix) {
  return text.size() >= lower_prefix.size() &&
         std::ranges::equal(text.substr(0, lower_prefix.size()), lower_prefix, {}, lower_ascii);
}

std::size_t skip_any(std::string_view text, std::size_t at, std::string_view characters) {
  return std::min(text.find_first_not_of(characters, at), text.size());
}

// Where the value begins if a secret's name or scheme stands at `at`, else npos.
std::size_t secret_value_at(std::string_view text, std::size_t at) {
  const std::string_view rest = text.substr(at);
  for (const std::string_view name : kSecretNames) {
    if (!starts_with_ignoring_case(rest, name)) continue;
    const std::size_t after = skip_any(text, at + name.size(), "\"' ");
    if (after < text.size() && (text[after] == '=' || text[after] == ':')) {
      return skip_any(text, after + 1, "\"' ");
    }
  }
  if (at > 0 && is_word(text[at - 1])) return std::string_view::npos;
  for (const std::string_view scheme : kSchemes) {
    if (!starts_with_ignoring_case(rest, scheme)) continue;
    const std::size_t after = at + scheme.size();
    if (after < text.size() && text[after] == ' ') return skip_any(text, after, " ");
  }
  return std::string_view::npos;
}

// Where the user part of a URL ends if "://" stands at `at` and one follows, else npos.
std::size_t user_part_end(std::string_view text, std::size_t at) {
  if (text.substr(at, 3) != "://") return std::string_view::npos;
  const std::size_t authority_end = std::min(text.find_first_of("/?# \"'<>", at + 3), text.size());
  const std::size_t sign = text.substr(0, authority_end).rfind('@');
  return sign == std::string_view::npos || sign < at + 3 ? std::string_view::npos : sign;
}

std::string redact(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::size_t i = 0;
  while (i < text.size()) {
    if (const std::size_t sign = user_part_end(text, i); sign != std::string_view::npos) {
      out.append("://").append(kMask);
      i = sign;
      continue;
    }
    const std::size_t value = secret_value_at(text, i);
    if (value == std::string_view::npos || value >= text.size()) {
      out += text[i++];
      continue;
    }
    out.append(text, i, value - i);
    // "authorization: Bearer x": the scheme is the value's first word and its own secret follows.
    if (secret_value_at(text, value) == std::string_view::npos) {
      out += kMask;
      i = std::min(text.find_first_of(" \t\r\n&,;\"'", value), text.size());
    } else {
      i = value;
    }
  }
  return out;
}

}  // namespace

std::string storable_error_message(std::string_view message) {
  // Redaction reads well past the cut, so that a secret across it is still recognised.
  const std::string_view read = message.substr(0, 2 * kMaxErrorMessageBytes);
  const std::string redacted = redact(read);
  std::string out;
  std::size_t cut = 0;  // where it may end, with room for the ellipsis
  std::string_view rest = redacted;
  while (!rest.empty() && out.size() <= kMaxErrorMessageBytes) {
    if (out.size() + kEllipsis.size() <= kMaxErrorMessageBytes) cut = out.size();
    const std::size_t length = utf8_length(rest);
    const bool control =
        length == 1 && (static_cast<std::uint8_t>(rest[0]) < 0x20 || rest[0] == 0x7f);
    if (control) {
      out += ' ';
    } else {
      out += length == 0 ? kReplacementCharacter : rest.substr(0, length);
    }
    rest.remove_prefix(std::max<std::size_t>(length, 1));
  }
  if (out.size() > kMaxErrorMessageBytes || read.size() < message.size()) {
    out.resize(std::min(cut, out.size()));
    out += kEllipsis;
  }
  return out;
}

std::string storable_error_code(std::string_view code, std::string_view fallback) {
  std::string out(code.empty() ? fallback : code.substr(0, kMaxErrorCodeBytes));
  for (char& c : out) {
    c = lower_ascii(c);
    if (!is_word(c) && c != '_' && c != '-' && c != '.') c = '_';
  }
  return out;
}

std::string loggable_lane(std::string_view lane) {
  constexpr std::string_view kSchemeEnd = "://";
  const std::size_t scheme = lane.find(kSchemeEnd);
  if (scheme == std::string_view::npos) return redact(lane);
  const std::size_t end = lane.find_first_of("/?#", scheme + kSchemeEnd.size());
  if (end == std::string_view::npos) return redact(lane);
  std::string out = redact(lane.substr(0, end));
  const std::string_view rest = lane.substr(end);
  return out.append("/").append(rest == "/" ? std::string_view{} : kEllipsis);
}

}  // namespace outfall
