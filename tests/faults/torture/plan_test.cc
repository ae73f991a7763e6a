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
        "noop/F1-sigkill/any/-1", "noop/F1-sigkill/any/18446744073709551616", "noop//any/1",
        "nothing/F1-sigkill/any/1", "noop/F99/any/1", "noop/F12-sink/any/1",
        "noop/F23-deadlock/S1/1", "webhook/F15-http.200/any/1", "noop:round/F1-sigkill/any/1",
        "noop:replay/F1-sigkill/any/1"}) {
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

using Names = std::set<std::string>;

// Where each fault has to be survived, and by whom: the matrix that a release is judged by, written
// down once more, so that a step that the plan leaves out is missed here.
struct MatrixRow {
  const char* kind;
  Names steps;
  Names emitters;
};

const std::vector<MatrixRow>& matrix() {
  static const Names kAll = {"S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8"};
  static const Names kEach = {"noop", "stdout", "exec", "webhook", "kafka"};
  static const Names kNetwork = {"webhook", "kafka"};
  // Behind a pooler: where a worker asks the database, and once where it does not.
  static const Names kDatabase = {"S0", "S3", "S5", "S6", "S8"};
  static const std::vector<MatrixRow> kRows = {
      {"F1-sigkill", kAll, kEach},
      {"F2-sigterm", kAll, kEach},
      {"F3-freeze", {"S1", "S3", "S4", "S5"}, kEach},
      // A file takes everything at once.
      {"F4-slow", {"S3"}, {"noop", "exec", "webhook", "kafka"}},
      {"F5-clock", kAll, kEach},
      {"F6-terminate", {"S0", "S5", "S6"}, kEach},
      {"F6-backend-killed", {"S0", "S5", "S6", "S7"}, kEach},
      {"F7-restart", kAll, kEach},
      {"F8-failover", kAll, kEach},
      {"F9-failover-async", kAll, kEach},
      {"F8-split-brain", {}, kEach},
      {"F9-split-brain", {}, kEach},
      {"F10-read-only", kAll, kEach},
      {"F11-partition", kAll, kEach},
      {"F12-sink", {"S3", "S4"}, kNetwork},
      {"F13-slow-sink", {"S3"}, {"webhook", "kafka", "exec"}},
      {"F14-away", {"S3"}, {"webhook", "kafka", "exec"}},
      {"F15-http", {"S3"}, {"webhook"}},
      // An entry is no moment. A file refuses nothing, and nothing of others runs in the worker, or
      // below it, but programs.
      {"F16-poison", {}, {"noop", "exec", "webhook", "kafka"}},
      {"F16-killer", {}, {"noop", "exec"}},
      {"F17-duplicate", {}, kEach},
      {"F18-late", {"S0"}, kEach},
      {"F19-xmin", {"S0"}, kEach},
      {"F19-replica", {}, kEach},
      {"F20-prepared", {}, kEach},
      {"F21-disk-full", {"S5", "S7"}, kEach},
      {"F22-connections", kAll, kEach},
      {"F22-pooler", kAll, kEach},
      {"F22-pooler-sigterm", {}, kEach},
      {"F22-pooler-freeze", {}, kEach},
      {"F22-pooler-terminate", {}, kEach},
      {"F22-pooler-restart", kDatabase, kEach},
      {"F22-pooler-failover", kDatabase, kEach},
      {"F22-pooler-partition", kDatabase, kEach},
      {"F23-deadlock", {"S5"}, kEach},
      {"F24-schema", kAll, kEach},
      {"F25-descriptors", kAll, kEach},
      {"F26-same-name", kAll, kEach},
      {"swizzle", {}, kEach},
  };
  return kRows;
}

// What the full form plays of one fault, pairs and shapes left out.
std::vector<Case> cases_of(const std::string& kind, std::uint64_t seed = 1) {
  std::vector<Case> found;
  for (const Case& each : full_cases(seed, true)) {
    const bool is_kind = each.fault == kind || each.fault.starts_with(kind + ".");
    if (is_kind && each.shape.empty()) found.push_back(each);
  }
  std::erase_if(found, [](const Case& each) { return each.fault.find('+') != std::string::npos; });
  return found;
}

TEST(TorturePlan, TheMatrixHasEveryFault) {
  Names rows;
  for (const MatrixRow& row : matrix()) rows.insert(row.kind);
  Names kinds;
  for (const FaultKind& kind : fault_kinds()) kinds.insert(kind.name);
  EXPECT_EQ(rows, kinds);
}

TEST(TorturePlan, TheFullFormPlaysEachFaultAtEachStepOfTheMatrixWithEachEmitter) {
  std::size_t exact = 0;
  for (const MatrixRow& row : matrix()) {
    Names expected;
    for (const std::string& emitter : row.emitters) {
      expected.insert(emitter + " at any");
      for (const std::string& step : row.steps) expected.insert(emitter + " at " + step);
    }
    exact += row.steps.size() * row.emitters.size();
    Names played;
    for (const Case& each : cases_of(row.kind)) played.insert(each.emitter + " at " + each.step);
    EXPECT_EQ(played, expected) << row.kind;
  }
  // That the matrix itself has not become smaller.
  EXPECT_EQ(exact, 755u);
}

TEST(TorturePlan, TheFullFormPlaysEachModeWithEachEmitterAndAtAStep) {
  for (const MatrixRow& row : matrix()) {
    const FaultKind& kind = fault_kind(row.kind);
    for (const std::string& mode : kind.modes) {
      Names emitters;
      bool at_a_step = row.steps.empty();
      for (const Case& each : cases_of(kind.name + "." + mode)) {
        if (each.step == "any") emitters.insert(each.emitter);
        at_a_step = at_a_step || each.step != "any";
      }
      EXPECT_EQ(emitters, row.emitters) << kind.name << "." << mode;
      EXPECT_TRUE(at_a_step) << kind.name << "." << mode;
    }
  }
}

// Which mode is played at which step with which emitter is chosen by the plan and not by the seed.
TEST(TorturePlan, TheFullFormIsTheSameForEverySeed) {
  const auto without_seeds = [](std::uint64_t seed) {
    std::vector<Case> cases;
    for (const MatrixRow& row : matrix()) {
      for (Case each : cases_of(row.kind, seed)) {
        each.seed = 0;
        cases.push_back(each);
      }
    }
    return cases;
  };
  EXPECT_EQ(without_seeds(1), without_seeds(4711));
}

// Each mode of those that are dealt meets a step with each emitter, or nearly so.
TEST(TorturePlan, ModesThatAreDealtMeetDifferentStepsAndEmitters) {
  for (const char* name : {"F5-clock", "F11-partition", "F12-sink", "F22-pooler-partition"}) {
    const FaultKind& kind = fault_kind(name);
    EXPECT_GT(kind.modes_at_a_step, 0) << name;
    for (const std::string& mode : kind.modes) {
      Names steps;
      Names emitters;
      for (const Case& each : cases_of(kind.name + "." + mode)) {
        if (each.step == "any") continue;
        steps.insert(each.step);
        emitters.insert(each.emitter);
      }
      EXPECT_GE(steps.size(), 2u) << name << "." << mode;
      EXPECT_GE(emitters.size(), 2u) << name << "." << mode;
    }
  }
}

TEST(TorturePlan, AFaultIsPlayedOnlyWhereItApplies) {
  for (const Case& each : full_cases(7, true))
    EXPECT_FALSE(each.emitter == "stdout" && each.fault == "F12-sink.drop") << each.name();
}

// Five or six seconds a run, two at a time: an hour.
TEST(TorturePlan, BothFormsEndInTime) {
  EXPECT_LE(full_cases(1, true).size(), 1225u);
  EXPECT_LE(quick_cases(1, true).size(), 54u);
}

TEST(TorturePlan, EachShapeIsPlayedWithEachOfItsFaultsByThoseEmittersThatCan) {
  for (const Shape& shape : shapes()) {
    std::vector<std::string> faults;
    Names emitters;
    for (const Case& each : full_cases(1, true)) {
      if (each.shape != shape.name) continue;
      EXPECT_EQ(parse_case(each.name()), each);
      EXPECT_EQ(each.step, "any") << each.name();
      faults.push_back(each.fault);
      emitters.insert(each.emitter);
    }
    EXPECT_EQ(faults, faults_of_shapes()) << shape.name;
    const auto& all = shape.emitters.empty() ? emitter_names() : shape.emitters;
    EXPECT_EQ(emitters, Names(all.begin(), all.end())) << shape.name;
  }
}

TEST(TorturePlan, TheEndpointThatGoesAwayIsAProcessUnlessItHasToRefuseAsWell) {
  const auto process = [](const char* name) {
    return has_own_process(make_plan(parse_case(name)));
  };
  EXPECT_TRUE(process("webhook/F14-away.kill/S3/1"));
  EXPECT_TRUE(process("webhook/F14-away.freeze+F1-sigkill/any/1"));
  EXPECT_FALSE(process("webhook/F14-away.kill+F15-http.500/any/1"));
  EXPECT_FALSE(process("webhook/F16-poison+F14-away/any/1"));
  EXPECT_FALSE(process("webhook/F12-sink.drop/any/1"));
  EXPECT_FALSE(process("kafka/F14-away.kill/any/1"));
}

TEST(TorturePlan, AnInjectionIsDescribedByWhereItShouldHaveStruck) {
  Injection injection;
  injection.kind = "F12-sink";
  injection.mode = "drop";
  injection.step = "any";
  EXPECT_EQ(described(injection), "F12-sink.drop at any");
  injection.step = "S3";
  injection.point = "webhook.requested";
  injection.nth = 17;
  EXPECT_EQ(described(injection), "F12-sink.drop at S3 (webhook.requested, time 17)");
}

// Any number of copies passed beside these.
TEST(TorturePlan, AnEndpointThatAnswersWithAStatusExcusesNoCopy) {
  Names refusals;
  for (const FaultKind& kind : fault_kinds()) {
    for (const std::string& mode : kind.modes) {
      Injection injection;
      injection.kind = kind.name;
      injection.mode = mode;
      if (refuses_with_a_status(injection)) refusals.insert(kind.name + "." + mode);
    }
  }
  EXPECT_EQ(refusals, (Names{"F15-http.500", "F15-http.503", "F15-http.429", "F15-http.408"}));
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
    // The first worker gets as old as the soak, so that a slow leak shows.
    EXPECT_NE(each.kind, "swizzle");
    if (each.kind == "F1-sigkill" || each.kind == "F2-sigterm") {
      EXPECT_NE(each.worker, 0) << each.kind;
    }
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
  try {
    (void)soak_injections("stdout", 2, 60s, 1, "F99");
    FAIL() << "it took F99";
  } catch (const std::invalid_argument& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("F99"), std::string::npos) << text;
    EXPECT_NE(text.find("F1-sigkill, F2-sigterm"), std::string::npos) << text;
    // It needs a standby, which a soak has not.
    EXPECT_EQ(text.find("F8-failover"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace outfall::torture
