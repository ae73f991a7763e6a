// Goal: what witnesses a fault of the torture is that somebody met it, and nothing else. Method:
// what servers and workers would tell, made by hand.

#include "tests/faults/torture/witness.h"

#include <gtest/gtest.h>

#include "tests/faults/torture/counters.h"

namespace outfall::torture {
namespace {

boost::json::object line(std::int64_t stopped_us, std::int64_t struck_us,
                         std::int64_t released_us) {
  return {{"point", "settle.begun"},
          {"stopped_us", stopped_us},
          {"struck_us", struck_us},
          {"released_us", released_us}};
}

// The crash of F9 came a second after its worker had gone on, F18 and F23 as late.
TEST(TortureStep, AFaultThatStruckAfterItsWorkerHadGoneOnWasNotAtItsStep) {
  EXPECT_TRUE(struck_at_its_step(line(10, 20, 30)));
  EXPECT_TRUE(struck_at_its_step(line(10, 10, 10)));
  EXPECT_FALSE(struck_at_its_step(line(10, 31, 30)));
  EXPECT_FALSE(struck_at_its_step(line(10, 9, 30)));
}

TEST(TortureStep, AFaultThatDidNotWaitForTheStepWasNotThere) {
  for (const char* missing : {"stopped_us", "struck_us", "released_us"}) {
    boost::json::object one = line(10, 20, 30);
    one.erase(missing);
    EXPECT_FALSE(struck_at_its_step(one)) << missing;
  }
}

TEST(TortureStep, AtAnyMomentThereIsNone) {
  EXPECT_TRUE(struck_at_its_step({{"point", ""}, {"struck_us", 20}}));
}

TEST(TortureEndedSessions, OnesThatAreStillListedAreNotNew) {
  EndedSessions sessions;
  EXPECT_FALSE(sessions.made_anew({11, 12}));  // none has been ended
  sessions.ended({11, 12});
  EXPECT_FALSE(sessions.made_anew({}));
  EXPECT_FALSE(sessions.made_anew({12}));
  EXPECT_TRUE(sessions.made_anew({12, 13}));
  sessions.ended({13});
  EXPECT_TRUE(sessions.made_anew({13}));
}

TEST(TortureEndedSessions, WhereNobodyHadOneNobodyHasMetIt) {
  EndedSessions sessions;
  sessions.ended({});
  EXPECT_FALSE(sessions.made_anew({11}));
  sessions.ended({11});
  EXPECT_FALSE(sessions.made_anew({11}));
  EXPECT_TRUE(sessions.made_anew({14}));
}

TEST(TortureGrowth, IsOfTheSameProcessOrOfOneThatIsNew) {
  Growth growth;
  growth.since({{"a", 11, 3}, {"b", 0, std::nullopt}});
  EXPECT_FALSE(growth.seen_in({{"a", 11, 3}, {"b", 21, 0}}));
  EXPECT_TRUE(growth.seen_in({{"a", 11, 4}, {"b", 21, 0}}));
  EXPECT_TRUE(growth.seen_in({{"a", 11, 3}, {"b", 21, 1}}));
  EXPECT_TRUE(growth.seen_in({{"a", 12, 1}}));  // started again, and counts from zero
}

// A worker too busy to answer when the fault struck was never listened to again.
TEST(TortureGrowth, OfWhoCouldNotBeAskedTheFirstThatIsToldIsTheBeginning) {
  Growth growth;
  growth.since({{"a", 11, std::nullopt}});
  EXPECT_FALSE(growth.seen_in({{"a", 11, 7}}));
  EXPECT_FALSE(growth.seen_in({{"a", 11, std::nullopt}}));
  EXPECT_FALSE(growth.seen_in({{"a", 0, std::nullopt}}));
  EXPECT_TRUE(growth.seen_in({{"a", 11, 8}}));
  EXPECT_TRUE(growth.seen_in({{"a", 12, 7}}));
}

TEST(TortureCounters, AreSummedByNameAndLabel) {
  const std::string text =
      "# HELP outfall_database_errors_total Statements that failed.\n"
      "# TYPE outfall_database_errors_total counter\n"
      "outfall_database_errors_total{kind=\"schema\"} 2\n"
      "outfall_database_errors_total{kind=\"read_only\"} 3\n"
      "outfall_database_errors_total_more{kind=\"schema\"} 100\n"
      "outfall_in_flight_entries{stream=\"orders\"} 120\n"
      "outfall_in_flight_entries{stream=\"audit\"} 4\n"
      "process_open_fds 9\n";
  EXPECT_EQ(sum_of(text, "outfall_database_errors_total", "kind=\"schema\""), 2);
  EXPECT_EQ(sum_of(text, "outfall_database_errors_total"), 5);
  EXPECT_EQ(sum_of(text, "outfall_in_flight_entries"), 124);
  EXPECT_EQ(sum_of(text, "process_open_fds"), 9);
  EXPECT_EQ(sum_of(text, "outfall_absent"), 0);
}

}  // namespace
}  // namespace outfall::torture
