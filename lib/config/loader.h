#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/config.h"
#include "emitter/registry.h"

namespace outfall {

// Where a configuration comes from.
struct ConfigSources {
  std::string file;                                // empty: none
  std::map<std::string, std::string> environment;  // variables that begin with OUTFALL_
  std::string host_name;                           // the default of worker.instance
  bool for_run = false;  // with other problems, also tells that there is no stream to serve
};

// The variables of this process that begin with OUTFALL_. Not safe beside setenv().
[[nodiscard]] std::map<std::string, std::string> outfall_environment();

// The first that is there of: `flag`, $OUTFALL_CONFIG, ./outfall.toml, /etc/outfall/outfall.toml.
// The first two are taken unseen, so that a wrong name is an error and not a silent default.
[[nodiscard]] std::string find_config_file(std::string_view flag,
                                           const std::map<std::string, std::string>& environment);

// All that is wrong, in the order of the file; never empty.
using ConfigProblems = std::vector<SettingProblem>;
using LoadedConfig = std::variant<std::shared_ptr<const Config>, ConfigProblems>;

// What a reload would do, or did.
struct ReloadedConfig {
  std::shared_ptr<const Config> config;      // running, with the live changes applied
  std::vector<SettingChange> live;           // in effect with `config`
  std::vector<SettingChange> needs_restart;  // not in effect until the next start
};

// What a command needs that asks the database.
struct CommandConfig {
  std::shared_ptr<const Config> config;
  ConfigProblems set_aside;  // problems of what only a worker needs; may be empty
};

// What it does about emitters: their secrets need not be where it runs.
enum class CommandEmitters : std::uint8_t {
  left_alone,  // the files of their secrets are not read, and such a setting is not `usable()`
  judged,      // as by load()
};

// Reads file, environment and secret files completely, checks everything, and gives either a whole
// configuration or all problems, never a part. Each call reads anew; nothing is kept between calls,
// so one loader may be used from several threads. Blocks for reading small files only.
// The registry outlives the loader and every Config that it made.
class ConfigLoader {
 public:
  ConfigLoader(const EmitterRegistry& registry, ConfigSources sources)
      : registry_(registry), sources_(std::move(sources)) {}

  [[nodiscard]] LoadedConfig load() const;

  // For a command that asks the database, and perhaps workers. Of the configuration the tables
  // [database] and [admin] (without its token) can be relied on, and there are the names of the
  // streams. A mistake in these tables is a problem, and what may be meant as one of them; so is
  // what cannot be understood at all. Every other one is set aside, since it is the worker's to
  // tell: settings with one are not `usable()`, and a stream's emitter need not be there.
  [[nodiscard]] std::variant<CommandConfig, ConfigProblems> load_for_command(
      CommandEmitters emitters = CommandEmitters::left_alone) const;

  // The table [admin] for a command that asks a running worker. Of it only `enabled` and `listen`
  // can be relied on: a mistake in these is a problem, and so is a file that cannot be understood
  // unless the environment has `listen`. What else is wrong is the worker's to tell.
  [[nodiscard]] std::variant<SettingValues, ConfigProblems> load_admin() const;

  // For SIGHUP: loads, then takes over into `running` what can change at run time. The mixture is
  // checked like any configuration; when it is impossible, that is a problem that says so.
  [[nodiscard]] std::variant<ReloadedConfig, ConfigProblems> reload(const Config& running) const;

  [[nodiscard]] const ConfigSources& sources() const { return sources_; }

 private:
  const EmitterRegistry& registry_;
  ConfigSources sources_;
};

// "outfall.toml:7:12: streams.orders.emitter: there is no …", without the hint.
[[nodiscard]] std::string to_string(const SettingProblem& problem);

}  // namespace outfall
