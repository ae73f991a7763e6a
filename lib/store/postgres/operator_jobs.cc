#include <fmt/format.h>

#include "store/postgres/operator_rows.h"
#include "store/postgres/operator_store.h"

// The part of PostgresOperatorStore that is about many dead letters: jobs, counts, export, import.

namespace outfall::postgres {
namespace {

// float8, where a parameter is its text.
void push(Params& params, const std::optional<double>& number) {
  number ? params.text(fmt::format("{}", *number)) : params.null(kText);
}

void push(Params& params, const std::optional<std::int32_t>& number) {
  number ? params.int4(*number) : params.null(kInt4);
}

}  // namespace

std::string PostgresOperatorStore::document(std::string_view function, std::string_view arguments,
                                            const Params& params) {
  const Result rows = call(function, arguments, params);
  return Row(rows, 0).jsonb(std::string(function).c_str());
}

std::string PostgresOperatorStore::count_dead_letters(const DeadLetterFilter& filter,
                                                      std::optional<std::int32_t> limit) {
  return document("count_dead_letters", kFilter, filter_params(filter, limit));
}

std::vector<DeadLetterContent> PostgresOperatorStore::export_dead_letters(
    const DeadLetterFilter& filter, std::int32_t limit) {
  const Result rows = call("export_dead_letters", kFilter, filter_params(filter, limit));
  std::vector<DeadLetterContent> letters;
  for (int row = 0; row < rows.rows(); ++row) {
    letters.push_back(dead_letter_content_from(Row(rows, row)));
  }
  return letters;
}

Mended PostgresOperatorStore::mend(const MendRequest& request, bool dry_run, const Requester& by) {
  Params params;
  request.envelope_id ? params.uuid(*request.envelope_id) : params.null(kUuid);
  request.entry_id ? params.int8(*request.entry_id) : params.null(kInt8);
  push(params, request.replays);
  params.text_array(request.fields);
  push(params, request.payload);
  push(params, request.payload_base64);
  push(params, request.content_type);
  push(params, request.data_schema);
  push(params, request.headers);
  params.boolean(dry_run).text(by.actor).text(by.reason);
  const Result rows =
      call("mend_dead_letter",
           "p_envelope_id => $1, p_entry_id => $2, p_replays => $3, p_fields => $4, "
           "p_payload => $5, p_payload_base64 => $6, p_content_type => $7, p_data_schema => $8, "
           "p_headers => $9::jsonb, p_dry_run => $10, p_actor => $11, p_reason => $12",
           params);
  return {.entry_id = rows.int8(0, rows.column("entry_id")),
          .changed = rows.text_array(0, rows.column("changed"))};
}

std::string PostgresOperatorStore::create_job(const JobRequest& request, const Uuid& runner,
                                              const Requester& by) {
  Params params = filter_params(request.filter, request.limit);
  params.text(request.action == DeadLetterAction::replay ? "replay" : "discard");
  push(params, request.per_second);
  push(params, request.in_flight);
  params.uuid(runner).text(by.actor).text(by.reason);
  return document("create_job",
                  fmt::format("{}, p_action => $11, p_per_second => $12::float8, "
                              "p_in_flight => $13, p_runner => $14, p_actor => $15, "
                              "p_reason => $16",
                              kFilter),
                  params);
}

JobStep PostgresOperatorStore::run_job(JobId job, const Uuid& runner) {
  const Result rows =
      call("run_job", "p_job_id => $1, p_runner => $2", Params().int8(job).uuid(runner));
  const Row row(rows, 0);
  JobStep step{.state = row.text("state"),
               .moved = row.int4("moved"),
               .wait = Milliseconds{row.int4("wait_ms")},
               .done = row.int8("done"),
               .skipped = row.int8("skipped"),
               .total = {},
               .last_id = {},
               .more = row.boolean("more"),
               .waits_for = row.text("waits_for")};
  if (!row.is_null("total")) step.total = row.int8("total");
  if (!row.is_null("last_id")) step.last_id = row.int8("last_id");
  return step;
}

std::string PostgresOperatorStore::pause_job(JobId job, const Requester& by) {
  return document("pause_job", "p_job_id => $1, p_actor => $2, p_reason => $3",
                  Params().int8(job).text(by.actor).text(by.reason));
}

std::string PostgresOperatorStore::resume_job(JobId job, const Uuid& runner,
                                              std::optional<double> per_second,
                                              std::optional<std::int32_t> in_flight,
                                              const Requester& by) {
  Params params;
  params.int8(job).uuid(runner);
  push(params, per_second);
  push(params, in_flight);
  params.text(by.actor).text(by.reason);
  return document("resume_job",
                  "p_job_id => $1, p_runner => $2, p_per_second => $3::float8, "
                  "p_in_flight => $4, p_actor => $5, p_reason => $6",
                  params);
}

std::string PostgresOperatorStore::abort_job(JobId job, const Requester& by) {
  return document("abort_job", "p_job_id => $1, p_actor => $2, p_reason => $3",
                  Params().int8(job).text(by.actor).text(by.reason));
}

std::string PostgresOperatorStore::job(JobId job) {
  return document("show_job", "p_job_id => $1", Params().int8(job));
}

std::vector<std::string> PostgresOperatorStore::jobs(const std::string& state, std::int32_t limit) {
  const Result rows =
      call("list_jobs", "p_state => $1, p_limit => $2", Params().text_or_null(state).int4(limit));
  std::vector<std::string> documents;
  for (int row = 0; row < rows.rows(); ++row) {
    documents.push_back(Row(rows, row).jsonb("list_jobs"));
  }
  return documents;
}

}  // namespace outfall::postgres
