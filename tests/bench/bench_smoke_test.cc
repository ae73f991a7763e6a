// Every benchmark runs, and its figures come out as JSON that a program can read. How fast anything
// is does not matter here: a test that depends on time fails on a busy machine.
#include <cmath>
#include <map>
#include <string>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "tests/support/child_process.h"
#include "tests/support/temp_folder.h"

namespace outfall::test {
namespace {

constexpr std::chrono::minutes kDeadline{8};

bool is_number_or_null(const boost::json::value& value) {
  return value.is_null() || (value.is_number() && std::isfinite(value.to_number<double>()));
}

void expect_measurement(const boost::json::object& object) {
  SCOPED_TRACE(boost::json::serialize(object));
  EXPECT_FALSE(object.at("case").as_string().empty());
  EXPECT_FALSE(object.at("unit").as_string().empty());
  EXPECT_TRUE(object.at("value").is_number());
  for (const auto* member : {"floor", "ratio", "cpu_us_per_entry", "rss_bytes"}) {
    EXPECT_TRUE(is_number_or_null(object.at(member))) << member;
  }
  if (object.at("ratio").is_null()) return;
  EXPECT_NEAR(object.at("ratio").to_number<double>() * object.at("floor").to_number<double>(),
              object.at("value").to_number<double>(),
              std::abs(object.at("value").to_number<double>()) * 1e-6);
}

TEST(Bench, EveryBenchmarkRunsAndWritesJson) {
  const TempFolder folder;
  const auto json = folder / "figures.json";
  const Finished finished =
      run({OUTFALL_BENCH, "all", "--smoke", "--json", json.string()}, {}, kDeadline);
  ASSERT_EQ(finished.status.code, 0) << finished.error_output;

  std::map<std::string, int> figures;
  const boost::json::value measurements = boost::json::parse(read_file(json));
  for (const auto& measurement : measurements.as_array()) {
    const auto& object = measurement.as_object();
    ++figures[object.at("benchmark").as_string().c_str()];
    expect_measurement(object);
  }
  for (const auto* benchmark :
       {"drain", "latency", "idle", "memory", "hold", "parked", "receipts", "webhook", "neighbours",
        "outage", "kafka", "kafka-latency", "kafka-memory", "backlog", "streams", "workers"}) {
    EXPECT_GE(figures[benchmark], 2) << benchmark;
    EXPECT_NE(finished.output.find(benchmark), std::string::npos) << finished.output;
  }
}

TEST(Bench, AnUnknownBenchmarkIsRefused) {
  const Finished finished = run({OUTFALL_BENCH, "speed"});
  EXPECT_NE(finished.status.code, 0);
}

}  // namespace
}  // namespace outfall::test
