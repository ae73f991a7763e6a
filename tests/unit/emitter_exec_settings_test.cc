// The settings of exec: what is refused, what the program gets to see, and where it is found.
#include <filesystem>

#include <gmock/gmock.h>

#include "emitters/exec/exec.h"
#include "emitters/exec/settings.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/hint_form.h"
#include "tests/support/temp_folder.h"

namespace outfall {
namespace {

using test::TempFolder;
using test::TestSettings;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using testing::UnorderedElementsAre;

std::string problems_of(const TestSettings& settings) {
  std::string text;
  for (const SettingProblem& problem : ExecSettings::problems(settings.values())) {
    test::expect_hint_form(problem);
    text += problem.setting + ": " + problem.message + "\n";
  }
  return text;
}

TestSettings with_command(std::vector<std::string> command) {
  return TestSettings(exec_emitter_kind()).list("command", std::move(command));
}

TEST(ExecSettings, WhatIsRefused) {
  EXPECT_EQ(problems_of(with_command({"true"})), "");
  EXPECT_THAT(problems_of(with_command({})), HasSubstr("command: names no program"));
  EXPECT_THAT(problems_of(with_command({""})), HasSubstr("command: names no program"));
  EXPECT_THAT(problems_of(with_command({"true", std::string("a\0b", 3)})), HasSubstr("NUL"));
  EXPECT_THAT(problems_of(with_command({"true"}).map("environment", {{"A=B", "x"}})),
              HasSubstr("`A=B` is no environment variable"));
  EXPECT_THAT(problems_of(with_command({"true"}).map("environment", {{"", "x"}})),
              HasSubstr("environment"));
  EXPECT_THAT(
      problems_of(with_command({"true"}).number("restart.initial", 2).number("restart.max", 1)),
      HasSubstr("restart.initial: is longer than restart.max"));
}

// It is the destination, which may come later: no mistake.
TEST(ExecSettings, ThatTheProgramIsNotThereIsANote) {
  const auto note_of = [](const TestSettings& settings) {
    EXPECT_EQ(problems_of(settings), "");
    const auto notes = ExecSettings::notes(settings.values());
    return notes.empty() ? "" : notes.front();
  };
  EXPECT_EQ(note_of(with_command({"true"})), "");
  EXPECT_THAT(note_of(with_command({"/no/such/program"})),
              StartsWith("command /no/such/program: No such file or directory; "));
  EXPECT_THAT(note_of(with_command({"no-such-program"})),
              StartsWith("command no-such-program: not found in the program's PATH; "));
  EXPECT_THAT(note_of(with_command({"true"}).text("working_directory", "/no/such/folder")),
              StartsWith("working_directory /no/such/folder: No such file or directory; "));
}

TEST(ExecSettings, TheProgramGetsNoSecretsOfTheWorker) {
  const auto worker = std::to_array<const char*>(
      {"PATH=/bin", "LC_ALL=C.UTF-8", "HOME=/root", "OUTFALL_DATABASE__URL=secret", "AWS_KEY=k"});
  EXPECT_THAT(program_environment(worker, false, {}),
              ElementsAre("PATH=/bin", "LC_ALL=C.UTF-8", "HOME=/root"));
  EXPECT_THAT(program_environment(worker, true, {}),
              ElementsAre("PATH=/bin", "LC_ALL=C.UTF-8", "HOME=/root", "AWS_KEY=k"));
  EXPECT_THAT(program_environment(worker, false, {{"PATH", "/opt"}, {"B", ""}}),
              UnorderedElementsAre("LC_ALL=C.UTF-8", "HOME=/root", "PATH=/opt", "B="));
}

class ExecProgramFile : public testing::Test {
 protected:
  ExecProgramFile() {
    namespace fs = std::filesystem;
    fs::create_directory(folder_ / "bin");
    fs::create_directory(folder_ / "bin/a-folder");
    folder_.write("bin/tool", "#!/bin/sh\n");
    fs::permissions(folder_ / "bin/tool", fs::perms::owner_all);
    folder_.write("bin/plain", "no program");
    settings_.environment = {"PATH=/nowhere:" + bin_};
  }
  ProgramFile find(const std::string& name) {
    settings_.command = {name};
    return find_program(settings_);
  }

  TempFolder folder_;
  const std::string bin_ = folder_ / "bin";
  ExecSettings settings_;
};

TEST_F(ExecProgramFile, ByItsPathOrInThePathOfItsEnvironment) {
  EXPECT_EQ(find(bin_ + "/tool").path, bin_ + "/tool");
  EXPECT_EQ(find("tool").path, bin_ + "/tool");
  EXPECT_EQ(find("tool").problem, "");
  settings_.working_directory = folder_.path();
  EXPECT_EQ(find("bin/tool").path, "bin/tool");
  EXPECT_EQ(find("bin/tool").problem, "");
  settings_.environment = {"PATH=bin"};
  EXPECT_EQ(find("tool").path, "bin/tool");
}

TEST_F(ExecProgramFile, SaysWhyItCannotBeStarted) {
  EXPECT_THAT(find("missing").problem, HasSubstr("missing: not found in the program's PATH"));
  EXPECT_THAT(find("plain").problem, HasSubstr("not found"));
  EXPECT_THAT(find(bin_ + "/missing").problem, HasSubstr("No such file"));
  EXPECT_THAT(find(bin_ + "/plain").problem, HasSubstr("Permission denied"));
  EXPECT_THAT(find(bin_ + "/a-folder").problem, HasSubstr("Is a directory"));
  settings_.working_directory = bin_ + "/missing";
  EXPECT_THAT(find("tool").problem, HasSubstr("working_directory"));
  settings_.working_directory = bin_ + "/tool";
  EXPECT_THAT(find("tool").problem, HasSubstr("Not a directory"));
}

}  // namespace
}  // namespace outfall
