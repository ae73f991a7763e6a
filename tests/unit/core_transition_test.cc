// One row of the design's table of outcomes after the other, then the limits and delays.
#include <algorithm>

#include <gtest/gtest.h>

#include "core/transition.h"
#include "tests/support/random.h"

namespace outfall {
namespace {

using test::SeededRandom;

struct Row {
  const char* name;
  OutcomeKind kind;
  bool connection_lost = false;
  bool suspect = false;
  bool destination_suspect = false;
  bool destination_asked = true;
  bool parks_destination = false;
  std::optional<EntryStatus> next = std::nullopt;
  bool counts = false;
  bool blocks_key = true;
  bool possible_duplicate = false;
  BreakerSignal breaker = BreakerSignal::nothing;
  std::string_view code = "sink.code";
  std::string_view reason = "";
  bool delayed = false;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

constexpr auto kRetry = EntryStatus::retryable_failure;

const Row kRows[] = {
    {.name = "delivered",
     .kind = OutcomeKind::delivered,
     .next = EntryStatus::delivered,
     .counts = true,
     .blocks_key = false,
     .breaker = BreakerSignal::answered,
     .code = ""},
    {.name = "retryable_failure",
     .kind = OutcomeKind::retryable_failure,
     .next = kRetry,
     .counts = true,
     .delayed = true},
    {.name = "possibly_delivered",
     .kind = OutcomeKind::possibly_delivered,
     .next = kRetry,
     .counts = true,
     .possible_duplicate = true,
     .breaker = BreakerSignal::failure,
     .delayed = true},
    {.name = "possibly_delivered_connection_lost",
     .kind = OutcomeKind::possibly_delivered,
     .connection_lost = true,
     .next = kRetry,
     .counts = false,
     .possible_duplicate = true,
     .breaker = BreakerSignal::failure,
     .delayed = true},
    {.name = "possibly_delivered_suspect",
     .kind = OutcomeKind::possibly_delivered,
     .suspect = true,
     .next = kRetry,
     .counts = false,
     .possible_duplicate = true,
     .breaker = BreakerSignal::failure,
     .delayed = true},
    {.name = "failed",
     .kind = OutcomeKind::failed,
     .next = EntryStatus::dead_lettered,
     .counts = true,
     .blocks_key = false,
     .breaker = BreakerSignal::answered,
     .reason = "sink.code"},
    {.name = "failed_before_anything_was_sent",
     .kind = OutcomeKind::failed,
     .destination_asked = false,
     .next = EntryStatus::dead_lettered,
     .counts = true,
     .blocks_key = false,
     .reason = "sink.code"},
    {.name = "dead_lettered",
     .kind = OutcomeKind::dead_lettered,
     .next = EntryStatus::dead_lettered,
     .counts = true,
     .blocks_key = false,
     .breaker = BreakerSignal::answered,
     .reason = "sink.code"},
    {.name = "deferred",
     .kind = OutcomeKind::deferred,
     .next = EntryStatus::deferred,
     .delayed = true},
    {.name = "destination_suspect",
     .kind = OutcomeKind::retryable_failure,
     .destination_suspect = true,
     .next = kRetry,
     .counts = true,
     .breaker = BreakerSignal::failure,
     .delayed = true},
    {.name = "destination_suspect_while_its_breaker_is_open",
     .kind = OutcomeKind::retryable_failure,
     .suspect = true,
     .destination_suspect = true,
     .next = kRetry,
     .breaker = BreakerSignal::failure,
     .delayed = true},
    {.name = "destination_unavailable",
     .kind = OutcomeKind::destination_unavailable,
     .next = std::nullopt,
     .breaker = BreakerSignal::unavailable},
    {.name = "destination_gone",
     .kind = OutcomeKind::destination_unavailable,
     .parks_destination = true,
     .next = std::nullopt,
     .breaker = BreakerSignal::unavailable},
    {.name = "blocked", .kind = OutcomeKind::blocked, .next = EntryStatus::held, .code = ""},
    {.name = "pending",
     .kind = OutcomeKind::pending,
     .next = EntryStatus::deferred,
     .possible_duplicate = true,
     .breaker = BreakerSignal::answered,
     .code = "emission.pending",
     .delayed = true},
    {.name = "exception",
     .kind = OutcomeKind::exception,
     .next = kRetry,
     .counts = true,
     .code = "emission.exception",
     .delayed = true},
    {.name = "shutdown", .kind = OutcomeKind::shutdown, .next = std::nullopt, .code = ""},
};

class TransitionTable : public testing::TestWithParam<Row> {};

TEST_P(TransitionTable, Row) {
  const Row& row = GetParam();
  SeededRandom random(8);
  Outcome outcome = Outcome::of(row.kind, "sink.code", "what the sink said");
  outcome.connection_lost = row.connection_lost;
  outcome.destination_suspect = row.destination_suspect;
  outcome.destination_asked = row.destination_asked;
  outcome.parks_destination = row.parks_destination;
  const AttemptContext context{.attempts = 3, .suspect = row.suspect};
  for (const Ordering ordering : {Ordering::key, Ordering::none}) {
    const StreamPolicy policy{.ordering = ordering};
    const Transition transition = decide(outcome, context, policy, random);
    EXPECT_EQ(transition.next, row.next);
    EXPECT_EQ(transition.counts_attempt, row.counts);
    EXPECT_EQ(transition.blocks_key, row.blocks_key && ordering == Ordering::key);
    EXPECT_EQ(transition.possible_duplicate, row.possible_duplicate);
    EXPECT_EQ(transition.breaker, row.breaker);
    EXPECT_EQ(transition.parks_destination, row.parks_destination);
    EXPECT_EQ(transition.error_code, row.code);
    EXPECT_EQ(transition.error_message, row.code.empty() ? "" : "what the sink said");
    EXPECT_EQ(transition.reason_code, row.reason);
    EXPECT_EQ(transition.reason, row.reason.empty() ? "" : "what the sink said");
    EXPECT_EQ(transition.delay.count() > 0, row.delayed);
  }
}

std::string name_of(const testing::TestParamInfo<Row>& info) {
  return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Design, TransitionTable, testing::ValuesIn(kRows), name_of);

TEST(TransitionTableTest, HasARowForEveryOutcome) {
  for (std::size_t i = 0; i < kOutcomeKinds; ++i) {
    EXPECT_TRUE(std::ranges::any_of(kRows, [&](const Row& row) {
      return row.kind == static_cast<OutcomeKind>(i);
    })) << i;
  }
}

class Transitions : public testing::Test {
 protected:
  Transition after(OutcomeKind kind, AttemptContext context = {},
                   Milliseconds retry_after = Milliseconds{-1}) {
    return decide(Outcome::of(kind, "sink.code", "said", retry_after), context, policy_, random_);
  }

