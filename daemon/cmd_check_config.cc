#include <set>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "config/check.h"
#include "daemon/commands.h"

namespace outfall {
namespace {

// What is allowed and yet seldom meant.
std::vector<std::string> notes(const Config& config) {
  std::set<std::string_view> used;
  for (const auto& [name, stream] : config.streams()) used.insert(stream.settings.text("emitter"));
  std::vector<std::string> result;
  for (const auto& [name, emitter] : config.emitters()) {
    if (!used.contains(name)) result.push_back(fmt::format("no stream uses the emitter {}", name));
  }
  return result;
}

std::string counted(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

ExitCode check_configuration(const Context& context) {
  const auto config = load_config(context);
  if (auto problems = problems_for_run(*config); !problems.empty()) {
    throw CommandError(ExitCode::configuration, "`outfall run` would not start", {},
                       std::move(problems));
  }
  const std::vector<std::string> remarks = notes(*config);
  if (context.json) {
    boost::json::object object;
    object["valid"] = true;
    object["file"] = config->file();
    object["streams"] = config->streams().size();
    object["emitters"] = config->emitters().size();
    object["notes"] = boost::json::array(remarks.begin(), remarks.end());
    context.out << boost::json::serialize(object) << '\n';
    return ExitCode::ok;
  }
  context.out << fmt::format(
      "{} is valid: {}, {}\n", config->file().empty() ? "the environment" : config->file(),
      counted(config->streams().size(), "stream"), counted(config->emitters().size(), "emitter"));
  for (const std::string& remark : remarks) context.out << "note: " << remark << '\n';
  return ExitCode::ok;
}

}  // namespace

void add_check_config(CLI::App& app, Context& context) {
  add_command(app, context, "check-config",
              "Check the configuration completely and tell everything that is wrong with it",
              [&context] { return check_configuration(context); });
}

}  // namespace outfall
