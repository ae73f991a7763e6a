// Goal: a soak that did not play what it was to play does not pass. Method: hand-made outcomes.

#include "tests/faults/torture/soak_faults.h"

#include <gtest/gtest.h>

namespace outfall::torture {
namespace {

Injection injection_of(const std::string& kind, const std::string& mode = {}) {
  Injection injection;
  injection.kind = kind;
  injection.mode = mode;
  injection.step = "any";
  return injection;
}

using Texts = std::vector<std::string>;

TEST(TortureSoakFaults, AKindThatWasTriedAndNeverStruckIsNotReached) {
  SoakFaults faults;
  faults.struck(injection_of("F1-sigkill"));
  faults.missed(injection_of("F5-clock", "ahead"));
  faults.missed(injection_of("F5-clock", "jump-behind"));
  EXPECT_EQ(faults.problems(true), (Texts{"not reached: F5-clock.ahead at any"}));
  EXPECT_EQ(faults.told(), "1 faults: 1 F1-sigkill; tried, and did not strike: 2 F5-clock");
}

TEST(TortureSoakFaults, AKindThatStruckAnotherTimeIsToldOnly) {
  SoakFaults faults;
  faults.missed(injection_of("F23-deadlock"));
  faults.struck(injection_of("F23-deadlock"));
  EXPECT_EQ(faults.problems(true), Texts{});
  EXPECT_EQ(faults.told(), "1 faults: 1 F23-deadlock; tried, and did not strike: 1 F23-deadlock");
  EXPECT_EQ(faults.missed(), (Texts{"F23-deadlock"}));
}

TEST(TortureSoakFaults, ASoakWithoutAnyShowsNothingUnlessItIsTooShortForOne) {
  EXPECT_EQ(SoakFaults().problems(true), (Texts{"not reached: any fault"}));
  EXPECT_EQ(SoakFaults().problems(false), Texts{});
}

}  // namespace
}  // namespace outfall::torture
