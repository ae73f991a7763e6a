#include <set>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "core/text.h"
#include "daemon/commands.h"
#include "daemon/dead_letters.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"
#include "daemon/time_arguments.h"

namespace outfall {
namespace {

namespace json = boost::json;

constexpr std::int32_t kListed = 50;
constexpr std::size_t kShownPayload = 2000;  // characters; --payload writes all of it

struct ChangeOptions {
  DeadLetterOptions filter;
  RequesterOptions requester;
  bool dry_run = false;
  std::string rate;
};

struct ShowOptions {
  TargetOptions target;
  bool payload = false;
};

json::object letter_json(const DeadLetter& letter) {
  json::object object;
  object["entry_id"] = letter.entry_id;
  object["envelope_id"] = letter.envelope_id.to_string();
  object["stream"] = letter.stream;
  object["key"] = letter.key ? json::value(*letter.key) : json::value(nullptr);
  object["type"] = letter.type;
  object["reason_code"] = letter.reason_code;
  object["reason"] = letter.reason;
  object["attempts"] = letter.attempts;
  object["replays"] = letter.replays;
  object["holds_key"] = letter.holds_key;
  object["created_at"] = utc(letter.created_at);
  object["dead_lettered_at"] = utc(letter.dead_lettered_at);
  if (!letter.last_error_code.empty()) {
    object["last_error"] =
        json::object{{"code", letter.last_error_code}, {"message", letter.last_error_message}};
  }
  return object;
}

void write_list(const Context& context, const std::vector<DeadLetter>& letters, bool more,
                const DeadLetterFilter& filter) {
  if (letters.empty()) {
    context.out << "no dead letters\n";
    return;
  }
  TextTable table({{"ENTRY", true},
                   {"ENVELOPE"},
                   {"STREAM"},
                   {"KEY"},
                   {"TYPE"},
                   {"REASON CODE"},
                   {"ATTEMPTS", true},
                   {"DEAD-LETTERED"},
                   {"HOLDS KEY"}});
  for (const DeadLetter& letter : letters) {
    table.add({std::to_string(letter.entry_id), letter.envelope_id.to_string(), letter.stream,
               letter.key.value_or("-"), letter.type, letter.reason_code,
               std::to_string(letter.attempts), utc_second(letter.dead_lettered_at),
               letter.holds_key ? "yes" : "no"});
  }
  table.write(context.out);
  context.out << '\n';
  std::vector<std::string> next = {
      fmt::format("`outfall dead-letters show --id {}` shows one with its payload",
                  letters.front().entry_id),
      fmt::format("`outfall dead-letters replay{} --dry-run` counts what a replay would return",
                  filter.stream ? filter_arguments(filter) : " --stream NAME")};
  if (more) {
    DeadLetterFilter rest = filter;
    rest.after = letters.back().entry_id;
    next.insert(next.begin(),
                fmt::format("`outfall dead-letters list{}` shows more", filter_arguments(rest)));
  }
  write_next(context.out, next);
}

ExitCode list(const Context& context, const DeadLetterOptions& options) {
  return with_store(context, [&](OperatorStore& store, const Config&) {
    const DeadLetterFilter filter = dead_letter_filter(options, store.now());
    const std::int32_t limit = options.limit.value_or(kListed);
    std::vector<DeadLetter> letters =
        store.dead_letters(filter, limit < INT32_MAX ? limit + 1 : limit);
    const bool more = std::ssize(letters) > limit;
    if (more) letters.resize(static_cast<std::size_t>(limit));
    if (!context.json) {
      write_list(context, letters, more, filter);
      return ExitCode::ok;
    }
    json::array array;
    for (const DeadLetter& letter : letters) array.push_back(letter_json(letter));
    write_json(context, json::object{{"dead_letters", std::move(array)}, {"more", more}});
    return ExitCode::ok;
  });
}

void write_content(const Context& context, const DeadLetterContent& content) {
  const DeadLetter& letter = content.letter;
  TextFields fields;
  fields.add("entry", std::to_string(letter.entry_id));
  fields.add("envelope", letter.envelope_id.to_string());
  fields.add("stream", letter.stream);
  fields.add("key", letter.key.value_or(""));
  fields.add("type", letter.type);
  fields.add("source", content.source.value_or(""));
  fields.add("subject", content.subject.value_or(""));
  fields.add("content type", content.content_type.value_or(""));
  fields.add("data schema", content.data_schema.value_or(""));
  fields.add("headers", content.headers);
  fields.add("created", utc(letter.created_at));
  if (content.occurred_at) fields.add("occurred", utc(*content.occurred_at));
  fields.add("dead-lettered", utc(letter.dead_lettered_at));
  fields.add("reason", letter.reason_code + (letter.reason.empty() ? "" : ": " + letter.reason));
  if (!letter.last_error_code.empty()) {
    fields.add("last error", letter.last_error_code + ": " + letter.last_error_message);
  }
  fields.add("attempts", std::to_string(letter.attempts));
  fields.add("replays", std::to_string(letter.replays));
  if (letter.holds_key) fields.add("holds its key", "later entries of the key wait");
  if (!content.payload) {
    fields.add("payload", "none");
  } else if (content.payload_is_binary) {
    fields.add("payload", fmt::format("{} of binary; --payload writes them",
                                      counted(std::ssize(*content.payload), "byte")));
  } else {
    fields.add("payload", printable(*content.payload, kShownPayload));
  }
  fields.write(context.out);
  context.out << '\n';
  write_next(context.out,
             {fmt::format("`outfall dead-letters replay --id {} --reason ...`, or discard",
                          letter.entry_id)});
}

ExitCode show(const Context& context, const ShowOptions& options) {
  const EntryTarget target = entry_target(options.target);
  return with_store(context, [&](OperatorStore& store, const Config&) {
    const DeadLetterContent content = store.dead_letter_content(target);
    if (options.payload && !context.json) {
      context.out << content.payload.value_or("");
      return ExitCode::ok;
    }
    if (!context.json) {
      write_content(context, content);
      return ExitCode::ok;
    }
    json::object object = letter_json(content.letter);
    const auto add = [&object](std::string_view name, const std::optional<std::string>& value) {
      if (value) object[name] = *value;
    };
    add("source", content.source);
    add("subject", content.subject);
    add("content_type", content.content_type);
    add("data_schema", content.data_schema);
    if (content.occurred_at) object["occurred_at"] = utc(*content.occurred_at);
    if (!content.headers.empty()) object["headers"] = json::parse(content.headers);
    // The exact text of the payload, not a document that was read and written again.
    if (content.payload && content.payload_is_binary) {
      std::string base64;
      append_base64(base64, *content.payload);
      object["payload_base64"] = base64;
    } else {
      add("payload", content.payload);
    }
    write_json(context, object);
    return ExitCode::ok;
  });
}

std::string_view verb(DeadLetterAction action) {
  return action == DeadLetterAction::replay ? "replay" : "discard";
}

std::string_view past(DeadLetterAction action) {
  return action == DeadLetterAction::replay ? "replayed" : "discarded";
}

// The command that goes on where this run stopped.
std::string resume_command(const DeadLetterChange& change, const DeadLetterProgress& progress,
                           const ChangeOptions& options) {
  DeadLetterFilter rest = change.filter;
  if (progress.last_id) rest.after = progress.last_id;
  std::string command =
      fmt::format("outfall dead-letters {}{}", verb(change.action), filter_arguments(rest));
  if (change.limit && progress.done + progress.skipped < *change.limit) {
    command += fmt::format(" --limit {}", *change.limit - progress.done - progress.skipped);
  }
  if (!options.rate.empty()) command += " --rate " + shell_quoted(options.rate);
  if (!change.requester) return command + " --dry-run";
  if (!options.requester.actor.empty()) {
    command += " --actor " + shell_quoted(options.requester.actor);
  }
  return command + " --reason " + shell_quoted(change.requester->reason);
}

void write_change_json(const Context& context, const DeadLetterChange& change,
                       const DeadLetterProgress& progress, const std::string& resume) {
  json::object object;
  object["action"] = verb(change.action);
  object["dry_run"] = !change.requester;
  object[past(change.action)] = progress.done;
  if (change.action == DeadLetterAction::replay) object["skipped"] = progress.skipped;
  object["more"] = progress.more;
  object["interrupted"] = progress.interrupted;
  object["until"] = utc(*change.filter.until);
  object["last_entry_id"] =
      progress.last_id ? json::value(*progress.last_id) : json::value(nullptr);
  if (change.requester) {
    object["actor"] = change.requester->actor;
    object["reason"] = change.requester->reason;
  }
  if (progress.more) object["resume"] = resume;
  write_json(context, object);
}

void write_change(const Context& context, const DeadLetterChange& change,
                  const DeadLetterProgress& progress, const std::string& resume) {
  if (progress.interrupted) context.out << "interrupted: ";
  context.out << fmt::format("{} {}{}", counted(progress.done, "dead letter"),
                             change.requester ? "" : "would be ", past(change.action));
  if (progress.skipped > 0) {
    context.out << fmt::format(", {} skipped: their envelopes are in the stream again already",
                               progress.skipped);
  }
  context.out << '\n';
  std::vector<std::string> next;
  if (progress.more) {
    next.push_back(fmt::format("`{}` goes on with the rest", resume));
  } else if (!change.requester && progress.done > 0) {
    next.push_back(fmt::format("`outfall dead-letters {}{} --reason ...` does it",
                               verb(change.action), filter_arguments(change.filter)));
  } else if (change.action == DeadLetterAction::replay && progress.done > 0) {
    next.emplace_back("`outfall status` shows them on their way");
  }
  write_next(context.out, next);
}

// Nothing was found: a mistyped stream must not look like work that is done.
void expect_known(OperatorStore& store, const Config& config, const std::string& stream) {
  DeadLetterFilter any;
  any.stream = stream;
  if (!store.dead_letters(any, 1).empty()) return;
  const std::set<std::string> known = known_streams(store, config);
  if (!known.contains(stream)) throw unknown_stream(stream, known);
}

ExitCode change(const Context& context, DeadLetterAction action, const ChangeOptions& options) {
  DeadLetterChange what{.action = action,
                        .filter = {},
                        .limit = options.filter.limit,
                        .per_second = {},
                        .requester = {}};
  if (!options.dry_run) what.requester = requester(context, options.requester);
  if (!options.rate.empty()) what.per_second = parse_rate(options.rate);
  if (!options.filter.stream && options.filter.ids.empty() && options.filter.envelope_ids.empty()) {
    throw CommandError(ExitCode::usage, "neither --stream nor a dead letter is named",
                       "name a stream with --stream, or dead letters by ENVELOPE_ID or --id");
  }
  return with_store(context, [&](OperatorStore& store, const Config& config) {
    const WallTime now = store.now();
    what.filter = dead_letter_filter(options.filter, now);
    // Those that fail again meanwhile are left to a later run: this one ends.
    if (!what.filter.until) what.filter.until = now;
    DeadLetterProgress progress;
    try {
      change_dead_letters(store, what, progress);
    } catch (const StoreError& error) {
      if (progress.done == 0) throw;
      const CommandError failure = command_error(error);
      throw CommandError(failure.code(),
                         fmt::format("after {} {}: {}", counted(progress.done, "dead letter"),
                                     past(action), failure.what()),
                         fmt::format("go on with `{}`", resume_command(what, progress, options)));
    }
    if (progress.done == 0 && progress.skipped == 0 && what.filter.stream) {
      expect_known(store, config, *what.filter.stream);
    }
    const std::string resume = resume_command(what, progress, options);
    const auto write = context.json ? write_change_json : write_change;
    write(context, what, progress, resume);
    return progress.interrupted ? ExitCode::temporary : ExitCode::ok;
  });
}

CLI::App& add_change(CLI::App& group, Context& context, DeadLetterAction action,
                     const std::string& description,
                     const std::shared_ptr<ChangeOptions>& options) {
  CLI::App& command =
      add_command(group, context, std::string(verb(action)), description,
                  [&context, action, options] { return change(context, action, *options); });
  add_filter_options(command, options->filter);
  command.add_flag("--dry-run", options->dry_run, "Only count them");
  add_requester_options(command, options->requester);
  return command;
}

}  // namespace

void add_dead_letters(CLI::App& app, Context& context) {
  CLI::App& group = add_command_group(
      app, "dead-letters", "Look at entries that are not tried again, replay or discard them");

  const auto listed = std::make_shared<DeadLetterOptions>();
  add_filter_options(
      add_command(group, context, "list", "List dead letters, in the order of their entry ids",
                  [&context, listed] { return list(context, *listed); }),
      *listed);

  const auto shown = std::make_shared<ShowOptions>();
  CLI::App& show_command =
      add_command(group, context, "show", "Show one dead letter with its payload",
                  [&context, shown] { return show(context, *shown); });
  add_target_options(show_command, shown->target);
  show_command.add_flag("--payload", shown->payload, "Write the payload alone, as it is");

  const auto replayed = std::make_shared<ChangeOptions>();
  add_change(group, context, DeadLetterAction::replay,
             "Return dead letters to their streams, in the order of their entry ids", replayed)
      .add_option("--rate", replayed->rate, "No more than so many a second or a minute")
      ->type_name("N/s|N/m");

  add_change(group, context, DeadLetterAction::discard,
             "Delete dead letters for good, and release the keys that they hold",
             std::make_shared<ChangeOptions>());
}

}  // namespace outfall
