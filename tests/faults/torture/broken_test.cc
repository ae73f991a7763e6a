// Goal: the torture notices a rule that is left out. Method: its own program, real servers, one
// rule at a time, taken out of the SQL of a fresh schema or of the worker; each must be noticed as
// what it breaks. That the texts to replace are still there is tested with it.
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/child_process.h"

namespace outfall::torture {
namespace {

class TortureBroken : public testing::TestWithParam<const char*> {};

TEST_P(TortureBroken, IsNoticedAsWhatItBreaks) {
  const test::Finished finished =
      test::run({OUTFALL_TORTURE, "--broken", GetParam()}, {}, std::chrono::minutes(8));
  EXPECT_EQ(finished.status.code, 0) << finished.error_output;
  EXPECT_NE(finished.output.find("is noticed"), std::string::npos) << finished.output;
  std::cout << finished.output;
}

std::vector<const char*> broken_builds() {
  std::vector<const char*> names = {"fencing-off", "order-off", "renewal-off"};
#ifdef OUTFALL_CRASH_POINTS
  names.push_back("settle-before-answer");
#endif
  return names;
}

INSTANTIATE_TEST_SUITE_P(Rules, TortureBroken, testing::ValuesIn(broken_builds()),
                         [](const auto& test) {
                           std::string name(test.param);
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

// Without faults that matter nothing is found: what the test above sees is the rule's absence.
TEST(TortureWhole, TheSameRunsFindNothingWhereNoRuleIsMissing) {
  const test::Finished finished =
      test::run({OUTFALL_TORTURE, "--run", "noop/F4-slow+F3-freeze/any/1", "--run",
                 "webhook/F13-slow-sink.delay/any/1", "--run", "noop/F4-slow/any/1", "--quick"},
                {}, std::chrono::minutes(8));
  EXPECT_EQ(finished.status.code, 0) << finished.error_output << finished.output;
}

// The short form of a soak. Whether anything grows is for the long one to say.
TEST(TortureSoak, AShortOneIsClean) {
  const test::Finished finished =
      test::run({OUTFALL_TORTURE, "--soak", "20s", "--rate", "1000", "--workers", "2"}, {},
                std::chrono::minutes(8));
  EXPECT_EQ(finished.status.code, 0) << finished.error_output << finished.output;
  EXPECT_NE(finished.output.find("0 lost, 0 phantom"), std::string::npos) << finished.output;
}

// One that waited for lines which its workers did not log never struck, and the soak was content.
TEST(TortureSoak, AWorkerWithAWrongClockIsAmongItsFaults) {
  const test::Finished finished = test::run(
      {OUTFALL_TORTURE, "--soak", "20s", "--kind", "F5-clock", "--rate", "200", "--workers", "2"},
      {}, std::chrono::minutes(8));
  EXPECT_EQ(finished.status.code, 0) << finished.error_output << finished.output;
  EXPECT_NE(finished.output.find(" faults: "), std::string::npos) << finished.output;
  EXPECT_NE(finished.output.find(" F5-clock\n"), std::string::npos) << finished.output;
  EXPECT_EQ(finished.output.find("did not strike"), std::string::npos) << finished.output;
}

// It ran for its time and said that nothing was noticed, as if the torture were blind.
TEST(TortureSoak, ABrokenBuildThatItCannotShowIsRefusedWithTheCommandThatShowsIt) {
  for (const char* name : {"fencing-off", "renewal-off"}) {
    const test::Finished finished = test::run({OUTFALL_TORTURE, "--soak", "20s", "--broken", name},
                                              {}, std::chrono::minutes(2));
    EXPECT_EQ(finished.status.code, 64);
    EXPECT_NE(finished.error_output.find(std::string("ops/torture --broken ") + name),
              std::string::npos)
        << finished.error_output;
  }
}

}  // namespace
}  // namespace outfall::torture
