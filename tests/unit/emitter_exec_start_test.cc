// How exec starts its program: what the program inherits, what keeps it from being started, and how
// it is started again.
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/quantity.h"
#include "tests/unit/exec_fixture.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

class ExecStart : public ExecTest {
 protected:
  void create_command(std::vector<std::string> command) {
    settings_.list("command", std::move(command));
    emitter_ = make_emitter(kind_, settings_, drain_);
  }
  // The end of a delivery that must find no program.
  std::string why_not_started() {
    const auto tokens = deliver({{.key = "k"}});
    EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::destination_unavailable);
    EXPECT_EQ(error_code(tokens[0]), "exec.start_failed");
    return error_message(tokens[0]);
  }
};

constexpr std::string_view kAnswerAll = R"py(
for event in events():
    answer(event)
)py";

TEST_F(ExecStart, NothingIsStartedBeforeTheFirstEntry) {
  create("write('pid', os.getpid())" + std::string(kAnswerAll));
  EXPECT_TRUE(emitter_->check(Milliseconds{100}).ok);
  emitter_->stop(Milliseconds{1000});
  EXPECT_FALSE(std::filesystem::exists(folder_ / "pid"));
}

TEST_F(ExecStart, InheritsNothingButWhatItIsGiven) {
  ::setenv("OUTFALL_TEST_SECRET", "secret", 1);
  ::setenv("EXEC_TEST_OTHER", "other", 1);
  settings_.map("environment", {{"ADDED", "by outfall"}});
  // A descriptor that some library has opened without O_CLOEXEC, and signals as the worker has
  // them.
  const int leaked = ::open("/dev/null", O_RDONLY);
  ASSERT_GE(leaked, 0);
  std::signal(SIGHUP, SIG_IGN);
  folder_.write("answer.py", R"py(
import json, sys
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "outcome": "delivered"}), flush=True)
)py");
  create_command({"/bin/sh", "-c",
                  "cat /proc/self/status > status; env > environment; ls /proc/self/fd > open; "
                  "cut -d' ' -f1,5 /proc/self/stat > ids; pwd > folder; exec python3 answer.py"});
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  ::close(leaked);
  std::signal(SIGHUP, SIG_DFL);

  const std::string status = read_file(folder_ / "status");
  EXPECT_THAT(status, HasSubstr("SigBlk:\t0000000000000000"));
  EXPECT_THAT(status, HasSubstr("SigIgn:\t0000000000000000"));
  const std::string environment = read_file(folder_ / "environment");
  EXPECT_THAT(environment, HasSubstr("ADDED=by outfall"));
  EXPECT_THAT(environment, HasSubstr("PATH="));
  EXPECT_THAT(environment, testing::Not(HasSubstr("secret")));
  EXPECT_THAT(environment, testing::Not(HasSubstr("EXEC_TEST_OTHER")));
  // ls has one of its own for the folder.
  EXPECT_EQ(read_file(folder_ / "open"), "0\n1\n2\n3\n");
  EXPECT_EQ(read_file(folder_ / "folder"), folder_.path().string() + "\n");
  std::istringstream ids(read_file(folder_ / "ids"));
  pid_t pid = 0;
  pid_t group = 0;
  ids >> pid >> group;
  EXPECT_NE(group, ::getpgrp()) << "a signal to the worker's group would hit it";
}

TEST_F(ExecStart, NoShellReadsTheArguments) {
  folder_.write("arguments.py", R"py(
import json, sys
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "outcome": "delivered",
                      "record": "|".join(sys.argv[1:])}), flush=True)
)py");
  create_command({"python3", "arguments.py", "$HOME", "a b", ";", ""});
  const auto tokens = deliver({{}});
  EXPECT_EQ(outcome(tokens[0]).record_id, "$HOME|a b|;|");
}

