#include "config/decode.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "config/document.h"
#include "config/settings.h"
#include "config/suggest.h"
#include "core/number.h"
#include "core/quantity.h"
#include "core/text.h"

namespace outfall {
namespace {

// Between the parts of a variable's text, or around the lines of a file from elsewhere.
constexpr std::string_view kBlanks = " \t\r";

// A value in a message, short enough for a line.
std::string shown(std::string_view value) {
  constexpr std::size_t kMax = 60;
  std::string text = "\"";
  for (const char c : value.substr(0, kMax)) {
    text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return text + (value.size() > kMax ? "…\"" : "\"");
}

std::string choices(const SettingSpec& spec) {
  return fmt::format("\"{}\"", fmt::join(spec.choices, "\", \""));
}

std::string expectation(const SettingSpec& spec) {
  switch (spec.type) {
    case SettingType::string:
      return "a string";
    case SettingType::integer:
      return "an integer";
    case SettingType::boolean:
      return "true or false";
    case SettingType::duration:
      return "a duration such as \"30s\"";
    case SettingType::bytes:
      return "a size such as \"64KiB\"";
    case SettingType::choice:
      return "one of " + choices(spec);
    case SettingType::string_list:
      return "an array of strings";
    case SettingType::string_map:
      return "a table of strings";
  }
  return "something else";
}

// Where text needs quotes: in the file, not in a variable or in a secret's own file.
enum class Written { toml, bare };

// "a", "b" or "c"
std::string any_of(std::span<const std::string_view> choices, Written written) {
  const std::string_view quote = written == Written::toml ? "\"" : "";
  std::string text;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (i > 0) text += i + 1 == choices.size() ? " or " : ", ";
    text += fmt::format("{0}{1}{0}", quote, choices[i]);
  }
  return text;
}

std::string form_hint(const SettingSpec& spec, Written written) {
  const std::string quotes = written == Written::toml ? ", in double quotes" : "";
  switch (spec.type) {
    case SettingType::string:
      return "write the value in double quotes";
    case SettingType::choice:
      return "write " + any_of(spec.choices, written);
    case SettingType::integer:
      return "write digits without quotes";
    case SettingType::boolean:
      return "write true or false without quotes";
    case SettingType::duration:
      return "write a whole number and one unit of ms, s, m, h or d" + quotes;
    case SettingType::bytes:
      return "write a whole number and one unit of B, KiB, MiB or GiB" + quotes;
    case SettingType::string_list:
      return "write strings in brackets: [\"a\", \"b\"]";
    case SettingType::string_map:
      return "write pairs in braces: {name = \"value\"}";
  }
  return "";
}

DecodeProblem wrong_type(const SettingSpec& spec, const toml::node& node) {
  return {fmt::format("expected {}, got {}", expectation(spec), type_name(node)),
          form_hint(spec, Written::toml)};
}

DecodeProblem wrong_text(const SettingSpec& spec, std::string_view text, Written written) {
  return {spec.secret ? fmt::format("expected {}", expectation(spec))
                      : fmt::format("expected {}, got {}", expectation(spec), shown(text)),
          form_hint(spec, written)};
}

Decoded decode_number(const SettingSpec& spec, std::int64_t number) {
  if (number >= spec.min && number <= spec.max) {
    SettingValues::Value value;
    value.number = number;
    value.is_set = true;
    return value;
  }
  const std::string got = spec.secret ? "the value" : format_number(spec.type, number);
  const std::string least = format_number(spec.type, spec.min);
  const std::string most = format_number(spec.type, spec.max);
  return DecodeProblem{
      spec.max == INT64_MAX ? fmt::format("{} is below the least value {}", got, least)
                            : fmt::format("{} is out of range: {} to {}", got, least, most),
      fmt::format("write a value of {} {}", number < spec.min ? "at least" : "at most",
                  number < spec.min ? least : most)};
}

Decoded decode_choice(const SettingSpec& spec, std::string_view text, Written written) {
  if (std::ranges::find(spec.choices, text) != spec.choices.end()) {
    SettingValues::Value value;
    value.text = text;
    value.is_set = true;
    return value;
  }
  DecodeProblem problem = wrong_text(spec, text, written);
  if (const std::string_view meant = nearest(text, spec.choices); !meant.empty()) {
    problem.hint = fmt::format("did you mean \"{}\"?", meant);
  }
  return problem;
}

bool holds_nul(std::string_view text) {
  return text.find('\0') != std::string_view::npos;
}

DecodeProblem nul_problem() {
  return {"holds a NUL character", "remove it"};
}

// Whoever takes a value on as a C string would see it cut short.
Decoded without_nul(SettingValues::Value value) {
  const bool found = std::ranges::any_of(value.list, holds_nul) ||
                     std::ranges::any_of(value.map, [](const auto& item) {
                       return holds_nul(item.first) || holds_nul(item.second);
                     });
  if (found) return nul_problem();
  return value;
}

// Strings, choices, durations and sizes are written as text, in TOML within quotes.
Decoded decode_string(const SettingSpec& spec, std::string_view text, Written written) {
  if (holds_nul(text)) return nul_problem();
  // The file is UTF-8 or does not parse; a variable can be anything.
  if (!is_valid_utf8(text)) return DecodeProblem{"is not valid UTF-8", "write it in UTF-8"};
  if (spec.type == SettingType::choice) return decode_choice(spec, text, written);
  if (spec.type == SettingType::duration) {
    const auto duration = parse_duration(text);
    return duration ? decode_number(spec, duration->count()) : wrong_text(spec, text, written);
  }
  if (spec.type == SettingType::bytes) {
    const auto bytes = parse_bytes(text);
    return bytes ? decode_number(spec, *bytes) : wrong_text(spec, text, written);
  }
  SettingValues::Value value;
  value.text = text;
  value.is_set = true;
  return value;
}

DecodeProblem at(const toml::node& node, DecodeProblem problem) {
  problem.at = node.source();
  return problem;
}

Decoded decode_list(const SettingSpec& spec, const toml::node& node) {
  const toml::array* array = node.as_array();
  if (array == nullptr) return wrong_type(spec, node);
  Decoded decoded{SettingValues::Value{}};
  decoded.value.is_set = true;
  for (const toml::node& item : *array) {
    if (!item.is_string()) {
      decoded.problems.push_back(
          at(item, {fmt::format("expected an array of strings, got {} in it", type_name(item)),
                    form_hint(spec, Written::toml)}));
    } else if (holds_nul(item.as_string()->get())) {
      decoded.problems.push_back(at(item, nul_problem()));
    } else {
      decoded.value.list.push_back(item.as_string()->get());
    }
  }
  return decoded;
}

Decoded decode_map(const SettingSpec& spec, const toml::node& node) {
  const toml::table* table = node.as_table();
  if (table == nullptr) return wrong_type(spec, node);
  Decoded decoded{SettingValues::Value{}};
  decoded.value.is_set = true;
  for (const auto& [key, item] : *table) {
    if (!item.is_string()) {
      decoded.problems.push_back(
          at(item, {fmt::format("expected a table of strings, got {} for \"{}\"", type_name(item),
                                key.str()),
                    fmt::format("write the value of \"{}\" in double quotes{}", key.str(),
                                item.is_table() ? ", and its name too if it holds a dot" : "")}));
    } else if (holds_nul(key.str()) || holds_nul(item.as_string()->get())) {
      decoded.problems.push_back(at(item, nul_problem()));
    } else {
      decoded.value.map.emplace(key.str(), item.as_string()->get());
    }
  }
  return decoded;
}

template <typename Function>
void for_each_part(std::string_view text, char separator, Function&& function) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (const std::string_view part = trimmed(text.substr(0, end), kBlanks); !part.empty())
      function(part);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

Decoded split_list(std::string_view text, char separator) {
  SettingValues::Value value;
  value.is_set = true;
  for_each_part(text, separator, [&](std::string_view part) { value.list.emplace_back(part); });
  return without_nul(std::move(value));
}

// A variable that holds a piece of TOML.
Decoded decode_fragment(const SettingSpec& spec, std::string_view text) {
  const auto document = parse_document({}, fmt::format("value = {}", text));
  const auto* table = std::get_if<toml::table>(&document);
  if (table == nullptr || table->size() != 1) return wrong_text(spec, text, Written::bare);
  Decoded decoded = decode_node(spec, *table->get("value"));
  // A place in the text that was made up here tells nobody anything.
  for (DecodeProblem& problem : decoded.problems) problem.at.reset();
  return decoded;
}

}  // namespace

std::string format_number(SettingType type, std::int64_t number) {
  if (number >= 0 && type == SettingType::duration) return format_duration(Milliseconds{number});
  if (number >= 0 && type == SettingType::bytes) return format_bytes(number);
  return std::to_string(number);
}

Decoded decode_node(const SettingSpec& spec, const toml::node& node) {
  switch (spec.type) {
    case SettingType::string:
    case SettingType::choice:
    case SettingType::duration:
      if (node.is_string()) return decode_string(spec, node.as_string()->get(), Written::toml);
      break;
    case SettingType::bytes:
      if (node.is_string()) return decode_string(spec, node.as_string()->get(), Written::toml);
      if (node.is_integer()) return decode_number(spec, node.as_integer()->get());
      break;
    case SettingType::integer:
      if (node.is_integer()) return decode_number(spec, node.as_integer()->get());
      break;
    case SettingType::boolean:
      if (node.is_boolean()) {
        SettingValues::Value value;
        value.number = node.as_boolean()->get() ? 1 : 0;
        value.is_set = true;
        return value;
      }
      break;
    case SettingType::string_list:
      return decode_list(spec, node);
    case SettingType::string_map:
      return decode_map(spec, node);
  }
  return wrong_type(spec, node);
}

Decoded decode_text(const SettingSpec& spec, std::string_view text) {
  switch (spec.type) {
    case SettingType::string:
    case SettingType::choice:
    case SettingType::duration:
    case SettingType::bytes:
      return decode_string(spec, text, Written::bare);
    case SettingType::integer: {
      const auto number = parse_number<std::int64_t>(text);
      return number ? decode_number(spec, *number) : wrong_text(spec, text, Written::bare);
    }
    case SettingType::boolean: {
      if (text != "true" && text != "false") return wrong_text(spec, text, Written::bare);
      SettingValues::Value value;
      value.number = text == "true" ? 1 : 0;
      value.is_set = true;
      return value;
    }
    case SettingType::string_list:
      return trimmed(text, kBlanks).starts_with('[') ? decode_fragment(spec, text)
                                                     : split_list(text, ',');
    case SettingType::string_map:
      return decode_fragment(spec, text);
  }
  return wrong_text(spec, text, Written::bare);
}

Decoded decode_secret_file(const SettingSpec& spec, std::string_view content) {
  if (content.ends_with('\n')) content.remove_suffix(1);
  if (content.ends_with('\r')) content.remove_suffix(1);
  if (spec.type == SettingType::string_list) return split_list(content, '\n');
  if (spec.type != SettingType::string_map) return decode_text(spec, content);

  SettingValues::Value value;
  value.is_set = true;
  bool complete = true;
  for_each_part(content, '\n', [&](std::string_view line) {
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) {
      complete = false;
      return;
    }
    value.map.emplace(trimmed(line.substr(0, equals), kBlanks),
                      trimmed(line.substr(equals + 1), kBlanks));
  });
  if (!complete) return DecodeProblem{"expected lines of name=value", "write one pair a line"};
  return without_nul(std::move(value));
}

SettingValues::Value default_value(const SettingSpec& spec) {
  if (spec.default_value.empty()) return {};
  const auto document = parse_document({}, fmt::format("value = {}", spec.default_value));
  if (const auto* table = std::get_if<toml::table>(&document)) {
    Decoded decoded = decode_node(spec, *table->get("value"));
    if (decoded.problems.empty()) return std::move(decoded.value);
  }
  fmt::print(stderr, "outfall: the default of the setting \"{}\" does not fit its row\n",
             spec.name);
  std::abort();
}

}  // namespace outfall
