#include "daemon/command_line.h"

#include <algorithm>
#include <array>
#include <exception>
#include <poll.h>
#include <span>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "config/reference.h"
#include "config/settings.h"
#include "config/suggest.h"
#include "daemon/build_info.h"
#include "daemon/text_output.h"

namespace outfall {
namespace {

boost::json::object json_problem(const Context& context, const SettingProblem& problem) {
  boost::json::object object;
  object["setting"] = problem.setting;
  object["message"] = with_config(context, problem.message);
  object["hint"] = with_config(context, problem.hint);
  if (!problem.origin.file.empty()) {
    object["file"] = problem.origin.file;
    object["line"] = problem.origin.line;
    object["column"] = problem.origin.column;
  }
  if (!problem.origin.variable.empty()) object["variable"] = problem.origin.variable;
  return object;
}

int report_json(const CommandError& error, const Context& context) {
  boost::json::object object;
  object["code"] = to_string(error.code());
  object["exit_code"] = static_cast<int>(error.code());
  object["message"] = with_config(context, error.what());
  if (!error.hint().empty()) object["hint"] = with_config(context, error.hint());
  if (!error.problems().empty()) {
    boost::json::array problems;
    for (const SettingProblem& problem : error.problems())
      problems.push_back(json_problem(context, problem));
    object["problems"] = std::move(problems);
  }
  context.err << boost::json::serialize(boost::json::object{{"error", std::move(object)}}) << '\n';
  return static_cast<int>(error.code());
}

int report(const CommandError& error, const Context& context) {
  if (context.json) return report_json(error, context);
  const auto line = [&](std::string_view what, std::string_view hint) {
    context.err << "outfall: " << with_config(context, what) << '\n';
    if (!hint.empty()) context.err << "  hint: " << with_config(context, hint) << '\n';
  };
  if (error.problems().empty()) line(error.what(), error.hint());
  for (const SettingProblem& problem : error.problems()) line(to_string(problem), problem.hint);
  return static_cast<int>(error.code());
}

// The innermost command that was recognised before the parser gave up.
const CLI::App& deepest(const CLI::App& app) {
  const CLI::App* found = &app;
  while (!found->get_subcommands().empty()) found = found->get_subcommands().front();
  return *found;
}

std::string path_of(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name()
                                     : path_of(*app.get_parent()) + " " + app.get_name();
}

// What was probably meant by the first argument that nobody expected.
std::string_view meant_by(const CLI::App& app, const std::vector<std::string>& remaining) {
  if (remaining.empty()) return {};
  std::vector<std::string_view> known;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    known.push_back(command->get_name());
  }
  std::vector<std::string> options;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) options.push_back("--" + name);
  }
  known.insert(known.end(), options.begin(), options.end());
  const std::string_view meant = nearest(remaining.front(), known);
  // The view may point into `options`; CLI11's names live on.
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      if (meant == "--" + name) return name;
    }
  }
  return meant;
}

CommandError usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = deepest(app);
  std::string hint = fmt::format("see `{} --help`", path_of(command));
  const std::vector<std::string> remaining = app.remaining(true);
  if (const std::string_view meant = meant_by(command, remaining); !meant.empty()) {
    const bool option = remaining.front().starts_with("-");
    hint = fmt::format("did you mean `{}{}`?", option ? "--" : "", meant);
  }
  if (!remaining.empty()) {
    return {
        ExitCode::usage,
        fmt::format("`{}` does not take the argument `{}`", path_of(command), remaining.front()),
        hint};
  }
  if (error.get_name() == "RequiredError" &&
      !command.get_subcommands([](const CLI::App*) { return true; }).empty()) {
    return {ExitCode::usage, fmt::format("`{}` needs a command", path_of(command)), hint};
  }
  return {ExitCode::usage, error.what(), hint};
}

void add_commands(CLI::App& app, Context& context) {
  add_run(app, context);
  add_migrate(app, context);
  add_status(app, context);
  add_health(app, context);
  add_entry(app, context);
  add_dead_letters(app, context);
  add_streams(app, context);
  add_destinations(app, context);
  add_top(app, context);
  add_doctor(app, context);
  add_check_config(app, context);
  add_print_config(app, context);
  add_config_reference(app, context);
  add_completion(app, context);
  add_version(app, context);
}

void add_shared_options(CLI::App& app, Context& context) {
  // Not the default configuration where a script has nothing in its variable.
  app.add_option("--config", context.config_flag, "The configuration file")
      ->type_name("FILE")
      ->check(CLI::Validator(
          [](const std::string& file) {
            return file.empty() ? std::string("it names no file") : std::string();
          },
          ""));
  app.add_flag("--json", context.json, "Write the result, and any error, as JSON");
}

// A pipe whose reader has gone is no failure of the command.
ExitCode flushed(Context& context, ExitCode code) {
  context.out.flush();
  if (context.out.good()) return code;
  pollfd output{.fd = STDOUT_FILENO, .events = 0, .revents = 0};
  if (poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0) return code;
  throw CommandError(ExitCode::software, "the result cannot be written to standard output",
                     "look for a full disk or a closed output");
}

