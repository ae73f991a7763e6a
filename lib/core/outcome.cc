#include "core/outcome.h"

#include <algorithm>
#include <array>
#include <utility>

namespace outfall {
namespace {

constexpr std::array<std::string_view, kOutcomeKinds> kOutcomeNames = {
    "delivered",
    "retryable_failure",
    "possibly_delivered",
    "failed",
    "dead_lettered",
    "deferred",
    "destination_unavailable",
    "blocked",
    "pending",
    "exception",
    "shutdown",
};
static_assert(static_cast<std::size_t>(OutcomeKind::shutdown) + 1 == kOutcomeKinds);

}  // namespace

std::string_view to_string(OutcomeKind kind) noexcept {
  const auto index = static_cast<std::size_t>(kind);
  return index < kOutcomeNames.size() ? kOutcomeNames[index] : "unknown";
}

std::optional<OutcomeKind> outcome_kind_from(std::string_view name) noexcept {
  const auto found = std::ranges::find(kOutcomeNames, name);
  if (found == kOutcomeNames.end()) return std::nullopt;
  return static_cast<OutcomeKind>(found - kOutcomeNames.begin());
}

Outcome Outcome::delivered(std::string record_id) {
  Outcome outcome;
  outcome.record_id = std::move(record_id);
  return outcome;
}

Outcome Outcome::of(OutcomeKind kind, std::string code, std::string message,
                    Milliseconds retry_after) {
  Outcome outcome;
  outcome.kind = kind;
  outcome.retry_after = retry_after;
  outcome.error =
      std::make_unique<DeliveryError>(DeliveryError{std::move(code), std::move(message)});
  return outcome;
}

Outcome Outcome::refused_unsent(std::string code, std::string message) {
  Outcome outcome = of(OutcomeKind::failed, std::move(code), std::move(message));
  outcome.destination_asked = false;
  return outcome;
}

}  // namespace outfall
