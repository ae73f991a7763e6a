#include "core/transition.h"

#include <algorithm>

#include "core/error_text.h"
#include "core/quantity.h"

namespace outfall {
namespace {

class Decision {
 public:
  Decision(const Outcome& outcome, const AttemptContext& context, const StreamPolicy& policy,
           Random& random)
      : outcome_(outcome), context_(context), policy_(policy), random_(random) {}

  Transition take() {
    switch (outcome_.kind) {
      case OutcomeKind::delivered:
        result_.next = EntryStatus::delivered;
        result_.counts_attempt = true;
        result_.breaker = BreakerSignal::answered;
        break;
      case OutcomeKind::retryable_failure:
        if (outcome_.destination_suspect) result_.breaker = BreakerSignal::failure;
        store_error(kEmissionFailed);
        retry(!outcome_.destination_suspect || !context_.suspect);
        break;
      case OutcomeKind::possibly_delivered:
        result_.possible_duplicate = true;
        result_.breaker = BreakerSignal::failure;
        store_error(kEmissionFailed);
        retry(!outcome_.connection_lost && !context_.suspect);
        break;
      case OutcomeKind::failed:
      case OutcomeKind::dead_lettered:
        result_.counts_attempt = true;
        if (outcome_.destination_asked) result_.breaker = BreakerSignal::answered;
        store_error(kEmissionFailed);
        dead_letter(result_.error_code, result_.error_message);
        break;
      case OutcomeKind::deferred:
        if (outcome_.error) store_error(kEmissionFailed);
        defer();
        break;
      case OutcomeKind::destination_unavailable:
        result_.breaker = BreakerSignal::unavailable;
        result_.parks_destination = outcome_.parks_destination;
        store_error(kEmissionFailed);
        give_back(std::nullopt);
        break;
      case OutcomeKind::blocked:
        give_back(EntryStatus::held);
        break;
      case OutcomeKind::pending:
        // The sink has accepted it, so it works, and sending it again may double it.
        result_.breaker = BreakerSignal::answered;
        result_.possible_duplicate = true;
        store_error(kEmissionPending);
        result_.error_code = kEmissionPending;
        defer();
        break;
      case OutcomeKind::exception:
        store_error(kEmissionException);
        result_.error_code = kEmissionException;
        retry(true);
        break;
      case OutcomeKind::shutdown:
        give_back(std::nullopt);
        break;
    }
    return std::move(result_);
  }

 private:
  [[nodiscard]] bool ordered() const { return policy_.ordering == Ordering::key; }

  void store_error(std::string_view fallback_code) {
    const std::string_view code = outcome_.error ? outcome_.error->code : std::string_view{};
    result_.error_code = storable_error_code(code, fallback_code);
    if (outcome_.error) result_.error_message = storable_error_message(outcome_.error->message);
  }

  void retry(bool counted) {
    result_.counts_attempt = counted;
    const std::int64_t before = std::int64_t{context_.attempts} - context_.attempts_base;
    if (counted && limit_reached(before)) return;
    result_.next = EntryStatus::retryable_failure;
    result_.delay = retry_pause(policy_.retry, before + 1, outcome_.retry_after, random_);
    result_.blocks_key = ordered();
  }

  // Whether this failure was the last one allowed; then the entry is a dead letter.
  bool limit_reached(std::int64_t before) {
    const RetryPolicy& limits = policy_.retry;
    std::string reached;
    if (limits.max_attempts > 0 && before + 1 >= limits.max_attempts) {
      reached = "attempt " + std::to_string(before + 1) + " of " +
                std::to_string(limits.max_attempts) + " failed";
    } else if (limits.max_age.count() > 0 && before >= 1 && context_.age >= limits.max_age) {
      reached = "attempt " + std::to_string(before + 1) + " failed after more than " +
                format_duration(limits.max_age);
    } else {
      return false;
    }
    dead_letter(kMaxRetryAttemptsExceeded,
                storable_error_message(reached + ": " + result_.error_code +
                                       (result_.error_message.empty() ? "" : ": ") +
                                       result_.error_message));
    return true;
  }

  void dead_letter(std::string_view code, std::string_view reason) {
    result_.next = EntryStatus::dead_lettered;
    result_.reason_code = code;
    result_.reason = reason;
    result_.blocks_key = ordered() && policy_.on_dead_letter == OnDeadLetter::hold_key;
  }

  void defer() {
    result_.next = EntryStatus::deferred;
    const Milliseconds wanted =
        outcome_.retry_after.count() >= 0 ? outcome_.retry_after : policy_.defer_delay;
    result_.delay = std::clamp(wanted, minimum_pause(policy_.retry), kMaxDeferral);
    result_.blocks_key = ordered();
  }

  void give_back(std::optional<EntryStatus> next) {
    result_.next = next;
    result_.blocks_key = ordered();
  }

  const Outcome& outcome_;
  const AttemptContext& context_;
  const StreamPolicy& policy_;
  Random& random_;
  Transition result_;
};

}  // namespace

Transition decide(const Outcome& outcome, const AttemptContext& context, const StreamPolicy& policy,
                  Random& random) {
  return Decision(outcome, context, policy, random).take();
}

}  // namespace outfall
