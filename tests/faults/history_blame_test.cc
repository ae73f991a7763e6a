// Hand-made histories of entries that had to pay for a fault: none may be given up, and no attempt
// be counted, without a reason of its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/faults/history_scene.h"

namespace outfall::test::history {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

boost::json::array given_up(const std::string& id, const std::string& reason_code) {
  return {boost::json::object{{"id", id}, {"reason_code", reason_code}}};
}

TEST(GoodHistory, ADeadLetterForAReasonOfItsOwn) {
  Scene scene = three_of_a_key();
  scene.arrive("a", 10).arrive("c", 12).poison("b", {"sink.refused", "sink.too_large"});
  EXPECT_THAT(found(scene.end({"a", "c"}, {}, {{"dead_letters", given_up("b", "sink.too_large")}})),
              IsEmpty());
}

TEST(GivenUp, HealthyEntriesThatNeverArrived) {
  Scene scene = three_of_a_key();
  scene.fault("F14-away", 5, 900, kTouchesSink);
  EXPECT_THAT(found(scene.arrive("a", 1000).end({"a"}, {"b", "c"})), ElementsAre("given-up"));
}

TEST(GivenUp, AHealthyEntryThatHadArrived) {
  EXPECT_THAT(found(three_that_arrived().end({"a", "b"}, {"c"})), ElementsAre("given-up"));
}

TEST(GivenUp, PoisonForAnotherReason) {
  Scene scene = three_of_a_key().poison("b", {"sink.refused"});
  scene.arrive("a", 10).arrive("c", 12);
  scene.end({"a", "c"}, {},
            {{"dead_letters", given_up("b", "outbox.max_retry_attempts_exceeded")}});
  EXPECT_THAT(found(scene), ElementsAre("given-up"));
}

TEST(GivenUp, PoisonForNoReasonWhereOneIsExpected) {
  Scene scene = three_of_a_key().poison("b", {"sink.refused"});
  EXPECT_THAT(found(scene.arrive("a", 10).arrive("c", 12).end({"a", "c"}, {"b"})),
              ElementsAre("given-up"));
}

TEST(GivenUp, AHealthyEntryThatWasReplayedOrDiscarded) {
  for (const char* end : {"replayed", "discarded"})
    EXPECT_THAT(found(three_that_arrived().note(end, "c", 11).end({"a", "b", "c"})),
                ElementsAre("given-up"));
}

TEST(GivenUp, AHealthyEntryWhoseDeadLetterTheDatabaseForgot) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"c"}, 9).settle("l1", {"c"}, 10).records.back()["status"] = "dead_lettered";
  scene.fault("F7-restart", 10, 11, kTouchesDatabase, {{"undoes_commits", true}});
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("given-up"));
}

// With the attempts that the receipt of c has counted.
Scene& end_after(Scene& scene, int attempts) {
  return scene.end({"a", "b"})
      .add({{"f", "final"},
            {"delivered", boost::json::array{{{"id", "c"}, {"attempts", attempts}}}}});
}

void refuse(Scene& scene, const std::string& id, boost::json::object more = {}) {
  boost::json::object record{{"f", "refused"}, {"at_us", 9000}, {"sink", "sink"}, {"id", id}};
  for (auto& member : more) record[member.key()] = std::move(member.value());
  scene.add(std::move(record));
}

TEST(AttemptSpent, InQuietTimes) {
  Scene scene = three_that_arrived();
  EXPECT_THAT(found(end_after(scene, 2)), ElementsAre("attempt-spent"));
}

TEST(AttemptSpent, UnderFaultsThatMayCostNone) {
  for (const auto& touches : {kTouchesDatabase, kTouchesSink, kTouchesWorker}) {
    Scene scene = three_that_arrived();
    scene.fault("F14-away", 1, 20, touches);
    EXPECT_THAT(found(end_after(scene, 2)), ElementsAre("attempt-spent"));
  }
}

