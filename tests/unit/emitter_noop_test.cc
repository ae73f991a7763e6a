// noop: the conformance suite in its three speeds, each way to answer, and that which entries fail
// can be told beforehand.
#include <cmath>

#include <gtest/gtest.h>

#include "emitters/noop/noop.h"
#include "emitters/noop/plan.h"
#include "tests/support/emitter_conformance.h"
#include "tests/support/hint_form.h"

namespace outfall {
namespace {

using test::ConformanceCase;
using test::make_emitter;
using test::TestDrain;
using test::TestEntry;
using test::TestSettings;

class NoopSubject : public test::ConformanceSubject {
 public:
  explicit NoopSubject(Milliseconds latency) {
    settings_.number("latency", latency.count()).map("fail_types", {{"poisoned", "failed"}});
  }
  std::unique_ptr<Emitter> create(CompletionSink& sink) override {
    return make_emitter(noop_emitter_kind(), settings_, sink);
  }
  std::string rejected_type() override { return "poisoned"; }

 protected:
  TestSettings settings_{noop_emitter_kind()};
};

// A sink that answers only after longer than any test's patience with emit() and stop().
class SlowNoopSubject final : public NoopSubject {
 public:
  SlowNoopSubject() : NoopSubject(Milliseconds{1}) {}
  bool stall() override {
    settings_.number("latency", 2500);
    return true;
  }
};

OUTFALL_EMITTER_CONFORMANCE(
    Noop, ConformanceCase{"AtOnce", [] { return std::make_unique<NoopSubject>(Milliseconds{0}); }},
    ConformanceCase{"WithLatency", [] { return std::make_unique<NoopSubject>(Milliseconds{3}); }},
    ConformanceCase{"Slow", [] { return std::make_unique<SlowNoopSubject>(); }});

class Noop : public testing::Test {
 protected:
  void create() { emitter_ = make_emitter(kind_, settings_, drain_); }
  std::vector<std::string> problems() const {
    std::vector<std::string> messages;
    for (const SettingProblem& problem : kind_.validate(settings_.values())) {
      test::expect_hint_form(problem);
      messages.push_back(problem.setting + ": " + problem.message);
    }
    return messages;
  }

