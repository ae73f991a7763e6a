#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/commands.h"
#include "daemon/operating.h"
#include "store/operator_store.h"

// The dead letters that a command line names, and how many of them are changed in chunks. One
// thread, as every command.

namespace outfall {

struct DeadLetterOptions {
  std::vector<std::string> envelope_ids;
  std::vector<EntryId> ids;
  std::optional<std::string> stream, type, key, reason_code;
  std::string since, until;
  std::optional<EntryId> after;
  std::optional<std::int32_t> limit;
};
void add_filter_options(CLI::App& command, DeadLetterOptions& options);
// `now` is the database's. Throws CommandError (usage).
[[nodiscard]] DeadLetterFilter dead_letter_filter(const DeadLetterOptions& options, WallTime now);
// The same filter as arguments, each time written out, so that a later run means the same ones.
[[nodiscard]] std::string filter_arguments(const DeadLetterFilter& filter);

enum class DeadLetterAction : std::uint8_t { replay, discard };

struct DeadLetterChange {
  DeadLetterAction action = DeadLetterAction::replay;
  DeadLetterFilter filter;             // with `until` set, so that it ends
  std::optional<std::int64_t> limit;   // of all chunks together
  std::optional<double> per_second;    // --rate
  std::optional<Requester> requester;  // none: a dry run
};

struct DeadLetterProgress {
  std::int64_t done = 0;
  std::int64_t skipped = 0;
  std::optional<EntryId> last_id;
  bool more = false;         // some that the filter names are left
  bool interrupted = false;  // by SIGINT or SIGTERM
};

// Replays or discards chunk by chunk, each in a transaction of its own, no faster than the rate.
// SIGINT and SIGTERM, blocked while it runs, end it after the chunk at hand. `progress` is kept up
// to date, so that it is right also when a StoreError comes out.
void change_dead_letters(OperatorStore& store, const DeadLetterChange& change,
                         DeadLetterProgress& progress);

}  // namespace outfall
