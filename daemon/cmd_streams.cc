#include <boost/json.hpp>
#include <fmt/format.h>

#include "daemon/commands.h"
#include "daemon/documents.h"
#include "daemon/json_fields.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"

namespace outfall {
namespace {

namespace json = boost::json;

struct PauseOptions {
  std::string stream;
  RequesterOptions requester;
};

std::string yes_or_no(const json::object& object, std::string_view field) {
  if (object.at(field).is_null()) return "unknown";
  return object.at(field).as_bool() ? "yes" : "no";
}

ExitCode list(const Context& context) {
  return with_store(context, Access::look, [&](OperatorStore& store, const Config& config) {
    json::array all = stream_list(store, config);
    if (context.json) {
      write_json(context, json::object{{"streams", std::move(all)}});
      return ExitCode::ok;
    }
    TextTable table({{"STREAM"},
                     {"CONFIGURED"},
                     {"SERVED"},
                     {"PAUSED SINCE"},
                     {"BY"},
                     {"REASON"},
                     {"PAUSED LANES", true}});
    for (const json::value& value : all) {
      const json::object& stream = value.as_object();
      const bool paused = flag_field(stream, "paused");
      table.add({text_field(stream, "stream"), yes_or_no(stream, "configured"),
                 yes_or_no(stream, "served"), paused ? time_field(stream, "paused_at") : "-",
                 paused ? text_field(stream, "paused_by") : "-",
                 paused ? text_field(stream, "paused_reason") : "-",
                 std::to_string(integer_field(stream, "paused_destinations"))});
    }
    if (table.empty()) {
      context.out << "no streams: none is configured, and no worker has served one yet\n";
    } else {
      table.write(context.out);
    }
    return ExitCode::ok;
  });
}

ExitCode set_paused(const Context& context, const PauseOptions& options, bool pause) {
  const Requester by = requester(context, options.requester);
  return with_store(context, Access::change, [&](OperatorStore& store, const Config&) {
    const OperationRecord record =
        pause ? store.pause_stream(options.stream, by) : store.resume_stream(options.stream, by);
    if (context.json) {
      write_json(context, operation_json(record, by));
      return ExitCode::ok;
    }
    const json::value detail = json::parse(record.detail);
    const bool was = flag_field(detail.as_object(), "was_paused");
    context.out << fmt::format("stream {} {} {}\n", printable(record.stream),
                               was == pause ? "was already" : "is now",
                               pause ? "paused" : "running");
    if (pause) {
      write_next(context,
                 {fmt::format("`outfall streams resume {} --reason ...` when it may go on; what is "
                              "leased already is still delivered",
                              shell_quoted(record.stream))});
    }
    return ExitCode::ok;
  });
}

void add_pause(CLI::App& group, Context& context, const std::string& name,
               const std::string& description, bool pause) {
  const auto options = std::make_shared<PauseOptions>();
  CLI::App& command = add_command(group, context, name, description, [&context, options, pause] {
    return set_paused(context, *options, pause);
  });
  command.add_option("STREAM", options->stream, "The stream")->required()->type_name("");
  add_requester_options(command, options->requester);
}

}  // namespace

void add_streams(CLI::App& app, Context& context) {
  CLI::App& group = add_command_group(app, "streams", "List, pause and resume streams");
  add_command(group, context, "list", "List the streams, who serves them and which are paused",
              [&context] { return list(context); });
  add_pause(group, context, "pause", "Stop claiming entries of a stream, at every worker", true);
  add_pause(group, context, "resume", "Go on with a paused stream", false);
}

}  // namespace outfall
