#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "daemon/commands.h"
#include "store/operator_store.h"

// What the commands share that work on the database: the connection, errors, who asks and why, and
// how results are written. One thread, as every command.

namespace outfall {

// A failed call as the end of a command. Message and hint stay; the kind decides the code.
[[nodiscard]] CommandError command_error(const StoreError& error);

// What a command wants of the database. A standby or a read-only server is enough to look; what is
// seen there is a standby's view, which is said on standard error.
enum class Access { look, change };

// Loads the configuration, connects, and does `work`. StoreErrors become CommandErrors.
ExitCode with_store(const Context& context, Access access,
                    const std::function<ExitCode(OperatorStore&, const Config&)>& work);

// The streams of the configuration; nullopt where it has none, as of an operator's own file.
[[nodiscard]] std::optional<std::vector<std::string>> configured_streams(const Config& config);

// Those of the configuration, those that a worker has registered, and those that have entries.
[[nodiscard]] std::set<std::string> known_streams(OperatorStore& store, const Config& config);

// What `outfall status --json` writes: status() of the database for the streams of the
// configuration, and for each stream `served`, whether a running worker serves it; null where that
// cannot be seen.
[[nodiscard]] boost::json::object status_document(OperatorStore& store, const Config& config);

// In a word or two, of one of its streams.
[[nodiscard]] std::string stream_state(const boost::json::object& stream);

// A mistyped stream must not look like one that is empty. Throws CommandError unless it is one of
// known_streams().
void expect_stream(OperatorStore& store, const Config& config, const std::string& name);

// --actor and --reason.
struct RequesterOptions {
  std::string actor;
  std::string reason;
};
void add_requester_options(CLI::App& command, RequesterOptions& options);
// Without --actor: OUTFALL_ACTOR, else the user of the operating system. Throws CommandError
// (usage) without a reason.
[[nodiscard]] Requester requester(const Context& context, const RequesterOptions& options);

// ENVELOPE_ID, --id and --stream.
struct TargetOptions {
  std::string envelope_id;
  std::optional<EntryId> entry_id;
  std::optional<std::string> stream;
};
void add_target_options(CLI::App& command, TargetOptions& options);
// Throws CommandError (usage) unless exactly one of the two ids is there and can be one.
[[nodiscard]] EntryTarget entry_target(const TargetOptions& options);
[[nodiscard]] Uuid parse_envelope_id(const std::string& text);

// What asks for an entry looks a little beyond its id.
inline constexpr EntryId kLastEntryId = std::numeric_limits<EntryId>::max() - 1'000'000;
// nullopt unless all of it is a number from 0 to kLastEntryId.
[[nodiscard]] std::optional<EntryId> parse_entry_id(std::string_view text);
// What an option takes that is an entry id.
[[nodiscard]] CLI::Validator entry_id_check();

// "next: ..." lines: what to do now, with_config(). Writes nothing when there are none.
void write_next(const Context& context, const std::vector<std::string>& steps);

// One JSON object on one line.
void write_json(const Context& context, const boost::json::value& value);
[[nodiscard]] boost::json::object operation_json(const OperationRecord& record,
                                                 const Requester& by);

}  // namespace outfall
