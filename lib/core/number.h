#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace outfall {

// The number that the whole text writes: decimal digits, with a minus before them where `Number`
// has a sign, and with a fraction or exponent where it is a floating type. nullopt for anything
// else: empty text, blanks, a plus, a value beyond the type, anything behind the number. Pure.
template <typename Number>
[[nodiscard]] std::optional<Number> parse_number(std::string_view text) noexcept {
  Number number{};
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, number);
  if (error != std::errc{} || end != last) return std::nullopt;
  return number;
}

// The number of a TCP port, 1 to 65535.
[[nodiscard]] inline std::optional<int> parse_port(std::string_view text) noexcept {
  constexpr int kHighestPort = 65'535;
  const auto port = parse_number<int>(text);
  return port && *port >= 1 && *port <= kHighestPort ? port : std::nullopt;
}

}  // namespace outfall
