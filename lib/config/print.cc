#include "config/print.h"

#include <algorithm>

#include <fmt/format.h>

#include "config/decode.h"
#include "config/settings.h"

namespace outfall {
namespace {

constexpr std::string_view kMaskedText = "\"***\"";

std::string printed_list(const std::vector<std::string>& items) {
  std::string text = "[";
  for (const std::string& item : items) {
    if (text.size() > 1) text += ", ";
    text += toml_quote(item);
  }
  return text + "]";
}

enum class Form : std::uint8_t { toml, json };

std::string printed_map(const std::map<std::string, std::string>& items, bool secret, Form form) {
  std::string text = "{";
  for (const auto& [name, value] : items) {
    text += text.size() > 1 ? ", " : "";
    text += form == Form::toml ? toml_key(name) + " = " : toml_quote(name) + ": ";
    text += secret || names_a_secret(name) ? std::string(kMaskedText) : toml_quote(value);
  }
  return text + "}";
}

// A basic string, a number, a boolean and an array of strings are the same text in TOML and JSON;
// only tables differ.
std::string printed(const SettingSpec& spec, const SettingValues& values, Form form) {
  if (!values.has(spec.name)) return "";
  if (spec.secret && spec.shown != nullptr) return toml_quote(spec.shown(values.text(spec.name)));
  if (spec.secret && spec.type != SettingType::string_map) return std::string(kMaskedText);
  switch (spec.type) {
    case SettingType::string:
    case SettingType::choice:
      return toml_quote(values.text(spec.name));
    case SettingType::integer:
      return std::to_string(values.integer(spec.name));
    case SettingType::boolean:
      return values.flag(spec.name) ? "true" : "false";
    case SettingType::duration:
    case SettingType::bytes:
      return toml_quote(format_number(spec.type, values.integer(spec.name)));
    case SettingType::string_list:
      return printed_list(values.list(spec.name));
    case SettingType::string_map:
      return printed_map(values.map(spec.name), spec.secret, form);
  }
  return "";
}

void append_table(const std::string& path, std::span<const SettingSpec> specs,
                  const SettingValues& values, std::vector<PrintedSetting>& lines) {
  for (const SettingSpec& spec : specs) {
    if (!values.has(spec.name)) continue;
    lines.push_back({.table = path,
                     .name = std::string(spec.name),
                     .value = printed(spec, values, Form::toml),
                     .json = printed(spec, values, Form::json),
                     .origin = values.origin(spec.name).to_string()});
  }
}

}  // namespace

std::string toml_quote(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += fmt::format("\\u{:04X}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string toml_key(std::string_view name) {
  const bool bare = !name.empty() && std::ranges::all_of(name, [](unsigned char c) {
    return (std::isalnum(c) != 0 && c < 0x80) || c == '_' || c == '-';
  });
  return bare ? std::string(name) : toml_quote(name);
}

std::string printed_value(const SettingSpec& spec, const SettingValues& values) {
  return printed(spec, values, Form::toml);
}

std::vector<PrintedSetting> printed_settings(const Config& config) {
  std::vector<PrintedSetting> lines;
  for (const TableSpec& table : setting_tables()) {
    if (table.named) continue;
    const std::string name(table.name);
    append_table(name, table.settings, config.tables().globals.find(name)->second, lines);
  }
  for (const auto& [name, stream] : config.streams()) {
    append_table("streams." + toml_key(name), setting_table("streams").settings, stream.settings,
                 lines);
  }
  for (const auto& [name, emitter] : config.emitters()) {
    const std::string path = "emitters." + toml_key(name);
    append_table(path, setting_table("emitters").settings, emitter.settings, lines);
    append_table(path, emitter.specs, emitter.settings, lines);
  }
  return lines;
}

std::string print_toml(const Config& config) {
  const std::vector<PrintedSetting> lines = printed_settings(config);
  std::size_t width = 0;
  for (const PrintedSetting& line : lines) {
    width = std::max(width, std::min<std::size_t>(line.name.size() + line.value.size() + 3, 48));
  }
  std::string text;
  std::string_view table;
  for (const PrintedSetting& line : lines) {
    if (line.table != table) {
      text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", line.table);
      table = line.table;
    }
    text += fmt::format("{:<{}}  # {}\n", fmt::format("{} = {}", line.name, line.value), width,
                        line.origin);
  }
  return text;
}

}  // namespace outfall
