#include "config/loader.h"

#include <algorithm>
#include <array>
#include <functional>
#include <set>
#include <tuple>
#include <unistd.h>

#include <fmt/format.h>
#include <toml++/toml.h>

#include "config/check.h"
#include "config/document.h"
#include "config/environment.h"
#include "config/resolve.h"
#include "config/settings.h"
#include "config/suggest.h"

namespace outfall {
namespace {

constexpr auto kDefaultFiles =
    std::to_array<std::string_view>({"outfall.toml", "/etc/outfall/outfall.toml"});

// One load: what was read and what is wrong with it.
class Load {
 public:
  Load(const EmitterRegistry& registry, const ConfigSources& sources)
      : registry_(registry), sources_(sources), resolver_(sources.file, problems_) {}

  LoadedConfig run() {
    if (!read_file()) return std::move(problems_);
    resolve_all(SecretFiles::read);
    // Alone it is told by problems_for_run().
    if (sources_.for_run && !problems_.empty() && names("streams").empty())
      problems_.push_back(no_stream(sources_.file));
    if (problems_.empty()) return std::make_shared<const Config>(std::move(tables_));
    sort_problems();
    return std::move(problems_);
  }

  std::variant<CommandConfig, ConfigProblems> run_for_command(CommandEmitters emitters) {
    if (!read_file()) return std::move(problems_);
    const bool judged = emitters == CommandEmitters::judged;
    resolve_all(judged ? SecretFiles::read : SecretFiles::leave);
    sort_problems();
    if (std::ranges::none_of(problems_, stops_command))
      return CommandConfig{std::make_shared<const Config>(std::move(tables_)),
                           std::move(problems_)};
    // Who judges all tells all.
    if (!judged) std::erase_if(problems_, std::not_fn(stops_command));
    return std::move(problems_);
  }

  std::variant<SettingValues, ConfigProblems> run_admin() {
    if (!read_file() && !sources_.environment.contains(variable_name("admin", "listen")))
      return std::move(problems_);
    environment_ = sort_environment(sources_.environment, file_names(), problems_);
    check_top_level();
    resolve_globals();
    check_config(tables_, registry_, problems_);
    std::erase_if(problems_, [](const SettingProblem& problem) { return !hides_admin(problem); });
    if (!problems_.empty()) return std::move(problems_);
    return std::move(tables_.globals["admin"]);
  }

 private:
  using SecretFiles = Resolver::SecretFiles;

  void resolve_all(SecretFiles secrets_of_emitters) {
    environment_ = sort_environment(sources_.environment, file_names(), problems_);
    check_top_level();
    resolve_globals();
    for (const std::string& name : names("streams")) resolve_stream(name);
    for (const std::string& name : names("emitters")) resolve_emitter(name, secrets_of_emitters);
    check_config(tables_, registry_, problems_);
  }

  void sort_problems() {
    std::ranges::stable_sort(problems_, {}, [](const SettingProblem& problem) {
      return std::make_tuple(problem.origin.file.empty(), problem.origin.line,
                             problem.origin.column);
    });
  }

  // Whether it is, or may be, about what a command needs that asks the database. A table that there
  // is not may be meant as [database], and so may a variable with a slip.
  static bool stops_command(const SettingProblem& problem) {
    if (problem.setting == "admin.token" || problem.setting == "admin.token_file") return false;
    return std::ranges::none_of(setting_tables(), [&](const TableSpec& table) {
      if (table.name == "database" || table.name == "admin") return false;
      const std::string begin = fmt::format("{}.", table.name);
      if (!problem.setting.empty())
        return problem.setting == table.name || problem.setting.starts_with(begin);
      std::string variable = variable_name(table.name, "");
      variable.resize(variable.size() - 1);  // a slip is one underscore instead of two
      return problem.origin.variable.starts_with(variable);
    });
  }

  // Whether nobody can tell by now where the admin server is. A slip such as OUTFALL_ADMIN_LISTEN
  // has no setting that it is about.
  static bool hides_admin(const SettingProblem& problem) {
    if (problem.setting.empty()) return problem.origin.variable.starts_with("OUTFALL_ADMIN_");
    return problem.setting == "admin" || problem.setting == "admin.listen" ||
           problem.setting == "admin.enabled";
  }

  void report(SettingOrigin origin, std::string setting, std::string message, std::string hint) {
    problems_.push_back(
        {std::move(origin), std::move(setting), std::move(message), std::move(hint)});
  }

