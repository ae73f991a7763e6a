#include <algorithm>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "config/check.h"
#include "daemon/commands.h"
#include "daemon/connect_check.h"
#include "daemon/wiring.h"

namespace outfall {
namespace {

bool works(const Connected& result) {
  return result.problem.message.empty();
}

std::vector<Connected> connect(const Context& context, const Config& config) {
  std::vector<Connected> results = {ask_database(config)};
  for (const auto& [name, emitter] : config.emitters()) {
    results.push_back(ask_emitter(context, config, emitter));
  }
  return results;
}

// With all that does not work. The code is that of what starting again does not mend, if there is
// such.
CommandError unusable(const std::vector<Connected>& results) {
  std::vector<SettingProblem> problems;
  ExitCode code = ExitCode::unavailable;
  for (const Connected& result : results) {
    if (works(result)) continue;
    problems.push_back(result.problem);
    if (result.unsuited) code = ExitCode::configuration;
  }
  return {code,
          "the configuration is valid, but not all that it names can be used",
          {},
          std::move(problems)};
}

std::string counted(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

// Says what answers also where something else does not: it narrows the search.
void write_connected(const Context& context, const std::vector<Connected>& connected) {
  for (const Connected& result : connected) {
    if (!works(result)) continue;
    context.out << result.what << ": " << (result.detail.empty() ? "ok" : result.detail) << '\n';
  }
}

void write_text(const Context& context, const Config& config,
                const std::vector<Connected>& connected) {
  context.out << fmt::format(
      "{} is valid: {}, {}\n", config.file().empty() ? "the environment" : config.file(),
      counted(config.streams().size(), "stream"), counted(config.emitters().size(), "emitter"));
  for (const std::string& note : configuration_notes(context, config))
    context.out << "note: " << note << '\n';
  write_connected(context, connected);
}

void write_json(const Context& context, const Config& config,
                const std::vector<Connected>& connected) {
  const std::vector<std::string> remarks = configuration_notes(context, config);
  boost::json::object object;
  object["valid"] = true;
  object["file"] = config.file();
  object["streams"] = config.streams().size();
  object["emitters"] = config.emitters().size();
  object["notes"] = boost::json::array(remarks.begin(), remarks.end());
  boost::json::object connections;
  for (const Connected& result : connected) connections[result.what] = result.detail;
  if (!connections.empty()) object["connected"] = std::move(connections);
  context.out << boost::json::serialize(object) << '\n';
}

ExitCode check_configuration(const Context& context, bool connecting) {
  const auto config = load_config(context, true);
  if (auto problems = problems_for_run(*config); !problems.empty()) {
    throw cannot_run(std::move(problems));
  }
  const auto connected = connecting ? connect(context, *config) : std::vector<Connected>{};
  if (!std::ranges::all_of(connected, works)) {
    if (!context.json) write_connected(context, connected);
    throw unusable(connected);
  }
  (context.json ? write_json : write_text)(context, *config, connected);
  return ExitCode::ok;
}

}  // namespace

void add_check_config(CLI::App& app, Context& context) {
  const auto connecting = std::make_shared<bool>(false);
  CLI::App& command =
      add_command(app, context, "check-config",
                  "Check the configuration completely and tell everything that is wrong with it",
                  [&context, connecting] { return check_configuration(context, *connecting); });
  command.add_flag("--connect", *connecting,
                   "Also connect to the database and to every emitter's destination");
}

}  // namespace outfall
