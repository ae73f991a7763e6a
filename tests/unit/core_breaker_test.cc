// The breaker: what opens it, that exactly one probe is out at a time, that its success closes at
// once, that pauses grow to a bound, and how open time is counted.
#include <gtest/gtest.h>

#include "core/breaker.h"
#include "tests/support/random.h"

namespace outfall {
namespace {

using Admission = Breaker::Admission;
using test::SeededRandom;

class BreakerTest : public testing::Test {
 protected:
  void pass(Milliseconds time) { now_ += time; }
  Admission admit() { return breaker_.admit(now_); }
  void record(BreakerSignal signal, bool probe = false) {
    breaker_.record(signal, probe, now_, random_);
  }
  void record_probe(BreakerSignal signal) { record(signal, true); }
  // How long until the next probe may go.
  Milliseconds pause() const {
    return std::chrono::duration_cast<Milliseconds>(breaker_.next_probe().value() - now_);
  }
  void wait_for_probe() {
    now_ = breaker_.next_probe().value();
    ASSERT_EQ(admit(), Admission::probe);
  }

  SeededRandom random_{6};
  MonotonicTime now_{std::chrono::hours{1}};
  Breaker breaker_{BreakerPolicy{
      .failures = 3, .probe_initial = Milliseconds{200}, .probe_max = Milliseconds{3000}}};
};

TEST_F(BreakerTest, StartsClosedAndSendsEverything) {
  EXPECT_EQ(breaker_.state(), BreakerState::closed);
  EXPECT_EQ(admit(), Admission::send);
  EXPECT_EQ(admit(), Admission::send);
  EXPECT_FALSE(breaker_.next_probe());
}

TEST_F(BreakerTest, OpensAtOnceWhenTheDestinationIsUnavailable) {
  record(BreakerSignal::unavailable);
  EXPECT_EQ(breaker_.state(), BreakerState::open);
  EXPECT_EQ(admit(), Admission::wait);
}

TEST_F(BreakerTest, OpensAfterFailuresInARowOnly) {
  record(BreakerSignal::failure);
  record(BreakerSignal::failure);
  record(BreakerSignal::answered);
  record(BreakerSignal::failure);
  record(BreakerSignal::nothing);
  record(BreakerSignal::failure);
  pass(Milliseconds{200});
  EXPECT_EQ(breaker_.state(), BreakerState::closed);
  record(BreakerSignal::failure);
  EXPECT_EQ(breaker_.state(), BreakerState::open);
}

TEST_F(BreakerTest, StaysClosedForTheFirstPauseAfterAnAnswer) {
  record(BreakerSignal::answered);
  pass(Milliseconds{199});
  for (int i = 0; i < 29; ++i) {
    EXPECT_EQ(breaker_.is_suspect(), i >= 3);
    record(BreakerSignal::failure);
  }
  EXPECT_EQ(breaker_.state(), BreakerState::closed);
  pass(Milliseconds{1});
  record(BreakerSignal::nothing);
  EXPECT_EQ(breaker_.state(), BreakerState::closed);
  record(BreakerSignal::failure);
  EXPECT_EQ(breaker_.state(), BreakerState::open);
  // A probe's answer is one, too.
  wait_for_probe();
  EXPECT_TRUE(breaker_.is_suspect());
  record_probe(BreakerSignal::answered);
  EXPECT_FALSE(breaker_.is_suspect());
  for (int i = 0; i < 29; ++i) record(BreakerSignal::failure);
  EXPECT_EQ(breaker_.state(), BreakerState::closed);
  record(BreakerSignal::unavailable);
  EXPECT_EQ(breaker_.state(), BreakerState::open);
}

TEST_F(BreakerTest, OpensSoonAfterAnAnswerWhenTenTimesAsManyFail) {
  record(BreakerSignal::answered);
  for (int i = 0; i < 29; ++i) record(BreakerSignal::failure);
  EXPECT_EQ(breaker_.state(), BreakerState::closed);
  record(BreakerSignal::failure);
  EXPECT_EQ(breaker_.state(), BreakerState::open);
}

TEST_F(BreakerTest, OpensAtOnceWhereNothingWasEverAnswered) {
  for (int i = 0; i < 3; ++i) record(BreakerSignal::failure);
  EXPECT_EQ(breaker_.state(), BreakerState::open);
}

TEST_F(BreakerTest, LetsExactlyOneProbeThroughWhenItsTimeHasCome) {
  record(BreakerSignal::unavailable);
  now_ = *breaker_.next_probe() - Milliseconds{1};
  EXPECT_EQ(admit(), Admission::wait);
  pass(Milliseconds{1});
  EXPECT_EQ(admit(), Admission::probe);
  EXPECT_EQ(breaker_.state(), BreakerState::half_open);
  pass(std::chrono::hours{1});
  EXPECT_EQ(admit(), Admission::wait);
  EXPECT_FALSE(breaker_.next_probe());
}

TEST_F(BreakerTest, AnAnsweredProbeClosesAtOnce) {
  record(BreakerSignal::unavailable);
  wait_for_probe();
  record_probe(BreakerSignal::answered);
  EXPECT_EQ(breaker_.state(), BreakerState::closed);
  EXPECT_EQ(admit(), Admission::send);
  EXPECT_EQ(admit(), Admission::send);
}

TEST_F(BreakerTest, PausesGrowWithFailedProbesUpToTheirBound) {
  record(BreakerSignal::unavailable);
  Milliseconds bound{200};
  for (int i = 0; i < 20; ++i) {
    EXPECT_GE(pause(), bound / 2);
    EXPECT_LE(pause(), bound);
    wait_for_probe();
    record_probe(i % 2 == 0 ? BreakerSignal::unavailable : BreakerSignal::failure);
    bound = std::min(bound * 2, Milliseconds{3000});
  }
  wait_for_probe();
  record_probe(BreakerSignal::answered);
  record(BreakerSignal::unavailable);
  EXPECT_LE(pause(), Milliseconds{200});
}

TEST_F(BreakerTest, AProbeThatSaysNothingLeavesItOpenWithoutALongerPause) {
  record(BreakerSignal::unavailable);
  for (int i = 0; i < 10; ++i) {
    wait_for_probe();
    record_probe(BreakerSignal::nothing);
    EXPECT_EQ(breaker_.state(), BreakerState::open);
    EXPECT_LE(pause(), Milliseconds{200});
    EXPECT_GE(pause(), Milliseconds{100});
  }
}

TEST_F(BreakerTest, AReturnedProbeMayBeTakenByAnother) {
  record(BreakerSignal::unavailable);
  wait_for_probe();
  breaker_.return_probe(now_);
  EXPECT_EQ(admit(), Admission::probe);
  EXPECT_EQ(admit(), Admission::wait);
}

TEST_F(BreakerTest, ReturningNoProbeChangesNothing) {
  breaker_.return_probe(now_);
  EXPECT_EQ(breaker_.state(), BreakerState::closed);
  record(BreakerSignal::unavailable);
  const auto probe_at = breaker_.next_probe();
  breaker_.return_probe(now_);
  EXPECT_EQ(breaker_.next_probe(), probe_at);
}

TEST_F(BreakerTest, OutcomesOfWhatWasSentBeforeItOpenedDoNotMoveIt) {
  record(BreakerSignal::unavailable);
  const auto probe_at = breaker_.next_probe();
  for (int i = 0; i < 100; ++i) record(BreakerSignal::unavailable);
  record(BreakerSignal::answered);
  EXPECT_EQ(breaker_.state(), BreakerState::open);
  EXPECT_EQ(breaker_.next_probe(), probe_at);
  wait_for_probe();
  record(BreakerSignal::answered);
  EXPECT_EQ(breaker_.state(), BreakerState::half_open);
  record_probe(BreakerSignal::answered);
  EXPECT_EQ(breaker_.state(), BreakerState::closed);
}

TEST_F(BreakerTest, CountsTheTimeInWhichItWasNotClosed) {
  EXPECT_EQ(breaker_.open_time(now_), Milliseconds{0});
  pass(Milliseconds{5000});
  record(BreakerSignal::unavailable);
  const MonotonicTime opened = now_;
  pass(Milliseconds{10});
  EXPECT_EQ(breaker_.open_time(now_), Milliseconds{10});
  wait_for_probe();
  pass(Milliseconds{700});
  record_probe(BreakerSignal::answered);
  const auto open = now_ - opened;
  EXPECT_EQ(breaker_.open_time(now_), open);
  pass(Milliseconds{5000});
  EXPECT_EQ(breaker_.open_time(now_), open);
  record(BreakerSignal::unavailable);
  pass(Milliseconds{3});
  EXPECT_EQ(breaker_.open_time(now_), open + Milliseconds{3});
}

TEST_F(BreakerTest, TakesANewPolicy) {
  breaker_.set_policy(
      {.failures = 1, .probe_initial = Milliseconds{50'000}, .probe_max = Milliseconds{50'000}});
  record(BreakerSignal::failure);
  EXPECT_EQ(breaker_.state(), BreakerState::open);
  EXPECT_GE(pause(), Milliseconds{25'000});
}

TEST_F(BreakerTest, NamesItsStates) {
  EXPECT_EQ(to_string(BreakerState::closed), "closed");
  EXPECT_EQ(to_string(BreakerState::open), "open");
  EXPECT_EQ(to_string(BreakerState::half_open), "half_open");
}

}  // namespace
}  // namespace outfall