TEST(AttemptSpent, MoreOftenThanTheSinkRefused) {
  Scene scene = three_that_arrived();
  scene.fault("F15-http", 1, 20, kTouchesSink);
  refuse(scene, "c");
  refuse(scene, "b");
  EXPECT_THAT(found(end_after(scene, 3)), ElementsAre("attempt-spent"));
}

TEST(AttemptSpent, ForARefusalThatIsMeantForEverybody) {
  Scene scene = three_that_arrived();
  refuse(scene, "c", {{"unavailable", true}});
  EXPECT_THAT(found(end_after(scene, 2)), ElementsAre("attempt-spent"));
}

TEST(AttemptSpent, MoreThanTheFaultMayCost) {
  Scene scene = three_that_arrived();
  scene.fault("F15-http", 1, 20, kTouchesSink, {{"attempts", 2}});
  EXPECT_THAT(found(end_after(scene, 4)), ElementsAre("attempt-spent"));
}

TEST(AttemptSpent, ByAFaultOfAnotherSinkOrTime) {
  Scene scene = three_that_arrived();
  scene.fault("F15-http", 1, 20, {{"sinks", boost::json::array{"other"}}}, {{"attempts", 2}});
  scene.fault("F15-http", 100, 200, kTouchesSink, {{"attempts", 2}});
  EXPECT_THAT(found(end_after(scene, 2)), ElementsAre("attempt-spent"));
}

TEST(Miscounted, AReceiptThatCountsNoAttempt) {
  Scene scene = three_that_arrived();
  EXPECT_THAT(found(end_after(scene, 0)), ElementsAre("miscounted"));
}

// An outcome of c, which had counted so many attempts by then.
Scene& count(Scene& scene, std::int64_t at_us, int attempts) {
  return scene.add({{"f", "outcome"},
                    {"at_us", at_us},
                    {"worker", "w1"},
                    {"lease", "l1"},
                    {"id", "c"},
                    {"outcome", "retryable_failure"},
                    {"attempts", attempts}});
}

Scene refused_twice() {
  Scene scene = three_that_arrived();
  refuse(scene, "c");
  refuse(scene, "c");
  return scene;
}

TEST(Miscounted, AttemptsThatFall) {
  Scene scene = refused_twice();
  count(count(scene, 5000, 2), 6000, 1);
  EXPECT_THAT(found(end_after(scene, 3)), ElementsAre("miscounted"));
  Scene receipt = refused_twice();
  count(receipt, 5000, 2);
  EXPECT_THAT(found(end_after(receipt, 1)), ElementsAre("miscounted"));
}

TEST(GoodHistory, AttemptsThatRiseAndThoseThatACrashHasUndone) {
  Scene scene = refused_twice();
  count(count(count(scene, 5000, 0), 6000, 1), 7000, 1);
  EXPECT_THAT(found(end_after(scene, 2)), IsEmpty());
  count(scene, 8000, 0);
  EXPECT_THAT(found(scene), ElementsAre("miscounted"));
  scene.fault("F7-restart", 8, 8, kTouchesDatabase, {{"undoes_commits", true}});
  EXPECT_THAT(found(scene), IsEmpty());
}

TEST(GoodHistory, AttemptsThatASinkRefused) {
  Scene scene = three_that_arrived();
  refuse(scene, "c");
  refuse(scene, "c");
  EXPECT_THAT(found(end_after(scene, 3)), IsEmpty());
}

TEST(GoodHistory, AttemptsThatAFaultMayCost) {
  Scene scene = three_that_arrived();
  scene.fault("F15-http", 1, 5, kTouchesSink, {{"attempts", 2}});
  refuse(scene, "c");
  EXPECT_THAT(found(end_after(scene, 4)), IsEmpty());
}

TEST(GoodHistory, PoisonThatWasReplayedKeepsItsAttempts) {
  Scene scene = three_that_arrived().poison("c").note("replayed", "c", 11);
  EXPECT_THAT(found(end_after(scene, 7)), IsEmpty());
}

}  // namespace
}  // namespace outfall::test::history