TEST_F(ExecStart, AProgramThatIsNotThereIsUnavailableUntilItIs) {
  const std::string path = folder_ / "tool";
  create_command({path});
  EXPECT_FALSE(emitter_->check(Milliseconds{100}).ok);
  EXPECT_THAT(why_not_started(), HasSubstr(path + ": No such file or directory"));
  EXPECT_TRUE(has_logged("could not be started"));
  folder_.write("tool",
                "#!/usr/bin/env python3\nimport json, sys\nfor line in sys.stdin:\n"
                "    print(json.dumps({'id': json.loads(line)['id'], "
                "'outcome': 'delivered'}), flush=True)\n");
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  EXPECT_TRUE(emitter_->check(Milliseconds{100}).ok);
  deliver_in_the_end();
}

TEST_F(ExecStart, SaysWhyAProgramCannotBeRun) {
  folder_.write("tool", "no program at all");
  std::filesystem::permissions(folder_ / "tool", std::filesystem::perms::owner_all);
  create_command({"./tool"});
  EXPECT_THAT(why_not_started(), HasSubstr("./tool: Exec format error"));
}

TEST_F(ExecStart, SaysThatTheFolderIsMissing) {
  settings_.text("working_directory", folder_ / "missing");
  create_command({"true"});
  EXPECT_THAT(why_not_started(), HasSubstr("missing: No such file or directory"));
}

TEST_F(ExecStart, WaitsLongerAfterEachFailureInARow) {
  settings_.number("restart.initial", 60'000).number("restart.max", 100'000);
  create("sys.exit(7)");
  const auto first = deliver(entries(1));
  EXPECT_NE(drain_.kind(first[0]), OutcomeKind::delivered);
  EXPECT_EQ(error_message(first[0]), "the program ended with exit status 7");
  const auto second = deliver(entries(1));
  EXPECT_EQ(drain_.kind(second[0]), OutcomeKind::destination_unavailable);
  EXPECT_EQ(error_code(second[0]), "exec.not_running");
  EXPECT_THAT(error_message(second[0]),
              HasSubstr("the program ended with exit status 7; it is started again in "));
  EXPECT_EQ(metric(Conversation::kStarts), 1);
  EXPECT_EQ(metric(Conversation::kRunning), 0);
}

TEST_F(ExecStart, AProgramThatVanishesAfterItsWorkIsTriedLessAndLess) {
  settings_.number("restart.initial", 20).number("restart.max", 60'000);
  folder_.write("tool",
                "#!/usr/bin/env python3\nimport json, os, sys\nos.remove('tool')\n"
                "print(json.dumps({'id': json.loads(sys.stdin.readline())['id'], 'outcome': "
                "'delivered'}), flush=True)\nsys.exit(1)\n");
  std::filesystem::permissions(folder_ / "tool", std::filesystem::perms::owner_all);
  create_command({"./tool"});
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  wait_until(
      [&] {
        const std::string why = error_message(deliver(entries(1))[0]);
        const std::size_t pause = why.rfind(' ') + 1;
        return why.find("started again in") != std::string::npos &&
               parse_duration(why.substr(pause)).value_or(Milliseconds{0}) > Milliseconds{200};
      },
      "the pause has grown");
}

TEST_F(ExecStart, AProgramThatMayEndIsStartedAgainAtOnce) {
  settings_.number("restart.initial", 60'000).number("restart.max", 60'000);
  create(R"py(
answer(json.loads(sys.stdin.readline()))
)py");
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
    wait_until([&] { return metric(Conversation::kRunning) == 0; }, "it has ended");
    EXPECT_EQ(metric(Conversation::kStarts), i);
  }
}

TEST_F(ExecStart, AHundredStartsLeaveNothingBehind) {
  const auto open_descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                         std::filesystem::directory_iterator());
  };
  settings_.number("restart.initial", 1).number("restart.max", 1);
  create_command({"false"});
  deliver(entries(1));
  const auto before = open_descriptors();
  wait_until(
      [&] {
        deliver(entries(1));
        return metric(Conversation::kStarts) >= 100;
      },
      "it was started 100 times");
  EXPECT_LE(open_descriptors(), before + 8);
}

}  // namespace
}  // namespace outfall::test
