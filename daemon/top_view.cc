#include "daemon/top_view.h"

#include <cmath>
#include <sstream>

#include <fmt/format.h>

#include "daemon/json_fields.h"
#include "daemon/operating.h"
#include "daemon/text_output.h"

namespace outfall {
namespace {

namespace json = boost::json;

constexpr double kDeliveredSeconds = 10;  // what sql/top/delivered.sql looks at

std::int64_t backlog(const json::object& stream) {
  std::int64_t sum = 0;
  for (const char* field : {"pending", "retryable_failure", "deferred", "held"}) {
    sum += integer_field(stream, field);
  }
  return sum;
}

// Whether one of its counts has reached the limit, so that a difference would say nothing.
bool is_capped(const json::object& stream, std::int64_t limit) {
  for (const char* field : {"pending", "retryable_failure", "deferred", "held"}) {
    if (integer_field(stream, field) >= limit) return true;
  }
  return false;
}

const json::object* find_stream(const json::object& status, std::string_view name) {
  const json::value* list = status.if_contains("streams");
  if (list == nullptr || !list->is_array()) return nullptr;
  for (const json::value& stream : list->get_array()) {
    if (text_field(stream.as_object(), "stream") == name) return &stream.as_object();
  }
  return nullptr;
}

json::value backlog_change(const TopFrame& frame, const TopFrame* before,
                           const json::object& stream) {
  if (before == nullptr) return nullptr;
  const json::object* then = find_stream(before->status, text_field(stream, "stream"));
  const std::int64_t limit = integer_field(frame.status, "counts_end_at");
  const double seconds = std::chrono::duration<double>(frame.at - before->at).count();
  if (then == nullptr || seconds <= 0 || is_capped(stream, limit) || is_capped(*then, limit)) {
    return nullptr;
  }
  return static_cast<double>(backlog(stream) - backlog(*then)) / seconds;
}

class TopText {
 public:
  explicit TopText(const json::object& document)
      : document_(document), limit_(integer_field(document, "counts_end_at")) {}

  std::vector<std::string> lines(const std::string& note) {
    const json::object database = object_field(document_, "database");
    out_ << fmt::format("outfall top - schema \"{}\", {}{}{}\n",
                        printable(text_field(document_, "schema")),
                        time_field(document_, "taken_at").substr(0, kSeconds),
                        flag_field(document_, "standby") ? ", as a standby sees it" : "",
                        note.empty() ? "" : " - " + printable(note));
    const double oldest = number_field(database, "oldest_transaction_seconds");
    out_ << fmt::format("oldest transaction {}, {} dead rows in entries\n\n",
                        oldest > 0 ? age_of_seconds(oldest) : "-",
                        grouped(integer_field(database, "dead_tuples_entries")));
    write_streams();
    write_breakers();
    write_leases();
    std::vector<std::string> lines;
    std::istringstream text(out_.str());
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
  }

 private:
  static constexpr std::size_t kSeconds = 19;  // "2026-03-01T12:00:00"

  [[nodiscard]] std::string number(const json::object& object, std::string_view field) const {
    const std::int64_t value = integer_field(object, field);
    return value >= limit_ ? grouped(limit_) + "+" : grouped(value);
  }

  static std::string oldest(const json::object& object, std::string_view field) {
    const double seconds = number_field(object, field);
    return seconds > 0 ? age_of_seconds(seconds) : "-";
  }

  static std::string rate(const json::object& stream, std::string_view field, bool sign) {
    const json::value* value = stream.if_contains(field);
    if (value == nullptr || !value->is_number()) return "-";
    const auto whole = static_cast<std::int64_t>(std::llround(value->to_number<double>()));
    return (sign && whole > 0 ? "+" : "") + grouped(whole);
  }

  // The columns that matter most come first: a narrow terminal cuts off the others.
  void write_streams() {
    TextTable table({{"STREAM"},
                     {"STATE"},
                     {"OUT/S", true},
                     {"BACKLOG/S", true},
                     {"PENDING", true},
                     {"OLDEST", true},
                     {"HELD", true},
                     {"KEYS", true},
                     {"BLOCKED", true},
                     {"RETRY", true},
                     {"DEFERRED", true},
                     {"DEAD", true},
                     {"LEASES", true}});
    for (const json::value& value : array_field(document_, "streams")) {
      const json::object& stream = value.as_object();
      table.add({text_field(stream, "stream"), stream_state(stream),
                 rate(stream, "delivered_per_second", false),
                 rate(stream, "backlog_per_second", true), number(stream, "pending"),
                 oldest(stream, "oldest_due_seconds"), number(stream, "held"),
                 grouped(integer_field(stream, "held_keys")),
                 oldest(stream, "oldest_blocked_seconds"), number(stream, "retryable_failure"),
                 number(stream, "deferred"), number(stream, "dead_letters"),
                 grouped(integer_field(stream, "leases_active") +
                         integer_field(stream, "leases_expired"))});
    }
    for (const json::value& value : array_field(document_, "unbound")) {
      const json::object& stream = value.as_object();
      table.add({text_field(stream, "stream"),
                 flag_field(stream, "served")    ? "served elsewhere"
                 : stream.at("served").is_null() ? "unknown"
                                                 : "nobody serves it",
                 "-", "-", number(stream, "entries"), oldest(stream, "oldest_created_seconds"), "",
                 "", "", "", "", "", ""});
    }
    if (table.empty()) {
      out_ << "no worker has served a stream yet\n";
    } else {
      table.write(out_);
    }
  }

  void write_breakers() {
    out_ << '\n';
    outfall::write_breakers(out_, document_);
    if (array_field(document_, "breakers").empty() && a_worker_answers(document_)) {
      out_ << "breakers: all closed\n";
    }
  }

  void write_leases() {
    TextTable table(
        {{"LEASES OF"}, {"INSTANCE"}, {"STREAM"}, {"LEASES", true}, {"ENTRIES", true}, {"UNTIL"}});
    for (const json::value& value : array_field(document_, "workers")) {
      const json::object& worker = value.as_object();
      table.add({text_field(worker, "worker"), text_field(worker, "instance"),
                 text_field(worker, "stream"), grouped(integer_field(worker, "leases")),
                 grouped(integer_field(worker, "entries")),
                 time_field(worker, "expires_at").substr(0, kSeconds)});
    }
    if (table.empty()) return;
    out_ << '\n';
    table.write(out_);
  }

  const json::object& document_;
  const std::int64_t limit_;
  std::ostringstream out_;
};

}  // namespace

json::object top_document(const TopFrame& frame, const TopFrame* before) {
  json::object document = frame.status;
  for (json::value& value : document["streams"].as_array()) {
    json::object& stream = value.as_object();
    const std::string name = text_field(stream, "stream");
    const json::object held = object_field(frame.held, name);
    stream["held_keys"] = integer_field(held, "keys");
    stream["held_lanes"] = integer_field(held, "lanes");
    stream["delivered_per_second"] = number_field(frame.delivered, name) / kDeliveredSeconds;
    stream["backlog_per_second"] = backlog_change(frame, before, stream);
  }
  add_worker_views(document, frame.workers);
  return document;
}

std::vector<std::string> top_lines(const json::object& document, const std::string& note) {
  return TopText(document).lines(note);
}

}  // namespace outfall
