#include "config/environment.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "config/settings.h"
#include "config/suggest.h"
#include "core/text.h"

namespace outfall {
namespace {

constexpr std::string_view kPrefix = "OUTFALL_";

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), lower_ascii);
  return result;
}

// A name as it appears in a variable.
std::string folded(std::string_view name) {
  std::string result(name);
  std::ranges::transform(result, result.begin(), [](unsigned char c) {
    return c == '-' || c == '.' ? '_' : static_cast<char>(std::toupper(c));
  });
  return result;
}

// "RETRY__MAX" -> "retry.max"
std::string dotted(std::string_view levels) {
  std::string result = lower(levels);
  for (std::size_t at = result.find("__"); at != std::string::npos; at = result.find("__", at)) {
    result.replace(at, 2, ".");
  }
  return result;
}

// Kubernetes sets OUTFALL_SERVICE_HOST, OUTFALL_PORT_9464_TCP and the like in every container
// beside a Service named outfall or outfall-admin; they are not meant for us.
bool is_service_link(std::string_view variable) {
  const std::size_t port = variable.find("_PORT_");
  const bool numbered = port != std::string_view::npos && port + 6 < variable.size() &&
                        std::isdigit(static_cast<unsigned char>(variable[port + 6])) != 0;
  return variable.ends_with("_SERVICE_HOST") || variable.ends_with("_PORT") || numbered ||
         variable.find("_SERVICE_PORT") != std::string_view::npos;
}

const TableSpec* find_table(std::string_view name) {
  const auto tables = setting_tables();
  const auto found = std::ranges::find(tables, name, &TableSpec::name);
  return found == tables.end() ? nullptr : &*found;
}

// Read by something else than the table of settings, or set by images about themselves; and the
// beginnings of what tests and tools set.
constexpr auto kOtherNames =
    std::to_array<std::string_view>({"CONFIG", "ACTOR", "VERSION", "COMMIT"});
constexpr auto kOtherBeginnings = std::to_array<std::string_view>({"TEST_", "CRASH_", "BROKEN"});

bool is_read_otherwise(std::string_view rest) {
  return std::ranges::find(kOtherNames, rest) != kOtherNames.end() ||
         std::ranges::any_of(kOtherBeginnings, [&](std::string_view beginning) {
           return rest.starts_with(beginning);
         });
}

std::string without_underscores(std::string_view name) {
  std::string result(name);
  std::erase(result, '_');
  return result;
}

// The variables of all settings that do not stand below a name.
std::vector<std::string> setting_variables() {
  std::vector<std::string> result;
  for (const TableSpec& table : setting_tables()) {
    if (table.named) continue;
    for (const SettingSpec& setting : table.settings) {
      result.push_back(variable_name(table.name, setting.name));
    }
  }
  return result;
}

// What is wrong with a variable of one level that is a setting but for its underscores
// (OUTFALL_LOGLEVEL), begins with a table (OUTFALL_DATABASE_URL) or is one (OUTFALL_STREAMS). Empty
// for others: OUTFALL_CACHE of somebody's image is none of ours.
std::string slip_hint(std::string_view rest) {
  for (const std::string& variable : setting_variables()) {
    if (without_underscores(variable.substr(kPrefix.size())) != without_underscores(folded(rest))) {
      continue;
    }
    return fmt::format("levels are separated by two underscores: did you mean {}?", variable);
  }
  for (const TableSpec& table : setting_tables()) {
    const std::string prefix = folded(table.name) + "_";
    if (rest.starts_with(prefix)) {
      return fmt::format("levels are separated by two underscores: did you mean {}{}_{}?", kPrefix,
                         prefix, rest.substr(prefix.size()));
    }
    if (rest != folded(table.name)) continue;
    return fmt::format(
        "append two underscores and {}, such as {}",
        table.named ? "a name and a setting" : "the setting",
        variable_name(table.named ? fmt::format("{}.orders", table.name) : std::string(table.name),
                      table.settings.front().name));
  }
  return {};
}

