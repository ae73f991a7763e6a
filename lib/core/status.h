#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace outfall {

// Where an entry stands, in the one vocabulary of SQL, metrics and JSON. The numbers are stable and
// part of what is shown. outbox.entries holds those that are not terminal; a delivered entry is in
// a receipt, a dead-lettered one is a row of outbox.dead_letters.
enum class EntryStatus : std::int16_t {
  pending = 100,            // never tried, or given back as if it had not been
  held = 110,               // parked behind an earlier entry of its key, or with its lane
  delivered = 200,          // terminal
  deferred = 300,           // waits for a time, without a fault of its own
  failed = 400,             // terminal; only shown: a failed entry is stored as dead_lettered
  retryable_failure = 410,  // waits for its next attempt
  dead_lettered = 500,      // terminal for the drain; an operator may replay it
};

// snake_case names, as in SQL, metrics and JSON; the way back is nullopt for what is none.
[[nodiscard]] std::string_view to_string(EntryStatus status) noexcept;
[[nodiscard]] std::optional<EntryStatus> entry_status_from(std::string_view name) noexcept;

// The stable number that the database keeps; the way back is nullopt for what is none.
[[nodiscard]] constexpr std::int16_t code(EntryStatus status) noexcept {
  return static_cast<std::int16_t>(status);
}
[[nodiscard]] std::optional<EntryStatus> entry_status_from_code(std::int64_t code) noexcept;

// Terminal states absorb: no outcome leads out of them.
[[nodiscard]] bool is_terminal(EntryStatus status) noexcept;

// Whether the drain or the claims may move an entry from one status to the other. Staying is legal.
// A replay is not a transition: it takes a dead letter back into the stream as `deferred`, audited.
[[nodiscard]] bool is_legal(EntryStatus from, EntryStatus to) noexcept;

}  // namespace outfall
