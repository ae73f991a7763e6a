#include <boost/json.hpp>
#include <fmt/format.h>

#include "daemon/commands.h"
#include "daemon/documents.h"
#include "daemon/entry_story.h"
#include "daemon/json_fields.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"
#include "daemon/wiring.h"

namespace outfall {
namespace {

constexpr std::string_view kHeldNext = "`outfall entry show {envelope}` tells what it waits for";

struct EntryOptions {
  TargetOptions target;
  RequesterOptions requester;
  bool hold_key = false;
};

ExitCode show(const Context& context, const EntryOptions& options) {
  const EntryTarget target = entry_target(options.target);
  return with_store(context, Access::look, [&](OperatorStore& store, const Config& config) {
    const boost::json::object explained = entry_document(store, config, target);
    if (context.json) {
      write_json(context, explained);
    } else {
      write_story(context, explained, own_worker(config));
    }
    return ExitCode::ok;
  });
}

using EntryChange =
    std::function<OperationRecord(OperatorStore&, const EntryTarget&, const Requester&)>;

// What waits for another entry is not due by being asked for: it is looked at again, and goes on
// waiting while the other one is unfinished.
bool stays_held(const OperationRecord& record, const boost::json::object& before) {
  return record.action == "retry_entry" && text_field(before, "status") == "held";
}

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
    const boost::json::object before = boost::json::parse(record.detail).as_object();
    const bool held = stays_held(record, before);
    context.out << fmt::format(
        "entry {} of {} (envelope {}) {}\n", record.entry_id.value_or(0), printable(record.stream),
        envelope, held ? "is held, and goes on as soon as nothing is before it" : done);
    if (options.hold_key && !before.contains("key")) {
      context.out << "note: it has no key, so --hold-key holds nothing\n";
    }
    write_next(context,
               {fmt::format(fmt::runtime(held ? kHeldNext : next), fmt::arg("envelope", envelope),
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
