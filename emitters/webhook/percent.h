#pragma once

#include <string>
#include <string_view>

namespace outfall::webhook {

// Letters, digits, '-', '.', '_' and '~': what means itself anywhere in a URL.
[[nodiscard]] bool is_unreserved(char c) noexcept;

// What a CloudEvents attribute may hold as it is in an HTTP header: printable ASCII but space,
// quote and percent sign.
[[nodiscard]] bool is_plain_in_header(char c) noexcept;

// Appends `text` with each byte that `keep` does not keep as "%41". Pure.
void append_percent_encoded(std::string& out, std::string_view text, bool (*keep)(char) noexcept);

}  // namespace outfall::webhook
