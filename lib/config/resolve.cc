#include "config/resolve.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "config/decode.h"
#include "config/document.h"
#include "config/print.h"
#include "config/settings.h"
#include "config/suggest.h"

namespace outfall {

// One value as it was given: a node of the file or the text of a variable.
struct Resolver::Given {
  const toml::node* node = nullptr;
  std::string text;
  SettingOrigin origin;
};

// What one table says, by setting; names of secrets' files among them.
struct Resolver::Scan {
  const TableInput& input;
  std::span<const SettingSpec> specs;
  SecretFiles secret_files;
  std::map<std::string, Given, std::less<>> file = {};
  std::map<std::string, Given, std::less<>> environment = {};
  std::set<std::string, std::less<>> meant = {};  // by a name that is none
};

namespace {

constexpr std::string_view kFileSuffix = "_file";

// Nothing that can be used was given, which is told of.
SettingValues::Value doubtful(const SettingSpec& spec) {
  SettingValues::Value value = default_value(spec);
  value.in_doubt = true;
  return value;
}

bool accepts(const SettingSpec& spec, std::string_view name) {
  if (name == spec.name) return true;
  return spec.secret && name.size() == spec.name.size() + kFileSuffix.size() &&
         name.starts_with(spec.name) && name.ends_with(kFileSuffix);
}

bool is_known(std::span<const SettingSpec> specs, std::string_view name) {
  return std::ranges::any_of(specs, [&](const SettingSpec& spec) { return accepts(spec, name); });
}

// Whether settings lie below that name: "retry" of "retry.max".
const SettingSpec* setting_below(std::span<const SettingSpec> specs, std::string_view name) {
  const auto found = std::ranges::find_if(specs, [&](const SettingSpec& spec) {
    return spec.name.size() > name.size() && spec.name.starts_with(name) &&
           spec.name[name.size()] == '.';
  });
  return found == specs.end() ? nullptr : &*found;
}

// Another table that has such a setting: `lease` below [database] belongs to [drain].
std::string home_of(std::string_view name, std::string_view except) {
  for (const TableSpec& table : setting_tables()) {
    if (except.substr(0, except.find('.')) == table.name || !is_known(table.settings, name))
      continue;
    return fmt::format("{}{}", table.name, table.named ? ".NAME" : "");
  }
  return {};
}

std::string dotted(std::string_view table, std::string_view name) {
  return name.empty() ? std::string(table) : fmt::format("{}.{}", table, name);
}

// What the file has in brackets above the table. TOML takes a dot in a name for a level unless the
// name is quoted.
std::string table_header(std::string_view path) {
  const std::size_t dot = path.find('.');
  const std::string_view name = dot == std::string_view::npos ? "" : path.substr(dot + 1);
  return name.empty() ? fmt::format("[{}]", path)
                      : fmt::format("[{}.{}]", path.substr(0, dot), toml_key(name));
}

}  // namespace

void Resolver::report(const Scan& scan, std::string_view name, SettingOrigin origin,
                      std::string message, std::string hint) {
  problems_.push_back({.origin = std::move(origin),
                       .setting = dotted(scan.input.path, name),
                       .message = std::move(message),
                       .hint = std::move(hint)});
}

SettingOrigin Resolver::origin_of_table(const TableInput& input) const {
  if (input.node != nullptr) return origin_of(file_, input.node->source());
  SettingOrigin origin;
  if (input.environment != nullptr && !input.environment->empty()) {
    origin.variable = input.environment->begin()->second.variable;
  } else {
    origin.file = file_;
  }
  return origin;
}

SettingValues Resolver::resolve(const TableInput& input, std::span<const SettingSpec> specs,
                                SecretFiles secret_files) {
  Scan scan{input, specs, secret_files};
  if (input.node != nullptr) scan_file(scan, *input.node, "");
  scan_environment(scan);
  SettingValues values;
  for (const SettingSpec& spec : specs) {
    values.set(std::string(spec.name), resolve_one(scan, spec));
  }
  return values;
}

void Resolver::scan_file(Scan& scan, const toml::table& node, const std::string& prefix) {
  for (const auto& [key, value] : node) {
    const std::string name = prefix + std::string(key.str());
    if (is_known(scan.specs, name)) {
      scan.file[name] = {&value, {}, origin_of(file_, value.source())};
    } else if (const SettingSpec* below = setting_below(scan.specs, name); below == nullptr) {
      unknown(scan, name, origin_of(file_, key.source()), value.is_table());
    } else if (value.is_table()) {
      scan_file(scan, *value.as_table(), name + ".");
    } else {
      report(scan, name, origin_of(file_, value.source()),
             fmt::format("expected a table of settings, got {}", type_name(value)),
             fmt::format("set {} instead", dotted(scan.input.path, below->name)));
    }
  }
}

void Resolver::scan_environment(Scan& scan) {
  if (scan.input.environment == nullptr) return;
  for (const auto& [name, given] : *scan.input.environment) {
    SettingOrigin origin;
    origin.variable = given.variable;
    if (is_known(scan.specs, name)) {
      scan.environment[name] = {nullptr, given.value, std::move(origin)};
    } else {
      unknown(scan, name, std::move(origin), false);
    }
  }
}

void Resolver::unknown(Scan& scan, const std::string& name, SettingOrigin origin, bool is_table) {
  std::vector<std::string_view> known;
  for (const SettingSpec& spec : scan.specs) known.push_back(spec.name);
  const std::string_view meant = nearest(name, known);
  if (!meant.empty()) scan.meant.emplace(meant);
  const std::string home = home_of(name, scan.input.path);
  const std::string_view table = scan.input.path;
  std::string hint;
  if (!meant.empty() && origin.variable.empty()) {
    hint = fmt::format("did you mean {}?", meant);
  } else if (!meant.empty()) {
    hint = fmt::format("did you mean {}?", variable_name(table, meant));
  } else if (!home.empty()) {
    hint = fmt::format("it belongs to [{}]", home);
  } else if (is_table && table.find('.') != std::string_view::npos) {
    hint = "a name with a dot in it needs quotes: " + table_header(dotted(table, name));
  } else {
    hint = fmt::format("the settings here are {}", enumerate(known));
  }
  report(scan, name, std::move(origin), "there is no such setting", std::move(hint));
}

void Resolver::missing(const Scan& scan, const SettingSpec& spec) {
  const std::string variable = variable_name(scan.input.path, spec.name);
  const std::string table = table_header(scan.input.path);
  std::string hint =
      spec.secret ? fmt::format(
                        "set it, or {}_file to the name of a file that has it, in {}, or by {} or "
                        "{}_FILE",
                        spec.name, table, variable, variable)
                  : fmt::format("set it in {}, or by {}", table, variable);
  report(scan, spec.name, origin_of_table(scan.input), "is required and not set", std::move(hint));
}

bool Resolver::read_secret(const Scan& scan, const SettingSpec& spec, const Given& given,
                           SettingValues::Value& value) {
  const std::string name = std::string(spec.name).append(kFileSuffix);
  std::string path = given.text;
  if (given.node != nullptr) {
    if (!given.node->is_string()) {
      report(scan, name, given.origin,
             fmt::format("expected the name of a file, got {}", type_name(*given.node)),
             "write the name in double quotes");
      return false;
    }
    // A name in the file is meant from where the file is, wherever outfall was started.
    path = std::filesystem::path(file_).parent_path() / given.node->as_string()->get();
  }
  const auto content = read_small_file(path);
  if (const auto* problem = std::get_if<FileProblem>(&content)) {
    report(scan, name, given.origin, fmt::format("the file \"{}\" {}", path, problem->message),
           "name a file that outfall's user may read");
    return false;
  }
  Decoded decoded = decode_secret_file(spec, std::get<std::string>(content));
  for (const DecodeProblem& problem : decoded.problems) {
    report(scan, name, given.origin, fmt::format("the file \"{}\": {}", path, problem.message),
           problem.hint);
  }
  value = std::move(decoded.value);
  return decoded.problems.empty();
}

SettingValues::Value Resolver::decode_given(const Scan& scan, const SettingSpec& spec,
                                            const Given& given) {
  Decoded decoded =
      given.node != nullptr ? decode_node(spec, *given.node) : decode_text(spec, given.text);
  for (DecodeProblem& problem : decoded.problems) {
    report(scan, spec.name, problem.at ? origin_of(file_, *problem.at) : given.origin,
           std::move(problem.message), std::move(problem.hint));
  }
  const bool is_map = spec.type == SettingType::string_map;
  SettingValues::Value value =
      decoded.problems.empty() || is_map ? std::move(decoded.value) : doubtful(spec);
  value.in_doubt = !decoded.problems.empty();
  const toml::table* table = is_map && given.node != nullptr ? given.node->as_table() : nullptr;
  if (table == nullptr) return value;
  for (const auto& [key, item] : *table) {
    value.entry_origins.emplace(key.str(), origin_of(file_, item.source()));
  }
  return value;
}

SettingValues::Value Resolver::resolve_one(Scan& scan, const SettingSpec& spec) {
  const std::string file_name = std::string(spec.name).append(kFileSuffix);
  const auto find = [&](std::map<std::string, Given, std::less<>>& given, std::string_view name) {
    const auto found = given.find(name);
    return found == given.end() ? nullptr : &found->second;
  };
  // The environment as a whole wins over the file as a whole; within one of them, both forms of a
  // secret contradict each other.
  for (auto* source : {&scan.environment, &scan.file}) {
    const Given* direct = find(*source, spec.name);
    const Given* by_file = spec.secret ? find(*source, file_name) : nullptr;
    if (direct == nullptr && by_file == nullptr) continue;
    if (direct != nullptr && by_file != nullptr) {
      report(scan, spec.name, by_file->origin,
             fmt::format("both {} and {} are set", spec.name, file_name), "keep one of the two");
      return doubtful(spec);
    }
    if (by_file != nullptr && scan.secret_files == SecretFiles::leave) return doubtful(spec);
    SettingValues::Value value;
    if (by_file == nullptr) {
      value = decode_given(scan, spec, *direct);
    } else if (!read_secret(scan, spec, *by_file, value)) {
      return doubtful(spec);
    }
    value.origin = by_file != nullptr ? by_file->origin : direct->origin;
    const bool is_text = spec.type == SettingType::string;
    // A list of keys that is there and holds none would pass for "no keys": requests went out
    // unsigned.
    const bool is_empty =
        is_text ? value.text.empty() && (spec.required || spec.secret)
                : spec.type == SettingType::string_list && spec.secret && value.list.empty();
    if (is_empty && !value.in_doubt) {
      report(scan, spec.name, value.origin, "is empty", "give it a value, or leave it out");
      return doubtful(spec);
    }
    return value;
  }
  SettingValues::Value value = default_value(spec);
  value.in_doubt = spec.required || scan.meant.contains(spec.name);
  if (spec.required) missing(scan, spec);
  return value;
}

}  // namespace outfall
