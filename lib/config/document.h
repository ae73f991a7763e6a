#pragma once

#include <string>
#include <string_view>
#include <variant>

#include <toml++/toml.h>

#include "core/setting.h"

namespace outfall {

// Parses TOML text; `file` names it in origins and problems. The message of a syntax error shows no
// value, since what was mistyped may be a secret.
[[nodiscard]] std::variant<toml::table, SettingProblem> parse_document(const std::string& file,
                                                                       std::string_view text);

[[nodiscard]] SettingOrigin origin_of(const std::string& file, const toml::source_region& region);

// "a string", "an integer", …: what a node is, for messages.
[[nodiscard]] std::string_view type_name(const toml::node& node);

// The content of a small file; the problem as a sentence without its name when it cannot be had.
struct FileProblem {
  std::string message;
  bool denied = false;  // it is there, and this user may not read it
};
[[nodiscard]] std::variant<std::string, FileProblem> read_small_file(const std::string& path);

}  // namespace outfall
