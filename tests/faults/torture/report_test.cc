// Goal: a torture passes only where each fault has struck and nothing was found.

#include "tests/faults/torture/report.h"

#include <gtest/gtest.h>

namespace outfall::torture {
namespace {

Result clean_result() {
  Result result;
  result.of = {"stdout", "F1-sigkill", "S3", 1};
  result.injected = {"F1-sigkill"};
  return result;
}

TEST(TortureReport, ACleanRunPasses) {
  Report report(true);
  report.add(clean_result());
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.table().find("not reached"), std::string::npos);
}

TEST(TortureReport, AFaultThatNeverStruckFailsAndIsNamed) {
  Result result = clean_result();
  result.injected.clear();
  result.missed = {"F1-sigkill at S3 (stdout.written, time 17)"};
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(anomalies_of(result), "not reached: F1-sigkill at S3 (stdout.written, time 17)");
  Report report(false);
  report.add(result);
  EXPECT_FALSE(report.ok());
  EXPECT_NE(report.table().find("not reached: stdout/F1-sigkill/S3/1: F1-sigkill at S3 "
                                "(stdout.written, time 17)"),
            std::string::npos)
      << report.table();
}

TEST(TortureReport, OneFaultOfAPairThatNeverStruckFails) {
  Result result = clean_result();
  result.of.fault = "F1-sigkill+F14-away";
  result.missed = {"F14-away.kill at any"};
  Report report(false);
  report.add(result);
  EXPECT_FALSE(report.ok());
}

TEST(TortureReport, ARunThatCouldNotBeTriedFailsOnlyWhereAllMustBe) {
  Result result = clean_result();
  result.injected.clear();
  result.skipped = "no file system can be mounted";
  for (const bool skips_fail : {false, true}) {
    Report report(skips_fail);
    report.add(clean_result());
    report.add(result);
    EXPECT_EQ(report.ok(), !skips_fail);
    EXPECT_NE(report.table().find("no file system can be mounted"), std::string::npos);
  }
}

}  // namespace
}  // namespace outfall::torture
