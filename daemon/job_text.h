#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <boost/json.hpp>

#include "daemon/commands.h"
#include "daemon/dead_letters.h"
#include "daemon/documents.h"
#include "daemon/job_runner.h"
#include "store/operator_store.h"

// How jobs are written, for people and as JSON. Pure but for what is written to context.out.

namespace outfall {

[[nodiscard]] std::string_view verb(DeadLetterAction action);  // "replay"
[[nodiscard]] std::string_view past(DeadLetterAction action);  // "replayed"

// `outfall dead-letters jobs resume 7 --reason ...`, for the one who ran it, pasteable().
[[nodiscard]] std::string resume_command(const Context& context, JobId job, const Requester& by);

// What a dry run found.
void write_dry_run(const Context& context, const DryRun& run);

// The report at the end of a run: `job` is the document of show_job(), empty where nothing was
// found and no job was begun.
struct JobReport {
  DeadLetterAction action = DeadLetterAction::replay;
  DeadLetterFilter filter;
  Requester requester;
  JobRun run;
  boost::json::object job;
};
void write_report(const Context& context, const JobReport& report);

// `jobs show` and `jobs list`: documents of show_job() and list_jobs().
void write_job(const Context& context, const boost::json::object& job);
void write_jobs(const Context& context, const boost::json::array& jobs);

}  // namespace outfall