// The variable that may have been meant by one that nothing reads.
std::string meant_variable(std::string_view variable) {
  const std::vector<std::string> settings = setting_variables();
  const std::string_view rest = variable.substr(kPrefix.size());
  for (const std::string& known : settings) {
    if (known.ends_with(fmt::format("__{}", folded(rest)))) return known;
  }
  // By what follows the prefix, which would make all of them alike.
  std::vector<std::string_view> known = {"CONFIG", "ACTOR"};
  for (const std::string& name : settings)
    known.push_back(std::string_view(name).substr(kPrefix.size()));
  const std::string_view meant = nearest(rest, known);
  return meant.empty() ? std::string() : std::string(kPrefix).append(meant);
}

class Sorter {
 public:
  Sorter(const std::map<std::string, std::set<std::string>, std::less<>>& names,
         std::vector<SettingProblem>& problems)
      : names_(names), problems_(problems) {}

  void add(const std::string& variable, const std::string& value) {
    const std::string_view rest = std::string_view(variable).substr(kPrefix.size());
    const std::size_t end = rest.find("__");
    if (end == std::string_view::npos) {
      check_single_level(variable, rest);
      return;
    }
    const std::string name = lower(rest.substr(0, end));
    const std::string_view below = rest.substr(end + 2);
    const TableSpec* table = find_table(name);
    if (table == nullptr) {
      report_unknown_table(variable, name);
    } else if (table->named) {
      add_named(*table, variable, below, value);
    } else {
      settings_.globals[name][dotted(below)] = {variable, value};
    }
  }

  [[nodiscard]] EnvironmentSettings take() {
    check_names();
    return std::move(settings_);
  }

 private:
  void report(const std::string& variable, std::string message, std::string hint) {
    problems_.push_back({.origin = {.file = {}, .line = 0, .column = 0, .variable = variable},
                         .setting = {},
                         .message = std::move(message),
                         .hint = std::move(hint)});
  }

  void check_single_level(const std::string& variable, std::string_view rest) {
    if (is_read_otherwise(rest) || is_service_link(variable)) return;
    std::string hint = slip_hint(rest);
    if (!hint.empty()) report(variable, "is not a setting", std::move(hint));
  }

  void report_unknown_table(const std::string& variable, const std::string& name) {
    std::vector<std::string_view> known;
    for (const TableSpec& table : setting_tables()) known.push_back(table.name);
    const std::string_view meant = nearest(name, known);
    report(variable, fmt::format("there is no table [{}]", name),
           meant.empty()
               ? fmt::format("the tables are {}", enumerate(known))
               : fmt::format("did you mean {}{}{}?", kPrefix, folded(meant),
                             std::string_view(variable).substr(kPrefix.size() + name.size())));
  }

  void add_named(const TableSpec& table, const std::string& variable, std::string_view below,
                 const std::string& value) {
    std::string_view setting;
    std::optional<std::string> name = match_name(table, variable, below, setting);
    if (!name) return;
    if (setting.empty()) {
      report(variable, fmt::format("names no setting of [{}.{}]", table.name, *name),
             lacking_hint(table, variable, below));
      return;
    }
    settings_.named[std::string(table.name)][*name][dotted(setting)] = {variable, value};
  }

  [[nodiscard]] const std::set<std::string>* names_of(const TableSpec& table) const {
    const auto found = names_.find(table.name);
    return found == names_.end() ? nullptr : &found->second;
  }

  // What to do about OUTFALL_STREAMS__ORDERS, and about OUTFALL_STREAMS__ORDERS_LANE with one
  // underscore too few.
  [[nodiscard]] std::string lacking_hint(const TableSpec& table, const std::string& variable,
                                         std::string_view below) const {
    const std::string written = folded(below);
    const auto* names = names_of(table);
    for (const std::string& name : names == nullptr ? std::set<std::string>() : *names) {
      const std::string beginning = folded(name) + "_";
      if (!written.starts_with(beginning)) continue;
      const std::string rest = without_underscores(written.substr(beginning.size()));
      for (const SettingSpec& setting : table.settings) {
        if (without_underscores(folded(setting.name)) != rest) continue;
        return fmt::format("levels are separated by two underscores: did you mean {}?",
                           variable_name(fmt::format("{}.{}", table.name, name), setting.name));
      }
    }
    return fmt::format("append two underscores and the setting, such as {}__{}", variable,
                       folded(table.settings.front().name));
  }

