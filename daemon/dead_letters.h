#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "daemon/commands.h"
#include "daemon/operating.h"
#include "store/operator_store.h"

// What the commands on dead letters share: which ones a command line names, and how a job on them
// is run. One thread, as every command.

namespace outfall {

struct DeadLetterOptions {
  std::vector<std::string> envelope_ids;
  std::vector<EntryId> ids;
  std::optional<std::string> stream, type, key, reason_code;
  std::string since, until;
  std::optional<EntryId> after;
  std::optional<std::int32_t> limit;
};
void add_filter_options(CLI::App& command, DeadLetterOptions& options);
// `now` is the database's. Throws CommandError (usage).
[[nodiscard]] DeadLetterFilter dead_letter_filter(const DeadLetterOptions& options, WallTime now);
// The same filter as arguments, each time written out, so that a later run means the same ones.
[[nodiscard]] std::string filter_arguments(const DeadLetterFilter& filter);

// One dead letter as JSON, as `list` shows it, and with all that it says.
[[nodiscard]] boost::json::object letter_json(const DeadLetter& letter);
[[nodiscard]] boost::json::object content_json(const DeadLetterContent& content);

// Nothing was found: a mistyped stream must not look like work that is done. Throws CommandError.
void expect_known(OperatorStore& store, const Config& config, const std::string& stream);

// The same for a dead letter that is named and not there, whatever else the filter asks for. What
// lies before `after` was done with, in the command that this one continues.
void expect_dead_letters(OperatorStore& store, const DeadLetterFilter& filter);

// --rate, --in-flight and --progress of whatever runs a job.
struct RunOptions {
  std::string rate;
  std::optional<std::int32_t> in_flight;
  std::string progress = "5s";
};
void add_run_options(CLI::App& command, RunOptions& options, bool replay);
// Throws CommandError (usage) for what no job can be run with.
void check_run_options(const RunOptions& options);

// Begins the job, runs it and writes the report. Throws CommandError with the command that resumes
// it when the database fails on the way.
ExitCode begin_and_run(const Context& context, OperatorStore& store, const Config& config,
                       JobRequest request, const RunOptions& options, const Requester& by);
// The same for a job that is there.
ExitCode resume_and_run(const Context& context, OperatorStore& store, JobId job,
                        const RunOptions& options, const Requester& by);

// The commands below `outfall dead-letters`, one file each.
void add_dead_letter_changes(CLI::App& group, Context& context);  // replay, discard
void add_dead_letter_jobs(CLI::App& group, Context& context);     // jobs ...
void add_dead_letter_files(CLI::App& group, Context& context);    // export, import

}  // namespace outfall
