#include "daemon/dead_letters.h"

#include <algorithm>
#include <limits>
#include <set>

#include <fmt/format.h>

#include "core/text.h"
#include "daemon/text_output.h"
#include "daemon/time_arguments.h"

namespace outfall {

namespace json = boost::json;

void add_filter_options(CLI::App& command, DeadLetterOptions& options) {
  command.add_option("ENVELOPE_ID", options.envelope_ids, "These envelopes only")->type_name("");
  command.add_option("--id", options.ids, "These entry ids only")
      ->type_name("N")
      ->check(entry_id_check());
  command.add_option("--stream", options.stream, "Of this stream")->type_name("NAME");
  command.add_option("--type", options.type, "Of this CloudEvents type")->type_name("TYPE");
  command.add_option("--key", options.key, "With this key")->type_name("KEY");
  command.add_option("--reason-code", options.reason_code, "With this reason code")
      ->type_name("CODE");
  command
      .add_option("--since", options.since, "Dead-lettered at or after this time, or \"2h\" ago")
      ->type_name("TIME");
  command.add_option("--until", options.until, "Dead-lettered before this time, or \"2h\" ago")
      ->type_name("TIME");
  command.add_option("--after", options.after, "Only those with a higher entry id")
      ->type_name("N")
      ->check(entry_id_check());
  command.add_option("--limit", options.limit, "No more than this many")
      ->type_name("N")
      ->check(CLI::Range(1, std::numeric_limits<std::int32_t>::max()).description(""));
}

DeadLetterFilter dead_letter_filter(const DeadLetterOptions& options, WallTime now) {
  DeadLetterFilter filter{.ids = options.ids,
                          .envelope_ids = {},
                          .stream = options.stream,
                          .type = options.type,
                          .key = options.key,
                          .reason_code = options.reason_code,
                          .since = {},
                          .until = {},
                          .after = options.after};
  for (const std::string& id : options.envelope_ids) {
    filter.envelope_ids.push_back(parse_envelope_id(id));
  }
  if (!options.since.empty()) filter.since = parse_moment("--since", options.since, now);
  if (!options.until.empty()) filter.until = parse_moment("--until", options.until, now);
  if (filter.since && filter.until && *filter.since >= *filter.until) {
    throw CommandError(
        ExitCode::usage,
        fmt::format("--since {} is not before --until {}", utc_second(*filter.since),
                    utc_second(*filter.until)),
        "no time lies in between; of two lengths of time --since takes the longer one");
  }
  return filter;
}

std::string filter_arguments(const DeadLetterFilter& filter) {
  std::string text;
  const auto add = [&text](std::string_view option, const std::string& value) {
    text += fmt::format(" {} {}", option, shell_quoted(value));
  };
  for (const Uuid& id : filter.envelope_ids) text += " " + id.to_string();
  for (const EntryId id : filter.ids) add("--id", std::to_string(id));
  if (filter.stream) add("--stream", *filter.stream);
  if (filter.type) add("--type", *filter.type);
  if (filter.key) add("--key", *filter.key);
  if (filter.reason_code) add("--reason-code", *filter.reason_code);
  if (filter.since) add("--since", utc(*filter.since));
  if (filter.until) add("--until", utc(*filter.until));
  if (filter.after) add("--after", std::to_string(*filter.after));
  return text;
}

json::object letter_json(const DeadLetter& letter) {
  json::object object;
  object["entry_id"] = letter.entry_id;
  object["envelope_id"] = letter.envelope_id.to_string();
  object["stream"] = letter.stream;
  object["key"] = letter.key ? json::value(*letter.key) : json::value(nullptr);
  object["type"] = letter.type;
  object["reason_code"] = letter.reason_code;
  object["reason"] = letter.reason;
  object["attempts"] = letter.attempts;
  object["replays"] = letter.replays;
  object["holds_key"] = letter.holds_key;
  object["created_at"] = utc(letter.created_at);
  object["dead_lettered_at"] = utc(letter.dead_lettered_at);
  if (!letter.last_error_code.empty()) {
    object["last_error"] =
        json::object{{"code", letter.last_error_code}, {"message", letter.last_error_message}};
  }
  return object;
}

json::object content_json(const DeadLetterContent& content) {
  json::object object = letter_json(content.letter);
  const auto add = [&object](std::string_view name, const std::optional<std::string>& value) {
    if (value) object[name] = *value;
  };
  add("source", content.source);
  add("subject", content.subject);
  add("content_type", content.content_type);
  add("data_schema", content.data_schema);
  if (content.occurred_at) object["occurred_at"] = utc(*content.occurred_at);
  if (!content.headers.empty()) object["headers"] = json::parse(content.headers);
  // The exact text of the payload, not a document that was read and written again.
  if (content.payload && content.payload_is_binary) {
    std::string base64;
    append_base64(base64, *content.payload);
    object["payload_base64"] = base64;
  } else {
    add("payload", content.payload);
  }
  return object;
}

void expect_known(OperatorStore& store, const Config& config, const std::string& stream) {
  DeadLetterFilter any;
  any.stream = stream;
  if (!store.dead_letters(any, 1).empty()) return;
  expect_stream(store, config, stream);
}

void expect_dead_letters(OperatorStore& store, const DeadLetterFilter& filter) {
  std::set<std::string> missing;
  DeadLetterFilter by_id;
  for (const EntryId id : filter.ids) {
    if (filter.after && id <= *filter.after) continue;
    by_id.ids.push_back(id);
    missing.insert(fmt::format("entry id {}", id));
  }
  DeadLetterFilter by_envelope;
  if (!filter.after) by_envelope.envelope_ids = filter.envelope_ids;
  for (const Uuid& id : by_envelope.envelope_ids) {
    missing.insert(fmt::format("envelope id {}", id.to_string()));
  }
  constexpr std::int32_t kAll = std::numeric_limits<std::int32_t>::max();
  if (!by_id.ids.empty()) {
    for (const DeadLetter& letter : store.dead_letters(by_id, kAll)) {
      missing.erase(fmt::format("entry id {}", letter.entry_id));
    }
  }
  if (!by_envelope.envelope_ids.empty()) {
    for (const DeadLetter& letter : store.dead_letters(by_envelope, kAll)) {
      missing.erase(fmt::format("envelope id {}", letter.envelope_id.to_string()));
    }
  }
  if (missing.empty()) return;
  constexpr std::size_t kNamed = 5;
  const auto end =
      std::next(missing.begin(), static_cast<std::ptrdiff_t>(std::min(kNamed, missing.size())));
  throw CommandError(
      ExitCode::unavailable,
      fmt::format("no dead letter has the {}{}; nothing was changed",
                  fmt::join(missing.begin(), end, ", the "),
                  missing.size() > kNamed ? fmt::format(" (and {} more)", missing.size() - kNamed)
                                          : std::string()),
      "`outfall entry show` says what became of it; leave it out to go on with the others");
}

}  // namespace outfall
