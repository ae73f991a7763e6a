#include "daemon/dead_letters.h"
#include "daemon/documents.h"
#include "daemon/job_text.h"
#include "daemon/operating.h"

namespace outfall {
namespace {

struct ChangeOptions {
  DeadLetterOptions filter;
  RequesterOptions requester;
  RunOptions run;
  bool dry_run = false;
};

ExitCode change(const Context& context, DeadLetterAction action, const ChangeOptions& options) {
  Requester by;
  if (!options.dry_run) by = requester(context, options.requester);
  check_run_options(options.run);
  if (!options.filter.stream && options.filter.ids.empty() && options.filter.envelope_ids.empty()) {
    throw CommandError(ExitCode::usage, "neither --stream nor a dead letter is named",
                       "name a stream with --stream, or dead letters by ENVELOPE_ID or --id");
  }
  const Access access = options.dry_run ? Access::look : Access::change;
  return with_store(context, access, [&](OperatorStore& store, const Config& config) {
    const WallTime now = store.now();
    JobRequest request{.action = action,
                       .filter = dead_letter_filter(options.filter, now),
                       .limit = options.filter.limit,
                       .per_second = {},
                       .in_flight = {}};
    if (!request.filter.until) request.filter.until = now;
    expect_dead_letters(store, request.filter);
    if (options.dry_run) {
      write_dry_run(context, dry_run(store, config, request));
      return ExitCode::ok;
    }
    return begin_and_run(context, store, config, std::move(request), options.run, by);
  });
}

void add_change(CLI::App& group, Context& context, DeadLetterAction action,
                const std::string& description) {
  const auto options = std::make_shared<ChangeOptions>();
  CLI::App& command =
      add_command(group, context, std::string(verb(action)), description,
                  [&context, action, options] { return change(context, action, *options); });
  add_filter_options(command, options->filter);
  command.add_flag("--dry-run", options->dry_run, "Only count them, by reason and by key");
  add_requester_options(command, options->requester);
  add_run_options(command, options->run, action == DeadLetterAction::replay);
}

}  // namespace

void add_dead_letter_changes(CLI::App& group, Context& context) {
  add_change(group, context, DeadLetterAction::replay,
             "Return dead letters to their streams, in the order of their entry ids");
  add_change(group, context, DeadLetterAction::discard,
             "Delete dead letters for good, and release the keys that they hold");
}

}  // namespace outfall
