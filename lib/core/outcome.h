#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"

namespace outfall {

// The normalised result of one delivery attempt (design: "Outcomes and transitions"). What each
// does to an entry is decided in core/transition.h and nowhere else.
enum class OutcomeKind : std::uint8_t {
  delivered,                // the sink acknowledged
  retryable_failure,        // the message's turn failed; another attempt may succeed
  possibly_delivered,       // the answer was lost: the sink may have it
  failed,                   // the message's own permanent fault
  dead_lettered,            // the sink asks to give the message up
  deferred,                 // not now, and not the message's fault
  destination_unavailable,  // the destination is down or refuses everybody
  blocked,                  // not sent: an earlier entry of its key did not get through
  pending,                  // accepted by the sink, result not known yet
  exception,                // the emitter threw
  shutdown,                 // not sent: the worker is stopping, or the lease would not last
};

inline constexpr std::size_t kOutcomeKinds = 11;

// snake_case name, as in metrics, logs and JSON.
[[nodiscard]] std::string_view to_string(OutcomeKind kind) noexcept;
[[nodiscard]] std::optional<OutcomeKind> outcome_kind_from(std::string_view name) noexcept;

// Why an attempt did not deliver. `code` is stable and dotted ("webhook.status_503",
// "kafka.msg_size_too_large"); `message` is for people, must hold no payload or secret, and is cut
// to kMaxErrorMessageBytes when it is stored.
struct DeliveryError {
  std::string code;
  std::string message;
};

inline constexpr std::size_t kMaxErrorMessageBytes = 1024;

// One attempt's result. Cheap to move; a plain delivery allocates nothing beyond its record id.
struct Outcome {
  OutcomeKind kind = OutcomeKind::delivered;
  // With possibly_delivered: the connection was lost, so that no attempt is counted.
  bool connection_lost = false;
  // With retryable_failure: it may well be the destination's fault (a 503). It counts for the
  // breaker, and spends no attempt while the breaker is open.
  bool destination_suspect = false;
  // With failed: false where the entry was refused before anything was sent, so that nothing is
  // learnt of its destination, not even that it is there.
  bool destination_asked = true;
  // With destination_unavailable: for good, until an operator resumes it (a 410).
  bool parks_destination = false;
  // With retryable_failure: the sink's Retry-After. With deferred: how long from now. Negative =
  // none.
  Milliseconds retry_after{-1};
  // Where the sink put it ("orders/3/1042"); empty means that the envelope id is the record id.
  std::string record_id;
  std::unique_ptr<DeliveryError> error;

  [[nodiscard]] static Outcome delivered(std::string record_id = {});
  // The entry's own fault, seen before anything was sent.
  [[nodiscard]] static Outcome refused_unsent(std::string code, std::string message);
  // One of the other kinds, with the error that explains it. The flags above are the caller's to
  // set.
  [[nodiscard]] static Outcome of(OutcomeKind kind, std::string code, std::string message,
                                  Milliseconds retry_after = Milliseconds{-1});
};

}  // namespace outfall
