// Goal: a fault has taken place when it has met somebody, and is "not reached" otherwise. Method: a
// fault made by hand, a clock made by hand, no servers.

#include "tests/faults/torture/play.h"

#include <gtest/gtest.h>

namespace outfall::torture {
namespace {

constexpr std::int64_t kSecondUs = 1'000'000;

struct Seen {
  bool there = true;  // whom it can strike
  bool met = false;   // what it is about has happened
  int strikes = 0;
  int ticks = 0;
  int heals = 0;
  int given_up = 0;
  int records = 0;
};

class HandMade : public Playable {
 public:
  explicit HandMade(Seen& seen) : seen_(seen) { injection_.lasts_ms = 1000; }
  bool inject() override {
    if (seen_.there) ++seen_.strikes;
    return seen_.there;
  }
  void tick() override { ++seen_.ticks; }
  void heal() override { ++seen_.heals; }
  void give_up() override { ++seen_.given_up; }
  void record() override { ++seen_.records; }
  [[nodiscard]] const Injection& injection() const override { return injection_; }

 protected:
  void arm_again() {}
  Seen& seen_;
  Injection injection_;
};

class HandMadeWithWitness : public Witnessed<HandMade> {
 public:
  using Witnessed::Witnessed;

 private:
  [[nodiscard]] bool happened() override { return seen_.met; }
};

class TorturePlay : public testing::Test {
 protected:
  template <typename Fault>
  Play play() {
    return Play(std::make_unique<Fault>(seen_), [this] { return now_us_; });
  }
  void seconds(Play& play, int count) {
    for (int i = 0; i < count * 10 && !play.ended(); ++i) {
      now_us_ += kSecondUs / 10;
      play.advance(now_us_);
    }
  }
  Seen seen_;
  std::int64_t now_us_ = 0;
};

TEST_F(TorturePlay, AFaultThatStruckAndMetNobodyIsNotReached) {
  Play play = this->play<HandMadeWithWitness>();
  seconds(play, 59);
  EXPECT_FALSE(play.ended());
  seconds(play, 10);
  EXPECT_EQ(play.state(), Play::State::missed);
  EXPECT_EQ(seen_.strikes, 1);
  // What it did is taken back, and its line tells of it: it may have had consequences.
  EXPECT_EQ(seen_.heals, 1);
  EXPECT_EQ(seen_.records, 1);
  EXPECT_EQ(seen_.given_up, 0);
}

TEST_F(TorturePlay, AFaultLastsFromTheMomentWhenItHasMetSomebody) {
  Play play = this->play<HandMadeWithWitness>();
  seconds(play, 30);
  EXPECT_EQ(seen_.heals, 0);
  EXPECT_GT(seen_.ticks, 200);  // meanwhile it goes on
  seen_.met = true;
  seconds(play, 2);
  EXPECT_EQ(play.state(), Play::State::over);
  EXPECT_EQ(seen_.strikes, 1);
  EXPECT_EQ(seen_.heals, 1);
  EXPECT_EQ(seen_.records, 1);
}

TEST_F(TorturePlay, AFaultThatNeverStruckIsNotReachedAndHasNoLine) {
  seen_.there = false;
  Play play = this->play<HandMadeWithWitness>();
  seconds(play, 70);
  EXPECT_EQ(play.state(), Play::State::missed);
  EXPECT_EQ(seen_.given_up, 1);
  EXPECT_EQ(seen_.heals, 0);
  EXPECT_EQ(seen_.records, 0);
}

TEST_F(TorturePlay, AFaultThatNeedsNoWitnessHasTakenPlaceWhenItStruck) {
  Play play = this->play<HandMade>();
  seconds(play, 3);
  EXPECT_EQ(play.state(), Play::State::over);
  EXPECT_EQ(seen_.strikes, 1);
}

}  // namespace
}  // namespace outfall::torture
