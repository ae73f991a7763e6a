#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "daemon/build_info.h"
#include "daemon/commands.h"

namespace outfall {
namespace {

ExitCode print_version(const Context& context) {
  const BuildInfo& build = build_info();
  const auto kinds = context.registry.kinds();
  if (context.json) {
    boost::json::object object;
    object["version"] = build.version;
    object["commit"] = build.commit;
    object["compiler"] = build.compiler;
    object["build_type"] = build.build_type;
    object["emitters"] = boost::json::array(kinds.begin(), kinds.end());
    context.out << boost::json::serialize(object) << '\n';
  } else {
    context.out << fmt::format("outfall {}\ncommit:   {}\nbuilt by: {}, {}\nemitters: {}\n",
                               build.version, build.commit, build.compiler, build.build_type,
                               fmt::join(kinds, ", "));
  }
  return ExitCode::ok;
}

}  // namespace

void add_version(CLI::App& app, Context& context) {
  add_command(app, context, "version",
              "Tell version, build and the kinds of emitter that are there",
              [&context] { return print_version(context); })
      .footer("");
}

}  // namespace outfall