  // A stream or emitter that the file does not have, and the environment not wholly, is often one
  // of the file with a typing error. It is told once, not as all that a new one would lack.
  void check_names() {
    for (auto& [table_name, tables] : settings_.named) {
      const TableSpec& table = *find_table(table_name);
      const auto* names = names_of(table);
      if (names == nullptr) continue;
      const std::vector<std::string_view> known(names->begin(), names->end());
      const std::string required(table.settings.front().name);
      std::erase_if(tables, [&](const auto& item) {
        const auto& [name, settings] = item;
        if (names->contains(name) || settings.contains(required)) return false;
        const std::string_view meant = nearest(name, known);
        if (meant.empty()) return false;
        report_name(fmt::format("{}.{}", table.name, name), required,
                    fmt::format("{}.{}", table.name, meant), settings);
        return true;
      });
    }
  }

  void report_name(const std::string& path, const std::string& required, const std::string& meant,
                   const EnvironmentTable& settings) {
    const auto& [setting, given] = *settings.begin();
    problems_.push_back(
        {.origin = {.file = {}, .line = 0, .column = 0, .variable = given.variable},
         .setting = path + "." + required,
         .message = "is required and not set",
         .hint = fmt::format("did you mean {}? Something new needs {} too",
                             variable_name(meant, setting), variable_name(path, required))});
  }

  // The stream or emitter that `below` begins with; `setting` becomes the rest. nullopt: reported.
  std::optional<std::string> match_name(const TableSpec& table, const std::string& variable,
                                        std::string_view below, std::string_view& setting) {
    std::vector<std::string_view> matches;
    std::size_t length = 0;
    if (const auto known = names_.find(table.name); known != names_.end()) {
      for (const std::string& name : known->second) {
        // A name may hold two underscores itself, so the longest that fits is meant.
        if (!folded(below).starts_with(folded(name)) || name.size() < length) continue;
        const std::string_view rest = below.substr(name.size());
        if (!rest.empty() && !rest.starts_with("__")) continue;
        if (name.size() > length) matches.clear();
        length = name.size();
        matches.push_back(name);
      }
    }
    if (matches.size() > 1) {
      report(variable, fmt::format("could mean {}", enumerate(matches)),
             "give this setting in the file");
      return {};
    }
    if (matches.empty()) length = std::min(below.find("__"), below.size());
    setting = below.substr(std::min(length + 2, below.size()));
    return matches.empty() ? lower(below.substr(0, length)) : std::string(matches.front());
  }

  const std::map<std::string, std::set<std::string>, std::less<>>& names_;
  std::vector<SettingProblem>& problems_;
  EnvironmentSettings settings_;
};

}  // namespace

EnvironmentSettings sort_environment(
    const std::map<std::string, std::string>& environment,
    const std::map<std::string, std::set<std::string>, std::less<>>& names,
    std::vector<SettingProblem>& problems) {
  Sorter sorter(names, problems);
  for (const auto& [variable, value] : environment) {
    if (variable.starts_with(kPrefix)) sorter.add(variable, value);
  }
  return sorter.take();
}

std::vector<std::string> unread_variables(const std::map<std::string, std::string>& environment) {
  std::vector<std::string> result;
  for (const auto& [variable, value] : environment) {
    if (!variable.starts_with(kPrefix)) continue;
    const std::string_view rest = std::string_view(variable).substr(kPrefix.size());
    // With more levels, or as a slip, it is a problem of the configuration.
    if (rest.find("__") != std::string_view::npos || is_read_otherwise(rest) ||
        is_service_link(variable) || !slip_hint(rest).empty()) {
      continue;
    }
    const std::string meant = meant_variable(variable);
    result.push_back(
        fmt::format("nothing reads the variable {}{}", variable,
                    meant.empty() ? std::string() : fmt::format(" (did you mean {}?)", meant)));
  }
  return result;
}

std::string variable_name(std::string_view table, std::string_view setting) {
  std::string result(kPrefix);
  const auto append = [&result](std::string_view path) {
    for (const char c : path) result += c == '.' ? std::string("__") : folded({&c, 1});
  };
  const std::size_t dot = table.find('.');
  append(table.substr(0, dot));
  // The name of a stream is one level even where it holds a dot.
  if (dot != std::string_view::npos) result += "__" + folded(table.substr(dot + 1));
  result += "__";
  append(setting);
  return result;
}

}  // namespace outfall
