// exec with programs that do as they are asked: the conformance suite, answers in any order and of
// every kind, limits, and what a program may do on its outputs besides answering.
#include <algorithm>
#include <csignal>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/emitter_conformance.h"
#include "tests/unit/event_lines.h"
#include "tests/unit/exec_fixture.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using Received = ConformanceSubject::Received;

// Writes each line to a file before it answers, and does nothing while there is a file `stalled`.
constexpr std::string_view kRecorder = R"py(
import json, os, sys, time
with open("lines", "ab", buffering=0) as lines:
    for line in sys.stdin.buffer:
        while os.path.exists("stalled"):
            time.sleep(0.005)
        event = json.loads(line)
        if event["type"] == "rejected":
            answer = {"outcome": "failed", "error": "it is rejected"}
        else:
            lines.write(line)
            answer = {"outcome": "delivered"}
        print(json.dumps({"id": event["id"], **answer}), flush=True)
)py";

class ProgramSubject final : public ConformanceSubject {
 public:
  explicit ProgramSubject(std::int64_t max_in_flight) {
    settings_.list("command", {"python3", folder_.write("recorder.py", kRecorder)})
        .text("working_directory", folder_.path())
        .number("max_in_flight", max_in_flight);
  }
  std::unique_ptr<Emitter> create(CompletionSink& sink) override {
    return make_emitter(exec_emitter_kind(), settings_, sink);
  }
  std::optional<std::vector<Received>> received() override {
    const auto path = folder_ / "lines";
    return received_from_lines(std::filesystem::exists(path) ? read_file(path) : "");
  }
  bool stall() override {
    folder_.write("stalled", "");
    return true;
  }
  void release() override { std::filesystem::remove(folder_ / "stalled"); }
  std::string rejected_type() override { return "rejected"; }

 private:
  TempFolder folder_;
  TestSettings settings_{exec_emitter_kind()};
};

OUTFALL_EMITTER_CONFORMANCE(
    Exec, ConformanceCase{"Program", [] { return std::make_unique<ProgramSubject>(32); }},
    ConformanceCase{"Many", [] { return std::make_unique<ProgramSubject>(1000); }},
    ConformanceCase{"OneByOne", [] { return std::make_unique<ProgramSubject>(1); }});

using Exec = ExecTest;

TEST_F(Exec, TheExampleOfTheDocsDelivers) {
  settings_.list("command", {"python3", OUTFALL_SOURCE_FOLDER "/samples/exec/deliver.py", "out"});
  emitter_ = make_emitter(kind_, settings_, drain_);
  const auto tokens = deliver({{.key = "ana", .payload = R"({"order":42})"}, {}});
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(2, OutcomeKind::delivered));
  const std::string text = read_file(folder_ / "out");
  ASSERT_EQ(lines_of(text).size(), 2U);
  EXPECT_EQ(outcome(tokens[1]).record_id, std::to_string(text.size()));
  EXPECT_THAT(lines_of(text)[0], HasSubstr(R"("data": {"order": 42})"));
  // The file cannot be written any more.
  std::filesystem::remove(folder_ / "out");
  std::filesystem::create_directory(folder_ / "out");
  EXPECT_EQ(deliver_one(), OutcomeKind::destination_unavailable);
}

TEST(ExecDocs, TheExampleOnThePageIsTheFile) {
  const std::string folder = OUTFALL_SOURCE_FOLDER;
  EXPECT_THAT(read_file(folder + "/docs/start/any-program.md"),
              HasSubstr("```python\n" + read_file(folder + "/samples/exec/deliver.py") + "```\n"));
}

TEST_F(Exec, AnEventHasKeyAndTraceContextAsExtensions) {
  create(R"py(
for event in events():
    write("event", json.dumps(event, sort_keys=True))
    answer(event)
)py");
  deliver({{.key = "ana",
            .headers_json = R"({"traceparent":"00-0af7-b7ad-01","tracestate":"a=1"})",
            .subject = "order 42"}});
  const std::string event = read_file(folder_ / "event");
  for (const char* member :
       {R"("partitionkey": "ana")", R"("traceparent": "00-0af7-b7ad-01")", R"("tracestate": "a=1")",
        R"("subject": "order 42")", R"("specversion": "1.0")"}) {
    EXPECT_THAT(event, HasSubstr(member));
  }
}

TEST_F(Exec, AnswersMayComeInAnyOrder) {
  create(R"py(
held = []
for event in events():
    held.append(event)
    if len(held) == 10:
        for event in reversed(held):
            answer(event, record=event["id"])
)py");
  auto tokens = deliver(entries(10));
  for (const std::uint64_t token : tokens) {
    EXPECT_EQ(outcome(token).kind, OutcomeKind::delivered);
    EXPECT_EQ(outcome(token).record_id, drain_.item(token).envelope_id.to_string());
  }
  std::ranges::reverse(tokens);
  EXPECT_EQ(drain_.completion_order(), tokens);
}

