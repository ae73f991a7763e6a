#include "daemon/operator_routes.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "daemon/admin/fields.h"
#include "daemon/admin/openapi.h"
#include "daemon/build_info.h"
#include "daemon/documents.h"
#include "daemon/json_fields.h"
#include "daemon/json_text.h"
#include "daemon/operating.h"
#include "daemon/operator_refusals.h"
#include "daemon/time_arguments.h"

namespace outfall {
namespace {

namespace json = boost::json;
using In = RouteField::In;
using Type = RouteField::Type;
using Fields = std::vector<RouteField>;

// What a request comes down to: the desk, a session that is connected, and what it says.
struct Asked {
  const OperatorDesk& desk;
  OperatorStore& store;
  const json::object& said;

  [[nodiscard]] std::string text(std::string_view name) const { return text_field(said, name); }
  [[nodiscard]] std::optional<std::string> maybe(std::string_view name) const {
    if (!said.contains(name)) return {};
    return text_field(said, name);
  }
  [[nodiscard]] std::optional<std::int64_t> integer(std::string_view name) const {
    if (!said.contains(name)) return {};
    return integer_field(said, name);
  }
  [[nodiscard]] std::optional<std::int32_t> small(std::string_view name) const {
    if (!said.contains(name)) return {};
    return static_cast<std::int32_t>(integer_field(said, name));
  }
  [[nodiscard]] Requester requester() const {
    return {.actor = text("actor"), .reason = text("reason")};
  }
};
using Work = std::function<Response(const Asked&)>;

// A refusal that a piece of work comes upon.
struct Refused {
  Response response;
};

Response answered(const json::value& document, int status = 200) {
  Response response;
  response.status = status;
  response.body = json_text(document) + "\n";
  return response;
}

Response operated(const OperationRecord& record, const Asked& asked) {
  return answered(operation_json(record, asked.requester()));
}

// To grant what is missing, people need the name of the role.
std::string role_of(OperatorStore& store) {
  try {
    return store.role();
  } catch (const StoreError&) {
    return {};
  }
}

Response serve(const OperatorDesk& desk, const json::object& said, const Work& work) {
  std::unique_ptr<OperatorStore> store;
  try {
    store = desk.open();
  } catch (const StoreError& error) {
    return no_database(error);
  }
  try {
    return work({.desk = desk, .store = *store, .said = said});
  } catch (const StoreError& error) {
    const bool denied = error.kind() == StoreErrorKind::denied;
    return refusal(error, denied ? role_of(*store) : std::string());
  } catch (const CommandError& error) {
    return refusal(error);
  } catch (Refused& refused) {
    return std::move(refused.response);
  }
}

Route row(const OperatorDesk& desk, std::string method, std::string pattern, std::string summary,
          Fields fields, RouteAnswer answer, Work work) {
  auto handler = [desk, fields, work = std::move(work)](const Request& request) {
    auto said = read_fields(fields, request);
    if (auto* refused = std::get_if<Response>(&said)) return std::move(*refused);
    return serve(desk, std::get<json::object>(said), work);
  };
  return {.method = std::move(method),
          .pattern = std::move(pattern),
          .needs_token = true,
          .may_block = true,
          .summary = std::move(summary),
          .handler = std::move(handler),
          .asks_database = true,
          .fields = std::move(fields),
          .answers = {std::move(answer)}};
}

Route refusing(Route route, std::vector<int> refusals) {
  route.refusals = std::move(refusals);
  return route;
}

// Fields that several routes share.

RouteField in_path(std::string name, std::string summary, Type type = Type::text) {
  return {.in = In::path,
          .type = type,
          .name = std::move(name),
          .summary = std::move(summary),
          .required = true,
          .least = type == Type::integer ? 1 : 0};
}

RouteField optional_field(In in, Type type, std::string name, std::string summary) {
  return {.in = in, .type = type, .name = std::move(name), .summary = std::move(summary)};
}

RouteField limit_field(In in, std::string summary) {
  return {.in = in,
          .type = Type::integer,
          .name = "limit",
          .summary = std::move(summary),
          .least = 1,
          .most = std::numeric_limits<std::int32_t>::max() - 1};
}

// Of a list, which the worker holds as a whole while it answers.
RouteField list_limit_field() {
  RouteField limit = limit_field(In::query, "No more than this many; 50 unless given.");
  limit.most = 1000;
  return limit;
}

Fields operator+(Fields fields, const Fields& more) {
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

Fields requester_fields() {
  return {{.name = "actor",
           .summary = "Say who does this, such as a login name; it is kept with the change.",
           .required = true},
          {.name = "reason",
           .summary = "Say why this is done; it is kept with the change.",
           .required = true}};
}

Fields filter_fields(In in) {
  Fields fields = {
      optional_field(in, Type::text, "stream", "Of this stream."),
      optional_field(in, Type::integers, "ids", "These entry ids only."),
      optional_field(in, Type::texts, "envelope_ids", "These envelopes only."),
      optional_field(in, Type::text, "type", "Of this CloudEvents type."),
      optional_field(in, Type::text, "key", "With this key."),
      optional_field(in, Type::text, "reason_code", "With this reason code."),
      optional_field(in, Type::text, "since",
                     "Dead-lettered at or after this time, such as 2026-03-01T12:00:00Z, or so "
                     "long ago, such as 2h."),
      optional_field(in, Type::text, "until", "Dead-lettered before this time."),
      optional_field(in, Type::integer, "after", "Only those with a higher entry id.")};
  for (RouteField& field : fields) field.most = kLastEntryId;  // of those that are numbers
  return fields;
}

RouteField action_field(In in) {
  return {.in = in,
          .name = "action",
          .summary = "What to do with them: replay or discard.",
          .required = true,
          .choices = {"replay", "discard"}};
}

Fields pace_fields() {
  RouteField rate = optional_field(In::body, Type::number, "per_second",
                                   "No more than so many a second; more than 0.");
  RouteField in_flight =
      optional_field(In::body, Type::integer, "in_flight",
                     "Of a replay: no more than so many of them unfinished at a time.");
  in_flight.least = 1;
  in_flight.most = 10'000;
  return {std::move(rate), std::move(in_flight)};
}

Fields entry_fields(In stream_in) {
  return {in_path("entry", "The entry id, or the envelope id."),
          optional_field(stream_in, Type::text, "stream",
                         "Its stream, where the envelope is in several.")};
}

// What a request names.

EntryTarget entry_of(const Asked& asked) {
  const std::string name = asked.text("entry");
  EntryTarget target{.envelope_id = Uuid::parse(name), .entry_id = {}, .stream = {}};
  target.stream = asked.maybe("stream");
  if (target.envelope_id) return target;
  target.entry_id = parse_entry_id(name);
  if (!target.entry_id) {
    throw Refused{field_refusal("entry", "is neither an entry id nor an envelope id",
                                "write 42, or 01890a5d-ac96-774b-bcce-b302099a8057")};
  }
  return target;
}

Uuid envelope_id(const json::value& text) {
  if (const auto id = Uuid::parse(text.as_string())) return *id;
  throw Refused{field_refusal("envelope_ids", "has what is not an envelope id",
                              "an envelope id looks like 01890a5d-ac96-774b-bcce-b302099a8057")};
}

std::optional<WallTime> moment(const Asked& asked, std::string_view name, WallTime now) {
  const auto text = asked.maybe(name);
  if (!text) return {};
  return parse_moment(name, *text, now);
}

DeadLetterFilter filter_of(const Asked& asked, WallTime now) {
  DeadLetterFilter filter;
  for (const json::value& id : array_field(asked.said, "ids")) {
    filter.ids.push_back(id.as_int64());
  }
  for (const json::value& id : array_field(asked.said, "envelope_ids")) {
    filter.envelope_ids.push_back(envelope_id(id));
  }
  filter.stream = asked.maybe("stream");
  filter.type = asked.maybe("type");
  filter.key = asked.maybe("key");
  filter.reason_code = asked.maybe("reason_code");
  filter.since = moment(asked, "since", now);
  filter.until = moment(asked, "until", now);
  if (filter.since && filter.until && *filter.since >= *filter.until) {
    throw Refused{field_refusal("since", "is not before until",
                                "no time lies in between; of two lengths of time since takes the "
                                "longer one")};
  }
  filter.after = asked.integer("after");
  return filter;
}

// For a job, or for counting what it would find.
JobRequest job_request(const Asked& asked) {
  const WallTime now = asked.store.now();
  JobRequest request{.action = asked.text("action") == "replay" ? DeadLetterAction::replay
                                                                : DeadLetterAction::discard,
                     .filter = filter_of(asked, now),
                     .limit = asked.small("limit"),
                     .per_second = {},
                     .in_flight = asked.small("in_flight")};
  if (asked.said.contains("per_second"))
    request.per_second = number_field(asked.said, "per_second");
  const DeadLetterFilter& filter = request.filter;
  if (!filter.stream && filter.ids.empty() && filter.envelope_ids.empty()) {
    throw Refused{field_refusal("stream", "is missing, and no dead letter is named",
                                "name a stream, or dead letters by ids or envelope_ids")};
  }
  // Those that fail again meanwhile are left to a later job: this one ends.
  if (!request.filter.until) request.filter.until = now;
  expect_dead_letters(asked.store, request.filter);
  return request;
}

// Jobs.

// Of a job that was changed. What it has come to is counted in the database, and a count that fails
// must not look as if the change had.
Response changed(const Asked& asked, JobId job, int status = 200) {
  try {
    return answered(job_document(asked.store, job), status);
  } catch (const StoreError&) {
    return answered(json::object{{"job_id", job}}, status);
  }
}

// The worker that takes the request is the one that runs the job.
void expect_room(const Asked& asked) {
  if (asked.desk.jobs.has_room()) return;
  throw Refused{error_response(
      503, "no_room_for_jobs", "this worker runs as many jobs as it may, or stops",
      "wait until one of them has ended, or ask another worker; nothing was changed")};
}

// A worker that has begun to stop meanwhile leaves the job paused, as those that it ran.
void keep(const Asked& asked, JobId job, const Uuid& runner, const Requester& by) {
  if (asked.desk.jobs.keep(job, runner, by)) return;
  asked.store.pause_job(job, interrupted(by));
}

Response begin_job(const Asked& asked) {
  expect_room(asked);
  const JobRequest request = job_request(asked);
  if (request.filter.stream && asked.store.dead_letters(request.filter, 1).empty()) {
    expect_known(asked.store, asked.desk.config, *request.filter.stream);
  }
  const Uuid runner = system_random().uuid();
  const Requester by = asked.requester();
  const json::value made = json::parse(asked.store.create_job(request, runner, by));
  const JobId job = integer_field(made.as_object(), "job_id");
  keep(asked, job, runner, by);
  Response response = changed(asked, job, 201);
  response.headers.emplace_back("Location", fmt::format("/v1/jobs/{}", job));
  return response;
}

Response resume_job(const Asked& asked) {
  expect_room(asked);
  const JobId job = asked.integer("job").value_or(0);
  const Uuid runner = system_random().uuid();
  const Requester by = asked.requester();
  std::optional<double> rate;
  if (asked.said.contains("per_second")) rate = number_field(asked.said, "per_second");
  asked.store.resume_job(job, runner, rate, asked.small("in_flight"), by);
  keep(asked, job, runner, by);
  return changed(asked, job);
}

Work change_job(std::string (OperatorStore::*change)(JobId, const Requester&)) {
  return [change](const Asked& asked) {
    const JobId job = asked.integer("job").value_or(0);
    (asked.store.*change)(job, asked.requester());
    asked.desk.jobs.look_at(job);
    return changed(asked, job);
  };
}

void add_job_routes(const OperatorDesk& desk, std::vector<Route>& routes) {
  RouteField state = optional_field(In::query, Type::text, "state", "Only those in this state.");
  state.choices = {"running", "paused", "finished", "aborted"};
  routes.push_back(
      row(desk, "GET", "/v1/jobs", "Replays and discards, running and past, the newest first.",
          {state, list_limit_field()}, {200, "Jobs"}, [](const Asked& asked) {
            return answered(jobs_document(asked.store, asked.text("state"),
                                          asked.small("limit").value_or(kDeadLettersListed)));
          }));
  routes.push_back(refusing(
      row(desk, "POST", "/v1/jobs",
          "Begins the replay or discard of dead letters; this worker runs it.",
          Fields{action_field(In::body)} + requester_fields() + filter_fields(In::body) +
              Fields{limit_field(In::body, "No more than this many in all.")} + pace_fields(),
          {201, "Job"}, begin_job),
      {404}));
  routes.push_back(refusing(
      row(desk, "GET", "/v1/jobs/{job}", "One job: who, why, how far, and what became of it.",
          {in_path("job", "The number of the job.", Type::integer)}, {200, "Job"},
          [](const Asked& asked) {
            return answered(job_document(asked.store, asked.integer("job").value_or(0)));
          }),
      {404}));
  const Fields one =
      Fields{in_path("job", "The number of the job.", Type::integer)} + requester_fields();
  routes.push_back(refusing(row(desk, "POST", "/v1/jobs/{job}/pause",
                                "Has whoever runs a job end after the chunk at hand.", one,
                                {200, "Job"}, change_job(&OperatorStore::pause_job)),
                            {404, 409}));
  routes.push_back(refusing(row(desk, "POST", "/v1/jobs/{job}/resume",
                                "Goes on exactly where a job stopped; this worker runs it.",
                                one + pace_fields(), {200, "Job"}, resume_job),
                            {404, 409}));
  routes.push_back(refusing(row(desk, "POST", "/v1/jobs/{job}/abort",
                                "Ends a job for good; what it left are dead letters still.", one,
                                {200, "Job"}, change_job(&OperatorStore::abort_job)),
                            {404, 409}));
}

// Streams and destinations.

using StreamChange = OperationRecord (OperatorStore::*)(const std::string&, const Requester&);

void add_stream_routes(const OperatorDesk& desk, std::vector<Route>& routes) {
  routes.push_back(
      row(desk, "GET", "/v1/streams", "Streams, who serves them, which are paused.", {},
          {200, "Streams"}, [](const Asked& asked) {
            return answered(json::object{{"streams", stream_list(asked.store, asked.desk.config)}});
          }));
  const auto add = [&](const std::string& verb, const std::string& summary, StreamChange change) {
    routes.push_back(refusing(
        row(desk, "POST", "/v1/streams/{stream}/" + verb, summary,
            Fields{in_path("stream", "The stream.")} + requester_fields(), {200, "Operation"},
            [change](const Asked& asked) {
              return operated((asked.store.*change)(asked.text("stream"), asked.requester()),
                              asked);
            }),
        {404}));
  };
  add("pause", "Stops claiming entries of a stream, at every worker.",
      &OperatorStore::pause_stream);
  add("resume", "Goes on with a paused stream.", &OperatorStore::resume_stream);
}

void add_destination_routes(const OperatorDesk& desk, std::vector<Route>& routes) {
  routes.push_back(refusing(
      row(desk, "GET", "/v1/destinations", "The paused destinations.",
          {optional_field(In::query, Type::text, "stream", "Of this stream.")},
          {200, "Destinations"},
          [](const Asked& asked) {
            return answered(
                json::object{{"destinations", paused_destinations(asked.store, asked.desk.config,
                                                                  asked.maybe("stream"))}});
          }),
      {404}));
  // The lane stands in the body: it may be empty, and hold any character.
  const auto add = [&](const std::string& verb, const std::string& summary, bool pause) {
    const RouteField lane = {
        .name = "lane",
        .summary =
            "What the stream's `lane` selects, such as an endpoint; \"\" for a stream without "
            "lanes.",
        .required = true,
        .may_be_blank = true};
    routes.push_back(refusing(
        row(desk, "POST", "/v1/streams/{stream}/destinations/" + verb, summary,
            Fields{in_path("stream", "The stream."), lane} + requester_fields(), {200, "Operation"},
            [pause](const Asked& asked) {
              const std::string stream = asked.text("stream");
              const std::string named = asked.text("lane");
              if (!pause) expect_paused(asked.store, asked.desk.config, stream, named);
              return operated(
                  pause ? asked.store.pause_destination(stream, named, asked.requester())
                        : asked.store.resume_destination(stream, named, asked.requester()),
                  asked);
            }),
        {404}));
  };
  add("pause", "Holds the entries of one destination; the others go on.", true);
  add("resume", "Goes on with a paused destination.", false);
}

// Entries and dead letters.

void add_entry_routes(const OperatorDesk& desk, std::vector<Route>& routes) {
  routes.push_back(refusing(
      row(desk, "GET", "/v1/entries/{entry}", "All that is known of one entry, wherever it is.",
          entry_fields(In::query), {200, "Entry"},
          [](const Asked& asked) {
            return answered(entry_document(asked.store, asked.desk.config, entry_of(asked)));
          }),
      {404}));
  const auto add = [&](const std::string& verb, const std::string& summary, const Fields& more,
                       std::function<OperationRecord(const Asked&, const EntryTarget&)> change) {
    routes.push_back(
        refusing(row(desk, "POST", "/v1/entries/{entry}/" + verb, summary,
                     entry_fields(In::body) + requester_fields() + more, {200, "Operation"},
                     [change = std::move(change)](const Asked& asked) {
                       return operated(change(asked, entry_of(asked)), asked);
                     }),
                 {404, 409}));
  };
  add("retry", "Tries an entry now that waits for its retry or for a time.", {},
      [](const Asked& asked, const EntryTarget& target) {
        return asked.store.retry(target, asked.requester());
      });
  add("dead-letter", "Takes an entry out of its stream; a replay brings it back.",
      {optional_field(In::body, Type::flag, "hold_key",
                      "Hold the later entries of its key until it is replayed or discarded.")},
      [](const Asked& asked, const EntryTarget& target) {
        return asked.store.dead_letter(target, flag_field(asked.said, "hold_key"),
                                       asked.requester());
      });
  add("discard", "Deletes an entry for good; it is never delivered.", {},
      [](const Asked& asked, const EntryTarget& target) {
        return asked.store.discard(target, asked.requester());
      });
}

void add_dead_letter_routes(const OperatorDesk& desk, std::vector<Route>& routes) {
  routes.push_back(refusing(
      row(desk, "GET", "/v1/dead-letters", "Dead letters, in the order of their entry ids.",
          filter_fields(In::query) + Fields{list_limit_field()}, {200, "DeadLetters"},
          [](const Asked& asked) {
            const DeadLetterFilter filter = filter_of(asked, asked.store.now());
            return answered(
                page_json(dead_letter_page(asked.store, asked.desk.config, filter,
                                           asked.small("limit").value_or(kDeadLettersListed))));
          }),
      {404}));
  routes.push_back(refusing(
      row(desk, "GET", "/v1/dead-letters/{entry}", "One dead letter with its headers and payload.",
          entry_fields(In::query), {200, "DeadLetterContent"},
          [](const Asked& asked) {
            return answered(content_json(asked.store.dead_letter_content(entry_of(asked))));
          }),
      {404, 409}));
  routes.push_back(
      refusing(row(desk, "GET", "/v1/dry-run",
                   "What a replay or discard would find, by reason and by key; changes nothing.",
                   Fields{action_field(In::query)} + filter_fields(In::query) +
                       Fields{limit_field(In::query, "No more than this many in all.")},
                   {200, "DryRun"},
                   [](const Asked& asked) {
                     return answered(
                         dry_run_json(dry_run(asked.store, asked.desk.config, job_request(asked))));
                   }),
               {404}));
}

}  // namespace

std::vector<Route> operator_routes(const OperatorDesk& desk) {
  std::vector<Route> routes;
  routes.push_back(row(desk, "GET", "/v1/status", "What the database knows of the streams.", {},
                       {200, "Status"}, [](const Asked& asked) {
                         return answered(status_document(asked.store, asked.desk.config));
                       }));
  add_stream_routes(desk, routes);
  add_destination_routes(desk, routes);
  add_entry_routes(desk, routes);
  add_dead_letter_routes(desk, routes);
  add_job_routes(desk, routes);
  return routes;
}

Route openapi_route(const std::vector<Route>& routes) {
  Route route{.method = "GET",
              .pattern = "/openapi.json",
              .needs_token = false,
              .may_block = false,
              .summary = "This interface as an OpenAPI 3.1 document.",
              .handler = {}};
  route.answers = {{200, "Document"}};
  std::vector<Route> all = routes;
  all.push_back(route);
  auto document = std::make_shared<const std::string>(
      openapi_document(all, build_info().version, kAnswerSchemas));
  route.handler = [document = std::move(document)](const Request&) {
    Response response;
    response.body = *document;
    return response;
  };
  return route;
}

}  // namespace outfall
