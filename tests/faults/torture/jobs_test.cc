// Goal: several processes that play add up to the report of one, and none of them fails unnoticed.
// Method: shell scripts that answer as the torture does, without servers.

#include "tests/faults/torture/jobs.h"

#include <algorithm>
#include <filesystem>

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace outfall::torture {
namespace {

Result result_with_all() {
  Result result;
  result.of = {"webhook", "F11-partition.drop+F1-sigkill", "any", 18446744073709551615ULL};
  result.verdict.found[3] = 7;
  result.verdict.samples = {{test::history::Anomaly::stuck, "a \"text\"\nwith \xff"}};
  result.verdict.committed = 1000;
  result.verdict.arrivals = 1001;
  result.verdict.dup_explained = 1;
  result.verdict.faults["F1-sigkill"].longest_recovery = 1'800'000;
  result.injected = {"F1-sigkill"};
  result.missed = {"F11-partition.drop at any"};
  result.problem = "worker-1 ended by signal 9";
  result.skipped = "no file system";
  result.seconds = 5.5;
  result.kept = "/tmp/kept here";
  return result;
}

std::vector<Case> some_cases(int count) {
  std::vector<Case> cases;
  for (int i = 1; i <= count; ++i)
    cases.push_back({"noop", "F1-sigkill", "any", static_cast<std::uint64_t>(i)});
  return cases;
}

// Answers each run with a good result, after what `before` does with its name, "$run".
Jobs jobs_by(const std::string& before, int count = 2, const std::string& after = {}) {
  Result result;
  result.of = {"RUN", "", "", 1};
  result.injected = {"F1-sigkill"};
  std::string line = to_line(result);
  line.replace(line.find("RUN///1"), 7, "%s");
  return {.count = count,
          .command = {"/bin/sh", "-c",
                      "while read -r run; do " + before + "\nprintf '" + line +
                          "\\n' \"$run\"; done\n" + after}};
}

std::vector<std::string> names_of(const Report& report) {
  std::vector<std::string> names;
  for (const Result& result : report.results()) names.push_back(result.of.name());
  return names;
}

std::vector<std::string> names_of(const std::vector<Case>& cases) {
  std::vector<std::string> names;
  for (const Case& each : cases) names.push_back(each.name());
  return names;
}

TEST(TortureJobs, WhatTheReportSaysOfARunPassesFromOneProcessToAnother) {
  const Result result = result_with_all();
  const std::string line = to_line(result);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const Result read = result_of_line(line);
  EXPECT_EQ(to_line(read), line);
  EXPECT_EQ(read.of, result.of);
  EXPECT_EQ(anomalies_of(read), anomalies_of(result));
  EXPECT_EQ(read.verdict.samples.front().text, result.verdict.samples.front().text);
  Report one(false);
  Report other(false);
  one.add(result);
  other.add(read);
  EXPECT_EQ(one.table(), other.table());
  for (const char* nonsense : {"", "{}", "[]", "nonsense", R"({"run":"noop"})"})
    EXPECT_THROW((void)result_of_line(nonsense), std::invalid_argument) << nonsense;
}

TEST(TortureJobs, EachRunIsPlayedOnceAndTheReportHasThemInTheOrderOfThePlan) {
  const test::TempFolder folder;
  const std::vector<Case> cases = some_cases(20);
  Report report(false);
  // Whoever gets the first one has it until the last one has been dealt to the other.
  play_in_jobs(jobs_by("echo \"$run\" >> " + (folder / "$$").string() +
                       "\ncase $run in */1) while ! grep -qs /20 " + (folder / "*").string() +
                       "; do :; done;; esac"),
               cases, report);
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(names_of(report), names_of(cases));
  std::vector<std::size_t> sizes;
  for (const auto& file : std::filesystem::directory_iterator(folder.path())) {
    const std::string text = test::read_file(file.path());
    sizes.push_back(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')));
  }
  std::sort(sizes.begin(), sizes.end());
  EXPECT_EQ(sizes, (std::vector<std::size_t>{1, 19}));
}

TEST(TortureJobs, AProcessThatDiesFailsItsRunAndTheOthersArePlayed) {
  const std::vector<Case> cases = some_cases(8);
  Report report(false);
  play_in_jobs(jobs_by("case $run in */3|*/4|*/5) kill -SEGV $$;; esac"), cases, report);
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(names_of(report), names_of(cases));
  for (const Result& result : report.results()) {
    const bool died = result.of.seed >= 3 && result.of.seed <= 5;
    EXPECT_EQ(result.problem, died ? "the process that played it ended by signal 11" : "")
        << result.of.name();
  }
}

TEST(TortureJobs, AProcessThatAnswersForAnotherRunOrWithNonsenseFailsItsRun) {
  const std::vector<Case> cases = some_cases(4);
  Report report(false);
  play_in_jobs(jobs_by("case $run in */2) run=noop/F1-sigkill/any/9;; */3) echo what;; esac"),
               cases, report);
  EXPECT_FALSE(report.ok());
  ASSERT_EQ(names_of(report), names_of(cases));
  EXPECT_TRUE(report.results()[0].ok());
  EXPECT_EQ(report.results()[1].problem,
            "the process that played it answered for noop/F1-sigkill/any/9");
  EXPECT_NE(report.results()[2].problem.find("no result of a run"), std::string::npos);
  EXPECT_TRUE(report.results()[3].ok());
}

TEST(TortureJobs, AProcessThatEndsBadlyAfterItsLastRunFailsTheWhole) {
  Report report(false);
  play_in_jobs(jobs_by(":", 2, "exit 3"), some_cases(3), report);
  for (const Result& result : report.results()) EXPECT_TRUE(result.ok());
  EXPECT_FALSE(report.ok());
  EXPECT_NE(report.table().find("ended by exit code 3"), std::string::npos) << report.table();
}

}  // namespace
}  // namespace outfall::torture
