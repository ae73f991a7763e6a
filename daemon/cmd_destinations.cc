#include <algorithm>
#include <optional>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "daemon/commands.h"
#include "daemon/documents.h"
#include "daemon/json_fields.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"
#include "daemon/wiring.h"

namespace outfall {
namespace {

namespace json = boost::json;

struct PausedOptions {
  std::optional<std::string> stream;
};

struct DestinationOptions {
  std::string stream;
  std::string lane;
  RequesterOptions requester;
};

ExitCode list(const Context& context, const PausedOptions& options) {
  return with_store(context, Access::look, [&](OperatorStore& store, const Config& config) {
    json::array paused = paused_destinations(store, config, options.stream);
    if (context.json) {
      write_json(context, json::object{{"destinations", std::move(paused)}});
      return ExitCode::ok;
    }
    TextTable table({{"STREAM"}, {"LANE"}, {"PAUSED SINCE"}, {"BY"}, {"REASON"}});
    std::string example;  // the first, so that it can be pasted
    for (const json::value& value : paused) {
      const json::object& destination = value.as_object();
      const std::string lane = text_field(destination, "lane");
      if (example.empty()) {
        example = shell_quoted(text_field(destination, "stream")) + " " + shell_quoted(lane);
      }
      table.add({text_field(destination, "stream"), lane.empty() ? "''" : lane,
                 time_field(destination, "paused_at"), text_field(destination, "paused_by"),
                 text_field(destination, "paused_reason")});
    }
    if (table.empty()) {
      context.out << "no destination is paused\n";
      // Those belong to each worker and are in no database.
      write_next(context, {"a destination that does not answer is not paused: `outfall status` "
                           "shows the breakers of the worker at admin.listen"});
      return ExitCode::ok;
    }
    table.write(context.out);
    context.out << '\n';
    write_next(context, {fmt::format("`outfall destinations resume {} --reason ...`", example)});
    return ExitCode::ok;
  });
}

// Whether this configuration has the stream and lets nothing select its lanes, neither its `lane`
// nor its emitter; its workers may have another one, or secrets of it that cannot be read here.
bool without_lanes(const Context& context, const Config& config,
                   const DestinationOptions& options) {
  const auto stream = config.streams().find(options.stream);
  if (stream == config.streams().end() || !stream->second.settings.usable("lane")) return false;
  const auto emitter = config.emitters().find(stream->second.settings.text("emitter"));
  if (emitter == config.emitters().end()) return false;
  const SettingValues& settings = emitter->second.settings;
  return std::ranges::all_of(emitter->second.specs,
                             [&](const SettingSpec& spec) { return settings.usable(spec.name); }) &&
         stream_options(config, context.registry, stream->second).lane.empty();
}

ExitCode set_paused(const Context& context, const DestinationOptions& options, bool pause) {
  const Requester by = requester(context, options.requester);
  return with_store(context, Access::change, [&](OperatorStore& store, const Config& config) {
    if (!pause) expect_paused(store, config, options.stream, options.lane);
    const OperationRecord record = pause
                                       ? store.pause_destination(options.stream, options.lane, by)
                                       : store.resume_destination(options.stream, options.lane, by);
    if (context.json) {
      write_json(context, operation_json(record, by));
      return ExitCode::ok;
    }
    const json::value detail = json::parse(record.detail);
    const bool was = flag_field(detail.as_object(), "was_paused");
    context.out << fmt::format("destination {} of {} {} {}\n",
                               options.lane.empty() ? "''" : printable(options.lane),
                               printable(record.stream), was == pause ? "was already" : "is now",
                               pause ? "paused" : "running");
    if (pause && !options.lane.empty() && without_lanes(context, config, options)) {
      context.out << fmt::format(
          "note: streams.{}.lane is not set here: where its workers do not set it either, this "
          "holds nothing, and only the lane '' stops the stream\n",
          options.stream);
    }
    if (pause) {
      write_next(context,
                 {fmt::format("`outfall destinations resume {} {} --reason ...` when it may go on",
                              shell_quoted(record.stream), shell_quoted(options.lane))});
    }
    return ExitCode::ok;
  });
}

void add_pause(CLI::App& group, Context& context, const std::string& name,
               const std::string& description, bool pause) {
  const auto options = std::make_shared<DestinationOptions>();
  CLI::App& command = add_command(group, context, name, description, [&context, options, pause] {
    return set_paused(context, *options, pause);
  });
  command.add_option("STREAM", options->stream, "The stream")->required()->type_name("");
  command
      .add_option("LANE", options->lane, "What the stream's `lane` selects, such as an endpoint")
      ->required()
      ->type_name("");
  add_requester_options(command, options->requester);
}

}  // namespace

void add_destinations(CLI::App& app, Context& context) {
  CLI::App& group = add_command_group(
      app, "destinations", "List, pause and resume the destinations (lanes) of a stream");
  const auto options = std::make_shared<PausedOptions>();
  add_command(group, context, "list", "List the paused destinations",
              [&context, options] { return list(context, *options); })
      .add_option("--stream", options->stream, "Of this stream")
      ->type_name("NAME");
  add_pause(group, context, "pause", "Hold the entries of one destination; the others go on", true);
  add_pause(group, context, "resume", "Go on with a paused destination", false);
}

}  // namespace outfall
