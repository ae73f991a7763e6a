// The pace of one endpoint: window, rate, pauses and the patience after a silence.
#include <gtest/gtest.h>

#include "emitters/webhook/endpoint.h"

namespace outfall::webhook {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class WebhookPace : public testing::Test {
 protected:
  void answer(milliseconds took = milliseconds{10}) {
    pace_.answered(now_, now_ + took, false, Milliseconds{-1});
    now_ += took;
  }
  void time_out() {
    const MonotonicTime started = now_;
    now_ += pace_.timeout();
    pace_.unanswered(started, now_, true);
  }

  Pace::Limits limits_{.max_in_flight = 64, .timeout = Milliseconds{15'000}};
  Pace pace_{limits_};
  MonotonicTime now_{std::chrono::hours{1}};
};

TEST_F(WebhookPace, TheWindowDoublesWithEachRoundUpToTheLimit) {
  EXPECT_EQ(pace_.window(), 4U);
  for (int i = 0; i < 4; ++i) answer();
  EXPECT_EQ(pace_.window(), 8U);
  for (int i = 0; i < 1000; ++i) answer();
  EXPECT_EQ(pace_.window(), 64U);
}

TEST_F(WebhookPace, AnOverloadedEndpointGetsHalfOncePerRound) {
  for (int i = 0; i < 1000; ++i) answer();
  const MonotonicTime started = now_;
  for (int i = 0; i < 64; ++i) {
    pace_.answered(started, now_ + milliseconds{10 + i}, true, Milliseconds{-1});
  }
  EXPECT_EQ(pace_.window(), 32U);
  now_ += seconds{1};
  pace_.answered(now_, now_ + milliseconds{1}, true, Milliseconds{-1});
  EXPECT_EQ(pace_.window(), 16U);
  for (int i = 0; i < 100; ++i) {
    now_ += seconds{1};
    pace_.answered(now_, now_ + milliseconds{1}, true, Milliseconds{-1});
  }
  EXPECT_EQ(pace_.window(), 1U) << "never none";
}

TEST_F(WebhookPace, AnEndpointThatIsGoneBeginsAnew) {
  for (int i = 0; i < 1000; ++i) answer();
  pace_.unanswered(now_, now_ + milliseconds{1}, false);
  EXPECT_EQ(pace_.window(), 4U);
}

TEST_F(WebhookPace, RetryAfterHoldsTheEndpointForAWhile) {
  pace_.answered(now_, now_, true, Milliseconds{7000});
  EXPECT_EQ(pace_.next_at(now_), now_ + seconds{7});
  EXPECT_FALSE(pace_.is_rested(now_));
  pace_.answered(now_, now_, true, Milliseconds{3'600'000});
  EXPECT_EQ(pace_.next_at(now_), now_ + seconds{30}) << "an hour is the entry's own affair";
}

TEST_F(WebhookPace, WithoutARateNothingWaits) {
  pace_.spend(1'000'000, now_);
  EXPECT_LE(pace_.next_at(now_), now_);
}

TEST_F(WebhookPace, TheRateHoldsOverAnyLongerTime) {
  limits_.rate_per_second = 50;
  int sent = 0;
  const MonotonicTime end = now_ + seconds{10};
  while (now_ < end) {
    const MonotonicTime at = pace_.next_at(now_);
    if (at > now_) {
      ASSERT_LE(at - now_, milliseconds{21});
      now_ = at;
      continue;
    }
    pace_.spend(1, now_);
    ++sent;
  }
  EXPECT_GE(sent, 500);
  EXPECT_LE(sent, 500 + 6) << "a burst of a tenth of a second";
}

TEST_F(WebhookPace, ABatchIsPaidBack) {
  limits_.rate_per_second = 10;
  pace_.spend(21, now_);
  EXPECT_EQ(std::chrono::ceil<milliseconds>(pace_.next_at(now_) - now_), milliseconds{2100});
}

TEST_F(WebhookPace, AfterASilenceItAsksForShorterSoThatTheReturnIsNoticed) {
  answer(milliseconds{30});
  EXPECT_EQ(pace_.timeout(), Milliseconds{15'000});
  for (int i = 0; i < 3; ++i) {
    time_out();
    EXPECT_EQ(pace_.timeout(), Milliseconds{2'000});
  }
  time_out();
  EXPECT_EQ(pace_.timeout(), Milliseconds{4'200}) << "silent for 21 s";
  time_out();
  EXPECT_EQ(pace_.timeout(), Milliseconds{2'000});
  answer();
  EXPECT_EQ(pace_.timeout(), Milliseconds{15'000});
}

TEST_F(WebhookPace, NoProbeHoldsAReturnUpByMoreThanAFifthOfTheSilence) {
  const MonotonicTime begun = now_;
  time_out();
  int whole = 0;
  for (int i = 0; i < 40; ++i) {
    const Milliseconds probe = pace_.timeout();
    EXPECT_GE(probe, Milliseconds{2'000});
    EXPECT_LE(probe, std::max<MonotonicTime::duration>(Milliseconds{2'000}, (now_ - begun) / 5));
    if (probe == Milliseconds{15'000}) ++whole;
    time_out();
  }
  EXPECT_GE(whole, 5) << "for an endpoint that has become slow";
}

// It hangs for 20 s, and then takes 4 s for each that it is sent.
TEST_F(WebhookPace, AnEndpointThatIsBackAndSlowGetsFewCopies) {
  const MonotonicTime back = now_ + seconds{20};
  milliseconds pause{200};  // a breaker's, at its longest
  int cut = 0;
  while (now_ < back || pace_.timeout() <= milliseconds{4000}) {
    if (now_ >= back) ++cut;
    ASSERT_LE(cut, 3);
    time_out();
    now_ += pause;
    pause = std::min(2 * pause, milliseconds{3000});
  }
  EXPECT_LE(now_ - back, seconds{15});
  answer(seconds{4});
  EXPECT_TRUE(pace_.is_slow());
  time_out();
  EXPECT_EQ(pace_.timeout(), Milliseconds{15'000}) << "what it took is known now";
}

TEST_F(WebhookPace, OnlyWhatMakesProbesLongerIsSlow) {
  EXPECT_FALSE(pace_.is_slow());
  answer(milliseconds{500});
  EXPECT_FALSE(pace_.is_slow());
  answer(milliseconds{501});
  EXPECT_TRUE(pace_.is_slow());
}

TEST_F(WebhookPace, ASlowEndpointIsGivenItsTimeAlsoAfterASilence) {
  answer(milliseconds{3000});
  time_out();
  EXPECT_EQ(pace_.timeout(), Milliseconds{12'000});
}

TEST_F(WebhookPace, RequestsThatTimeOutTogetherAreOneSilence) {
  const MonotonicTime started = now_;
  now_ += seconds{15};
  for (int i = 0; i < 64; ++i) pace_.unanswered(started, now_, true);
  EXPECT_EQ(pace_.timeout(), Milliseconds{2'000});
}

TEST_F(WebhookPace, KnowsASilence) {
  EXPECT_TRUE(pace_.silent_since(now_));
  const MonotonicTime before = now_;
  answer();
  EXPECT_FALSE(pace_.silent_since(before));
  EXPECT_TRUE(pace_.silent_since(now_ + milliseconds{1}));
}

}  // namespace
}  // namespace outfall::webhook
