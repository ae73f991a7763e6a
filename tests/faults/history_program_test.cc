// The program itself: its exit codes and what it prints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/faults/history_scene.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_folder.h"

namespace outfall::test::history {
namespace {

using testing::HasSubstr;

class HistoryCheck : public testing::Test {
 protected:
  static Finished check(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), OUTFALL_HISTORY_CHECK);
    return run(std::move(arguments));
  }

  static Scene good() {
    Scene scene;
    scene.commit("a", 1, "k", 1).arrive("a", 10).end({"a"});
    return scene;
  }

  TempFolder folder_;
};

TEST_F(HistoryCheck, AcceptsWithATable) {
  const Finished finished = check({folder_.write("good", good().text())});
  EXPECT_EQ(finished.status.code, 0) << finished.error_output;
  EXPECT_THAT(finished.output, HasSubstr("1 entries committed"));
  EXPECT_THAT(finished.output, HasSubstr("verdict: every invariant holds"));
}

TEST_F(HistoryCheck, RejectsAndNamesTheAnomaly) {
  const Finished finished =
      check({"--json", folder_.write("bad", good().commit("b", 1, "k", 2).text())});
  EXPECT_EQ(finished.status.code, 1);
  const boost::json::object report = boost::json::parse(finished.output).as_object();
  EXPECT_FALSE(report.at("ok").as_bool());
  EXPECT_EQ(report.at("anomalies").at("lost").to_number<int>(), 1);
  EXPECT_EQ(report.at("samples").at(0).at("anomaly"), "lost");
}

TEST_F(HistoryCheck, TakesSeveralFilesInAnyOrder) {
  Scene scene = good();
  Scene producer;
  Scene rest;
  for (const auto& record : scene.records)
    (record.at("f").as_string().starts_with("commit") ? producer : rest).add(record);
  EXPECT_EQ(check({folder_.write("rest", rest.text()), folder_.write("producer", producer.text())})
                .status.code,
            0);
}

TEST_F(HistoryCheck, TellsTheLineThatItCannotRead) {
  const auto file = folder_.write("torn", good().text() + "{\"f\":\"arr");
  const Finished finished = check({file});
  EXPECT_EQ(finished.status.code, 65);
  EXPECT_THAT(finished.error_output, HasSubstr(file.string() + ":5: no JSON"));
}

TEST_F(HistoryCheck, RefusesWhatWasCutOff) {
  Scene scene = good();
  scene.records.pop_back();
  const auto file = folder_.write("cut", scene.text());
  EXPECT_EQ(check({file}).status.code, 65);
  EXPECT_EQ(check({"--without-final", file}).status.code, 0);
}

TEST_F(HistoryCheck, TheSendTimeoutIsAnOption) {
  Scene scene = good();
  scene.fault("F1-sigkill", 1, 1, {{"workers", "all"}}).arrive("a", 3000).arrive("a", 3001);
  const auto file = folder_.write("slow", scene.text());
  EXPECT_EQ(check({"--send-timeout-ms", "100", file}).status.code, 1);
  scene.records.pop_back();
  EXPECT_EQ(check({"--send-timeout-ms", "100", folder_.write("quick", scene.text())}).status.code,
            0);
}

TEST_F(HistoryCheck, SaysWhatIsWrongWithItsArguments) {
  EXPECT_EQ(check({}).status.code, 64);
  EXPECT_EQ(check({"--nonsense", "x"}).status.code, 64);
  EXPECT_EQ(check({(folder_ / "absent").string()}).status.code, 66);
  EXPECT_EQ(check({"--help"}).status.code, 0);
}

}  // namespace
}  // namespace outfall::test::history
