#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>

#include <fmt/format.h>

#include "daemon/dead_letter_lines.h"
#include "daemon/dead_letters.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"

namespace outfall {
namespace {

namespace json = boost::json;

constexpr std::int32_t kPage = 500;
constexpr std::size_t kShownProblems = 20;

struct ExportOptions {
  DeadLetterOptions filter;
  std::string output;
};

struct ImportOptions {
  std::string file;
  RequesterOptions requester;
  RunOptions run;
  bool dry_run = false;
  bool no_replay = false;
  bool skip_gone = false;
};

std::int64_t write_lines(OperatorStore& store, DeadLetterFilter filter,
                         const std::optional<std::int32_t>& limit, std::ostream& out) {
  std::int64_t written = 0;
  while (!limit || written < *limit) {
    const std::int64_t left = limit ? *limit - written : kPage;
    const auto letters = store.export_dead_letters(
        filter, static_cast<std::int32_t>(std::min<std::int64_t>(left, kPage)));
    if (letters.empty()) break;
    for (const DeadLetterContent& letter : letters) {
      out << json::serialize(content_json(letter)) << '\n';
    }
    if (!out) break;
    written += std::ssize(letters);
    filter.after = letters.back().letter.entry_id;
  }
  return written;
}

ExitCode export_letters(const Context& context, const ExportOptions& options) {
  if (!options.filter.stream && options.filter.ids.empty() && options.filter.envelope_ids.empty()) {
    throw CommandError(ExitCode::usage, "neither --stream nor a dead letter is named",
                       "name a stream with --stream, or dead letters by ENVELOPE_ID or --id");
  }
  return with_store(context, Access::look, [&](OperatorStore& store, const Config& config) {
    const DeadLetterFilter filter = dead_letter_filter(options.filter, store.now());
    expect_dead_letters(store, filter);
    std::ofstream file;
    if (!options.output.empty()) {
      file.open(options.output, std::ios::binary | std::ios::trunc);
      if (!file) {
        throw CommandError(ExitCode::usage,
                           fmt::format("{} cannot be written", printable(options.output)),
                           "choose another file with --output");
      }
    }
    std::ostream& out = options.output.empty() ? context.out : file;
    const std::int64_t written = write_lines(store, filter, options.filter.limit, out);
    if (written == 0 && filter.stream) expect_known(store, config, *filter.stream);
    if (options.output.empty()) return ExitCode::ok;
    file.close();
    if (!file) {
      throw CommandError(ExitCode::unavailable,
                         fmt::format("{} could not be written whole", printable(options.output)),
                         "is there room left?");
    }
    if (context.json) {
      write_json(context, json::object{{"exported", written}, {"file", options.output}});
    } else {
      context.out << counted(written, "dead letter") << " exported\n";
      write_next(context, {fmt::format("mend the payloads, then `outfall dead-letters import "
                                       "{} --reason ...`",
                                       shell_quoted(options.output))});
    }
    return ExitCode::ok;
  });
}

DeadLetterFile read_file(const ImportOptions& options) {
  if (options.file == "-") return read_dead_letter_lines(std::cin, "standard input");
  std::ifstream in(options.file, std::ios::binary);
  if (!in || std::filesystem::is_directory(options.file)) {
    throw CommandError(
        ExitCode::usage, fmt::format("{} cannot be read", printable(options.file)),
        "name the file that `outfall dead-letters export` wrote; - is standard input");
  }
  return read_dead_letter_lines(in, options.file);
}

// What is wrong ends the command before anything is changed.
void refuse(const DeadLetterFile& file) {
  if (file.problems.empty()) return;
  std::vector<SettingProblem> shown = file.problems;
  const std::size_t all = shown.size();
  if (all > kShownProblems) shown.resize(kShownProblems);
  throw CommandError(ExitCode::usage,
                     fmt::format("{} of {} wrong; nothing was changed",
                                 counted(static_cast<std::int64_t>(all), "line"), file.name),
                     {}, std::move(shown));
}

// A command before this one that has failed leaves a file without a line, which must not look like
// a file whose dead letters are all as they should be.
void expect_lines(const DeadLetterFile& file) {
  if (!file.lines.empty()) return;
  throw CommandError(ExitCode::usage,
                     fmt::format("{} has no dead letter in it", printable(file.name)),
                     "see that the command that made it has not failed; `outfall dead-letters "
                     "export` writes one line for each dead letter");
}

struct Import {
  std::vector<EntryId> ids;
  std::vector<const DeadLetterLine*> lines;  // in the same order
  std::int64_t mended = 0;
  std::int64_t gone = 0;
};

// Asks the database about every line and changes nothing; problems go to the file.
Import examine(OperatorStore& store, DeadLetterFile& file, const Requester& by, bool skip_gone) {
  Import import;
  std::map<EntryId, std::uint32_t> seen;
  for (const DeadLetterLine& line : file.lines) {
    const auto wrong = [&](std::string message, std::string hint) {
      file.problems.push_back(line_problem(file, line.line, std::move(message), std::move(hint)));
    };
    try {
      const Mended found = store.mend(line.mend, true, by);
      const auto [first, fresh] = seen.emplace(found.entry_id, line.line);
      if (!fresh) {
        wrong(fmt::format("line {} is about the same dead letter", first->second), {});
        continue;
      }
      const std::string field = contradiction(
          line,
          store.dead_letter_content({.envelope_id = {}, .entry_id = found.entry_id, .stream = {}}));
      if (!field.empty()) {
        wrong(fmt::format("{} is not that of the dead letter, and cannot be changed", field),
              "leave it as it was; an entry with another one is a new entry");
        continue;
      }
      import.ids.push_back(found.entry_id);
      import.lines.push_back(&line);
      if (!found.changed.empty()) ++import.mended;
    } catch (const OperatorRefusal& refusal) {
      const bool gone = refusal.reason() == RefusalReason::not_found ||
                        refusal.reason() == RefusalReason::wrong_state;
      if (gone && skip_gone) {
        ++import.gone;
      } else {
        wrong(refusal.what(), gone ? "--skip-gone leaves out what was replayed or discarded since"
                                   : command_error(refusal).hint());
      }
    }
  }
  return import;
}

void mend_all(OperatorStore& store, const DeadLetterFile& file, const Import& import,
              const Requester& by) {
  for (const DeadLetterLine* line : import.lines) {
    try {
      store.mend(line->mend, false, by);
    } catch (const StoreError& error) {
      const CommandError failure = command_error(error);
      throw CommandError(
          failure.code(),
          fmt::format("{}:{}: {}; nothing was replayed", file.name, line->line, failure.what()),
          "import the file again: what is mended already stays as it is");
    }
  }
}

void write_mended(const Context& context, const Import& import, const ImportOptions& options) {
  if (context.json) {
    write_json(context, json::object{{"action", "import"},
                                     {"dry_run", options.dry_run},
                                     {"lines", import.ids.size()},
                                     {"mended", import.mended},
                                     {"gone", import.gone}});
    return;
  }
  context.out << fmt::format("{} {}mended, {} as they were", counted(import.mended, "dead letter"),
                             options.dry_run ? "would be " : "",
                             grouped(std::ssize(import.ids) - import.mended));
  if (import.gone > 0) context.out << fmt::format(", {} gone since", grouped(import.gone));
  context.out << '\n';
}

ExitCode import_letters(const Context& context, const ImportOptions& options) {
  // A dry run is nobody's: it leaves no trace.
  const Requester by = options.dry_run ? Requester{.actor = "dry run", .reason = "dry run"}
                                       : requester(context, options.requester);
  check_run_options(options.run);
  DeadLetterFile file = read_file(options);
  refuse(file);
  expect_lines(file);
  return with_store(context, Access::change, [&](OperatorStore& store, const Config& config) {
    const Import import = examine(store, file, by, options.skip_gone);
    refuse(file);
    if (!options.dry_run) mend_all(store, file, import, by);
    const bool replays = !options.dry_run && !options.no_replay && !import.ids.empty();
    if (!replays || !context.json) write_mended(context, import, options);
    if (!replays) return ExitCode::ok;
    JobRequest request;
    request.filter.ids = import.ids;
    return begin_and_run(context, store, config, std::move(request), options.run, by);
  });
}

}  // namespace

void add_dead_letter_files(CLI::App& group, Context& context) {
  const auto exported = std::make_shared<ExportOptions>();
  CLI::App& export_command = add_command(
      group, context, "export", "Write dead letters with payloads, one JSON object a line",
      [&context, exported] { return export_letters(context, *exported); });
  add_filter_options(export_command, exported->filter);
  export_command
      .add_option("--output", exported->output, "Into this file; default: standard output")
      ->type_name("FILE");

  const auto imported = std::make_shared<ImportOptions>();
  CLI::App& import_command =
      add_command(group, context, "import",
                  "Put the payloads of a file into their dead letters, and replay these",
                  [&context, imported] { return import_letters(context, *imported); });
  import_command
      .add_option("FILE", imported->file, "JSON Lines as `export` writes them; - is standard input")
      ->type_name("")
      ->required();
  import_command.add_flag("--dry-run", imported->dry_run, "Only check every line");
  import_command.add_flag("--no-replay", imported->no_replay, "Mend them and leave them dead");
  import_command.add_flag("--skip-gone", imported->skip_gone,
                          "Leave out what was replayed or discarded since the export");
  add_requester_options(import_command, imported->requester);
  add_run_options(import_command, imported->run, true);
}

}  // namespace outfall
