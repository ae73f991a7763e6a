#include "daemon/job_text.h"

#include <fmt/format.h>

#include "daemon/json_fields.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"

namespace outfall {
namespace {

namespace json = boost::json;

constexpr std::string_view kNone = ": none is as the filter says";

json::value or_null(const std::optional<std::int64_t>& number) {
  return number ? json::value(*number) : json::value(nullptr);
}

std::string reasons_of(const json::object& document) {
  std::string text;
  for (const json::value& reason : array_field(document, "by_reason")) {
    if (!text.empty()) text += ", ";
    text += printable(text_field(reason.as_object(), "reason_code")) + " " +
            grouped(integer_field(reason.as_object(), "count"));
  }
  return text;
}

void write_counts(const Context& context, const json::object& found) {
  TextTable reasons({{"REASON CODE"}, {"DEAD LETTERS", true}});
  for (const json::value& reason : array_field(found, "by_reason")) {
    reasons.add({text_field(reason.as_object(), "reason_code"),
                 grouped(integer_field(reason.as_object(), "count"))});
  }
  context.out << '\n';
  reasons.write(context.out);

  TextTable keys({{"KEY"}, {"STREAM"}, {"DEAD LETTERS", true}});
  for (const json::value& key : array_field(found, "by_key")) {
    keys.add({text_field(key.as_object(), "key"), text_field(key.as_object(), "stream"),
              grouped(integer_field(key.as_object(), "count"))});
  }
  if (!keys.empty()) {
    context.out << '\n';
    keys.write(context.out);
    const std::int64_t others =
        integer_field(found, "keys") - std::ssize(array_field(found, "by_key"));
    if (others > 0) context.out << fmt::format("other keys: {}\n", grouped(others));
  }
  TextFields fields;
  if (const std::int64_t none = integer_field(found, "without_key"); none > 0) {
    fields.add("without a key", grouped(none));
  }
  if (const std::int64_t hold = integer_field(found, "hold_keys"); hold > 0) {
    fields.add("hold their key", grouped(hold));
  }
  fields.add("dead-lettered", text_field(found, "oldest") + " to " + text_field(found, "newest"));
  context.out << '\n';
  fields.write(context.out);
}

std::string skipped_text(std::int64_t skipped) {
  return skipped > 0 ? fmt::format(", {} skipped: their envelopes are in the stream again already",
                                   grouped(skipped))
                     : std::string();
}

// Who ended it where it did not come to its end.
std::string stopped_by(const json::object& job, std::string_view state) {
  if (state == "taken_over") return "another process runs the job now";
  const json::array changes = array_field(job, "changes");
  if (changes.empty()) return std::string(state);
  const json::object& last = changes.back().as_object();
  return fmt::format("{} by {}: {}", state, printable(text_field(last, "actor")),
                     printable(text_field(last, "reason")));
}

std::string requester_arguments(const Requester& by) {
  return fmt::format(" --actor {} --reason {}", shell_quoted(by.actor), shell_quoted(by.reason));
}

std::string rest_command(const Context& context, const JobReport& report) {
  DeadLetterFilter rest = report.filter;
  if (report.run.step.last_id) rest.after = report.run.step.last_id;
  return pasteable(context, fmt::format("outfall dead-letters {}", verb(report.action))) +
         filter_arguments(rest) + requester_arguments(report.requester);
}

bool can_resume(const JobReport& report) {
  return report.run.step.state == "paused" || report.run.step.state == "running";
}

// Somebody gave it up for what it does, so that nobody is told to do the same again.
bool aborted(const JobReport& report) {
  return report.run.step.state == "aborted";
}

bool more_of(const JobReport& report) {
  if (report.run.job == 0) return false;
  return report.run.step.state == "finished" ? report.run.step.more
                                             : report.run.step.state != "taken_over";
}

void write_report_json(const Context& context, const JobReport& report) {
  const JobStep& step = report.run.step;
  json::object object;
  object["action"] = verb(report.action);
  object["dry_run"] = false;
  object["job_id"] = report.run.job == 0 ? json::value(nullptr) : json::value(report.run.job);
  object["state"] = step.state;
  object[past(report.action)] = step.done;
  object["skipped"] = step.skipped;
  object["total"] = or_null(step.total);
  object["more"] = more_of(report);
  object["interrupted"] = report.run.interrupted;
  object["until"] = utc(*report.filter.until);
  object["last_entry_id"] = or_null(step.last_id);
  object["actor"] = report.requester.actor;
  object["reason"] = report.requester.reason;
  object["seconds"] = report.run.seconds;
  object["in_this_run"] = report.run.moved;
  object["by_reason"] = array_field(report.job, "by_reason");
  for (const std::string_view field : {"live", "dead_letters_again"}) {
    if (const json::value* value = report.job.if_contains(field)) object[field] = *value;
  }
  if (can_resume(report)) {
    object["resume"] = resume_command(context, report.run.job, report.requester);
  } else if (more_of(report) && !aborted(report)) {
    object["resume"] = rest_command(context, report);
  }
  write_json(context, object);
}

std::vector<std::string> next_steps(const Context& context, const JobReport& report) {
  if (can_resume(report)) {
    return {fmt::format("`{}` goes on with the rest",
                        resume_command(context, report.run.job, report.requester)),
            fmt::format("`outfall dead-letters jobs abort {} --reason ...` gives it up",
                        report.run.job)};
  }
  if (aborted(report)) {
    return {
        fmt::format("`outfall dead-letters jobs show {}` says what was {}; the rest are dead "
                    "letters still",
                    report.run.job, past(report.action))};
  }
  if (more_of(report))
    return {fmt::format("`{}` goes on with the rest", rest_command(context, report))};
  if (report.run.job != 0 && report.action == DeadLetterAction::replay &&
      report.run.step.done > 0) {
    return {fmt::format("`outfall dead-letters jobs show {}` says what becomes of them",
                        report.run.job)};
  }
  return {};
}

}  // namespace

std::string_view verb(DeadLetterAction action) {
  return action == DeadLetterAction::replay ? "replay" : "discard";
}

std::string_view past(DeadLetterAction action) {
  return action == DeadLetterAction::replay ? "replayed" : "discarded";
}

std::string resume_command(const Context& context, JobId job, const Requester& by) {
  return pasteable(context, fmt::format("outfall dead-letters jobs resume {}", job)) +
         requester_arguments(by);
}

void write_dry_run(const Context& context, const DryRun& run) {
  const json::object document = dry_run_json(run);
  if (context.json) {
    write_json(context, document);
    return;
  }
  const std::int64_t total = integer_field(document, "total");
  const std::int64_t skipped = integer_field(document, "skipped");
  context.out << fmt::format("{} would be {}{}{}\n", counted(total - skipped, "dead letter"),
                             past(run.action), skipped_text(skipped), total == 0 ? kNone : "");
  if (total == 0) return;
  write_counts(context, run.found);
  context.out << '\n';
  write_next(context,
             {fmt::format("`outfall dead-letters {}{}{} --reason ...` does it", verb(run.action),
                          filter_arguments(run.filter),
                          run.limit ? fmt::format(" --limit {}", *run.limit) : std::string())});
}

void write_report(const Context& context, const JobReport& report) {
  if (context.json) {
    write_report_json(context, report);
    return;
  }
  const JobStep& step = report.run.step;
  if (report.run.interrupted) {
    context.out << "interrupted: ";
  } else if (report.run.job != 0 && step.state != "finished") {
    context.out << stopped_by(report.job, step.state) << ": ";
  }
  context.out << fmt::format("{} {}{}{}\n", counted(step.done, "dead letter"), past(report.action),
                             skipped_text(step.skipped), report.run.job == 0 ? kNone : "");
  if (report.run.job != 0) {
    TextFields fields("  ");
    fields.add("job", std::to_string(report.run.job));
    if (step.total) fields.add("found at its start", grouped(*step.total));
    if (report.run.moved != step.done) fields.add("in this run", grouped(report.run.moved));
    fields.add("took", fmt::format("{:.1f} s{}", report.run.seconds,
                                   report.run.seconds >= 1
                                       ? fmt::format(", {:.0f} a second",
                                                     static_cast<double>(report.run.moved) /
                                                         report.run.seconds)
                                       : std::string()));
    fields.add("by reason", reasons_of(report.job));
    if (const std::int64_t again = integer_field(report.job, "dead_letters_again"); again > 0) {
      fields.add("dead letters again", grouped(again));
    }
    fields.write(context.out);
  }
  write_next(context, next_steps(context, report));
}

void write_job(const Context& context, const json::object& job) {
  const bool replay = text_field(job, "action") == "replay";
  const std::string state = text_field(job, "state");
  const bool open = state == "running" || state == "paused";
  TextFields fields;
  fields.add("job", std::to_string(integer_field(job, "job_id")));
  fields.add("action", text_field(job, "action"));
  fields.add("state", flag_field(job, "interrupted")
                          ? "running, but nobody runs it since " + time_field(job, "ran_at")
                          : state);
  fields.add("actor", text_field(job, "actor"));
  fields.add("reason", text_field(job, "reason"));
  fields.add("filter", json::serialize(object_field(job, "filter")));
  for (const std::string_view bound : {"limit", "per_second", "in_flight"}) {
    if (const json::value* value = job.if_contains(bound); value != nullptr && !value->is_null()) {
      fields.add(std::string(bound), fmt::format("{:g}", value->to_number<double>()));
    }
  }
  fields.add("begun", time_field(job, "created_at"));
  fields.add("ended", time_field(job, "ended_at"));
  const std::int64_t done = integer_field(job, "done");
  const json::value* total = job.if_contains("total");
  fields.add(replay ? "replayed" : "discarded",
             total != nullptr && total->is_number()
                 ? fmt::format("{} of {}", grouped(done), grouped(integer_field(job, "total")))
                 : grouped(done));
  if (const std::int64_t skipped = integer_field(job, "skipped"); skipped > 0) {
    fields.add("skipped", grouped(skipped));
  }
  fields.add("by reason", reasons_of(job));
  if (replay) {
    const std::int64_t live = integer_field(job, "live");
    const std::int64_t again = integer_field(job, "dead_letters_again");
    fields.add("of them", fmt::format("{} live, {} dead letters again, {} delivered or discarded",
                                      grouped(live), grouped(again), grouped(done - live - again)));
  }
  fields.write(context.out);
  TextTable changes({{"AT"}, {"WHAT"}, {"BY"}, {"DONE", true}, {"WHY"}});
  for (const json::value& change : array_field(job, "changes")) {
    const json::object& object = change.as_object();
    changes.add({time_field(object, "at"), text_field(object, "action"),
                 text_field(object, "actor"), grouped(integer_field(object, "done")),
                 text_field(object, "reason")});
  }
  context.out << '\n';
  changes.write(context.out);
  if (open) {
    context.out << '\n';
    write_next(context,
               {fmt::format("`outfall dead-letters jobs resume {} --reason ...` goes on with it",
                            integer_field(job, "job_id"))});
  }
}

void write_jobs(const Context& context, const json::array& jobs) {
  if (jobs.empty()) {
    context.out << "no jobs\n";
    return;
  }
  TextTable table({{"JOB", true},
                   {"ACTION"},
                   {"STATE"},
                   {"STREAM"},
                   {"DONE", true},
                   {"OF", true},
                   {"BEGUN"},
                   {"BY"},
                   {"WHY"}});
  for (const json::value& value : jobs) {
    const json::object& job = value.as_object();
    const json::value* total = job.if_contains("total");
    const std::string stream = text_field(object_field(job, "filter"), "stream");
    table.add({std::to_string(integer_field(job, "job_id")), text_field(job, "action"),
               flag_field(job, "interrupted") ? "interrupted" : text_field(job, "state"),
               stream.empty() ? "-" : stream, grouped(integer_field(job, "done")),
               total != nullptr && total->is_number() ? grouped(integer_field(job, "total")) : "?",
               text_field(job, "created_at"), text_field(job, "actor"), text_field(job, "reason")});
  }
  table.write(context.out);
}

}  // namespace outfall