  StreamPolicy policy_;
  SeededRandom random_{9};
};

constexpr OutcomeKind kCountedFailures[] = {OutcomeKind::retryable_failure, OutcomeKind::exception,
                                            OutcomeKind::possibly_delivered};

TEST_F(Transitions, TheLastAllowedAttemptDeadLetters) {
  policy_.retry.max_attempts = 3;
  for (const OutcomeKind kind : kCountedFailures) {
    EXPECT_EQ(after(kind, {.attempts = 1}).next, kRetry);
    const Transition last = after(kind, {.attempts = 2});
    EXPECT_EQ(last.next, EntryStatus::dead_lettered);
    EXPECT_TRUE(last.counts_attempt);
    EXPECT_EQ(last.reason_code, "outbox.max_retry_attempts_exceeded");
    EXPECT_NE(last.reason.find("attempt 3 of 3 failed"), std::string::npos) << last.reason;
    EXPECT_EQ(last.delay, Milliseconds{0});
  }
  EXPECT_EQ(after(OutcomeKind::retryable_failure, {.attempts = 2}).error_code, "sink.code");
}

TEST_F(Transitions, AttemptsBeforeAReplayUseUpNoLimit) {
  policy_.retry.max_attempts = 3;
  EXPECT_EQ(after(OutcomeKind::retryable_failure, {.attempts = 4, .attempts_base = 3}).next,
            kRetry);
  EXPECT_EQ(after(OutcomeKind::retryable_failure, {.attempts = 5, .attempts_base = 3}).next,
            EntryStatus::dead_lettered);
}

TEST_F(Transitions, WithoutALimitOnAttemptsNoneDeadLetters) {
  policy_.retry.max_attempts = 0;
  EXPECT_EQ(after(OutcomeKind::retryable_failure, {.attempts = INT32_MAX - 1}).next, kRetry);
}

TEST_F(Transitions, AgeCountsFromTheSecondFailureOnAndOnlyWhereSet) {
  const Milliseconds old = std::chrono::hours{1000};
  EXPECT_EQ(after(OutcomeKind::retryable_failure, {.attempts = 1, .age = old}).next, kRetry);
  policy_.retry.max_age = std::chrono::hours{1};
  EXPECT_EQ(after(OutcomeKind::retryable_failure, {.attempts = 0, .age = old}).next, kRetry);
  EXPECT_EQ(
      after(OutcomeKind::retryable_failure, {.attempts = 3, .attempts_base = 3, .age = old}).next,
      kRetry);
  EXPECT_EQ(
      after(OutcomeKind::retryable_failure, {.attempts = 1, .age = std::chrono::minutes{59}}).next,
      kRetry);
  const Transition last = after(OutcomeKind::retryable_failure, {.attempts = 1, .age = old});
  EXPECT_EQ(last.next, EntryStatus::dead_lettered);
  EXPECT_EQ(last.reason_code, "outbox.max_retry_attempts_exceeded");
  EXPECT_NE(last.reason.find("after more than 1h"), std::string::npos) << last.reason;
}

TEST_F(Transitions, AnUncountedAnswerNeverDeadLetters) {
  policy_.retry.max_attempts = 1;
  policy_.retry.max_age = Milliseconds{1};
  Outcome lost = Outcome::of(OutcomeKind::possibly_delivered, "sink.reset", "");
  lost.connection_lost = true;
  const AttemptContext spent{.attempts = 100, .age = std::chrono::hours{1000}};
  EXPECT_EQ(decide(lost, spent, policy_, random_).next, kRetry);
}

TEST_F(Transitions, HoldKeyBlocksTheKeyOfADeadLetter) {
  policy_.on_dead_letter = OnDeadLetter::hold_key;
  policy_.retry.max_attempts = 1;
  for (const OutcomeKind kind :
       {OutcomeKind::failed, OutcomeKind::dead_lettered, OutcomeKind::retryable_failure}) {
    policy_.ordering = Ordering::key;
    EXPECT_TRUE(after(kind).blocks_key);
    policy_.ordering = Ordering::none;
    EXPECT_FALSE(after(kind).blocks_key);
  }
}

TEST_F(Transitions, RetriesWaitLongerWithEachFailureAndAsLongAsTheSinkAsks) {
  policy_.retry = {.initial = Milliseconds{1000},
                   .max = Milliseconds{64'000},
                   .retry_after_max = Milliseconds{100'000}};
  Milliseconds longest{0};
  for (int i = 0; i < 500; ++i) {
    EXPECT_LE(after(OutcomeKind::retryable_failure, {.attempts = 0}).delay, Milliseconds{1000});
    longest = std::max(longest, after(OutcomeKind::exception, {.attempts = 9}).delay);
    // A replay begins with short pauses again.
    EXPECT_LE(after(OutcomeKind::exception, {.attempts = 9, .attempts_base = 9}).delay,
              Milliseconds{1000});
  }
  EXPECT_GT(longest, Milliseconds{32'000});
  EXPECT_EQ(after(OutcomeKind::retryable_failure, {}, Milliseconds{90'000}).delay,
            Milliseconds{90'000});
  EXPECT_EQ(after(OutcomeKind::retryable_failure, {}, std::chrono::hours{50}).delay,
            Milliseconds{100'000});
}

TEST_F(Transitions, DeferralsWaitAsAskedWithinBounds) {
  policy_.defer_delay = Milliseconds{12'345};
  EXPECT_EQ(after(OutcomeKind::deferred).delay, Milliseconds{12'345});
  EXPECT_EQ(after(OutcomeKind::pending).delay, Milliseconds{12'345});
  EXPECT_EQ(after(OutcomeKind::deferred, {}, Milliseconds{777}).delay, Milliseconds{777});
  EXPECT_EQ(after(OutcomeKind::deferred, {}, Milliseconds{0}).delay, minimum_pause(policy_.retry));
  EXPECT_EQ(after(OutcomeKind::deferred, {}, Milliseconds::max()).delay, kMaxDeferral);
}

TEST_F(Transitions, ErrorsAreMadeFitToBeStored) {
  const Outcome outcome = Outcome::of(OutcomeKind::failed, "",
                                      "https://joe:secret@host\nfailed " + std::string(5000, 'x'));
  const Transition transition = decide(outcome, {}, policy_, random_);
  EXPECT_EQ(transition.error_code, "emission.failed");
  EXPECT_EQ(transition.reason_code, "emission.failed");
  EXPECT_TRUE(transition.error_message.starts_with("https://***@host failed xx"));
  EXPECT_LE(transition.reason.size(), kMaxErrorMessageBytes);
  policy_.retry.max_attempts = 1;
  EXPECT_LE(decide(Outcome::of(OutcomeKind::retryable_failure, "c", std::string(5000, 'x')), {},
                   policy_, random_)
                .reason.size(),
            kMaxErrorMessageBytes);
}

TEST_F(Transitions, AnOutcomeWithoutAnErrorStillHasACode) {
  for (const OutcomeKind kind :
       {OutcomeKind::failed, OutcomeKind::retryable_failure, OutcomeKind::possibly_delivered,
        OutcomeKind::dead_lettered, OutcomeKind::destination_unavailable}) {
    Outcome outcome;
    outcome.kind = kind;
    EXPECT_EQ(decide(outcome, {}, policy_, random_).error_code, "emission.failed");
  }
  Outcome deferred;
  deferred.kind = OutcomeKind::deferred;
  EXPECT_EQ(decide(deferred, {}, policy_, random_).error_code, "");
}

}  // namespace
}  // namespace outfall