TEST_F(Exec, TheAnswerDecides) {
  create(R"py(
for event in events():
    answer(event, event["type"], error={"code": "quota", "message": "try later"}, retry_after=2.5)
)py");
  const auto tokens = deliver({{.type = "delivered"},
                               {.type = "retry"},
                               {.type = "defer"},
                               {.type = "failed"},
                               {.type = "dead_letter"},
                               {.type = "unavailable"},
                               {.type = "possibly_delivered"}});
  EXPECT_EQ(drain_.kinds(tokens),
            (std::vector{OutcomeKind::delivered, OutcomeKind::retryable_failure,
                         OutcomeKind::deferred, OutcomeKind::failed, OutcomeKind::dead_lettered,
                         OutcomeKind::destination_unavailable, OutcomeKind::possibly_delivered}));
  for (const std::uint64_t token : std::span(tokens).subspan(1)) {
    EXPECT_EQ(error_code(token), "exec.quota");
    EXPECT_EQ(error_message(token), "try later");
    EXPECT_EQ(outcome(token).retry_after, Milliseconds{2500});
  }
  EXPECT_EQ(metric(Conversation::kStarts), 1);
}

TEST_F(Exec, NeverHasMoreInFlightThanItMay) {
  settings_.number("max_in_flight", 3);
  create(R"py(
import collections
seen = 0
buffer = b""
for number in range(8):
    # Takes all that comes within a moment, then answers one.
    while select.select([0], [], [], 0.05)[0]:
        data = os.read(0, 65536)
        if not data:
            break
        buffer += data
    waiting = buffer.count(b"\n")
    seen = max(seen, waiting)
    line, buffer = buffer.split(b"\n", 1)
    write("seen", seen)
    answer(json.loads(line))
)py");
  EXPECT_EQ(emitter_->capabilities().max_in_flight, 3U);
  // More than the drain would ever hand over.
  const auto tokens = deliver(entries(8));
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(8, OutcomeKind::delivered));
  EXPECT_EQ(read_file(folder_ / "seen"), "3");
}

TEST_F(Exec, AnswersThatFitNothingAreCountedAndDoNoHarm) {
  create(R"py(
for event in events():
    answer({"id": "no-uuid"})
    answer({"id": "01a1fd77-3731-71c4-b617-bb9798dca0b8"})
    answer(event)
    answer(event, "failed")
    print(" ", flush=True)
)py");
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  wait_until([&] { return metric(Conversation::kUnknownAnswers) == 6; }, "six are counted");
  EXPECT_TRUE(has_logged("not in flight: line 1, id \"no-uuid\""));
  EXPECT_EQ(metric(Conversation::kStarts), 1);
}

TEST_F(Exec, StandardErrorGoesToTheLogAndBlocksNothing) {
  create(R"py(
for event in events():
    for number in range(200):
        sys.stderr.write("note %d \033[31m" % number + "x" * 50000 + "\n")
    sys.stderr.write("password=hunter2\n\nno end of line")
    sys.stderr.flush()
    answer(event)
)py");
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  emitter_->stop(Milliseconds{5000});
  EXPECT_EQ(metric(Conversation::kStderrLines), 202);
  EXPECT_TRUE(has_logged("standard error: note 199  [31mxxx"));
  EXPECT_TRUE(has_logged("standard error: no end of line"));
  EXPECT_FALSE(has_logged("hunter2"));
  for (const std::string& line : test_reporter().lines()) EXPECT_LT(line.size(), 1200U);
}

TEST_F(Exec, ASlowProgramIsWaitedFor) {
  create(R"py(
for event in events():
    select.select([], [], [], 0.02)
    answer(event)
)py");
  const auto start = std::chrono::steady_clock::now();
  const auto tokens = deliver(entries(20));
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(20, OutcomeKind::delivered));
  EXPECT_GE(std::chrono::steady_clock::now() - start, Milliseconds{400});
  EXPECT_GE(drain_.item(tokens[19]).duration, Milliseconds{100});
}

TEST_F(Exec, TheSameEnvelopeTwiceIsAnsweredTwice) {
  create(R"py(
for event in events():
    answer(event)
)py");
  std::vector<std::uint64_t> tokens;
  EmitBatch batch = drain_.batch({{}, {}, {}}, tokens);
  const Envelope same = *batch.items[0].envelope;
  batch.items[1].envelope = &same;
  emitter_->emit(std::move(batch));
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(3, OutcomeKind::delivered));
  EXPECT_EQ(metric(Conversation::kUnknownAnswers), 0);
}

}  // namespace
}  // namespace outfall::test
