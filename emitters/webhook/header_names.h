#pragma once

#include <string>
#include <string_view>

namespace outfall::webhook {

// Rules for HTTP headers of operators and producers. Pure.

// A token of RFC 9110, not empty.
[[nodiscard]] bool is_header_name(std::string_view name) noexcept;

// Without control characters, so that it cannot begin another header.
[[nodiscard]] bool is_header_value(std::string_view value) noexcept;

// What this emitter or libcurl sets itself, in any case of letters: framing and connection,
// content-type, and whatever begins with ce-, webhook- or proxy-.
[[nodiscard]] bool is_reserved_header(std::string_view name) noexcept;

[[nodiscard]] std::string lower_header_name(std::string_view name);

}  // namespace outfall::webhook
