#include <boost/json.hpp>

#include "config/print.h"
#include "daemon/commands.h"

namespace outfall {
namespace {

ExitCode print_config(const Context& context) {
  const auto config = load_config(context);
  if (!context.json) {
    context.out << print_toml(*config);
    return ExitCode::ok;
  }
  boost::json::array settings;
  for (const PrintedSetting& setting : printed_settings(*config)) {
    boost::json::object object;
    object["table"] = setting.table;
    object["name"] = setting.name;
    object["value"] = boost::json::parse(setting.json);
    object["origin"] = setting.origin;
    settings.push_back(std::move(object));
  }
  boost::json::object document;
  document["file"] = config->file();
  document["settings"] = std::move(settings);
  context.out << boost::json::serialize(document) << '\n';
  return ExitCode::ok;
}

}  // namespace

void add_print_config(CLI::App& app, Context& context) {
  add_command(app, context, "print-config",
              "Print every setting in effect and where it comes from, secrets as ***",
              [&context] { return print_config(context); });
}

}  // namespace outfall
