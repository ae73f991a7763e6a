#include "tests/faults/history_reader.h"

#include <algorithm>
#include <array>
#include <istream>
#include <limits>
#include <utility>

#include <boost/json.hpp>

namespace outfall::test::history {

namespace {

namespace json = boost::json;

[[noreturn]] void bad(std::string_view field, std::string_view what) {
  throw BadRecord("\"" + std::string(field) + "\" " + std::string(what));
}

// The members of a record, each with a complaint that names it.
class Fields {
 public:
  explicit Fields(const json::object& object) : object_(object) {}

  [[nodiscard]] const json::value* find(std::string_view name) const {
    const json::value* value = object_.if_contains(name);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  [[nodiscard]] std::string_view text(std::string_view name) const {
    const json::value* value = find(name);
    if (value == nullptr) bad(name, "is missing");
    return as_text(name, *value);
  }
  [[nodiscard]] std::string_view text_or(std::string_view name, std::string_view otherwise) const {
    return find(name) == nullptr ? otherwise : text(name);
  }
  [[nodiscard]] std::int64_t number(std::string_view name) const {
    const json::value* value = find(name);
    if (value == nullptr) bad(name, "is missing");
    return as_number(name, *value);
  }
  [[nodiscard]] std::int64_t number_or(std::string_view name, std::int64_t otherwise) const {
    return find(name) == nullptr ? otherwise : number(name);
  }
  [[nodiscard]] bool flag_or(std::string_view name, bool otherwise) const {
    const json::value* value = find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_bool()) bad(name, "is neither true nor false");
    return value->get_bool();
  }
  [[nodiscard]] const json::array* list(std::string_view name) const {
    const json::value* value = find(name);
    if (value != nullptr && !value->is_array()) bad(name, "is no list");
    return value == nullptr ? nullptr : &value->get_array();
  }
  [[nodiscard]] const json::object& object() const { return object_; }

  static std::string_view as_text(std::string_view name, const json::value& value) {
    if (!value.is_string()) bad(name, "is no string");
    return value.get_string();
  }
  static std::int64_t as_number(std::string_view name, const json::value& value) {
    if (value.is_int64()) return value.get_int64();
    bad(name, "is no whole number");
  }