  EmitterKind kind_ = noop_emitter_kind();
  TestSettings settings_{kind_};
  TestDrain drain_;
  std::unique_ptr<Emitter> emitter_;
};

TEST_F(Noop, LeavesTheRecordIdToTheEnvelopeId) {
  create();
  const auto tokens = drain_.emit(*emitter_, {{}});
  EXPECT_EQ(drain_.item(tokens[0]).outcome->record_id, "");
}

TEST_F(Noop, GivesEachAnswerThatATypeAsksFor) {
  const struct {
    const char* name;
    OutcomeKind kind;
    bool connection_lost = false;
  } rows[] = {
      {"retryable_failure", OutcomeKind::retryable_failure},
      {"possibly_delivered", OutcomeKind::possibly_delivered},
      {"connection_lost", OutcomeKind::possibly_delivered, true},
      {"failed", OutcomeKind::failed},
      {"dead_lettered", OutcomeKind::dead_lettered},
      {"deferred", OutcomeKind::deferred},
      {"destination_unavailable", OutcomeKind::destination_unavailable},
      {"blocked", OutcomeKind::blocked},
      {"pending", OutcomeKind::pending},
      {"exception", OutcomeKind::exception},
      {"shutdown", OutcomeKind::shutdown},
  };
  std::map<std::string, std::string> types;
  std::vector<TestEntry> entries;
  for (const auto& row : rows) {
    types[std::string("type.") + row.name] = row.name;
    entries.push_back({.type = std::string("type.") + row.name});
  }
  settings_.map("fail_types", types).number("retry_after", 5000);
  create();
  const auto tokens = drain_.emit(*emitter_, entries);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Outcome& outcome = *drain_.item(tokens[i]).outcome;
    EXPECT_EQ(outcome.kind, rows[i].kind);
    EXPECT_EQ(outcome.connection_lost, rows[i].connection_lost);
    const bool asks =
        outcome.kind == OutcomeKind::retryable_failure || outcome.kind == OutcomeKind::deferred;
    EXPECT_EQ(outcome.retry_after, asks ? Milliseconds{5000} : Milliseconds{-1});
    ASSERT_TRUE(outcome.error);
    const bool threw = outcome.kind == OutcomeKind::exception;
    EXPECT_EQ(outcome.error->code,
              threw ? "emission.exception" : std::string("noop.") + rows[i].name);
  }
}

TEST_F(Noop, ReallyThrowsAndOnlyTheTypeIsToldOfIt) {
  settings_.map("fail", {{"exception", "1"}});
  create();
  std::vector<TestEntry> entries;
  for (int i = 0; i < 1000; ++i) entries.push_back({.key = std::to_string(i)});
  for (const std::uint64_t token : drain_.emit(*emitter_, entries)) {
    ASSERT_EQ(drain_.kind(token), OutcomeKind::exception);
    const std::string& message = drain_.item(token).outcome->error->message;
    EXPECT_NE(message.find("NoopException"), std::string::npos);
    EXPECT_EQ(message.find("never stored"), std::string::npos);
  }
}

TEST_F(Noop, AShareIsHitAsDrawnFromIdAndAttempt) {
  settings_.map("fail", {{"deferred", "0.05"}, {"failed", "0.1"}, {"retryable_failure", "0.25"}});
  create();
  std::vector<TestEntry> entries(20'000);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    entries[i].attempts = static_cast<std::int32_t>(i % 3);
  }
  std::map<OutcomeKind, double> counts;
  for (const std::uint64_t token : drain_.emit(*emitter_, entries)) {
    const TestDrain::Item& item = drain_.item(token);
    const double drawn = noop_draw(item.envelope_id, item.entry.attempts);
    const OutcomeKind expected = drawn < 0.05   ? OutcomeKind::deferred
                                 : drawn < 0.15 ? OutcomeKind::failed
                                 : drawn < 0.4  ? OutcomeKind::retryable_failure
                                                : OutcomeKind::delivered;
    ASSERT_EQ(item.outcome->kind, expected) << drawn;
    ++counts[expected];
  }
  EXPECT_NEAR(counts[OutcomeKind::retryable_failure], 5000, 400);
  EXPECT_NEAR(counts[OutcomeKind::failed], 2000, 300);
  EXPECT_NEAR(counts[OutcomeKind::deferred], 1000, 200);
}

TEST_F(Noop, TheNextAttemptIsDrawnAnew) {
  const Uuid id = *Uuid::parse("0190c2f4-7a3e-7bcd-8ef0-123456789abc");
  double sum = 0;
  for (std::int32_t attempts = 0; attempts < 1000; ++attempts) {
    const double drawn = noop_draw(id, attempts);
    EXPECT_GE(drawn, 0);
    EXPECT_LT(drawn, 1);
    EXPECT_EQ(drawn, noop_draw(id, attempts));
    sum += drawn;
  }
  EXPECT_NEAR(sum / 1000, 0.5, 0.05);
}

TEST_F(Noop, TakesAsLongAsItsLatency) {
  settings_.number("latency", 30);
  create();
  const auto start = std::chrono::steady_clock::now();
  const auto tokens = drain_.emit(*emitter_, {{.key = "a"}, {.key = "b"}});
  drain_.wait_for_all();
  EXPECT_GE(std::chrono::steady_clock::now() - start, Milliseconds{30});
  EXPECT_EQ(drain_.item(tokens[0]).duration, Milliseconds{30});
  EXPECT_EQ(drain_.completion_order(), tokens);
}

TEST_F(Noop, AFailureBlocksWhatIsInFlightOfItsKey) {
  settings_.number("latency", 20).map("fail_types", {{"poisoned", "retryable_failure"}});
  create();
  const auto first = drain_.emit(*emitter_, {{.key = "a", .type = "poisoned"}});
  const auto second = drain_.emit(*emitter_, {{.key = "a"}, {.key = "b"}});
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(first[0]), OutcomeKind::retryable_failure);
  EXPECT_EQ(drain_.kinds(second), (std::vector{OutcomeKind::blocked, OutcomeKind::delivered}));
}

TEST_F(Noop, StopAwaitsWhatIsDueInTimeAndGivesTheRestBack) {
  settings_.number("latency", 60'000);
  create();
  const auto tokens = drain_.emit(*emitter_, {{.key = "a"}, {}});
  emitter_->stop(Milliseconds{10});
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(2, OutcomeKind::shutdown));
}

TEST_F(Noop, StopLetsALatencyRunOutWithinTheTimeout) {
  settings_.number("latency", 100);
  create();
  const auto tokens = drain_.emit(*emitter_, {{.key = "a"}, {}});
  emitter_->stop(Milliseconds{60'000});
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(2, OutcomeKind::delivered));
}

TEST_F(Noop, ReportsEveryProblemOfItsSettings) {
  settings_
      .map("fail", {{"failed", "0.6"},
                    {"deferred", "0.5"},
                    {"sometimes", "0"},
                    {"pending", "-1"},
                    {"blocked", "nan"},
                    {"shutdown", "0.1x"}})
      .map("fail_types", {{"a.b", "delivered"}});
  EXPECT_EQ(problems(),
            (std::vector<std::string>{"fail.blocked: \"nan\" is not a share",
                                      "fail.pending: \"-1\" is not a share",
                                      "fail.shutdown: \"0.1x\" is not a share",
                                      "fail.sometimes: \"sometimes\" is not an answer",
                                      "fail: the shares add up to more than 1",
                                      "fail_types.a.b: \"delivered\" is not an answer"}));
}

TEST_F(Noop, TakesSharesThatAddUpToOne) {
  settings_.map("fail", {{"failed", "0.1"}, {"deferred", "0.2"}, {"pending", "0.7"}});
  EXPECT_TRUE(problems().empty());
}

using NoopDeathTest = Noop;

TEST_F(NoopDeathTest, ACrashTypeKillsTheProcess) {
  settings_.text("crash_type", "deadly");
  EXPECT_EXIT(
      {
        create();
        drain_.emit(*emitter_, {{}, {.type = "deadly"}});
      },
      testing::KilledBySignal(SIGKILL), "");
}

}  // namespace
}  // namespace outfall
