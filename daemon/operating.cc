#include "daemon/operating.h"

#include <array>
#include <pwd.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "core/number.h"
#include "daemon/json_fields.h"
#include "daemon/json_text.h"
#include "daemon/text_output.h"
#include "daemon/wiring.h"
#include "store/postgres/operator_store.h"

namespace outfall {
namespace {

ExitCode exit_code(const StoreError& error) {
  if (const auto* refusal = dynamic_cast<const OperatorRefusal*>(&error)) {
    switch (refusal->reason()) {
      case RefusalReason::leased:
        return ExitCode::temporary;
      case RefusalReason::not_found:
        return ExitCode::unavailable;
      case RefusalReason::ambiguous:
      case RefusalReason::wrong_state:
      case RefusalReason::incomplete:
        return ExitCode::usage;
    }
  }
  switch (error.kind()) {
    case StoreErrorKind::unavailable:
    case StoreErrorKind::read_only:
      return ExitCode::unavailable;
    case StoreErrorKind::timeout:
    case StoreErrorKind::conflict:
      return ExitCode::temporary;
    case StoreErrorKind::denied:
    case StoreErrorKind::schema:
      return ExitCode::configuration;
    case StoreErrorKind::refused:
      return ExitCode::usage;
    case StoreErrorKind::defect:
      return ExitCode::software;
  }
  return ExitCode::software;
}

std::string hint(const StoreError& error) {
  if (error.kind() == StoreErrorKind::denied) {
    return "connect as a role with membership in outbox_operator, which may do everything here; "
           "outbox_reader may look";
  }
  if (error.hint().empty() && error.kind() == StoreErrorKind::timeout) {
    return "others work on the same rows or the server is busy: try again";
  }
  if (error.hint().empty() && error.kind() == StoreErrorKind::conflict) return "try again";
  return error.hint();
}

// The database speaks of its functions; on the command line they have other names.
std::string in_command_words(std::string text) {
  constexpr std::pair<std::string_view, std::string_view> kWords[] = {
      {"explain_entry()", "`outfall entry show`"},
      {"replay_dead_letters()", "`outfall dead-letters replay`"},
      {"discard_dead_letters()", "`outfall dead-letters discard`"},
      {"list_jobs()", "`outfall dead-letters jobs list`"},
      {"with p_stream", "with --stream"},
      {"by its entry id", "by its entry id with --id"}};
  for (const auto& [sql, command] : kWords) {
    const std::size_t at = text.find(sql);
    if (at != std::string::npos) text.replace(at, sql.size(), command);
  }
  return text;
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

std::string user_name() {
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (getpwuid_r(geteuid(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr) {
    return found->pw_name;
  }
  return fmt::format("uid {}", geteuid());
}

// Says of every stream whether a running worker serves it: null where that cannot be seen.
void mark_served(OperatorStore& store, boost::json::object& status) {
  std::vector<std::string> names;
  for (const std::string_view list : {"streams", "unbound"}) {
    for (const boost::json::value& stream : status[list].as_array()) {
      names.push_back(text_field(stream.as_object(), "stream"));
    }
  }
  const auto served = store.served(names);
  const std::set<std::string> known =
      served ? std::set<std::string>(served->begin(), served->end()) : std::set<std::string>();
  for (const std::string_view list : {"streams", "unbound"}) {
    for (boost::json::value& stream : status[list].as_array()) {
      boost::json::object& object = stream.as_object();
      object["served"] = served ? boost::json::value(known.contains(text_field(object, "stream")))
                                : boost::json::value(nullptr);
    }
  }
}

void note_standby(const Context& context) {
  constexpr std::string_view kNote =
      "the server is a standby: it shows what it has received so far, and not who works";
  if (context.json) {
    context.err << json_text(boost::json::object{{"note", kNote}}) << '\n';
  } else {
    context.err << "outfall: note: " << kNote << '\n';
  }
}

}  // namespace

CommandError command_error(const StoreError& error) {
  std::string what = error.what();
  if (error.kind() == StoreErrorKind::read_only) {
    what = fmt::format("the server takes no changes, it is a standby or read-only ({})", what);
  }
  if (error.code() == "22021") {
    return {ExitCode::usage, "an argument, or OUTFALL_ACTOR, is not valid UTF-8",
            "write it in UTF-8"};
  }
  return {exit_code(error), what, in_command_words(hint(error))};
}

ExitCode with_store(const Context& context, Access access,
                    const std::function<ExitCode(OperatorStore&, const Config&)>& work) {
  const auto config = load_command_config(context).config;
  try {
    postgres::ConnectOptions options = connect_options(*config);
    options.application_name = "outfall command";
    options.read_write = access == Access::change;
    postgres::PostgresOperatorStore store(options);
    if (store.standby()) note_standby(context);
    return work(store, *config);
  } catch (const StoreError& error) {
    throw command_error(error);
  }
}

std::optional<std::vector<std::string>> configured_streams(const Config& config) {
  if (config.streams().empty()) return {};
  return stream_names(config);
}

std::set<std::string> known_streams(OperatorStore& store, const Config& config) {
  std::set<std::string> names;
  for (const auto& [name, stream] : config.streams()) names.insert(name);
  const boost::json::value status = boost::json::parse(store.status({}));
  for (const std::string_view list : {"streams", "unbound"}) {
    for (const boost::json::value& stream : array_field(status.as_object(), list)) {
      names.insert(text_field(stream.as_object(), "stream"));
    }
  }
  return names;
}

boost::json::object status_document(OperatorStore& store, const Config& config) {
  const auto streams = configured_streams(config);
  boost::json::object status =
      boost::json::parse(
          store.status(streams ? std::optional<OperatorStore::Streams>(*streams) : std::nullopt))
          .as_object();
  mark_served(store, status);
  if (store.standby()) status["standby"] = true;
  status["schema"] = config.database().text("schema");
  return status;
}

std::string stream_state(const boost::json::object& stream) {
  if (flag_field(stream, "paused")) return "paused by " + text_field(stream, "paused_by");
  if (stream.at("served").is_bool() && !stream.at("served").as_bool()) return "no worker";
  const std::size_t paused = array_field(stream, "destinations").size();
  if (paused == 0) return "running";
  return counted(static_cast<std::int64_t>(paused), "destination") + " paused";
}

void expect_stream(OperatorStore& store, const Config& config, const std::string& name) {
  const std::set<std::string> known = known_streams(store, config);
  if (known.contains(name)) return;
  throw CommandError(ExitCode::unavailable, fmt::format("no stream is named '{}'", printable(name)),
                     known.empty() ? std::string("No worker has registered a stream yet.")
                                   : fmt::format("There are: {}.", fmt::join(known, ", ")));
}

void add_requester_options(CLI::App& command, RequesterOptions& options) {
  command
      .add_option("--actor", options.actor,
                  "Who does this; default: $OUTFALL_ACTOR, else the user of the operating system")
      ->type_name("NAME")
      ->check(CLI::Validator(
          [](const std::string& actor) {
            return is_blank(actor) ? std::string("it names nobody") : std::string();
          },
          ""));
  command.add_option("--reason", options.reason, "Why this is done; it is kept with the change")
      ->type_name("TEXT");
}

Requester requester(const Context& context, const RequesterOptions& options) {
  if (is_blank(options.reason)) {
    throw CommandError(ExitCode::usage, "--reason is missing",
                       "say why this is done, such as --reason \"consumer fixed in 4.2\"; it is "
                       "kept with the change");
  }
  std::string actor = options.actor;
  if (actor.empty()) {
    const auto variable = context.environment.find("OUTFALL_ACTOR");
    if (variable != context.environment.end()) actor = variable->second;
  }
  if (actor.empty()) actor = user_name();
  if (is_blank(actor)) {
    throw CommandError(ExitCode::usage, "OUTFALL_ACTOR names nobody",
                       "write who does this, name somebody by --actor, or unset the variable");
  }
  return {.actor = std::move(actor), .reason = options.reason};
}

void add_target_options(CLI::App& command, TargetOptions& options) {
  command.add_option("ENVELOPE_ID", options.envelope_id, "The envelope id of the entry")
      ->type_name("");
  command.add_option("--id", options.entry_id, "The entry id instead")
      ->type_name("N")
      ->check(entry_id_check());
  command.add_option("--stream", options.stream, "Its stream, where the envelope is in several")
      ->type_name("NAME");
}

Uuid parse_envelope_id(const std::string& text) {
  if (const auto id = Uuid::parse(text)) return *id;
  throw CommandError(
      ExitCode::usage, fmt::format("\"{}\" is not an envelope id", printable(text)),
      "an envelope id looks like 01890a5d-ac96-774b-bcce-b302099a8057; --id takes an entry id");
}

std::optional<EntryId> parse_entry_id(std::string_view text) {
  const auto id = parse_number<EntryId>(text);
  return id && *id >= 0 && *id <= kLastEntryId ? id : std::nullopt;
}

CLI::Validator entry_id_check() {
  return {[](const std::string& text) {
            return parse_entry_id(text) ? std::string()
                                        : fmt::format("\"{}\" is not an entry id", printable(text));
          },
          ""};
}

EntryTarget entry_target(const TargetOptions& options) {
  if (options.envelope_id.empty() == !options.entry_id) {
    throw CommandError(ExitCode::usage,
                       options.envelope_id.empty() ? "either ENVELOPE_ID or --id is needed"
                                                   : "ENVELOPE_ID and --id are both given",
                       "name one entry by its envelope id, or with --id by its entry id");
  }
  EntryTarget target{.envelope_id = {}, .entry_id = options.entry_id, .stream = options.stream};
  if (!options.envelope_id.empty()) target.envelope_id = parse_envelope_id(options.envelope_id);
  return target;
}

void write_next(const Context& context, const std::vector<std::string>& steps) {
  for (const std::string& step : steps) {
    context.out << "next: " << with_config(context, step) << '\n';
  }
}

void write_json(const Context& context, const boost::json::value& value) {
  context.out << json_text(value) << '\n';
}

boost::json::object operation_json(const OperationRecord& record, const Requester& by) {
  boost::json::object object;
  object["operation_id"] = record.operation_id;
  object["at"] = utc(record.done_at);
  object["action"] = record.action;
  object["actor"] = by.actor;
  object["reason"] = by.reason;
  object["stream"] = record.stream;
  if (record.entry_id) object["entry_id"] = *record.entry_id;
  if (record.envelope_id) object["envelope_id"] = record.envelope_id->to_string();
  if (!record.detail.empty()) object["detail"] = boost::json::parse(record.detail);
  return object;
}

}  // namespace outfall
