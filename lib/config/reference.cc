#include "config/reference.h"

#include <algorithm>

#include <fmt/format.h>

#include "config/decode.h"
#include "config/environment.h"
#include "config/settings.h"

namespace outfall {
namespace {

constexpr std::string_view kGenerated =
    "<!-- Generated from lib/config/settings.cc by `outfall config-reference`; edit there. -->\n";

std::string type_text(const SettingSpec& spec) {
  const auto range = [&](std::string_view what) {
    const std::string least = format_number(spec.type, spec.min);
    if (spec.max == INT64_MAX) {
      return spec.min == 0 ? std::string(what) : fmt::format("{} of at least {}", what, least);
    }
    return fmt::format("{} from {} to {}", what, least, format_number(spec.type, spec.max));
  };
  switch (spec.type) {
    case SettingType::string:
      return "String";
    case SettingType::integer:
      return range("Integer");
    case SettingType::boolean:
      return "Boolean";
    case SettingType::duration:
      return range("Duration");
    case SettingType::bytes:
      return range("Size");
    case SettingType::choice:
      return fmt::format("One of `{}`", fmt::join(spec.choices, "`, `"));
    case SettingType::string_list:
      return "Array of strings";
    case SettingType::string_map:
      return "Table of strings";
  }
  return "";
}

std::string default_text(const SettingSpec& spec) {
  if (spec.required) return "required";
  if (spec.default_value.empty()) return "no default";
  return fmt::format("default `{}`", spec.default_value);
}

// One setting: what it means, then its form, default, variable and how a change takes effect.
std::string setting_markdown(std::string_view heading, std::string_view table,
                             const SettingSpec& spec) {
  const std::string secret =
      spec.secret ? fmt::format("; a secret, also as `{}_file`", spec.name) : std::string();
  const std::string_view reload =
      spec.reload == Reload::live ? "a reload applies a change" : "a change needs a restart";
  // The placeholder NAME survives in capitals: it is no stream's name.
  const std::string facts =
      fmt::format("{}{}; {}; variable `{}`; {}.", type_text(spec), secret, default_text(spec),
                  variable_name(table, spec.name), reload);
  return fmt::format("{} `{}.{}`\n\n{}\n{}\n", heading, table, spec.name, wrapped(spec.summary, ""),
                     wrapped(facts, ""));
}

std::string header_of(const TableSpec& table) {
  return fmt::format("[{}{}]", table.name, table.named ? ".NAME" : "");
}

}  // namespace

std::string wrapped(std::string_view text, std::string_view indent, std::size_t width) {
  std::string result;
  while (!text.empty()) {
    const std::size_t room = width - indent.size();
    std::size_t end = text.size();
    if (text.size() > room) {
      end = text.rfind(' ', room);
      // A word longer than a line stays whole.
      if (end == std::string_view::npos) end = std::min(text.find(' '), text.size());
    }
    result.append(indent).append(text.substr(0, end)).append("\n");
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

std::string reference_markdown() {
  std::string text = "# Configuration reference\n\n";
  text += kGenerated;
  text += "\n";
  const auto paragraph = [&text](std::string_view sentence) {
    text += wrapped(sentence, "") + "\n";
  };
  paragraph(kFileRule);
  paragraph(kEnvironmentRule);
  paragraph(kPrecedenceRule);
  paragraph(kSecretRule);
  paragraph(
      "A duration is a whole number and one unit of ms, s, m, h or d in quotes: `\"250ms\"`. A "
      "size is "
      "a whole number and one unit of B, KiB, MiB or GiB in quotes, `\"64KiB\"`, or a number of "
      "bytes. In a variable both stand without quotes, a list is separated by commas, and a table "
      "is "
      "written as a TOML inline table.");
  paragraph(
      "How to work with it is told in [operating/configuration.md](../operating/configuration.md); "
      "`ops/outfall.sample.toml` shows every setting.");
  for (const TableSpec& table : setting_tables()) {
    text += fmt::format("## {}\n\n{}\n", header_of(table), wrapped(table.summary, ""));
    const std::string path = fmt::format("{}{}", table.name, table.named ? ".NAME" : "");
    for (const SettingSpec& spec : table.settings) text += setting_markdown("###", path, spec);
  }
  text += wrapped(
      "`outfall version` lists the kinds of emitter that the binary has; the settings of each "
      "stand "
      "on its page in the folder `emitters` beside this page.",
      "");
  return text;
}

std::string emitter_markdown(const EmitterKind& kind) {
  std::string text;
  for (const SettingSpec& spec : kind.settings) {
    text += setting_markdown("###", "emitters.NAME", spec);
  }
  if (text.empty()) text = fmt::format("The kind `{}` has no settings of its own.\n\n", kind.kind);
  return "\n" + text;
}

std::string reference_sample() {
  std::string text =
      "# A configuration that works, with every other setting of outfall at its default. Generated "
      "by\n"
      "# `outfall config-reference --format sample`.\n#\n";
  for (const std::string_view rule : {kFileRule, kEnvironmentRule, kPrecedenceRule, kSecretRule}) {
    text += wrapped(rule, "# ");
  }
  const auto value_of = [](std::string_view path) -> std::string_view {
    if (path == "database.url") return "\"postgresql://shop@localhost/shop\"";
    if (path == "streams.emitter") return "\"log\"";
    if (path == "emitters.kind") return "\"stdout\"";
    return "";
  };
  for (const TableSpec& table : setting_tables()) {
    const std::string_view name = table.name == "streams" ? ".orders" : ".log";
    text += fmt::format("\n{}[{}{}]\n", wrapped(table.summary, "# "), table.name,
                        table.named ? name : "");
    for (const SettingSpec& spec : table.settings) {
      const std::string_view value = value_of(fmt::format("{}.{}", table.name, spec.name));
      text += "\n" + wrapped(spec.summary, "# ");
      if (!value.empty()) {
        text += fmt::format("{} = {}\n", spec.name, value);
      } else if (spec.default_value.empty()) {
        text += fmt::format("# {} = …\n", spec.name);
      } else {
        text += fmt::format("#{} = {}\n", spec.name, spec.default_value);
      }
    }
  }
  return text;
}

}  // namespace outfall