  // False when nothing can be said about the settings.
  bool read_file() {
    tables_.file = sources_.file;
    if (sources_.file.empty()) {
      const bool environment = std::ranges::any_of(sources_.environment, [](const auto& variable) {
        return variable.first.find("__") != std::string::npos;
      });
      if (!environment) {
        // What is there may be meant as the configuration: OUTFALL_DATABASE_URL.
        static_cast<void>(sort_environment(sources_.environment, {}, problems_));
        report({}, "", "there is no configuration",
               fmt::format("write {}, name a file by --config or OUTFALL_CONFIG, or set at least "
                           "OUTFALL_DATABASE__URL",
                           fmt::join(kDefaultFiles, " or ")));
      }
      return environment;
    }
    const auto content = read_small_file(sources_.file);
    if (const auto* problem = std::get_if<FileProblem>(&content)) {
      SettingOrigin origin;
      origin.file = sources_.file;
      report(std::move(origin), "", problem->message,
             problem->denied
                 ? "let the user that outfall runs as read it, and enter its folder"
                 : "name the configuration by --config or OUTFALL_CONFIG, or set all by the "
                   "environment");
      return false;
    }
    auto parsed = parse_document(sources_.file, std::get<std::string>(content));
    if (auto* problem = std::get_if<SettingProblem>(&parsed)) {
      problems_.push_back(std::move(*problem));
      return false;
    }
    root_ = std::move(std::get<toml::table>(parsed));
    return true;
  }

  [[nodiscard]] const toml::table* file_table(std::string_view name) const {
    const toml::node* node = root_.get(name);
    return node == nullptr ? nullptr : node->as_table();
  }

  [[nodiscard]] std::map<std::string, std::set<std::string>, std::less<>> file_names() const {
    std::map<std::string, std::set<std::string>, std::less<>> result;
    for (const TableSpec& table : setting_tables()) {
      const toml::table* node = table.named ? file_table(table.name) : nullptr;
      if (node == nullptr) continue;
      for (const auto& [key, value] : *node) result[std::string(table.name)].emplace(key.str());
    }
    return result;
  }

  // The streams or emitters of file and environment.
  [[nodiscard]] std::set<std::string> names(const std::string& table) const {
    std::set<std::string> result;
    if (const toml::table* node = file_table(table)) {
      for (const auto& [key, value] : *node) result.emplace(key.str());
    }
    if (const auto found = environment_.named.find(table); found != environment_.named.end()) {
      for (const auto& [name, settings] : found->second) result.insert(name);
    }
    return result;
  }

  void check_top_level() {
    std::vector<std::string_view> known;
    for (const TableSpec& table : setting_tables()) known.push_back(table.name);
    for (const auto& [key, value] : root_) {
      const std::string name(key.str());
      if (std::ranges::find(known, name) != known.end()) {
        if (!value.is_table()) {
          report(origin_of(sources_.file, value.source()), name,
                 fmt::format("expected a table, got {}", type_name(value)),
                 fmt::format("write its settings below a line [{}]", name));
        }
        continue;
      }
      report(origin_of(sources_.file, key.source()), name,
             value.is_table() ? "there is no such table" : "there is no such setting",
             top_level_hint(name, known));
    }
  }

  static std::string top_level_hint(const std::string& name,
                                    std::span<const std::string_view> known) {
    for (const TableSpec& table : setting_tables()) {
      const auto found = std::ranges::find(table.settings, name, &SettingSpec::name);
      if (found == table.settings.end()) continue;
      return fmt::format("it belongs below a line [{}{}]", table.name, table.named ? ".NAME" : "");
    }
    const std::string_view meant = nearest(name, known);
    return meant.empty() ? fmt::format("the tables are {}", enumerate(known))
                         : fmt::format("did you mean [{}]?", meant);
  }

  void resolve_globals() {
    for (const TableSpec& table : setting_tables()) {
      if (table.named) continue;
      TableInput input{.path = std::string(table.name), .node = file_table(table.name)};
      const auto found = environment_.globals.find(table.name);
      if (found != environment_.globals.end()) input.environment = &found->second;
      tables_.globals[input.path] = resolver_.resolve(input, table.settings);
    }
    SettingValues& worker = tables_.globals["worker"];
    if (!worker.has("instance")) {
      worker.set("instance", {.text = sources_.host_name,
                              .number = 0,
                              .list = {},
                              .map = {},
                              .is_set = true,
                              .origin = {}});
    }
  }

  // What is said about one stream or emitter; nullopt when that cannot be a table of settings. A
  // name that cannot be used is told of here, and what stands below it is judged all the same.
  std::optional<TableInput> named_input(const std::string& table, const std::string& name) {
    TableInput input{.path = table + "." + name};
    if (const auto found = environment_.named.find(table); found != environment_.named.end()) {
      const auto settings = found->second.find(name);
      if (settings != found->second.end()) input.environment = &settings->second;
    }
    const toml::table* parent = file_table(table);
    const toml::node* node = parent == nullptr ? nullptr : parent->get(name);
    if (node != nullptr && !node->is_table()) {
      report(origin_of(sources_.file, node->source()), input.path,
             fmt::format("expected a table, got {}", type_name(*node)),
             fmt::format("write [{}.NAME] and the settings below it", table));
      return {};
    }
    if (node != nullptr) input.node = node->as_table();
    if (!is_table_name(name)) {
      report(resolver_.origin_of_table(input), input.path, "is not a name that can be used",
             "write a small letter or digit, then at most 62 of a-z, 0-9, _, . and -");
    }
    return input;
  }

