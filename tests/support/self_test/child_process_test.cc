// Goal: a test can start a program, talk to it, see how it ended, and leaves nothing behind.

#include "tests/support/child_process.h"

#include <cerrno>
#include <filesystem>
#include <set>
#include <sstream>
#include <system_error>
#include <unistd.h>

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace outfall::test {
namespace {

using std::chrono::milliseconds;

// A zombie that nobody has collected yet is gone as well.
bool alive(pid_t pid) {
  const std::filesystem::path status = "/proc/" + std::to_string(pid) + "/status";
  return std::filesystem::exists(status) &&
         read_file(status).find("State:\tZ") == std::string::npos;
}

TEST(ChildProcess, CapturesOutputErrorsAndExitCode) {
  const Finished done = run({"sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(done.status.code, 7);
  EXPECT_EQ(done.output, "out\n");
  EXPECT_EQ(done.error_output, "err\n");
}

TEST(ChildProcess, PassesInputEnvironmentAndFolder) {
  const TempFolder folder;
  ChildOptions options;
  options.environment["GREETING"] = "hello";
  options.without_environment = {"HOME"};
  options.working_folder = folder.path();
  options.input = "from the test";
  const Finished done = run({"sh", "-c", "cat; echo \" $GREETING ${HOME-unset} $PWD\""}, options);
  EXPECT_EQ(done.output, "from the test hello unset " + folder.path().string() + "\n");
}

TEST(ChildProcess, InheritsNoSettingOfAWorker) {
  ::setenv("OUTFALL_ADMIN__ENABLED", "false", 1);
  ::setenv("OUTFALL_CONFIG", "/somebodys/outfall.toml", 1);
  ::setenv("OUTFALL_TEST_SECRET", "kept", 1);
  const std::vector<std::string> command = {"sh", "-c", "env | grep ^OUTFALL_"};
  EXPECT_EQ(run(command).output, "OUTFALL_TEST_SECRET=kept\n");
  EXPECT_EQ(
      run({"sh", "-c", "echo $OUTFALL_CONFIG"}, {.environment = {{"OUTFALL_CONFIG", "x"}}}).output,
      "x\n");
  ::unsetenv("OUTFALL_ADMIN__ENABLED");
  ::unsetenv("OUTFALL_CONFIG");
  ::unsetenv("OUTFALL_TEST_SECRET");
}

TEST(ChildProcess, TalksOverAnOpenInput) {
  ChildOptions options;
  options.input_pipe = true;
  ChildProcess cat({"cat"}, options);
  cat.write_input("first\n");
  cat.wait_for_output("first");
  EXPECT_TRUE(cat.running());
  cat.close_input();
  EXPECT_EQ(cat.wait().code, 0);
}

TEST(ChildProcess, WritesBothStreamsIntoOneFileInOrder) {
  const TempFolder folder;
  ChildOptions options;
  options.output_file = options.error_file = folder / "log";
  const Finished done = run({"sh", "-c", "echo 1; echo 2 >&2; echo 3"}, options);
  EXPECT_EQ(read_file(folder / "log"), "1\n2\n3\n");
}

TEST(ChildProcess, ReportsTheSignalThatEndedIt) {
  ChildProcess child({"sleep", "600"});
  EXPECT_TRUE(child.running());
  child.signal(SIGTERM);
  EXPECT_EQ(child.wait().signal, SIGTERM);
}

TEST(ChildProcess, TimesOutWithWhatTheChildWrote) {
  ChildProcess child({"sh", "-c", "echo stuck here; exec sleep 600"});
  child.wait_for_output("stuck");
  try {
    child.wait(milliseconds(50));
    FAIL() << "wait() returned";
  } catch (const TimedOut& error) {
    EXPECT_NE(std::string(error.what()).find("stuck here"), std::string::npos);
  }
}

TEST(ChildProcess, WaitingForOutputFailsWhenTheChildEnds) {
  ChildProcess child({"sh", "-c", "echo other"});
  EXPECT_THROW(child.wait_for_output("ready"), TimedOut);
}

TEST(ChildProcess, FailsToStartWhatIsNotThere) {
  try {
    const ChildProcess child({"/nonexistent/program"});
    FAIL() << "it started";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), ENOENT);
  }
}

TEST(ChildProcess, DestructorKillsTheWholeGroup) {
  pid_t grandchild = 0;
  {
    ChildProcess child({"sh", "-c", "sleep 600 & echo $!; wait"});
    child.wait_for_output("\n");
    grandchild = std::stoi(child.output());
    EXPECT_TRUE(alive(grandchild));
  }
  wait_until([&] { return !alive(grandchild); }, "the grandchild to end");
}

TEST(ChildProcess, RunsAsAnotherUserWhenRoot) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "only root can change the user";
  }
  ChildOptions options;
  options.user = "nobody";
  EXPECT_EQ(run({"id", "-un"}, options).output, "nobody\n");
}

TEST(Reaper, ACrashedTestLeavesNoServerNoChildAndNoFolder) {
  ChildProcess helper({CRASH_HELPER});
  EXPECT_EQ(helper.wait(std::chrono::minutes(2)).signal, SIGABRT);
  pid_t server = 0;
  std::string folder;
  pid_t child = 0;
  std::istringstream(helper.output()) >> server >> folder >> child;
  ASSERT_GT(server, 0) << helper.error_output();
  ASSERT_GT(child, 0);
  wait_until([&] { return !alive(server); }, "the server to end");
  wait_until([&] { return !alive(child); }, "the child to end");
  wait_until([&] { return !std::filesystem::exists(folder); }, folder + " to be removed");
}

TEST(TempFolder, IsRemovedWithItsContent) {
  std::filesystem::path path;
  {
    const TempFolder folder;
    path = folder.path();
    std::filesystem::create_directory(folder / "below");
    folder.write("below/file", "text");
    EXPECT_EQ(read_file(path / "below/file"), "text");
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(FreePort, GivesEachPortOnce) {
  std::set<int> ports;
  for (int i = 0; i < 50; ++i) {
    ports.insert(free_port());
  }
  EXPECT_EQ(ports.size(), 50U);
  EXPECT_LT(*ports.rbegin(), 32768);
}

TEST(WaitUntil, ReturnsAtOnceAndThrowsWithTheReason) {
  wait_until([] { return true; }, "nothing");
  int calls = 0;
  wait_until([&] { return ++calls == 4; }, "four calls");
  EXPECT_EQ(calls, 4);
  EXPECT_FALSE(holds_within([] { return false; }, milliseconds(20)));
  try {
    wait_until([] { return false; }, "the moon", milliseconds(20));
    FAIL() << "it returned";
  } catch (const TimedOut& error) {
    EXPECT_STREQ(error.what(), "timed out after 20 ms waiting for the moon");
  }
}

}  // namespace
}  // namespace outfall::test
