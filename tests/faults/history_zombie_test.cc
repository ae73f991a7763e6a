// Hand-made histories of leases that others have taken over: what is written by one of them then is
// named, whether it ends an entry or not, and what only looks like it is accepted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/faults/history_scene.h"

namespace outfall::test::history {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(ZombieWrite, SettledAfterAnotherLeaseHadIt) {
  Scene scene = three_that_arrived();
  scene.fault("F3-sigstop", 9, 2000, kTouchesWorker);
  scene.claim("l1", {"c"}, 9).claim("l2", {"c"}, 1600, "w2").settle("l1", {"c"}, 2001);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("zombie-write"));
}

TEST(ZombieWrite, LeaseNumbersCountWhereTheLogWasLate) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"c"}, 2000).records.back()["lease_no"] = 1;
  scene.claim("l2", {"c"}, 1600, "w2").records.back()["lease_no"] = 2;
  EXPECT_THAT(found(scene.settle("l1", {"c"}, 2001).end({"a", "b", "c"})),
              ElementsAre("zombie-write"));
}

// A crash undid the claim of l1 and gave its number, or a smaller one, to l2.
TEST(ZombieWrite, LeaseNumbersMayGoBackWithTheDatabase) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"c"}, 1500).records.back()["lease_no"] = 35;
  scene.fault("F7-immediate-stop", 1510, 1590, kTouchesDatabase, kUndoes);
  scene.claim("l2", {"c"}, 1600).records.back()["lease_no"] = 34;
  scene.settle("l2", {"c"}, 1700);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre());
  scene.settle("l1", {"c"}, 1650);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), testing::Contains("zombie-write"));
}

TEST(ZombieWrite, LeaseNumbersStayWhereNothingIsUndone) {
  Scene scene = three_that_arrived();
  scene.claim("l1", {"c"}, 1500).records.back()["lease_no"] = 35;
  scene.fault("F22-connections", 1510, 1590, kTouchesDatabase);
  scene.claim("l2", {"c"}, 1600).records.back()["lease_no"] = 34;
  scene.settle("l2", {"c"}, 1700);
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("zombie-write"));
}

TEST(ZombieWrite, AlsoWhereASettleOnlyCounts) {
  Scene scene = three_that_arrived();
  scene.fault("F3-sigstop", 9, 2000, kTouchesWorker);
  scene.claim("l1", {"c"}, 9).claim("l2", {"c"}, 1600, "w2");
  scene.outcome("c", "delivered", 13);
  scene.add({{"f", "settled"},
             {"at_us", 2'001'000},
             {"worker", "w1"},
             {"lease", "l1"},
             {"delivered", 1}});
  EXPECT_THAT(found(scene.end({"a", "b", "c"})), ElementsAre("zombie-write"));
}

// l1 had c when l2 claimed it; what l1 wrote then was no end of it.
Scene taken_over(std::int64_t outcome_at) {
  Scene scene = three_that_arrived();
  scene.fault("F3-sigstop", 9, 2000, kTouchesWorker);
  scene.claim("l1", {"c"}, 9).outcome("c", "retryable_failure", outcome_at);
  scene.claim("l2", {"c"}, 1600, "w2").settle("l2", {"c"}, 1700, "w2");
  return scene;
}

Scene& put_back(Scene& scene, std::int64_t at) {
  scene.settle("l1", {"c"}, at).records.back()["status"] = "retryable_failure";
  return scene;
}

TEST(ZombieWrite, AlsoOfWhatIsNotFinal) {
  Scene scene = taken_over(1500);
  EXPECT_THAT(found(put_back(scene, 1650).end({"a", "b", "c"})), ElementsAre("zombie-write"));
}

TEST(ZombieWrite, NotWhatIsPutBackBeforeItsNextClaim) {
  Scene scene = taken_over(1500);
  EXPECT_THAT(found(put_back(scene, 1599).end({"a", "b", "c"})), IsEmpty());
}

TEST(ZombieWrite, NotWhereACrashUndidTheClaimBetween) {
  Scene scene = taken_over(1500);
  scene.fault("F7-immediate-stop", 1610, 1620, kTouchesDatabase, kUndoes);
  EXPECT_THAT(found(put_back(scene, 1650).end({"a", "b", "c"})), IsEmpty());
}

Scene& count_others(Scene& scene, std::int64_t begun, std::int64_t at, const char* lease = "l1") {
  return scene.add({{"f", "settled"},
                    {"at_us", at * 1000},
                    {"begun_us", begun * 1000},
                    {"worker", "w1"},
                    {"lease", lease},
                    {"delivered", 0},
                    {"others", 1}});
}

TEST(ZombieWrite, AlsoWhereWhatIsNotFinalIsOnlyCounted) {
  Scene scene = taken_over(1640);
  EXPECT_THAT(found(count_others(scene, 1641, 1650).end({"a", "b", "c"})),
              ElementsAre("zombie-write"));
}

// The answer was late: the database may have written it before the claim.
TEST(ZombieWrite, NotASettleThatBeganBeforeTheClaim) {
  Scene scene = taken_over(1640);
  EXPECT_THAT(found(count_others(scene, 1590, 1650).end({"a", "b", "c"})), IsEmpty());
}

// What l2 claimed, l1 had put back: l1 is still there, and writes of others.
TEST(ZombieWrite, NotByALeaseThatHadGivenTheEntryBack) {
  Scene scene = taken_over(1500);
  EXPECT_THAT(found(count_others(scene, 1641, 1650).end({"a", "b", "c"})), IsEmpty());
}

TEST(ZombieWrite, AlsoOfWhatIsNotFinalByALeaseThatWasNeverClaimed) {
  Scene scene = taken_over(1500);
  EXPECT_THAT(found(count_others(scene, 1641, 1650, "l9").end({"a", "b", "c"})),
              ElementsAre("zombie-write"));
}

}  // namespace
}  // namespace outfall::test::history
