// Goal: who asks the torture for what there is not is told so at once, with 64 as by all programs
// here. Method: its own program, without servers.

#include <chrono>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/child_process.h"

namespace outfall::torture {
namespace {

struct Mistake {
  std::vector<std::string> options;
  std::string told;
};

TEST(TortureUsage, AMistakeEndsWith64AndIsNamed) {
  const std::vector<Mistake> mistakes = {
      {{"--nothing"}, "--nothing"},
      {{"--list", "--seed", "x"}, "x is no whole number"},
      {{"--list", "--seed", "-1"}, "-1 is no whole number"},
      {{"--list", "--seed", "18446744073709551616"}, "is no whole number"},
      {{"--run", "noop/F1-sigkill/any/18446744073709551616"}, "emitter/fault/step/seed"},
      {{"--run", "noop/F99/any/1"}, "--run noop/F99/any/1: there is no fault F99"},
      {{"--run", "noop/F12-sink/any/1"}, "does not apply to noop"},
      {{"--run", "noop/F1-sigkill/S9/1"}, "cannot be placed at S9"},
      {{"--kind", "F99"}, "no run has this fault"},
      {{"--soak", "20s", "--kind", "F99"}, "it has F1-sigkill, F2-sigterm"},
      {{"--soak", "20s", "--run", "noop/F1-sigkill/any/1"}, "--run"},
      {{"--broken", "nothing"}, "nothing"},
  };
  for (const Mistake& each : mistakes) {
    std::vector<std::string> command = {OUTFALL_TORTURE};
    command.insert(command.end(), each.options.begin(), each.options.end());
    const test::Finished finished = test::run(command, {}, std::chrono::minutes(2));
    EXPECT_EQ(finished.status.code, 64) << each.told << ": " << finished.error_output;
    EXPECT_NE(finished.error_output.find(each.told), std::string::npos) << finished.error_output;
    EXPECT_EQ(finished.output, "");
  }
}

TEST(TortureUsage, TheLargestSeedIsOne) {
  const test::Finished finished =
      test::run({OUTFALL_TORTURE, "--list", "--seed", "18446744073709551615"});
  EXPECT_EQ(finished.status.code, 0) << finished.error_output;
}

}  // namespace
}  // namespace outfall::torture
