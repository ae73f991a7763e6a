#include "emitters/exec/settings.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace outfall {
namespace {

constexpr std::int64_t kHour = 3'600'000;

constexpr auto kSpecs = std::to_array<SettingSpec>({
    {.name = "command",
     .type = SettingType::string_list,
     .summary = "The program and its arguments, as in `[\"python3\", \"deliver.py\"]`. No shell "
                "reads them. A name without a slash is looked for in the program's `PATH`.",
     .required = true},
    {.name = "working_directory",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "Where the program runs; empty is where the worker runs. A relative path in "
                "`command` starts here."},
    {.name = "environment",
     .type = SettingType::string_map,
     .summary = "Environment variables that the program gets, as in `{ SMTP_HOST = \"mail\" }`. "
                "They are taken for secrets: `print-config` shows their names alone. In a file, "
                "`name=value` lines.",
     .secret = true},
    {.name = "pass_environment",
     .type = SettingType::boolean,
     .default_value = "false",
     .summary = "Whether the program gets the worker's own environment as well, without the "
                "variables that begin with `OUTFALL_`. Without it, it gets `PATH`, `HOME`, `USER`, "
                "`LOGNAME`, `SHELL`, `LANG`, `LC_*`, `TZ` and `TMPDIR`."},
    {.name = "max_in_flight",
     .type = SettingType::integer,
     .default_value = "32",
     .summary = "How many entries the program has at most that it has not answered yet. 1 sends "
                "the next one only after the answer.",
     .min = 1,
     .max = 10'000},
    {.name = "timeout",
     .type = SettingType::duration,
     .default_value = "\"1m\"",
     .summary = "How long the answer to an entry may take, from its first byte in the pipe. It "
                "includes the wait for those in front of it: a program that works one by one needs "
                "`max_in_flight` times its own time.",
     .min = 10,
     .max = kHour},
    {.name = "restart.initial",
     .type = SettingType::duration,
     .default_value = "\"100ms\"",
     .summary = "The pause before a program that ended or could not be started is started again. "
                "It doubles with each failure in a row, until the program has answered an entry.",
     .min = 1,
     .max = kHour},
    {.name = "restart.max",
     .type = SettingType::duration,
     .default_value = "\"10s\"",
     .summary = "The longest pause before a restart.",
     .min = 1,
     .max = kHour},
    {.name = "stop_grace",
     .type = SettingType::duration,
     .default_value = "\"5s\"",
     .summary = "How long a program may take to end after its input was closed, and again after "
                "SIGTERM, before SIGKILL. Stopping the worker never takes longer than "
                "`drain.shutdown_timeout`.",
     .min = 0,
     .max = kHour},
});

constexpr auto kAlwaysPassed = std::to_array<std::string_view>(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"});

std::string_view name_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

bool is_passed(std::string_view name, bool pass_all) {
  if (pass_all) return !name.starts_with("OUTFALL_");
  return name.starts_with("LC_") || std::ranges::count(kAlwaysPassed, name) > 0;
}

std::string_view value_of(const std::vector<std::string>& environment, std::string_view name) {
  for (const std::string& variable : environment) {
    if (name_of(variable) == name) return std::string_view(variable).substr(name.size() + 1);
  }
  return {};
}

// Empty where the file can be run.
std::string problem_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return path + ": " + text_of_error(errno);
  if (S_ISDIR(status.st_mode)) return path + ": " + text_of_error(EISDIR);
  if (::access(path.c_str(), X_OK) != 0) return path + ": " + text_of_error(errno);
  return {};
}

bool has_nul(std::string_view text) {
  return text.find('\0') != std::string_view::npos;
}

}  // namespace

std::span<const SettingSpec> ExecSettings::specs() {
  return kSpecs;
}

ExecSettings ExecSettings::from(const SettingValues& values) {
  std::size_t count = 0;
  while (environ[count] != nullptr) ++count;
  return {
      .command = values.list("command"),
      .working_directory = values.text("working_directory"),
      .environment = program_environment({environ, count}, values.flag("pass_environment"),
                                         values.map("environment")),
      .max_in_flight = static_cast<std::size_t>(values.integer("max_in_flight")),
      .timeout = values.duration("timeout"),
      .restart_initial = values.duration("restart.initial"),
      .restart_max = values.duration("restart.max"),
      .stop_grace = values.duration("stop_grace"),
  };
}

std::vector<SettingProblem> ExecSettings::problems(const SettingValues& values) {
  std::vector<SettingProblem> problems;
  const auto report = [&](std::string setting, std::string message, std::string hint) {
    problems.push_back({{}, std::move(setting), std::move(message), std::move(hint)});
  };
  const std::vector<std::string>& command = values.list("command");
  if (command.empty() || command.front().empty()) {
    report("command", "names no program", "write [\"/path/to/program\", \"argument\"]");
  }
  if (std::ranges::any_of(command, has_nul) || has_nul(values.text("working_directory"))) {
    report("command", "holds a NUL byte", "");
  }
  for (const auto& [name, value] : values.map("environment")) {
    if (name.empty() || name.find('=') != std::string::npos || has_nul(name) || has_nul(value)) {
      report(name.empty() ? "environment" : "environment." + name,
             "`" + name + "` is no environment variable", "a name is not empty and holds no `=`");
    }
  }
  if (values.usable("restart.initial") && values.usable("restart.max") &&
      values.duration("restart.initial") > values.duration("restart.max")) {
    report("restart.initial", "is longer than restart.max", "raise restart.max");
  }
  return problems;
}

std::vector<std::string> ExecSettings::notes(const SettingValues& values) {
  const std::string problem = find_program(from(values)).problem;
  if (problem.empty()) return {};
  return {problem + "; a worker starts nevertheless, and its entries wait for the program"};
}

std::vector<std::string> program_environment(std::span<const char* const> worker, bool pass_all,
                                             const std::map<std::string, std::string>& added) {
  std::vector<std::string> environment;
  for (const char* variable : worker) {
    const std::string name(name_of(variable));
    if (is_passed(name, pass_all) && !added.contains(name)) environment.emplace_back(variable);
  }
  for (const auto& [name, value] : added) environment.push_back(name + '=' + value);
  return environment;
}

ProgramFile find_program(const ExecSettings& settings) {
  const std::string& folder = settings.working_directory;
  struct stat status {};
  if (!folder.empty() && ::stat(folder.c_str(), &status) != 0) {
    return {{}, "working_directory " + folder + ": " + text_of_error(errno)};
  }
  if (!folder.empty() && !S_ISDIR(status.st_mode)) {
    return {{}, "working_directory " + folder + ": " + text_of_error(ENOTDIR)};
  }
  // As the program itself will see it: a relative path starts in its folder.
  const auto seen = [&](const std::string& path) {
    return folder.empty() || path.starts_with('/') ? path : folder + '/' + path;
  };
  const std::string& name = settings.command.front();
  if (name.find('/') != std::string::npos) {
    const std::string problem = problem_of(seen(name));
    return {name, problem.empty() ? problem : "command " + problem};
  }
  std::string_view path = value_of(settings.environment, "PATH");
  if (path.empty()) path = "/usr/local/bin:/usr/bin:/bin";
  while (!path.empty()) {
    const std::size_t end = std::min(path.find(':'), path.size());
    const std::string candidate =
        (end == 0 ? std::string(".") : std::string(path.substr(0, end))) + '/' + name;
    if (problem_of(seen(candidate)).empty()) return {candidate, {}};
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return {{}, "command " + name + ": not found in the program's PATH"};
}

std::string text_of_error(int error) {
  return std::generic_category().message(error);
}

}  // namespace outfall
