#include "emitters/webhook/percent.h"

namespace outfall::webhook {

bool is_unreserved(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

bool is_plain_in_header(char c) noexcept {
  return c > ' ' && c < '\x7f' && c != '"' && c != '%';
}

void append_percent_encoded(std::string& out, std::string_view text, bool (*keep)(char) noexcept) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (const char c : text) {
    if (keep(c)) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
}

}  // namespace outfall::webhook
