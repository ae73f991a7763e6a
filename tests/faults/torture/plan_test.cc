// Goal: a run can be repeated from its name, and both forms of the torture play what they say.

#include "tests/faults/torture/plan.h"

#include <map>
#include <set>

#include <gtest/gtest.h>

namespace outfall::torture {
namespace {

TEST(TorturePlan, TheSameNameIsTheSameSchedule) {
  const Case of{"webhook", "F11-partition+F1-sigkill", "any", 42};
  const Plan plan = make_plan(of);
  EXPECT_EQ(plan, make_plan(parse_case(of.name())));
  EXPECT_EQ(plan.injections.size(), 2u);
  Case other = of;
  other.seed = 43;
  EXPECT_NE(plan.injections, make_plan(other).injections);
}

TEST(TorturePlan, ANameThatSaysNothingIsRefused) {
  for (const char* name :
       {"", "noop", "noop/F1-sigkill/any", "noop/F1-sigkill/any/x", "noop/F1-sigkill/any/1/2",
        "nothing/F1-sigkill/any/1", "noop/F99/any/1", "noop/F12-sink/any/1", "noop/F7-restart/S1/1",
        "webhook/F15-http.200/any/1"}) {
    EXPECT_THROW((void)make_plan(parse_case(name)), std::invalid_argument) << name;
  }
}

TEST(TorturePlan, AnExactStepNamesAPointOfThatEmitter) {
  std::set<std::string> points;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const Injection injection = make_plan({"kafka", "F1-sigkill", "S3", seed}).injections.front();
    points.insert(injection.point);
    EXPECT_GE(injection.nth, 1);
  }
  EXPECT_EQ(points, (std::set<std::string>{"send.handed_over", "kafka.produced"}));
  EXPECT_EQ(make_plan({"kafka", "F1-sigkill", "any", 1}).injections.front().point, "");
}

TEST(TorturePlan, EveryCaseCanBePlanned) {
  for (const bool crash_points : {false, true}) {
    for (const auto& cases : {quick_cases(1, crash_points), full_cases(1, crash_points)}) {
      std::set<std::string> names;
      for (const Case& each : cases) {
        const Plan plan = make_plan(each);
        EXPECT_LT(plan.injections.front().worker, plan.workers);
        EXPECT_GE(plan.injections.front().lasts_ms, 1000) << each.name();
        EXPECT_TRUE(names.insert(each.name()).second) << each.name() << " is there twice";
        if (!crash_points) {
          EXPECT_EQ(each.step, "any");
        }
      }
    }
  }
}

TEST(TorturePlan, NoFaultOfAPairTakesTheServerFromTheOther) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    for (const Case& each : full_cases(seed * 1000, false)) {
      const Plan plan = make_plan(each);
      if (plan.injections.size() < 2) continue;
      const FaultKind& first = fault_kind(plan.injections[0].kind);
      const FaultKind& second = fault_kind(plan.injections[1].kind);
      EXPECT_FALSE(first.takes_server && second.uses_server) << each.name();
      EXPECT_FALSE(second.takes_server && first.uses_server) << each.name();
    }
  }
}

TEST(TorturePlan, BothFormsHaveEveryFaultAndEveryEmitter) {
  for (const auto& cases : {quick_cases(1, true), full_cases(1, true)}) {
    std::set<std::string> kinds;
    std::set<std::string> emitters;
    for (const Case& each : cases) {
      for (const Injection& injection : make_plan(each).injections) kinds.insert(injection.kind);
      emitters.insert(each.emitter);
    }
    for (const FaultKind& kind : fault_kinds()) EXPECT_TRUE(kinds.contains(kind.name)) << kind.name;
    EXPECT_EQ(emitters, std::set<std::string>(emitter_names().begin(), emitter_names().end()));
  }
}

TEST(TorturePlan, TheFullFormHasEveryModeAndStepOfEveryEmitter) {
  std::set<std::string> names;
  for (Case each : full_cases(7, true)) {
    each.seed = 0;
    names.insert(each.name());
  }
  EXPECT_TRUE(names.contains("kafka/F12-sink.ack-lost/any/0"));
  EXPECT_TRUE(names.contains("exec/F1-sigkill/S8/0"));
  EXPECT_TRUE(names.contains("stdout/F8-failover/S7/0"));
  EXPECT_FALSE(names.contains("stdout/F12-sink.drop/any/0"));
}

TEST(TorturePlan, OfAPairOnlyOneTakesTheServer) {
  int pairs = 0;
  for (const Case& each : full_cases(1, true)) {
    const Plan plan = make_plan(each);
    if (plan.injections.size() < 2) continue;
    ++pairs;
    EXPECT_FALSE(fault_kind(plan.injections[0].kind).takes_server &&
                 fault_kind(plan.injections[1].kind).takes_server)
        << each.name();
  }
  EXPECT_GT(pairs, 20);
}

TEST(TorturePlan, ASoakPlaysEveryKindThatFitsAgainAndAgain) {
  using std::chrono_literals::operator""min;
  const auto injections = soak_injections("stdout", 3, 30min, 7);
  EXPECT_EQ(injections, soak_injections("stdout", 3, 30min, 7));
  EXPECT_NE(injections, soak_injections("stdout", 3, 30min, 8));
  std::map<std::string, int> kinds;
  int at_ms = 0;
  for (const Injection& each : injections) {
    ++kinds[each.kind];
    EXPECT_FALSE(fault_kind(each.kind).standbys) << each.kind;
    EXPECT_LT(each.worker, 3);
    EXPECT_GE(each.after_ms, 10'000);
    at_ms += each.after_ms + each.lasts_ms;
  }
  EXPECT_GE(at_ms, 30 * 60 * 1000);
  EXPECT_GE(kinds.size(), 15u);
  for (const auto& [kind, count] : kinds) EXPECT_GE(count, 3) << kind;
}

TEST(TorturePlan, ASoakOfOneKindHasNoOther) {
  using std::chrono_literals::operator""s;
  for (const Injection& each : soak_injections("stdout", 2, 60s, 1, "F1-")) {
    EXPECT_EQ(each.kind, "F1-sigkill");
  }
  EXPECT_THROW((void)soak_injections("stdout", 2, 60s, 1, "F99"), std::invalid_argument);
}

}  // namespace
}  // namespace outfall::torture
