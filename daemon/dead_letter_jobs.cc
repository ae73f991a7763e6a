#include <fmt/format.h>

#include "daemon/dead_letters.h"
#include "daemon/job_text.h"
#include "daemon/json_fields.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"
#include "daemon/time_arguments.h"

namespace outfall {
namespace {

namespace json = boost::json;

json::object parsed(const std::string& document) {
  return json::parse(document).as_object();
}

std::optional<double> rate(const RunOptions& options) {
  if (options.rate.empty()) return {};
  return parse_rate(options.rate);
}

Milliseconds progress_every(const RunOptions& options) {
  return parse_span("--progress", options.progress, Milliseconds{100});
}

// The filter of a job's document, as far as a later command can name the same dead letters.
DeadLetterFilter job_filter(const json::object& job) {
  const json::object given = object_field(job, "filter");
  const auto text = [&given](std::string_view name) -> std::optional<std::string> {
    if (!given.contains(name)) return {};
    return text_field(given, name);
  };
  DeadLetterFilter filter;
  for (const json::value& id : array_field(given, "ids")) filter.ids.push_back(id.as_int64());
  for (const json::value& id : array_field(given, "envelope_ids")) {
    filter.envelope_ids.push_back(parse_envelope_id(std::string(id.as_string())));
  }
  filter.stream = text("stream");
  filter.type = text("type");
  filter.key = text("key");
  filter.reason_code = text("reason_code");
  if (const auto since = text("since")) filter.since = parse_moment("since", *since, {});
  filter.until = parse_moment("until", text("until").value_or(""), {});
  return filter;
}

// Runs a job that is there, in the name of `report.requester`, and writes the report.
ExitCode run_to_report(const Context& context, OperatorStore& store, const Uuid& runner,
                       const Interruption& interruption, const RunOptions& options,
                       JobReport& report) {
  try {
    JobProgress progress(context, report.action, report.run.job, progress_every(options));
    run_job(store, runner, report.requester, interruption, progress, report.run);
    report.job = parsed(store.job(report.run.job));
  } catch (const StoreError& error) {
    const CommandError failure = command_error(error);
    throw CommandError(
        failure.code(),
        fmt::format("job {}, after {} {}: {}", report.run.job,
                    counted(report.run.step.done, "dead letter"), past(report.action),
                    failure.what()),
        fmt::format("go on with `{}`", resume_command(context, report.run.job, report.requester)));
  }
  write_report(context, report);
  return report.run.step.state == "finished" ? ExitCode::ok : ExitCode::temporary;
}

}  // namespace

void add_run_options(CLI::App& command, RunOptions& options, bool replay) {
  command.add_option("--rate", options.rate, "No more than so many a second or a minute")
      ->type_name("N/s|N/m");
  if (replay) {
    command
        .add_option("--in-flight", options.in_flight,
                    "No more than so many of them unfinished at a time")
        ->type_name("N")
        ->check(CLI::Range(1, 10'000).description(""));
  }
  command
      .add_option("--progress", options.progress,
                  "How often a line tells how far it is where there is no terminal; default: 5s")
      ->type_name("TIME");
}

void check_run_options(const RunOptions& options) {
  static_cast<void>(rate(options));
  static_cast<void>(progress_every(options));
}

ExitCode begin_and_run(const Context& context, OperatorStore& store, const Config& config,
                       JobRequest request, const RunOptions& options, const Requester& by) {
  request.per_second = rate(options);
  request.in_flight = options.in_flight;
  // Those that fail again meanwhile are left to a later job: this one ends.
  if (!request.filter.until) request.filter.until = store.now();
  JobReport report{
      .action = request.action, .filter = request.filter, .requester = by, .run = {}, .job = {}};
  if (store.dead_letters(request.filter, 1).empty()) {
    if (request.filter.stream) expect_known(store, config, *request.filter.stream);
    report.run.step.state = "finished";
    write_report(context, report);
    return ExitCode::ok;
  }
  const Interruption interruption;
  const Uuid runner = system_random().uuid();
  report.run.job = integer_field(parsed(store.create_job(request, runner, by)), "job_id");
  return run_to_report(context, store, runner, interruption, options, report);
}

ExitCode resume_and_run(const Context& context, OperatorStore& store, JobId job,
                        const RunOptions& options, const Requester& by) {
  const Interruption interruption;
  const Uuid runner = system_random().uuid();
  const json::object document =
      parsed(store.resume_job(job, runner, rate(options), options.in_flight, by));
  JobReport report{.action = text_field(document, "action") == "replay" ? DeadLetterAction::replay
                                                                        : DeadLetterAction::discard,
                   .filter = {},
                   .requester = by,
                   .run = {},
                   .job = {}};
  report.run.job = job;
  report.filter = job_filter(document);
  return run_to_report(context, store, runner, interruption, options, report);
}

}  // namespace outfall
