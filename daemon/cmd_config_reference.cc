#include <boost/json.hpp>
#include <fmt/format.h>

#include "config/reference.h"
#include "config/suggest.h"
#include "daemon/commands.h"

namespace outfall {
namespace {

struct ReferenceOptions {
  std::string format = "markdown";
  std::string emitter;
};

std::string document(const Context& context, const ReferenceOptions& options) {
  if (options.emitter.empty()) {
    return options.format == "sample" ? reference_sample() : reference_markdown();
  }
  if (const EmitterKind* kind = context.registry.find(options.emitter)) {
    return emitter_markdown(*kind);
  }
  throw CommandError(ExitCode::usage,
                     fmt::format("there is no kind of emitter \"{}\"", options.emitter),
                     fmt::format("the kinds are {}", enumerate(context.registry.kinds())));
}

ExitCode print_reference(const Context& context, const ReferenceOptions& options) {
  const std::string text = document(context, options);
  if (context.json) {
    context.out << boost::json::serialize(boost::json::object{{"document", text}}) << '\n';
  } else {
    context.out << text;
  }
  return ExitCode::ok;
}

}  // namespace

void add_config_reference(CLI::App& app, Context& context) {
  const auto options = std::make_shared<ReferenceOptions>();
  CLI::App& command =
      add_command(app, context, "config-reference",
                  "Print the reference of all settings, or a configuration file to start from",
                  [&context, options] { return print_reference(context, *options); });
  command.footer("");
  auto* format = command.add_option("--format", options->format, "What to print");
  format->check(CLI::IsMember({"markdown", "sample"}).description(""))
      ->type_name("markdown|sample");
  format->capture_default_str();
  command.add_option("--emitter", options->emitter, "Only the settings of this kind of emitter")
      ->type_name("KIND");
}

}  // namespace outfall
