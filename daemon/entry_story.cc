#include "daemon/entry_story.h"

#include <algorithm>

#include <fmt/format.h>

#include "daemon/json_fields.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"

namespace outfall {
namespace {

namespace json = boost::json;

std::string joined(std::string text, const std::string& more, std::string_view between = ", ") {
  if (more.empty()) return text;
  return text.empty() ? more : text + std::string(between) + more;
}

std::string error_text(const json::object& entry) {
  const json::object error = object_field(entry, "last_error");
  return joined(text_field(error, "code"), text_field(error, "message"), ": ");
}

std::string attempts_text(const json::object& entry) {
  if (!entry.contains("attempts")) return {};
  std::string text = std::to_string(integer_field(entry, "attempts"));
  const std::int64_t replays = integer_field(entry, "replay_count");
  if (replays > 0 && entry.contains("attempts_since_replay")) {
    text +=
        fmt::format(", {} since the last replay", integer_field(entry, "attempts_since_replay"));
  }
  if (const std::int64_t died = integer_field(entry, "workers_died"); died > 0) {
    text += fmt::format(", and {} died with it", counted(died, "worker"));
  }
  return text;
}

std::string lease_text(const json::object& entry) {
  const json::object lease = object_field(entry, "lease");
  if (lease.empty()) return {};
  return fmt::format("{} (worker {}) since {}, until {}{}", text_field(lease, "instance"),
                     text_field(lease, "worker"), time_field(lease, "claimed_at"),
                     time_field(lease, "expires_at"),
                     flag_field(lease, "released")  ? ", given back"
                     : flag_field(lease, "expired") ? ", expired"
                                                    : "");
}

std::string behind_text(const json::object& entry) {
  const json::object behind = object_field(entry, "behind");
  if (behind.empty()) return {};
  std::string text =
      fmt::format("entry {} (envelope {}), {}, {}", integer_field(behind, "entry_id"),
                  text_field(behind, "envelope_id"), text_field(behind, "status"),
                  counted(integer_field(behind, "attempts"), "attempt"));
  text = joined(text, text_field(behind, "error_code"));
  if (behind.contains("due_at")) text += ", due " + time_field(behind, "due_at");
  return text;
}

std::string hold_text(const json::object& entry) {
  const json::object hold = object_field(entry, "hold");
  if (hold.empty()) return {};
  return fmt::format("by {} {}, since {}: {}", text_field(hold, "scope"), text_field(hold, "value"),
                     time_field(hold, "since"), text_field(hold, "reason"));
}

std::string paused_text(const json::object& object) {
  if (!object.contains("paused_at")) return {};
  return fmt::format("since {} by {}: {}", time_field(object, "paused_at"),
                     text_field(object, "paused_by"), text_field(object, "paused_reason"));
}

std::string paused_lanes_text(const json::object& entry) {
  constexpr std::ptrdiff_t kNamed = 5;
  const json::array lanes = array_field(object_field(entry, "stream_state"), "paused_destinations");
  std::string text;
  for (std::ptrdiff_t i = 0; i < std::min(std::ssize(lanes), kNamed); ++i) {
    const json::object& lane = lanes[static_cast<std::size_t>(i)].as_object();
    text = joined(text, fmt::format("'{}' {}", text_field(lane, "lane"), paused_text(lane)), "; ");
  }
  if (std::ssize(lanes) > kNamed) text += fmt::format("; and {} more", std::ssize(lanes) - kNamed);
  return text;
}

void add_replays(TextFields& fields, const json::object& object) {
  for (const json::value& value : array_field(object, "replays")) {
    const json::object& replay = value.as_object();
    fields.add("replayed", fmt::format("{} by {}: {} (was {})", time_field(replay, "at"),
                                       text_field(replay, "actor"), text_field(replay, "reason"),
                                       text_field(replay, "reason_code")));
  }
}

// An entry that was deleted is nowhere else: " (entry 2 of orders, order.placed, key ana, 3
// attempts)".
std::string discarded_text(const json::object& operation) {
  if (!text_field(operation, "action").starts_with("discard")) return {};
  const json::object detail = object_field(operation, "detail");
  std::string text = fmt::format("entry {} of {}", integer_field(operation, "entry_id"),
                                 text_field(operation, "stream"));
  text = joined(text, text_field(detail, "type"));
  if (const std::string key = text_field(detail, "key"); !key.empty()) text += ", key " + key;
  text = joined(text, counted(integer_field(detail, "attempts"), "attempt"));
  return " (" + joined(text, text_field(detail, "reason_code")) + ")";
}

void write_entry(std::ostream& out, const json::object& entry) {
  out << fmt::format("\n{}: {}\n", printable(text_field(entry, "stream")),
                     printable(text_field(entry, "summary")));
  TextFields fields("  ");
  fields.add("entry", std::to_string(integer_field(entry, "entry_id")));
  fields.add("type", text_field(entry, "type"));
  fields.add("key", text_field(entry, "key"));
  fields.add("status",
             fmt::format("{} ({})", text_field(entry, "status"), integer_field(entry, "code")));
  fields.add("created", time_field(entry, "created_at"));
  fields.add("occurred", time_field(entry, "occurred_at"));
  fields.add("due", time_field(entry, "due_at"));
  fields.add("deferred since", time_field(entry, "deferred_since"));
  fields.add("delivered", time_field(entry, "delivered_at"));
  fields.add("delivered as",
             joined(text_field(entry, "provider"), text_field(entry, "record_id"), " record "));
  fields.add("dead-lettered", time_field(entry, "dead_lettered_at"));
  fields.add("reason", joined(text_field(entry, "reason_code"), text_field(entry, "reason"), ": "));
  fields.add("attempts", attempts_text(entry));
  fields.add("last error", error_text(entry));
  fields.add("leased by", lease_text(entry));
  fields.add("held", hold_text(entry));
  fields.add("waits for", behind_text(entry));
  fields.add("stream paused", paused_text(object_field(entry, "stream_state")));
  fields.add("lane paused", paused_text(object_field(entry, "destination")));
  fields.add("lanes paused", paused_lanes_text(entry));
  if (flag_field(entry, "holds_key")) fields.add("holds its key", "later entries of the key wait");
  add_replays(fields, entry);
  fields.write(out);
}

// An entry that is due and in nobody's way waits for its destination, unless it is claimed in the
// next moment. What is paused is in the database; breakers are each worker's own.
std::string destination_step(const json::object& entry, const std::string& worker) {
  std::string step;
  if (!array_field(object_field(entry, "stream_state"), "paused_destinations").empty()) {
    step = fmt::format(
        "`outfall destinations list --stream {}` shows what is paused, and it waits if its own "
        "destination is; else ",
        shell_quoted(text_field(entry, "stream")));
  }
  const std::string status = worker.empty()
                                 ? std::string("`/status` of a worker (admin.listen)")
                                 : fmt::format("`curl http://{}/status` of a worker", worker);
  return step + fmt::format(
                    "if it goes on waiting, {} shows under `breakers` whether its destination "
                    "does not answer, and the error",
                    status);
}

// What somebody who asked for this entry probably wants to do now.
std::string next_step(const json::object& entry, const std::string& envelope_id,
                      const std::string& asked_at, const std::string& worker) {
  const std::string target =
      fmt::format("{} --stream {}", envelope_id, shell_quoted(text_field(entry, "stream")));
  const std::string stream = shell_quoted(text_field(entry, "stream"));
  if (text_field(entry, "where") == "dead_letters") {
    return fmt::format("`outfall dead-letters replay --id {} --reason ...`, or discard",
                       integer_field(entry, "entry_id"));
  }
  if (text_field(entry, "where") != "entries" || entry.contains("lease")) return {};
  const json::object stream_state = object_field(entry, "stream_state");
  if (flag_field(stream_state, "paused")) {
    return fmt::format("`outfall streams resume {} --reason ...`", stream);
  }
  if (!flag_field(stream_state, "served") ||
      (stream_state.contains("worker_running") && !flag_field(stream_state, "worker_running"))) {
    return fmt::format("start a worker (`outfall run`) that has stream {} in its configuration",
                       stream);
  }
  if (entry.contains("destination")) {
    return fmt::format("`outfall destinations resume {} {} --reason ...`", stream,
                       shell_quoted(text_field(object_field(entry, "destination"), "lane")));
  }
  if (const json::object behind = object_field(entry, "behind"); !behind.empty()) {
    return fmt::format("`outfall entry show {}` tells of the entry that it waits for",
                       text_field(behind, "envelope_id"));
  }
  // Both in UTC and in the same form, so that their texts are in the order of the times.
  if (text_field(entry, "due_at") <= asked_at) return destination_step(entry, worker);
  return fmt::format("`outfall entry retry {} --reason ...` tries it now", target);
}

}  // namespace

void write_story(const Context& context, const json::object& explained, const std::string& worker) {
  std::ostream& out = context.out;
  const std::string envelope_id = text_field(explained, "envelope_id");
  const json::array entries = array_field(explained, "entries");
  out << "envelope " << envelope_id << '\n';
  if (entries.empty()) {
    out << '\n' << printable(text_field(explained, "summary")) << '\n';
    TextFields fields("  ");
    add_replays(fields, explained);
    fields.write(out);
  }
  std::vector<std::string> next;
  for (const json::value& value : entries) {
    write_entry(out, value.as_object());
    std::string step =
        next_step(value.as_object(), envelope_id, text_field(explained, "asked_at"), worker);
    if (!step.empty()) next.push_back(std::move(step));
  }
  if (const json::array operations = array_field(explained, "operations"); !operations.empty()) {
    out << "\ndone by hand\n";
    for (const json::value& value : operations) {
      const json::object& operation = value.as_object();
      out << fmt::format("  {}  {} by {}: {}{}\n", time_field(operation, "at"),
                         text_field(operation, "action"), printable(text_field(operation, "actor")),
                         printable(text_field(operation, "reason")),
                         printable(discarded_text(operation)));
    }
  }
  if (!next.empty()) out << '\n';
  write_next(context, next);
}

}  // namespace outfall