  void resolve_stream(const std::string& name) {
    const auto input = named_input("streams", name);
    if (!input) return;
    tables_.streams[name] = {name, resolver_.resolve(*input, setting_table("streams").settings)};
  }

  void resolve_emitter(const std::string& name, SecretFiles secret_files) {
    const auto input = named_input("emitters", name);
    if (!input) return;
    const auto [given, origin] = kind_of(*input);
    const EmitterKind* kind = given.empty() ? nullptr : registry_.find(given);
    // With a typing error in its kind a table is judged by the one that was probably meant, so that
    // its other mistakes need no second try; unlike any, nothing else of it can be understood.
    if (kind == nullptr) kind = registry_.find(report_kind(*input, given, origin));
    if (kind == nullptr) return;
    std::vector<SettingSpec> specs(setting_table("emitters").settings.begin(),
                                   setting_table("emitters").settings.end());
    specs.insert(specs.end(), kind->settings.begin(), kind->settings.end());
    tables_.emitters[name] = {name, std::string(kind->kind),
                              resolver_.resolve(*input, specs, secret_files), kind->settings};
  }

  // The kind has to be known before the rest of the table can be understood. Empty: not given, or
  // not a string.
  [[nodiscard]] std::pair<std::string, SettingOrigin> kind_of(const TableInput& input) const {
    SettingOrigin origin;
    if (input.environment != nullptr) {
      if (const auto found = input.environment->find("kind"); found != input.environment->end()) {
        origin.variable = found->second.variable;
        return {found->second.value, origin};
      }
    }
    const toml::node* node = input.node == nullptr ? nullptr : input.node->get("kind");
    if (node == nullptr) return {"", resolver_.origin_of_table(input)};
    origin = origin_of(sources_.file, node->source());
    return {node->is_string() ? node->as_string()->get() : "", origin};
  }

  // Returns the kind that was probably meant; empty: none is near.
  std::string_view report_kind(const TableInput& input, const std::string& given,
                               const SettingOrigin& origin) {
    const std::vector<std::string_view> known = registry_.kinds();
    const std::string_view meant = nearest(given, known);
    report(origin, input.path + ".kind",
           given.empty() ? "is required: a string that names the kind of emitter"
                         : fmt::format("there is no kind of emitter \"{}\"", given),
           meant.empty()
               ? fmt::format("the kinds are {}", enumerate(known))
               : fmt::format("did you mean \"{}\"? The kinds are {}", meant, enumerate(known)));
    return meant;
  }

  const EmitterRegistry& registry_;
  const ConfigSources& sources_;
  ConfigProblems problems_;
  Resolver resolver_;
  toml::table root_;
  EnvironmentSettings environment_;
  ConfigTables tables_;
};

}  // namespace

std::map<std::string, std::string> outfall_environment() {
  std::map<std::string, std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (!text.starts_with("OUTFALL_") || equals == std::string_view::npos) continue;
    result.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return result;
}

std::string find_config_file(std::string_view flag,
                             const std::map<std::string, std::string>& environment) {
  if (!flag.empty()) return std::string(flag);
  const auto named = environment.find("OUTFALL_CONFIG");
  if (named != environment.end() && !named->second.empty()) return named->second;
  for (const std::string_view file : kDefaultFiles) {
    if (access(file.data(), F_OK) == 0) return std::string(file);
  }
  return {};
}

LoadedConfig ConfigLoader::load() const {
  return Load(registry_, sources_).run();
}

std::variant<CommandConfig, ConfigProblems> ConfigLoader::load_for_command(
    CommandEmitters emitters) const {
  return Load(registry_, sources_).run_for_command(emitters);
}

std::variant<SettingValues, ConfigProblems> ConfigLoader::load_admin() const {
  return Load(registry_, sources_).run_admin();
}

std::variant<ReloadedConfig, ConfigProblems> ConfigLoader::reload(const Config& running) const {
  LoadedConfig loaded = load();
  if (auto* problems = std::get_if<ConfigProblems>(&loaded)) return std::move(*problems);
  const Config& next = *std::get<std::shared_ptr<const Config>>(loaded);

  ConfigTables mixture = apply_live(running, next);
  ConfigProblems problems;
  check_config(mixture, registry_, problems);
  if (!problems.empty()) {
    for (SettingProblem& problem : problems) {
      problem.hint =
          "the new value does not go with one that is in effect until a restart: restart";
    }
    return problems;
  }
  ReloadedConfig result{std::make_shared<const Config>(std::move(mixture)), {}, {}};
  for (SettingChange& change : diff(running, next)) {
    const bool live = change.reload == Reload::live;
    (live ? result.live : result.needs_restart).push_back(std::move(change));
  }
  return result;
}

std::string to_string(const SettingProblem& problem) {
  std::string text;
  // "default" is no place where anybody could look.
  const std::string origin = problem.origin.to_string();
  if (origin != SettingOrigin{}.to_string()) text = origin + ": ";
  if (!problem.setting.empty()) text += problem.setting + ": ";
  return text + problem.message;
}

}  // namespace outfall
