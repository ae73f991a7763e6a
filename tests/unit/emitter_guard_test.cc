// Exceptions become outcomes with the name of their type and nothing of what they say.
#include <stdexcept>

#include <gtest/gtest.h>

#include "emitter/guard.h"
#include "tests/support/emitter_harness.h"

namespace outfall {
namespace {

struct Strange {};

TEST(Guarded, PassesAnOutcomeThrough) {
  const Outcome outcome = guarded([] { return Outcome::delivered("7"); });
  EXPECT_EQ(outcome.kind, OutcomeKind::delivered);
  EXPECT_EQ(outcome.record_id, "7");
}

TEST(Guarded, NamesTheTypeOfAnExceptionAndNotItsText) {
  const Outcome outcome = guarded([]() -> Outcome { throw std::invalid_argument("payload 4711"); });
  EXPECT_EQ(outcome.kind, OutcomeKind::exception);
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->code, "emission.exception");
  EXPECT_EQ(outcome.error->message, "std::invalid_argument");
}

TEST(Guarded, TakesWhateverIsThrown) {
  EXPECT_EQ(guarded([]() -> Outcome { throw 7; }).error->message, "int");
  EXPECT_NE(guarded([]() -> Outcome { throw Strange{}; }).error->message.find("Strange"),
            std::string::npos);
}

TEST(Guarded, CompletesABatchThatCouldNotBeTakenIn) {
  test::TestDrain drain;
  std::vector<std::uint64_t> tokens;
  {
    const EmitBatch batch = drain.batch({{.key = "a"}, {.key = "b"}, {}}, tokens);
    Completion first;
    first.token = tokens[0];
    drain.complete({&first, 1});
    try {
      throw std::bad_alloc();
    } catch (...) {
      complete_with_current_exception(batch, drain, 1);
    }
  }
  EXPECT_EQ(drain.kinds(tokens),
            (std::vector{OutcomeKind::delivered, OutcomeKind::exception, OutcomeKind::exception}));
  EXPECT_EQ(drain.item(tokens[2]).outcome->error->message, "std::bad_alloc");
  EXPECT_FALSE(drain.run_of("a").broken);
  EXPECT_TRUE(drain.run_of("b").broken);
}

}  // namespace
}  // namespace outfall
