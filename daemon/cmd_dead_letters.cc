#include <boost/json.hpp>
#include <fmt/format.h>

#include "daemon/commands.h"
#include "daemon/dead_letters.h"
#include "daemon/documents.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"

namespace outfall {
namespace {

constexpr std::size_t kShownPayload = 2000;  // characters; --payload writes all of it

struct ShowOptions {
  TargetOptions target;
  bool payload = false;
};

void write_list(const Context& context, const std::vector<DeadLetter>& letters, bool more,
                const DeadLetterFilter& filter) {
  if (letters.empty()) {
    const bool all = filter_arguments(filter).empty();
    context.out << (all ? "no dead letters\n" : "no dead letter is as the filter says\n");
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
  write_next(context, next);
}

ExitCode list(const Context& context, const DeadLetterOptions& options) {
  return with_store(context, Access::look, [&](OperatorStore& store, const Config& config) {
    const DeadLetterFilter filter = dead_letter_filter(options, store.now());
    const DeadLetterPage page =
        dead_letter_page(store, config, filter, options.limit.value_or(kDeadLettersListed));
    if (context.json) {
      write_json(context, page_json(page));
    } else {
      write_list(context, page.letters, page.more, filter);
    }
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
  write_next(context, {fmt::format("`outfall dead-letters replay --id {} --reason ...`, or discard",
                                   letter.entry_id)});
}

ExitCode show(const Context& context, const ShowOptions& options) {
  const EntryTarget target = entry_target(options.target);
  return with_store(context, Access::look, [&](OperatorStore& store, const Config&) {
    const DeadLetterContent content = store.dead_letter_content(target);
    if (options.payload && !context.json) {
      context.out << content.payload.value_or("");
      return ExitCode::ok;
    }
    if (!context.json) {
      write_content(context, content);
      return ExitCode::ok;
    }
    write_json(context, content_json(content));
    return ExitCode::ok;
  });
}

}  // namespace

void add_dead_letters(CLI::App& app, Context& context) {
  CLI::App& group =
      add_command_group(app, "dead-letters",
                        "Look at entries that are not tried again; replay, mend or discard them");

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

  add_dead_letter_changes(group, context);
  add_dead_letter_files(group, context);
  add_dead_letter_jobs(group, context);
}

}  // namespace outfall
