#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "emitter/emitter.h"
#include "tests/support/emitter_harness.h"

namespace outfall::test {

// One kind of emitter with its sink, as the conformance suite sees them. A test writes one of these
// for its emitter and says OUTFALL_EMITTER_CONFORMANCE; the suite makes a fresh one for each of its
// tests. Only create() must be there; what the others tell allows the suite to check more, and
// tests that need what a subject cannot do are skipped.
class ConformanceSubject {
 public:
  virtual ~ConformanceSubject() = default;

  // An emitter whose sink takes everything. The subject outlives it.
  [[nodiscard]] virtual std::unique_ptr<Emitter> create(CompletionSink& sink) = 0;

  // What the sink has got so far, as a consumer sees it, each key's in the order of arrival.
  struct Received {
    Uuid envelope_id;
    std::optional<std::string> payload;  // absent for a tombstone
  };
  [[nodiscard]] virtual std::optional<std::vector<Received>> received() { return std::nullopt; }

  // Makes the sink answer nothing until release(); the emitters made from now on are concerned.
  // False: cannot.
  [[nodiscard]] virtual bool stall() { return false; }
  virtual void release() {}

  // An event type whose entries do not get through while all others do; empty: there is none.
  [[nodiscard]] virtual std::string rejected_type() { return {}; }
};

struct ConformanceCase {
  std::string name;
  std::function<std::unique_ptr<ConformanceSubject>()> make;
};

// gtest prints parameters by this, and names it.
void PrintTo(  // NOLINT(readability-identifier-naming)
    const ConformanceCase& subject, std::ostream* out);

// The suite: a test for each ✓ of lib/emitter/README.md. Tests wait by deadlines of
// kDefaultDeadline; what must be quick is measured against kPrompt.
// NOLINTNEXTLINE(cppcoreguidelines-virtual-class-destructor): as googletest has it
class EmitterConformance : public testing::TestWithParam<ConformanceCase> {
 protected:
  // Generous for a loaded machine under a sanitizer, and far below any sink's time-out.
  static constexpr std::chrono::milliseconds kPrompt{1000};

  EmitterConformance();
  ~EmitterConformance() override;

  void create() { emitter_ = subject_->create(drain_); }
  // Hands entries over as the drain does: within the capabilities, and key by key where the emitter
  // does not pipeline. Returns the tokens in the order of `entries`, all completed.
  std::vector<std::uint64_t> deliver(const std::vector<TestEntry>& entries, std::size_t batch);
  // Fails unless all are delivered and the sink, where it can tell, has them once and in order.
  void expect_delivered(const std::vector<std::uint64_t>& tokens);

  TestDrain drain_;
  std::unique_ptr<ConformanceSubject> subject_;
  std::unique_ptr<Emitter> emitter_;
};

[[nodiscard]] std::string conformance_case_name(
    const testing::TestParamInfo<ConformanceCase>& info);

}  // namespace outfall::test

// At namespace scope of a test file: runs the suite for these ConformanceCases.
#define OUTFALL_EMITTER_CONFORMANCE(prefix, ...)                                       \
  using outfall::test::EmitterConformance; /* the macro pastes the unqualified name */ \
  INSTANTIATE_TEST_SUITE_P(prefix, EmitterConformance, testing::Values(__VA_ARGS__),   \
                           outfall::test::conformance_case_name)
