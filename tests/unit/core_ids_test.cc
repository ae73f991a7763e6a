// Identifiers: the text of UUIDs in both directions, and that random draws are even and unique.
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/clock.h"
#include "core/ids.h"
#include "tests/support/random.h"

namespace outfall {
namespace {

using test::ScriptedRandom;
using test::SeededRandom;

TEST(Uuid, TextRoundTrips) {
  const std::string text = "0190c2f4-7a3e-7bcd-8ef0-123456789abc";
  const auto id = Uuid::parse(text);
  ASSERT_TRUE(id);
  EXPECT_EQ(id->to_string(), text);
  EXPECT_EQ(id->bytes[0], 0x01);
  EXPECT_EQ(id->bytes[6], 0x7b);
  EXPECT_EQ(id->bytes[15], 0xbc);
}

TEST(Uuid, TakesUpperCaseAndWritesLowerCase) {
  const auto id = Uuid::parse("0190C2F4-7A3E-7BCD-8EF0-123456789ABC");
  ASSERT_TRUE(id);
  EXPECT_EQ(id->to_string(), "0190c2f4-7a3e-7bcd-8ef0-123456789abc");
}

TEST(Uuid, RefusesEverythingElse) {
  for (const char* text :
       {"", "0190c2f4", "0190c2f4-7a3e-7bcd-8ef0-123456789ab",
        "0190c2f4-7a3e-7bcd-8ef0-123456789abcd", "0190c2f47a3e7bcd8ef0123456789abc",
        "{0190c2f4-7a3e-7bcd-8ef0-12345678abc}", "0190c2f4-7a3e-7bcd-8ef0-12345678-abc",
        "0190c2f4-7a3e-7bcd-8ef0-123456789abg", "0190c2f4+7a3e-7bcd-8ef0-123456789abc",
        " 190c2f4-7a3e-7bcd-8ef0-123456789abc"}) {
    EXPECT_FALSE(Uuid::parse(text)) << text;
  }
}

TEST(Uuid, OrdersByItsBytesAsPostgresqlDoes) {
  const auto low = Uuid::parse("00000000-0000-0000-0000-0000000000ff");
  const auto high = Uuid::parse("00000000-0000-0000-0000-000000000100");
  EXPECT_LT(*low, *high);
  EXPECT_TRUE(Uuid{}.is_nil());
  EXPECT_FALSE(low->is_nil());
}

TEST(Uuid, HashSpreadsTimeOrderedIds) {
  // Ids that differ in the last bytes only must not meet in the low bits that a table uses.
  std::set<std::size_t> buckets;
  Uuid id = *Uuid::parse("0190c2f4-7a3e-7bcd-8ef0-123456780000");
  for (int i = 0; i < 1024; ++i) {
    id.bytes[14] = static_cast<std::uint8_t>(i >> 8);
    id.bytes[15] = static_cast<std::uint8_t>(i);
    buckets.insert(std::hash<Uuid>{}(id) % 4096);
  }
  EXPECT_GT(buckets.size(), 800U);
}

TEST(RandomTest, MakesVersion4Uuids) {
  SeededRandom random(1);
  std::set<Uuid> seen;
  for (int i = 0; i < 1000; ++i) {
    const Uuid id = random.uuid();
    EXPECT_EQ(id.bytes[6] >> 4, 4);
    EXPECT_EQ(id.bytes[8] >> 6, 2);
    EXPECT_TRUE(seen.insert(id).second);
  }
}

TEST(RandomTest, UpToIsEvenAndIncludesBothEnds) {
  SeededRandom random(2);
  std::vector<int> counts(6);
  for (int i = 0; i < 60'000; ++i) ++counts.at(random.up_to(5));
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 500);
  EXPECT_EQ(random.up_to(0), 0U);
}

TEST(RandomTest, UpToDrawsAgainWhereTheRemainderWouldBeUneven) {
  // 2^64 mod 6 is 4: the draws 0 to 3 are thrown away.
  ScriptedRandom random({0, 3, 4});
  EXPECT_EQ(random.up_to(5), 4U);
  ScriptedRandom all({UINT64_MAX});
  EXPECT_EQ(all.up_to(UINT64_MAX), UINT64_MAX);
}

TEST(RandomTest, SystemRandomDoesNotRepeat) {
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(system_random().next());
  EXPECT_EQ(seen.size(), 1000U);
}

TEST(ClockTest, SystemClockMovesForwards) {
  const MonotonicTime before = system_clock().monotonic();
  EXPECT_LE(before, system_clock().monotonic());
  EXPECT_GT(system_clock().wall(),
            WallTime{std::chrono::sys_days{std::chrono::year{2024} / 1 / 1}});
}

}  // namespace
}  // namespace outfall
