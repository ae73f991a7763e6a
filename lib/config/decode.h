#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <toml++/toml.h>

#include "core/setting.h"

namespace outfall {

// Why a value is not what its row wants. Never holds the value of a secret.
struct DecodeProblem {
  std::string message;
  std::string hint;
  std::optional<toml::source_region> at = {};  // of the item of an array or table that is meant
};

// A value, or all that is wrong with it. Of a map, the entries that can be used are there also
// then.
struct Decoded {
  // NOLINTBEGIN(google-explicit-constructor): so that either can be returned.
  Decoded(SettingValues::Value decoded) : value(std::move(decoded)) {}
  Decoded(DecodeProblem problem) : problems{std::move(problem)} {}
  // NOLINTEND(google-explicit-constructor)
  SettingValues::Value value = {};
  std::vector<DecodeProblem> problems = {};
};

// A value as it stands in TOML, checked against type, range and choices. The origin is left to the
// caller, as it is in decode_text(). Pure.
[[nodiscard]] Decoded decode_node(const SettingSpec& spec, const toml::node& node);

// A value given as bare text by an environment variable: lists are separated by commas or written
// as a TOML array, maps are TOML inline tables, all else stands without quotes. Pure.
[[nodiscard]] Decoded decode_text(const SettingSpec& spec, std::string_view text);

// The content of a secret's file, without its last line break: text as it is, a list with one item
// a line, a map with one `name=value` a line. Pure.
[[nodiscard]] Decoded decode_secret_file(const SettingSpec& spec, std::string_view content);

// A number of the row's type for people: 30000 is "30s" for a duration.
[[nodiscard]] std::string format_number(SettingType type, std::int64_t number);

}  // namespace outfall
