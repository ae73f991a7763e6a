#include <boost/json.hpp>
#include <fmt/format.h>

#include "daemon/commands.h"
#include "daemon/entry_story.h"
#include "daemon/json_fields.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"
#include "daemon/wiring.h"

namespace outfall {
namespace {

struct EntryOptions {
  TargetOptions target;
  RequesterOptions requester;
  bool hold_key = false;
};

Uuid envelope_of(OperatorStore& store, const EntryTarget& target) {
  if (target.envelope_id) return *target.envelope_id;
  if (const auto id = store.envelope_of(*target.entry_id)) return *id;
  throw CommandError(ExitCode::unavailable,
                     fmt::format("nobody knows an entry {}", *target.entry_id),
                     "it was rolled back, or delivered and its receipt dropped; look for the "
                     "envelope id in your application's log");
}

// --stream leaves out what is in other streams.
void keep_stream(boost::json::object& explained, const std::string& stream) {
  boost::json::array kept;
  for (boost::json::value& entry : explained["entries"].as_array()) {
    if (text_field(entry.as_object(), "stream") == stream) kept.push_back(std::move(entry));
  }
  explained["entries"] = std::move(kept);
}

// Says of each live entry whether a running worker serves its stream, where that can be seen.
void mark_running(OperatorStore& store, boost::json::object& explained) {
  for (boost::json::value& value : explained["entries"].as_array()) {
    boost::json::object& entry = value.as_object();
    if (!entry.contains("stream_state")) continue;
    const std::vector<std::string> stream = {text_field(entry, "stream")};
    if (const auto served = store.served(stream)) {
      entry["stream_state"].as_object()["worker_running"] = !served->empty();
    }
  }
}

// Says of each live entry which destinations of its stream are paused. Which one is its own, only
// its workers know: an entry that nobody has looked at yet is not marked as held by its
// destination.
void mark_paused(OperatorStore& store, boost::json::object& explained) {
  for (boost::json::value& value : explained["entries"].as_array()) {
    boost::json::object& entry = value.as_object();
    if (!entry.contains("stream_state") || entry.contains("destination")) continue;
    const std::vector<std::string> stream = {text_field(entry, "stream")};
    const boost::json::value status = boost::json::parse(store.status(stream));
    for (const boost::json::value& of : status.at("streams").as_array()) {
      boost::json::array paused = array_field(of.as_object(), "destinations");
      if (paused.empty()) continue;
      entry["stream_state"].as_object()["paused_destinations"] = std::move(paused);
    }
  }
}

ExitCode show(const Context& context, const EntryOptions& options) {
  const EntryTarget target = entry_target(options.target);
  return with_store(context, Access::look, [&](OperatorStore& store, const Config& config) {
    const auto streams = configured_streams(config);
    boost::json::value document = boost::json::parse(
        store.explain(envelope_of(store, target),
                      streams ? std::optional<OperatorStore::Streams>(*streams) : std::nullopt));
    boost::json::object& explained = document.as_object();
    const bool known = flag_field(explained, "found") || explained.contains("operations");
    if (known && target.stream) keep_stream(explained, *target.stream);
    if (!known || (target.stream && array_field(explained, "entries").empty())) {
      throw CommandError(
          ExitCode::unavailable,
          fmt::format("envelope {}: {}", text_field(explained, "envelope_id"),
                      known ? fmt::format("is not in stream \"{}\"", printable(*target.stream))
                            : text_field(explained, "summary")),
          known ? "leave --stream out to see where it is"
                : "look whether the producer's transaction was committed, and to which database");
    }
    mark_running(store, explained);
    mark_paused(store, explained);
    if (context.json) {
      write_json(context, document);
    } else {
      write_story(context, explained, own_worker(config));
    }
    return ExitCode::ok;
  });
}

using EntryChange =
    std::function<OperationRecord(OperatorStore&, const EntryTarget&, const Requester&)>;

// `done` tells what has become of the entry, `next` what to do then.
ExitCode change(const Context& context, const EntryOptions& options, const EntryChange& make,
                std::string_view done, std::string_view next) {
  const EntryTarget target = entry_target(options.target);
  const Requester by = requester(context, options.requester);
  return with_store(context, Access::change, [&](OperatorStore& store, const Config&) {
    const OperationRecord record = make(store, target, by);
    if (context.json) {
      write_json(context, operation_json(record, by));
      return ExitCode::ok;
    }
    const std::string envelope = record.envelope_id.value_or(Uuid{}).to_string();
    context.out << fmt::format("entry {} of {} (envelope {}) {}\n", record.entry_id.value_or(0),
                               printable(record.stream), envelope, done);
    write_next(context, {fmt::format(fmt::runtime(next), fmt::arg("envelope", envelope),
                                     fmt::arg("entry", record.entry_id.value_or(0)))});
    return ExitCode::ok;
  });
}

CLI::App& add_entry_change(CLI::App& group, Context& context, const std::string& name,
                           const std::string& description,
                           const std::shared_ptr<EntryOptions>& options, EntryChange make,
                           std::string done, std::string next) {
  CLI::App& command =
      add_command(group, context, name, description,
                  [&context, options, make = std::move(make), done = std::move(done),
                   next = std::move(next)] { return change(context, *options, make, done, next); });
  add_target_options(command, options->target);
  add_requester_options(command, options->requester);
  return command;
}

}  // namespace

void add_entry(CLI::App& app, Context& context) {
  CLI::App& group = add_command_group(
      app, "entry", "Find one entry, wherever it is, and move it when it is stuck");
  const auto shown = std::make_shared<EntryOptions>();
  add_target_options(add_command(group, context, "show", "Tell all that is known of one entry",
                                 [&context, shown] { return show(context, *shown); }),
                     shown->target);

  add_entry_change(
      group, context, "retry", "Try an entry now that waits for its retry or for a time",
      std::make_shared<EntryOptions>(),
      [](OperatorStore& store, const EntryTarget& target, const Requester& by) {
        return store.retry(target, by);
      },
      "is due now", "`outfall entry show {envelope}` tells how it went");

  const auto options = std::make_shared<EntryOptions>();
  add_entry_change(
      group, context, "dead-letter", "Take an entry out of its stream; a replay brings it back",
      options,
      [options](OperatorStore& store, const EntryTarget& target, const Requester& by) {
        return store.dead_letter(target, options->hold_key, by);
      },
      "is a dead letter now",
      "`outfall dead-letters replay --id {entry} --reason ...` brings it back")
      .add_flag("--hold-key", options->hold_key,
                "Hold the later entries of its key until it is replayed or discarded");

  add_entry_change(
      group, context, "discard", "Delete an entry for good; it is never delivered",
      std::make_shared<EntryOptions>(),
      [](OperatorStore& store, const EntryTarget& target, const Requester& by) {
        return store.discard(target, by);
      },
      "is deleted and will not be delivered",
      "`outfall entry show {envelope}` tells who discarded it");
}

}  // namespace outfall
