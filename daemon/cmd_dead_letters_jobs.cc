#include <limits>

#include "daemon/dead_letters.h"
#include "daemon/documents.h"
#include "daemon/job_text.h"
#include "daemon/operating.h"

namespace outfall {
namespace {

namespace json = boost::json;

struct ListOptions {
  std::string state;
  std::int32_t limit = 50;
};

struct JobOptions {
  JobId job = 0;
  RequesterOptions requester;
  RunOptions run;
};

void add_job_option(CLI::App& command, JobOptions& options) {
  command.add_option("JOB", options.job, "The number of the job")
      ->type_name("")
      ->required()
      ->check(CLI::Range(JobId{1}, std::numeric_limits<JobId>::max()).description(""));
}

ExitCode list(const Context& context, const ListOptions& options) {
  return with_store(context, Access::look, [&](OperatorStore& store, const Config&) {
    const json::object document = jobs_document(store, options.state, options.limit);
    if (context.json) {
      write_json(context, document);
    } else {
      write_jobs(context, document.at("jobs").as_array());
    }
    return ExitCode::ok;
  });
}

void write_one(const Context& context, OperatorStore& store, JobId job) {
  const json::object document = job_document(store, job);
  if (context.json) {
    write_json(context, document);
  } else {
    write_job(context, document);
  }
}

using JobChange = std::string (OperatorStore::*)(JobId, const Requester&);

void add_job_change(CLI::App& group, Context& context, const std::string& name,
                    const std::string& description, JobChange change) {
  const auto options = std::make_shared<JobOptions>();
  CLI::App& command = add_command(group, context, name, description, [&context, options, change] {
    const Requester by = requester(context, options->requester);
    return with_store(context, Access::change, [&](OperatorStore& store, const Config&) {
      (store.*change)(options->job, by);
      write_one(context, store, options->job);
      return ExitCode::ok;
    });
  });
  add_job_option(command, *options);
  add_requester_options(command, options->requester);
}

}  // namespace

void add_dead_letter_jobs(CLI::App& group, Context& context) {
  CLI::App& jobs = add_command_group(group, "jobs", "Replays and discards, running and past");

  const auto listed = std::make_shared<ListOptions>();
  CLI::App& list_command = add_command(jobs, context, "list", "List jobs, the newest first",
                                       [&context, listed] { return list(context, *listed); });
  list_command.add_option("--state", listed->state, "Only those that are in this state")
      ->type_name("STATE")
      ->check(CLI::IsMember({"running", "paused", "finished", "aborted"}).description(""));
  list_command.add_option("--limit", listed->limit, "No more than this many")
      ->type_name("N")
      ->check(CLI::Range(1, std::numeric_limits<std::int32_t>::max()).description(""));

  const auto shown = std::make_shared<JobOptions>();
  CLI::App& show_command = add_command(
      jobs, context, "show", "Show one job: who, why, how far, and what became of it",
      [&context, shown] {
        return with_store(context, Access::look, [&](OperatorStore& store, const Config&) {
          write_one(context, store, shown->job);
          return ExitCode::ok;
        });
      });
  add_job_option(show_command, *shown);

  add_job_change(jobs, context, "pause", "Have whoever runs it end after the chunk at hand",
                 &OperatorStore::pause_job);

  const auto resumed = std::make_shared<JobOptions>();
  CLI::App& resume_command = add_command(
      jobs, context, "resume", "Go on exactly where a job stopped", [&context, resumed] {
        const Requester by = requester(context, resumed->requester);
        check_run_options(resumed->run);
        return with_store(context, Access::change, [&](OperatorStore& store, const Config&) {
          return resume_and_run(context, store, resumed->job, resumed->run, by);
        });
      });
  add_job_option(resume_command, *resumed);
  add_requester_options(resume_command, resumed->requester);
  add_run_options(resume_command, resumed->run, true);

  add_job_change(jobs, context, "abort", "End a job for good; what it left are dead letters still",
                 &OperatorStore::abort_job);
}

}  // namespace outfall
