#pragma once

#include <string>
#include <string_view>

#include "core/outcome.h"

namespace outfall {

inline constexpr std::size_t kMaxErrorCodeBytes = 128;

// What is stored of an error: PostgreSQL must accept it, it must stay small, and it must not carry
// a secret into a table that many can read. Emitters keep secrets and payloads out of their
// messages; this is the net below them. Pure.
//
// Secrets: the user part of URLs, what follows password=, token:, secret=, authorization: and the
// like, and the word after Bearer or Basic become "***". Control characters and invalid UTF-8
// become spaces and U+FFFD; the text is cut to kMaxErrorMessageBytes between two characters and
// then ends in "…".
[[nodiscard]] std::string storable_error_message(std::string_view message);

// Lower-case letters, digits, '_', '-' and '.' stay, anything else becomes '_'; cut to
// kMaxErrorCodeBytes; `fallback` where it is empty.
[[nodiscard]] std::string storable_error_code(std::string_view code, std::string_view fallback);

// A lane as a log line shows it. A lane may be a URL that whoever has it may post to, so what
// stands behind its origin is cut, with "…" in its place; secrets are masked as above. Logs are
// read by more people than the tables, where the whole name is. Pure.
[[nodiscard]] std::string loggable_lane(std::string_view lane);

}  // namespace outfall
