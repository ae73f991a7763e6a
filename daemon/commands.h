#pragma once

#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "config/config.h"
#include "config/loader.h"
#include "daemon/exit_codes.h"
#include "emitter/registry.h"

namespace outfall {

// What every command works with. Lives as long as the command; one thread.
struct Context {
  const EmitterRegistry& registry;
  std::map<std::string, std::string> environment;  // OUTFALL_ variables
  std::ostream& out;                               // results; nothing else
  std::ostream& err;                               // errors
  std::string config_flag = {};                    // --config
  bool json = false;                               // --json
  // Set by the command that the command line names; runs once all of it has been understood.
  std::function<ExitCode()> action = {};
};

// Ends a command with an exit code, a sentence and what to do about it. Where several things are
// wrong, `problems` has them all and is shown instead of the sentence.
class CommandError : public std::runtime_error {
 public:
  CommandError(ExitCode code, const std::string& what, std::string hint = {},
               std::vector<SettingProblem> problems = {})
      : std::runtime_error(what),
        code_(code),
        hint_(std::move(hint)),
        problems_(std::move(problems)) {}

  [[nodiscard]] ExitCode code() const noexcept { return code_; }
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }
  [[nodiscard]] const std::vector<SettingProblem>& problems() const noexcept { return problems_; }

 private:
  ExitCode code_;
  std::string hint_;
  std::vector<SettingProblem> problems_;
};

// A subcommand with --config and --json, and configuration_help() at the end of its --help. `run`
// is what it does; it may throw CommandError.
CLI::App& add_command(CLI::App& parent, Context& context, const std::string& name,
                      const std::string& description, std::function<ExitCode()> run);

// A subcommand that only holds others: `outfall entry`.
CLI::App& add_command_group(CLI::App& parent, const std::string& name,
                            const std::string& description);

// The loader for this command line and environment; `for_run`: of a command that serves streams.
[[nodiscard]] ConfigLoader config_loader(const Context& context, bool for_run = false);

// The whole configuration; throws CommandError (configuration) with every problem.
[[nodiscard]] std::shared_ptr<const Config> load_config(const Context& context,
                                                        bool for_run = false);

// What a command needs that asks the database, and all that is wrong elsewhere; throws CommandError
// (configuration) where what it needs is not there.
[[nodiscard]] CommandConfig load_command_config(
    const Context& context, CommandEmitters emitters = CommandEmitters::left_alone);

// What a command ends with that cannot use its configuration.
[[nodiscard]] CommandError invalid_configuration(std::vector<SettingProblem> problems);

// A command that is printed to be pasted, with the --config that this one was given; and text with
// each command in it that stands in backquotes: "run `outfall migrate`".
[[nodiscard]] std::string pasteable(const Context& context, std::string command);
[[nodiscard]] std::string with_config(const Context& context, std::string_view text);

// What `run` ends with, and `check-config` before it: a valid configuration that nothing can be
// done with.
[[nodiscard]] CommandError cannot_run(std::vector<SettingProblem> problems);

// Where the configuration comes from, for the end of --help.
[[nodiscard]] std::string configuration_help();
// Every setting with its default, for the --help of `run`.
[[nodiscard]] std::string settings_help();

// One per file cmd_<name>.cc.
void add_check_config(CLI::App& app, Context& context);
void add_completion(CLI::App& app, Context& context);
void add_config_reference(CLI::App& app, Context& context);
void add_dead_letters(CLI::App& app, Context& context);
void add_destinations(CLI::App& app, Context& context);
void add_doctor(CLI::App& app, Context& context);
void add_entry(CLI::App& app, Context& context);
void add_health(CLI::App& app, Context& context);
void add_migrate(CLI::App& app, Context& context);
void add_print_config(CLI::App& app, Context& context);
void add_run(CLI::App& app, Context& context);
void add_status(CLI::App& app, Context& context);
void add_streams(CLI::App& app, Context& context);
void add_top(CLI::App& app, Context& context);
void add_version(CLI::App& app, Context& context);

}  // namespace outfall
