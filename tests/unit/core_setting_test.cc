// Literals of durations and sizes in both directions, and the resolved values of a table.
#include <gtest/gtest.h>

#include "core/quantity.h"
#include "core/setting.h"

namespace outfall {
namespace {

TEST(Quantity, ParsesDurations) {
  EXPECT_EQ(parse_duration("0ms"), Milliseconds{0});
  EXPECT_EQ(parse_duration("250ms"), Milliseconds{250});
  EXPECT_EQ(parse_duration("30s"), Milliseconds{30'000});
  EXPECT_EQ(parse_duration("5m"), Milliseconds{300'000});
  EXPECT_EQ(parse_duration("2h"), Milliseconds{7'200'000});
  EXPECT_EQ(parse_duration("7d"), Milliseconds{604'800'000});
  EXPECT_EQ(parse_duration("007s"), Milliseconds{7000});
}

TEST(Quantity, RefusesWhatIsNoDuration) {
  for (const char* text :
       {"", "s", "30", "-1s", "+1s", "1.5s", "30 s", " 30s", "30s ", "30S", "30sec", "1h30m", "1us",
        "9223372036854775808ms", "106751991168d", "0x10s"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(Quantity, ParsesSizes) {
  EXPECT_EQ(parse_bytes("0"), 0);
  EXPECT_EQ(parse_bytes("4096"), 4096);
  EXPECT_EQ(parse_bytes("512B"), 512);
  EXPECT_EQ(parse_bytes("64KiB"), 65'536);
  EXPECT_EQ(parse_bytes("16MiB"), 16'777'216);
  EXPECT_EQ(parse_bytes("2GiB"), 2'147'483'648);
  EXPECT_EQ(parse_bytes("9223372036854775807"), INT64_MAX);
}

TEST(Quantity, RefusesWhatIsNoSize) {
  for (const char* text : {"", "B", "-1", "1KB", "1kib", "1 MiB", "1.5MiB", "9223372036854775808",
                           "9007199254740992KiB"}) {
    EXPECT_FALSE(parse_bytes(text)) << text;
  }
}

TEST(Quantity, FormatsTheShortestExactLiteralThatParsesBack) {
  EXPECT_EQ(format_duration(Milliseconds{0}), "0s");
  EXPECT_EQ(format_duration(Milliseconds{90'000}), "90s");
  EXPECT_EQ(format_duration(Milliseconds{120'000}), "2m");
  EXPECT_EQ(format_duration(Milliseconds{604'800'000}), "7d");
  EXPECT_EQ(format_duration(Milliseconds{1001}), "1001ms");
  EXPECT_EQ(format_bytes(0), "0B");
  EXPECT_EQ(format_bytes(1000), "1000B");
  EXPECT_EQ(format_bytes(1024), "1KiB");
  EXPECT_EQ(format_bytes(std::int64_t{3} << 30), "3GiB");
  for (const std::int64_t value : {std::int64_t{1}, std::int64_t{59'999}, std::int64_t{3'600'000},
                                   std::int64_t{86'400'001}, INT64_MAX}) {
    EXPECT_EQ(parse_duration(format_duration(Milliseconds{value})), Milliseconds{value});
    EXPECT_EQ(parse_bytes(format_bytes(value)), value);
  }
}

TEST(SettingOriginTest, SaysWhereAValueStands) {
  EXPECT_EQ((SettingOrigin{"outfall.toml", 7, 12, ""}).to_string(), "outfall.toml:7:12");
  EXPECT_EQ((SettingOrigin{"outfall.toml", 7, 0, ""}).to_string(), "outfall.toml:7");
  EXPECT_EQ((SettingOrigin{"outfall.toml", 0, 0, ""}).to_string(), "outfall.toml");
  EXPECT_EQ((SettingOrigin{"", 0, 0, "OUTFALL_WORKER__INSTANCE"}).to_string(),
            "OUTFALL_WORKER__INSTANCE");
  EXPECT_EQ(SettingOrigin{}.to_string(), "default");
}

TEST(SettingValuesTest, GivesEachTypeByName) {
  SettingValues values;
  values.set("path", {.text = "/tmp/x", .is_set = true, .origin = {.file = "a.toml", .line = 3}});
  values.set("latency", {.number = 250, .is_set = true});
  values.set("fsync", {.number = 1, .is_set = true});
  values.set("list", {.list = {"a", "b"}, .is_set = true});
  values.set("map", {.map = {{"a", "b"}}, .is_set = true});
  values.set("absent", {});
  EXPECT_EQ(values.text("path"), "/tmp/x");
  EXPECT_EQ(values.origin("path").to_string(), "a.toml:3");
  EXPECT_EQ(values.duration("latency"), Milliseconds{250});
  EXPECT_EQ(values.integer("latency"), 250);
  EXPECT_EQ(values.bytes("latency"), 250);
  EXPECT_TRUE(values.flag("fsync"));
  EXPECT_EQ(values.list("list").size(), 2U);
  EXPECT_EQ(values.map("map").at("a"), "b");
  EXPECT_TRUE(values.has("path"));
  EXPECT_FALSE(values.has("absent"));
  EXPECT_EQ(values.text("absent"), "");
}

TEST(SettingValuesDeathTest, AbortsForANameThatNoRowHas) {
  EXPECT_DEATH((void)SettingValues{}.text("retry.inital"), "no setting is called \"retry.inital\"");
}

}  // namespace
}  // namespace outfall
