#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/breaker.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/outcome.h"
#include "core/retry.h"
#include "core/status.h"

namespace outfall {

// Error codes of outfall's own, beside those of the emitters.
inline constexpr std::string_view kMaxRetryAttemptsExceeded = "outbox.max_retry_attempts_exceeded";
inline constexpr std::string_view kEmissionException = "emission.exception";
inline constexpr std::string_view kEmissionPending = "emission.pending";
// With an outcome that came without a code.
inline constexpr std::string_view kEmissionFailed = "emission.failed";

// `ordering` of a stream: whether the entries of a key are delivered one after the other.
enum class Ordering : std::uint8_t { none, key };
// `on_dead_letter` of a stream: whether the later entries of a dead letter's key go on, or are held
// until an operator has replayed or discarded it.
enum class OnDeadLetter : std::uint8_t { continue_key, hold_key };

// The longest deferral: a sink that asks for more (or says nonsense) is asked again after that.
inline constexpr Milliseconds kMaxDeferral{std::chrono::hours{24 * 30}};

// What a stream's settings say about its outcomes. A plain value.
struct StreamPolicy {
  RetryPolicy retry = {};
  Milliseconds defer_delay{30'000};  // of `deferred` and `pending` where the sink names no time
  Ordering ordering = Ordering::key;
  OnDeadLetter on_dead_letter = OnDeadLetter::continue_key;
};

// What is known of the entry at the time of the outcome.
struct AttemptContext {
  std::int32_t attempts = 0;       // counted before this one, over all replays
  std::int32_t attempts_base = 0;  // of these, counted before the last replay: they use up no limit
  // Since the entry was created, or since its scheduled time, its last replay or its last retry by
  // an operator where that is later, by the database's clock and without the time in which the
  // lane's breaker was open. The limit on it is applied from the second counted failure on, so that
  // a backlog that waited out an outage, in this process or one before, gets its turn and a retry
  // whatever its age.
  Milliseconds age{0};
  // The destination is suspected to be why attempts fail (Breaker::is_suspect(), also before the
  // breaker opens): a failure that may be its fault counts as no attempt of the entry's.
  bool suspect = false;
};

// What one outcome does to its entry, its key and its lane.
struct Transition {
  // nullopt: the entry stays as it is and leaves the lease. `held` is written by the next claim,
  // under the lock of the stream; a settle leaves such an entry as it is, too.
  std::optional<EntryStatus> next;
  bool counts_attempt = false;
  // With deferred and retryable_failure: due this long after the settle, by the database's clock.
  Milliseconds delay{0};
  // Later entries of the key that were not sent must be given back.
  bool blocks_key = false;
  // The sink may have the entry already: a later delivery of it is an explained duplicate.
  bool possible_duplicate = false;
  BreakerSignal breaker = BreakerSignal::nothing;
  // The lane is to be closed until an operator opens it.
  bool parks_destination = false;
  // last_error, fit to be stored; empty code: the outcome has none.
  std::string error_code;
  std::string error_message;
  // With dead_lettered: why, which is the error itself or the limit that was reached.
  std::string reason_code;
  std::string reason;
};

// The table of the design, "Outcomes and transitions", and nothing else decides what an outcome
// means. Pure but for the jitter that it draws. An outage (destination_unavailable, blocked,
// deferred, pending, shutdown, a lost connection) counts no attempt and never dead-letters.
[[nodiscard]] Transition decide(const Outcome& outcome, const AttemptContext& context,
                                const StreamPolicy& policy, Random& random);

}  // namespace outfall
