// Goal: a torture in several processes is one to whoever starts it. Method: its own program, real
// servers, short runs.

#include <csignal>
#include <fstream>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/child_process.h"
#include "tests/support/temp_folder.h"

namespace outfall::torture {
namespace {

const std::vector<std::string> kTwoRunsInTwoJobs = {OUTFALL_TORTURE, "--quick",
                                                    "--jobs",        "2",
                                                    "--run",         "noop/F17-duplicate/any/1",
                                                    "--run",         "stdout/F1-sigkill/any/2"};

// Of several database servers beside whatever else the machine does.
constexpr std::chrono::minutes kServersDeadline{2};

// All that it has started and that still runs, also what has been left to init since.
std::vector<pid_t> descendants(pid_t pid) {
  const std::string task = std::to_string(pid);
  std::ifstream children("/proc/" + task + "/task/" + task + "/children");
  std::vector<pid_t> all;
  for (pid_t child = 0; children >> child;) {
    all.push_back(child);
    for (const pid_t each : descendants(child)) all.push_back(each);
  }
  return all;
}

bool runs(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(stat, text);
  const std::size_t name_end = text.rfind(')');
  return name_end != std::string::npos && text.compare(name_end + 2, 1, "Z") != 0;
}

TEST(TortureJobsWhole, TwoAtATimeAreOneTableAndOneFileOfFigures) {
  const test::TempFolder folder;
  std::vector<std::string> command = kTwoRunsInTwoJobs;
  command.insert(command.end(), {"--json", folder / "figures"});
  const test::Finished finished = test::run(command, {}, std::chrono::minutes(8));
  EXPECT_EQ(finished.status.code, 0) << finished.error_output << finished.output;
  EXPECT_NE(finished.output.find("| all                |    2 |"), std::string::npos)
      << finished.output;
  const std::string figures = test::read_file(folder / "figures");
  EXPECT_LT(figures.find("noop/F17-duplicate/any/1"), figures.find("stdout/F1-sigkill/any/2"));
  EXPECT_NE(figures.find(R"("runs":2)"), std::string::npos);
}

// By Ctrl-C, by kill, and by a crash of its own.
TEST(TortureJobsWhole, WhereItIsEndedSoIsEverythingThatItHasStarted) {
  for (const int signal : {SIGINT, SIGTERM, SIGKILL}) {
    test::ChildProcess torture(kTwoRunsInTwoJobs);
    std::vector<pid_t> started;
    // Two processes that play, each with a database server and its processes.
    constexpr std::size_t kAtWork = 12;
    test::wait_until([&] { return (started = descendants(torture.pid())).size() >= kAtWork; },
                     "both processes to have servers", kServersDeadline);
    torture.signal(signal);
    EXPECT_EQ(torture.wait().signal, signal);
    for (const pid_t pid : started)
      test::wait_until([&] { return !runs(pid); }, "all that it has started to be ended");
  }
}

TEST(TortureJobsWhole, WhatIsOneRunIsNotDealt) {
  const std::vector<std::vector<std::string>> options = {{"--broken", "order-off"},
                                                         {"--soak", "20s"}};
  for (const std::vector<std::string>& option : options) {
    std::vector<std::string> command = {OUTFALL_TORTURE, "--jobs", "2"};
    command.insert(command.end(), option.begin(), option.end());
    const test::Finished finished = test::run(command);
    EXPECT_NE(finished.status.code, 0);
    EXPECT_NE(finished.error_output.find("--jobs"), std::string::npos) << finished.error_output;
  }
}

// Its gates saw nothing of that, and no such run was ever reached.
TEST(TortureSinkWhole, AnEndpointThatIsKilledOrHangsIsMissedByWorkers) {
  const test::Finished finished =
      test::run({OUTFALL_TORTURE, "--quick", "--run", "webhook/F14-away.kill/any/1", "--run",
                 "webhook/F14-away.freeze/any/2"},
                {}, std::chrono::minutes(8));
  EXPECT_EQ(finished.status.code, 0) << finished.error_output << finished.output;
}

}  // namespace
}  // namespace outfall::torture