 private:
  const json::object& object_;
};

// A list of ids, or of objects with an id.
std::string_view listed_id(std::string_view name, const json::value& value) {
  if (value.is_object()) return Fields(value.get_object()).text("id");
  return Fields::as_text(name, value);
}

Index key_of(const Fields& fields, History& history) {
  return fields.find("key") == nullptr ? kNone : history.keys.of(fields.text("key"));
}

void committing(const Fields& fields, History& history) {
  Entry& entry = history.entry(fields.text("id"));
  if (entry.begun_at != kNever) bad("id", "was begun before");
  if (!fields.object().contains("key")) bad("key", "is missing");
  entry.begun_at = fields.number("at_us");
  entry.stream = history.streams.of(fields.text("stream"));
  entry.key = key_of(fields, history);
  entry.place = fields.number("n");
  entry.scheduled = fields.flag_or("scheduled", false);
  if (entry.commit == Commit::unseen) entry.commit = Commit::begun;
}

void committed(const Fields& fields, History& history) {
  Entry& entry = history.entry(fields.text("id"));
  if (entry.commit == Commit::rolled_back) bad("id", "was rolled back before");
  entry.commit = Commit::committed;
  entry.committed_at = fields.number("at_us");
}

void rolled_back(const Fields& fields, History& history) {
  Entry& entry = history.entry(fields.text("id"));
  if (entry.commit == Commit::committed) bad("id", "was committed before");
  entry.commit = Commit::rolled_back;
}

void commit_unknown(const Fields& fields, History& history) {
  Entry& entry = history.entry(fields.text("id"));
  if (entry.commit == Commit::unseen || entry.commit == Commit::begun)
    entry.commit = Commit::unknown;
}

void poison(const Fields& fields, History& history) {
  const Index entry = history.entry_index(fields.text("id"));
  history.entries[entry].poison = true;
  const json::array* reasons = fields.list("reasons");
  if (reasons == nullptr) return;
  for (const json::value& reason : *reasons)
    history.poison_reasons[entry].emplace_back(Fields::as_text("reasons", reason));
}

void arrived(const Fields& fields, History& history) {
  Arrival arrival{.entry = history.entry_index(fields.text("id")),
                  .sink = history.sinks.of(fields.text("sink")),
                  .seq = fields.number("seq"),
                  .at = fields.number("at_us")};
  if (fields.find("stream") != nullptr) arrival.stream = history.streams.of(fields.text("stream"));
  arrival.key = key_of(fields, history);
  arrival.place = fields.number_or("n", 0);
  history.arrivals.push_back(arrival);
}

void worker(const Fields& fields, History& history) {
  const std::string_view event = fields.text("event");
  static constexpr std::array<std::string_view, 6> kEvents = {"started", "killed", "terminated",
                                                              "exited",  "frozen", "thawed"};
  if (std::find(kEvents.begin(), kEvents.end(), event) == kEvents.end())
    bad("event", "is none of started, killed, terminated, exited, frozen, thawed");
  const Index worker = history.workers.of(fields.text("worker"));
  if (event == "killed" || event == "terminated") ++history.worker_deaths;
  if (event == "killed" || event == "terminated" || event == "exited")
    history.ends.emplace_back(worker, fields.number("at_us"));
}

void claimed(const Fields& fields, History& history) {
  const Index lease = history.lease(fields.text("lease"), fields.text("worker"));
  History::Lease& facts = history.lease_facts[lease];
  facts.claimed_at = std::min(facts.claimed_at, fields.number("at_us"));
  facts.number = fields.number_or("lease_no", 0);
  const json::array* ids = fields.list("ids");
  if (ids == nullptr) return;
  for (const json::value& id : *ids)
    history.holdings.push_back(
        {history.entry_index(listed_id("ids", id)), lease, fields.number("at_us")});
}

void outcome(const Fields& fields, History& history) {
  const Index lease = history.lease(fields.text("lease"), fields.text("worker"));
  const Holding holding{history.entry_index(fields.text("id")), lease, fields.number("at_us")};
  history.holdings.push_back(holding);
  Entry& entry = history.entries[holding.entry];
  entry.outcome_at = std::max(entry.outcome_at, holding.at);
  if (fields.find("attempts") != nullptr)
    history.counted_attempts.push_back({holding.entry, holding.at, fields.number("attempts")});
  const std::string_view kind = fields.text("outcome");
  if (kind == "delivered") history.delivered_outcomes.push_back(holding);
  history.outcomes.push_back({holding.entry, lease, holding.at, kind != "blocked"});
  auto counted = history.logged.find(kind);
  if (counted == history.logged.end()) counted = history.logged.emplace(kind, 0).first;
  ++counted->second;
  history.last_logged = std::max(history.last_logged, holding.at);
}

void settled(const Fields& fields, History& history) {
  const Index lease = history.lease(fields.text("lease"), fields.text("worker"));
  const Micros at = fields.number("at_us");
  const std::string_view status = fields.text_or("status", "delivered");
  const Settled as = status == "delivered"       ? Settled::delivered
                     : status == "dead_lettered" ? Settled::dead_lettered
                                                 : Settled::other;
  if (const json::array* ids = fields.list("ids")) {
    for (const json::value& id : *ids)
      history.settles.push_back({history.entry_index(listed_id("ids", id)), lease, at, as});
    return;
  }
  history.counted_settles.push_back(
      {.lease = lease,
       .at = at,
       .delivered = fields.number_or("delivered", fields.number_or("count", 0)),
       .others = fields.number_or("others", 0),
       .begun_at = fields.number_or("begun_us", kNever)});
}

void touched(const Fields& fields, std::string_view name, bool& all, std::vector<Index>& some,
             Names& names) {
  const json::value* value = fields.find(name);
  if (value == nullptr) return;
  if (value->is_string()) {
    if (value->get_string() != "all") bad(name, "is neither \"all\" nor a list");
    all = true;
    return;
  }
  for (const json::value& item : *fields.list(name))
    some.push_back(names.of(Fields::as_text(name, item)));
}

void fault(const Fields& fields, History& history) {
  Fault fault;
  fault.kind = fields.text("kind");
  fault.from = fields.number("at_us");
  fault.until = fields.number_or("until_us", fault.from);
  if (fault.until < fault.from) bad("until_us", "is before at_us");
  const json::value* touches = fields.find("touches");
  if (touches == nullptr || !touches->is_object()) bad("touches", "is no object");
  const Fields parts(touches->get_object());
  touched(parts, "workers", fault.all_workers, fault.workers, history.workers);
  touched(parts, "sinks", fault.all_sinks, fault.sinks, history.sinks);
  fault.database = parts.flag_or("database", false);
  fault.undoes_commits = fields.flag_or("undoes_commits", false);
  if (fault.undoes_commits && !fault.database) bad("undoes_commits", "needs a touched database");
  if (fields.find("late") != nullptr) fault.late = fields.flag_or("late", false);
  if (fields.find("copies") != nullptr)
    fault.copies = static_cast<std::int32_t>(fields.number("copies"));
  fault.attempts = static_cast<std::int32_t>(fields.number_or("attempts", 0));
  if (fault.attempts > 0 && !fault.touches_sinks()) bad("attempts", "needs a touched sink");
  fault.forgets_from = fields.number_or("forgets_from_us", kNever);
  fault.recover_within = fields.number_or("recover_within_us", kNever);
  fault.isolate_within = fields.number_or("isolate_within_us", kNever);
  history.faults.push_back(std::move(fault));
}

void replayed(const Fields& fields, History& history) {
  Entry& entry = history.entry(fields.text("id"));
  const Micros at = fields.number("at_us");
  entry.replayed_at = entry.replayed ? std::max(entry.replayed_at, at) : at;
  entry.replayed = true;
}

void discarded(const Fields& fields, History& history) {
  history.entry(fields.text("id")).discarded_at = fields.number("at_us");
}

void stream(const Fields& fields, History& history) {
  StreamRules rules;
  const std::string_view order = fields.text_or("order", "key");
  if (order != "key" && order != "none") bad("order", "is neither key nor none");
  const std::string_view dead = fields.text_or("on_dead_letter", "continue");
  if (dead != "continue" && dead != "hold-key")
    bad("on_dead_letter", "is neither continue nor hold-key");
  rules.ordered = order == "key";
  rules.hold_key = dead == "hold-key";
  rules.receipts = fields.flag_or("receipts", true);
  history.stream_rules[history.streams.of(fields.text("stream"))] = rules;
}

void setting(const Fields& fields, History& history) {
  history.send_timeout = fields.number("send_timeout_us");
}

// More than fits says the same as the most that does.
std::uint16_t small(std::int64_t number) {
  constexpr std::int64_t kMost = std::numeric_limits<std::uint16_t>::max();
  return static_cast<std::uint16_t>(std::clamp<std::int64_t>(number, 0, kMost));
}

void refused(const Fields& fields, History& history) {
  ++history.refused;
  if (fields.find("id") == nullptr || fields.flag_or("unavailable", false)) return;
  Entry& entry = history.entry(fields.text("id"));
  entry.refusals = small(entry.refusals + std::int64_t{1});
}

void receipt(Entry& entry, const json::value& item) {
  ++entry.receipts;
  if (!item.is_object()) return;
  const Fields facts(item.get_object());
  if (facts.find("attempts") == nullptr) return;
  const std::int64_t attempts = facts.number("attempts");
  entry.attempts = std::max(entry.attempts, small(attempts));
  if (attempts < 1) entry.unattempted = true;
}

void dead_letter(Index entry, const json::value& item, History& history) {
  ++history.entries[entry].dead_letters;
  if (!item.is_object()) return;
  const Fields facts(item.get_object());
  if (facts.find("reason_code") != nullptr)
    history.dead_letter_reasons[entry] = facts.text("reason_code");
}

// The least of two numbers would hide what a later line says; the lists are merged, these are not.
void final_state(const Fields& fields, History& history) {
  Final& final = history.final;
  final.seen = true;
  const auto each = [&](std::string_view name, auto note) {
    const json::array* list = fields.list(name);
    if (list == nullptr) return false;
    for (const json::value& item : *list) note(history.entry_index(listed_id(name, item)), item);
    return true;
  };
  auto& all = history.entries;
  each("entries", [&](Index i, const json::value&) { all[i].left = true; });
  each("held", [&](Index i, const json::value&) { all[i].left = all[i].held = true; });
  each("dead_letters", [&](Index i, const json::value& item) { dead_letter(i, item, history); });
  if (each("delivered", [&](Index i, const json::value& item) { receipt(all[i], item); }))
    final.receipts_listed = true;
  final.leases = fields.number_or("leases", final.leases);
  final.holds = fields.number_or("holds", final.holds);
  final.expired_leases = fields.number_or("expired_leases", final.expired_leases);
}

double as_double(std::string_view name, const json::value& value) {
  if (!value.is_number()) bad(name, "is no number");
  return value.to_number<double>();
}

// Every member that is a number is a quantity.
template <typename Note>
void quantities(const Fields& fields, Note note) {
  for (const auto& member : fields.object()) {
    if (member.key() != "at_us" && member.value().is_number())
      note(std::string(member.key()), as_double(member.key(), member.value()));
  }
}

void gauge(const Fields& fields, History& history) {
  const std::string name(fields.text("worker"));
  quantities(fields,
             [&](const std::string& what, double value) { history.gauge(name, what, value); });
}

void bounds(const Fields& fields, History& history) {
  const std::string name(fields.text_or("worker", ""));
  quantities(fields, [&](const std::string& what, double value) {
    history.bounds[{name, what}] = value;
  });
}

void counter(const Fields& fields, History& history) {
  std::string name(fields.text("name"));
  if (fields.find("outcome") != nullptr) name += "/" + std::string(fields.text("outcome"));
  const json::value* value = fields.find("value");
  if (value == nullptr) bad("value", "is missing");
  history.count(std::string(fields.text("worker")), name, history.streams.of(fields.text("stream")),
                as_double("value", *value), fields.number("at_us"));
}

using Reader = void (*)(const Fields&, History&);

struct Kind {
  std::string_view name;
  Reader read;
};

constexpr std::array kKinds = {
    Kind{"committing", committing},
    Kind{"committed", committed},
    Kind{"rolled_back", rolled_back},
    Kind{"commit_unknown", commit_unknown},
    Kind{"poison", poison},
    Kind{"arrived", arrived},
    Kind{"answered", [](const Fields&, History& history) { ++history.answered; }},
    Kind{"refused", refused},
    Kind{"worker", worker},
    Kind{"claimed", claimed},
    Kind{"outcome", outcome},
    Kind{"settled", settled},
    Kind{"stale", [](const Fields&, History& history) { ++history.stale; }},
    Kind{"released", [](const Fields&, History& history) { ++history.released; }},
    Kind{"fault", fault},
    Kind{"replayed", replayed},
    Kind{"discarded", discarded},
    Kind{"stream", stream},
    Kind{"setting", setting},
    Kind{"final", final_state},
    Kind{"gauge", gauge},
    Kind{"bounds", bounds},
    Kind{"counter", counter},
};

}  // namespace

void read_record(std::string_view line, History& history) {
  std::array<unsigned char, 4096> room;
  json::monotonic_resource memory(room.data(), room.size());
  json::error_code error;
  const json::value value = json::parse(line, error, &memory);
  if (error) throw BadRecord("no JSON: " + error.message());
  if (!value.is_object()) throw BadRecord("no JSON object");
  const Fields fields(value.get_object());
  const std::string_view name = fields.text("f");
  for (const Kind& kind : kKinds) {
    if (kind.name != name) continue;
    ++history.records;
    kind.read(fields, history);
    return;
  }
  bad("f", "is no kind of record: " + std::string(name));
}

void read_records(std::istream& in, const std::string& name, History& history) {
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    if (line.empty()) continue;
    try {
      read_record(line, history);
    } catch (const BadRecord& error) {
      throw BadRecord(name + ":" + std::to_string(number) + ": " + error.what());
    }
  }
  if (in.bad()) throw BadRecord(name + ": cannot be read to its end");
}

}  // namespace outfall::test::history
