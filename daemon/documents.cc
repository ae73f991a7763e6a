#include "daemon/documents.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "daemon/job_text.h"
#include "daemon/json_fields.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"

namespace outfall {
namespace {

namespace json = boost::json;

constexpr std::size_t kNamedLanes = 20;  // in a hint

json::object stream_json(const std::string& name, const json::object& known, bool registered,
                         const Config& config) {
  json::object object;
  object["stream"] = name;
  object["configured"] = config.streams().contains(name);
  object["registered"] = registered;
  object["paused"] = flag_field(known, "paused");
  for (const std::string_view field : {"paused_at", "paused_by", "paused_reason"}) {
    if (known.contains(field)) object[field] = known.at(field);
  }
  object["paused_destinations"] = array_field(known, "destinations").size();
  return object;
}

Uuid envelope_of(OperatorStore& store, const EntryTarget& target) {
  if (target.envelope_id) return *target.envelope_id;
  if (const auto id = store.envelope_of(*target.entry_id)) return *id;
  throw CommandError(ExitCode::unavailable,
                     fmt::format("nobody knows an entry {}", *target.entry_id),
                     "it was rolled back, or delivered and its receipt dropped; look for the "
                     "envelope id in your application's log");
}

// A stream leaves out what is in other streams.
void keep_stream(json::object& explained, const std::string& stream) {
  json::array kept;
  for (json::value& entry : explained["entries"].as_array()) {
    if (text_field(entry.as_object(), "stream") == stream) kept.push_back(std::move(entry));
  }
  explained["entries"] = std::move(kept);
}

// Says of each live entry whether a running worker serves its stream, where that can be seen.
void mark_running(OperatorStore& store, json::object& explained) {
  for (json::value& value : explained["entries"].as_array()) {
    json::object& entry = value.as_object();
    if (!entry.contains("stream_state")) continue;
    const std::vector<std::string> stream = {text_field(entry, "stream")};
    if (const auto served = store.served(stream)) {
      entry["stream_state"].as_object()["worker_running"] = !served->empty();
    }
  }
}

// Says of each live entry which destinations of its stream are paused. Which one is its own, only
// its workers know: an entry that nobody has looked at yet is not marked as held by its
// destination.
void mark_paused(OperatorStore& store, json::object& explained) {
  for (json::value& value : explained["entries"].as_array()) {
    json::object& entry = value.as_object();
    if (!entry.contains("stream_state") || entry.contains("destination")) continue;
    const std::vector<std::string> stream = {text_field(entry, "stream")};
    const json::value status = json::parse(store.status(stream));
    for (const json::value& of : status.at("streams").as_array()) {
      json::array paused = array_field(of.as_object(), "destinations");
      if (paused.empty()) continue;
      entry["stream_state"].as_object()["paused_destinations"] = std::move(paused);
    }
  }
}

}  // namespace

json::array stream_list(OperatorStore& store, const Config& config) {
  const json::value status = json::parse(store.status({}));
  json::array list;
  std::set<std::string> registered;
  std::vector<std::string> names;
  for (const json::value& value : status.at("streams").as_array()) {
    const std::string name = text_field(value.as_object(), "stream");
    registered.insert(name);
    names.push_back(name);
    list.push_back(stream_json(name, value.as_object(), true, config));
  }
  for (const auto& [name, stream] : config.streams()) {
    if (registered.contains(name)) continue;
    names.push_back(name);
    list.push_back(stream_json(name, {}, false, config));
  }
  const auto served = store.served(names);
  for (json::value& value : list) {
    json::object& object = value.as_object();
    object["served"] = nullptr;
    if (served) {
      object["served"] = std::ranges::find(*served, text_field(object, "stream")) != served->end();
    }
  }
  return list;
}

json::array paused_destinations(OperatorStore& store, const Config& config,
                                const std::optional<std::string>& stream) {
  const json::value status = json::parse(store.status({}));
  json::array list;
  for (const json::value& value : status.at("streams").as_array()) {
    const json::object& of = value.as_object();
    const std::string name = text_field(of, "stream");
    if (stream && name != *stream) continue;
    for (const json::value& destination : array_field(of, "destinations")) {
      json::object object{{"stream", name}};
      for (const auto& field : destination.as_object()) object[field.key()] = field.value();
      list.push_back(std::move(object));
    }
  }
  // A mistyped stream must not look like one of which nothing is paused.
  if (list.empty() && stream) expect_stream(store, config, *stream);
  return list;
}

void expect_paused(OperatorStore& store, const Config& config, const std::string& stream,
                   const std::string& lane) {
  std::vector<std::string> lanes;
  for (const json::value& value : paused_destinations(store, config, stream)) {
    lanes.push_back(text_field(value.as_object(), "lane"));
  }
  if (std::ranges::find(lanes, lane) != lanes.end()) return;
  if (lanes.size() > kNamedLanes) lanes.resize(kNamedLanes);
  throw CommandError(
      ExitCode::unavailable,
      fmt::format("no destination of {} is paused as '{}'", printable(stream), printable(lane)),
      lanes.empty() ? std::string("None of its destinations is paused.")
                    : fmt::format("Paused are: {}.", fmt::join(lanes, ", ")));
}

json::object entry_document(OperatorStore& store, const Config& config, const EntryTarget& target) {
  const auto streams = configured_streams(config);
  json::value document = json::parse(
      store.explain(envelope_of(store, target),
                    streams ? std::optional<OperatorStore::Streams>(*streams) : std::nullopt));
  json::object& explained = document.as_object();
  const bool known = flag_field(explained, "found") || explained.contains("operations");
  if (known && target.stream) keep_stream(explained, *target.stream);
  if (!known || (target.stream && array_field(explained, "entries").empty())) {
    throw CommandError(
        ExitCode::unavailable,
        fmt::format("envelope {}: {}", text_field(explained, "envelope_id"),
                    known ? fmt::format("is not in stream \"{}\"", printable(*target.stream))
                          : text_field(explained, "summary")),
        known ? "leave --stream out to see where it is"
              : "look whether the producer's transaction was committed, and to which database");
  }
  mark_running(store, explained);
  mark_paused(store, explained);
  return std::move(explained);
}

DeadLetterPage dead_letter_page(OperatorStore& store, const Config& config,
                                const DeadLetterFilter& filter, std::int32_t limit) {
  DeadLetterPage page;
  page.letters = store.dead_letters(filter, limit < INT32_MAX ? limit + 1 : limit);
  page.more = std::ssize(page.letters) > limit;
  if (page.more) page.letters.resize(static_cast<std::size_t>(limit));
  if (page.letters.empty() && filter.stream) expect_known(store, config, *filter.stream);
  return page;
}

json::object page_json(const DeadLetterPage& page) {
  json::array array;
  for (const DeadLetter& letter : page.letters) array.push_back(letter_json(letter));
  return {{"dead_letters", std::move(array)}, {"more", page.more}};
}

DryRun dry_run(OperatorStore& store, const Config& config, const JobRequest& request) {
  DryRun run{
      .action = request.action,
      .filter = request.filter,
      .limit = request.limit,
      .found = json::parse(store.count_dead_letters(request.filter, request.limit)).as_object(),
      .more = false};
  if (const auto* last = run.found.if_contains("last_entry_id"); last->is_number()) {
    DeadLetterFilter rest = request.filter;
    rest.after = last->as_int64();
    run.more = request.limit && !store.dead_letters(rest, 1).empty();
  } else if (request.filter.stream) {
    expect_known(store, config, *request.filter.stream);
  }
  return run;
}

json::object dry_run_json(const DryRun& run) {
  const std::int64_t total = integer_field(run.found, "total");
  // What is discarded does not come back, so nothing is in its way.
  const std::int64_t skipped =
      run.action == DeadLetterAction::replay ? integer_field(run.found, "conflicts") : 0;
  json::object object = run.found;
  object["action"] = verb(run.action);
  object["dry_run"] = true;
  object[past(run.action)] = total - skipped;
  object["skipped"] = skipped;
  object["more"] = run.more;
  object["until"] = utc(*run.filter.until);
  return object;
}

json::object jobs_document(OperatorStore& store, const std::string& state, std::int32_t limit) {
  json::array jobs;
  for (const std::string& job : store.jobs(state, limit)) jobs.push_back(json::parse(job));
  return {{"jobs", std::move(jobs)}};
}

json::object job_document(OperatorStore& store, JobId job) {
  return json::parse(store.job(job)).as_object();
}

}  // namespace outfall