int parse_and_run(int argc, const char* const* argv, Context& context) {
  CLI::App app("Delivers what applications commit to their outbox.", "outfall");
  app.set_version_flag("--version", fmt::format("outfall {}", build_info().version));
  app.require_subcommand(1);
  app.footer(configuration_help());
  add_shared_options(app, context);
  add_commands(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    const int code = app.exit(help, context.out, context.err);
    flushed(context, ExitCode::ok);
    return code;
  } catch (const CLI::ParseError& error) {
    // The parser may have stopped before it came to --json.
    const std::span<const char* const> arguments(argv, static_cast<std::size_t>(argc));
    context.json |= std::ranges::any_of(
        arguments, [](std::string_view argument) { return argument == "--json"; });
    return report(usage_error(app, error), context);
  }
  return static_cast<int>(flushed(context, context.action()));
}

}  // namespace

CLI::App& add_command(CLI::App& parent, Context& context, const std::string& name,
                      const std::string& description, std::function<ExitCode()> run) {
  CLI::App& command = *parent.add_subcommand(name, description);
  add_shared_options(command, context);
  command.callback([&context, run = std::move(run)] { context.action = run; });
  return command;
}

CLI::App& add_command_group(CLI::App& parent, const std::string& name,
                            const std::string& description) {
  CLI::App& group = *parent.add_subcommand(name, description);
  group.require_subcommand(1);
  return group;
}

ConfigLoader config_loader(const Context& context, bool for_run) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return {context.registry,
          {.file = find_config_file(context.config_flag, context.environment),
           .environment = context.environment,
           .host_name = host.data(),
           .for_run = for_run}};
}

CommandError invalid_configuration(std::vector<SettingProblem> problems) {
  const std::string what = problems.size() == 1
                               ? std::string("the configuration has a problem")
                               : fmt::format("the configuration has {} problems", problems.size());
  return {ExitCode::configuration, what, {}, std::move(problems)};
}

std::shared_ptr<const Config> load_config(const Context& context, bool for_run) {
  LoadedConfig loaded = config_loader(context, for_run).load();
  if (auto* config = std::get_if<std::shared_ptr<const Config>>(&loaded)) return std::move(*config);
  throw invalid_configuration(std::move(std::get<ConfigProblems>(loaded)));
}

CommandConfig load_command_config(const Context& context, CommandEmitters emitters) {
  auto loaded = config_loader(context).load_for_command(emitters);
  if (auto* found = std::get_if<CommandConfig>(&loaded)) return std::move(*found);
  throw invalid_configuration(std::move(std::get<ConfigProblems>(loaded)));
}

std::string pasteable(const Context& context, std::string command) {
  if (context.config_flag.empty() || command.ends_with("--help") ||
      command.find(" --config ") != std::string::npos) {
    return command;
  }
  return command + " --config " + shell_quoted(context.config_flag);
}

std::string with_config(const Context& context, std::string_view text) {
  constexpr std::string_view kCommand = "`outfall ";
  std::string result;
  while (true) {
    const std::size_t begin = text.find(kCommand);
    const std::size_t end =
        begin == std::string_view::npos ? begin : text.find('`', begin + kCommand.size());
    if (end == std::string_view::npos) return result.append(text);
    result.append(text.substr(0, begin + 1));
    result += pasteable(context, std::string(text.substr(begin + 1, end - begin - 1)));
    result += '`';
    text.remove_prefix(end + 1);
  }
}

CommandError cannot_run(std::vector<SettingProblem> problems) {
  return {ExitCode::configuration,
          "the worker cannot start with this configuration",
          {},
          std::move(problems)};
}

std::string configuration_help() {
  std::string text = "Configuration:\n";
  for (const std::string_view rule : {kFileRule, kEnvironmentRule, kPrecedenceRule, kSecretRule}) {
    text += wrapped(rule, "  ", 80);
  }
  return text;
}

std::string settings_help() {
  std::string text = "\nSettings:\n";
  text += wrapped(
      "With their defaults; `outfall config-reference` explains them, with --emitter KIND those "
      "that a kind of emitter adds to [emitters.NAME].",
      "  ", 80);
  for (const TableSpec& table : setting_tables()) {
    text += fmt::format("  [{}{}]\n", table.name, table.named ? ".NAME" : "");
    for (const SettingSpec& spec : table.settings) {
      const std::string_view value = spec.default_value;
      text += fmt::format("    {}{}{}{}\n", spec.name, spec.required ? " (required)" : "",
                          value.empty() ? "" : " = ", value);
    }
  }
  return text;
}

int run_command_line(int argc, const char* const* argv, Context& context) noexcept {
  try {
    try {
      return parse_and_run(argc, argv, context);
    } catch (const CommandError& error) {
      return report(error, context);
    } catch (const std::exception& error) {
      return report({ExitCode::software, error.what(),
                     "this is a defect or a lack of resources: report it with this message"},
                    context);
    }
  } catch (...) {
    // Reporting itself failed, for want of memory; write() needs none.
    constexpr std::string_view kMessage = "outfall: out of memory\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, kMessage.data(), kMessage.size());
    return static_cast<int>(ExitCode::software);
  }
}

}  // namespace outfall
