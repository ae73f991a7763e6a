// Random lives of entries: whatever the outcomes, terminal statuses absorb, attempts never
// decrease, an outage spends none and never dead-letters, and no entry ever comes back at once
// after a failure.
#include <gtest/gtest.h>

#include "core/transition.h"
#include "tests/support/random.h"

namespace outfall {
namespace {

using test::SeededRandom;

struct Entry {
  EntryStatus status = EntryStatus::pending;
  std::int32_t attempts = 0;
  std::int32_t attempts_base = 0;
};

StreamPolicy random_policy(Random& random) {
  StreamPolicy policy;
  policy.retry.initial = Milliseconds{static_cast<std::int64_t>(random.up_to(5000))};
  policy.retry.max =
      policy.retry.initial + Milliseconds{static_cast<std::int64_t>(random.up_to(60'000))};
  policy.retry.max_attempts = static_cast<std::int32_t>(random.up_to(5));
  policy.retry.max_age = Milliseconds{static_cast<std::int64_t>(random.up_to(2) * 1000)};
  policy.ordering = random.up_to(1) == 0 ? Ordering::none : Ordering::key;
  policy.on_dead_letter =
      random.up_to(1) == 0 ? OnDeadLetter::continue_key : OnDeadLetter::hold_key;
  return policy;
}

Outcome random_outcome(Random& random) {
  Outcome outcome;
  outcome.kind = static_cast<OutcomeKind>(random.up_to(kOutcomeKinds - 1));
  outcome.connection_lost = random.up_to(1) == 0;
  outcome.retry_after = Milliseconds{static_cast<std::int64_t>(random.up_to(20'000)) - 5000};
  if (random.up_to(1) == 0)
    outcome.error = std::make_unique<DeliveryError>(DeliveryError{"c", "m"});
  return outcome;
}

// Not the message's fault, whatever the policy.
bool is_outage(const Outcome& outcome, const AttemptContext& context) {
  switch (outcome.kind) {
    case OutcomeKind::destination_unavailable:
    case OutcomeKind::blocked:
    case OutcomeKind::deferred:
    case OutcomeKind::pending:
    case OutcomeKind::shutdown:
      return true;
    case OutcomeKind::possibly_delivered:
      return outcome.connection_lost || context.suspect;
    default:
      return false;
  }
}

void check(const Outcome& outcome, const AttemptContext& context, const StreamPolicy& policy,
           const Transition& transition) {
  const EntryStatus next = transition.next.value_or(EntryStatus::pending);
  if (is_outage(outcome, context)) {
    EXPECT_FALSE(transition.counts_attempt);
    EXPECT_FALSE(is_terminal(next));
  }
  if (next == EntryStatus::retryable_failure || next == EntryStatus::deferred) {
    EXPECT_GE(transition.delay, Milliseconds{1});
    EXPECT_LE(transition.delay, kMaxDeferral);
  }
  EXPECT_EQ(next == EntryStatus::delivered, outcome.kind == OutcomeKind::delivered);
  EXPECT_EQ(next == EntryStatus::dead_lettered, !transition.reason_code.empty());
  // In a stream with order, whatever is not finished stands in the way of its key.
  if (!is_terminal(next)) {
    EXPECT_EQ(transition.blocks_key, policy.ordering == Ordering::key);
  }
}

void live(std::uint64_t seed) {
  SeededRandom random(seed);
  const StreamPolicy policy = random_policy(random);
  Entry entry;
  for (int step = 0; step < 40 && !is_terminal(entry.status); ++step) {
    const AttemptContext context{.attempts = entry.attempts,
                                 .attempts_base = entry.attempts_base,
                                 .age = Milliseconds{static_cast<std::int64_t>(random.up_to(4000))},
                                 .suspect = random.up_to(3) == 0};
    const Outcome outcome = random_outcome(random);
    const Transition transition = decide(outcome, context, policy, random);
    check(outcome, context, policy, transition);
    const EntryStatus next = transition.next.value_or(entry.status);
    EXPECT_TRUE(is_legal(entry.status, next));
    entry.status = next;
    entry.attempts += transition.counts_attempt ? 1 : 0;
    if (policy.retry.max_attempts > 0) {
      EXPECT_LE(entry.attempts - entry.attempts_base, policy.retry.max_attempts);
    }
    if (entry.status == EntryStatus::dead_lettered && random.up_to(1) == 0) {
      // A replay keeps the attempts and gives the entry a new allowance.
      entry.status = EntryStatus::deferred;
      entry.attempts_base = entry.attempts;
    }
  }
  for (const EntryStatus to : {EntryStatus::pending, EntryStatus::held, EntryStatus::deferred,
                               EntryStatus::retryable_failure}) {
    EXPECT_EQ(is_legal(entry.status, to), !is_terminal(entry.status));
  }
}

TEST(TransitionProperty, HoldsOverRandomLives) {
  for (std::uint64_t seed = 0; seed < 20'000; ++seed) {
    live(seed);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

TEST(TransitionProperty, AnOutageOfAnyLengthSpendsNothing) {
  SeededRandom random(10);
  StreamPolicy policy;
  policy.retry.max_attempts = 1;
  policy.retry.max_age = Milliseconds{1};
  for (int i = 0; i < 100'000; ++i) {
    const AttemptContext context{
        .attempts = 5, .age = std::chrono::hours{10'000}, .suspect = random.up_to(1) == 0};
    const Outcome outcome = random_outcome(random);
    if (!is_outage(outcome, context)) continue;
    const Transition transition = decide(outcome, context, policy, random);
    ASSERT_FALSE(transition.counts_attempt) << to_string(outcome.kind);
    ASSERT_TRUE(!transition.next || !is_terminal(*transition.next)) << to_string(outcome.kind);
  }
}

}  // namespace
}  // namespace outfall
