// exec with programs that do not do as they are asked: what becomes of their entries, and that
// nothing of them outlives the emitter.
#include <csignal>
#include <thread>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/exec_fixture.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

class ExecEnd : public ExecTest {
 protected:
  // All of them may be delivered, and the attempt does not count.
  void expect_lost(const std::vector<std::uint64_t>& tokens, const std::string& code) {
    for (const std::uint64_t token : tokens) {
      EXPECT_EQ(drain_.kind(token), OutcomeKind::possibly_delivered) << token;
      EXPECT_TRUE(outcome(token).connection_lost);
      EXPECT_EQ(error_code(token), code);
    }
  }
};

TEST_F(ExecEnd, ACrashLosesOnlyWhatWasNotAnswered) {
  create(R"py(
crash = first_run()
seen = 0
for event in events():
    seen += 1
    if crash and seen == 5:
        os._exit(3)
    if not crash or seen <= 2:
        answer(event)
)py");
  const auto tokens = deliver(entries(5));
  EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::delivered);
  EXPECT_EQ(drain_.kind(tokens[1]), OutcomeKind::delivered);
  expect_lost({tokens[2], tokens[3], tokens[4]}, "exec.program_ended");
  EXPECT_EQ(error_message(tokens[4]), "the program ended with exit status 3");
  EXPECT_TRUE(has_logged("the program ended: exit status 3, unanswered entries: 3"));
  deliver_in_the_end();
  EXPECT_EQ(metric(Conversation::kStarts), 2);
}

TEST_F(ExecEnd, AKilledProgramIsNamedByItsSignal) {
  create(R"py(
for event in events():
    os.kill(os.getpid(), signal.SIGKILL)
)py");
  const auto tokens = deliver(entries(1));
  expect_lost(tokens, "exec.program_ended");
  EXPECT_EQ(error_message(tokens[0]), "the program ended with signal 9 (Killed)");
}

TEST_F(ExecEnd, TheLastAnswersOfAProgramCount) {
  create(R"py(
for number, event in enumerate(events()):
    answer(event)
    if number == 2:
        os._exit(1)
)py");
  const auto tokens = deliver(entries(3));
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(3, OutcomeKind::delivered));
}

TEST_F(ExecEnd, AProgramThatNeverReadsIsKilled) {
  settings_.number("timeout", 1500);
  create("write('pid', os.getpid())\nsignal.pause()\n");
  std::vector<TestEntry> large = entries(5);
  for (TestEntry& entry : large) entry.payload = "\"" + std::string(200'000, 'x') + "\"";
  const auto tokens = deliver(large);
  expect_lost({tokens[0]}, "exec.stuck");
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    EXPECT_EQ(drain_.kind(tokens[i]), OutcomeKind::destination_unavailable) << i;
  }
  EXPECT_FALSE(is_running(pid_in("pid")));
}

TEST_F(ExecEnd, AProgramThatNeverAnswersIsKilled) {
  settings_.number("timeout", 1500);
  create(R"py(
write("pid", os.getpid())
for event in events():
    pass
)py");
  const auto tokens = deliver(entries(10));
  expect_lost(tokens, "exec.stuck");
  EXPECT_THAT(error_message(tokens[0]), HasSubstr("answered nothing for 1500ms"));
  EXPECT_FALSE(is_running(pid_in("pid")));
}

TEST_F(ExecEnd, AnEntryThatIsNotAnsweredCostsItsProgramNothing) {
  settings_.number("timeout", 1500).number("max_in_flight", 4);
  create(R"py(
for event in events():
    if event["type"] != "forgotten":
        answer(event)
)py");
  deliver_in_the_end();  // A busy machine needs its time to start it.
  const auto forgotten = drain_.emit(*emitter_, {{.type = "forgotten"}});
  wait_until(
      [&] {
        const auto other = drain_.emit(*emitter_, {{}});
        wait_until([&] { return drain_.is_complete(other[0]); }, "another one is answered");
        EXPECT_EQ(drain_.kind(other[0]), OutcomeKind::delivered);
        return drain_.is_complete(forgotten[0]);
      },
      "the time limit");
  EXPECT_EQ(drain_.kind(forgotten[0]), OutcomeKind::possibly_delivered);
  EXPECT_FALSE(outcome(forgotten[0]).connection_lost);
  EXPECT_EQ(error_code(forgotten[0]), "exec.timeout");
  EXPECT_EQ(metric(Conversation::kTimeouts), 1);
  EXPECT_EQ(metric(Conversation::kStarts), 1);
}

TEST_F(ExecEnd, NonsenseIsNamedAndEndsTheProgram) {
  for (const std::string nonsense :
       {R"(print("hello\x1b[31m", flush=True))", R"(print("x" * 100000, flush=True))",
        R"(os.write(1, bytes(range(128, 256)) + b"\n"))"}) {
    SCOPED_TRACE(nonsense);
    std::filesystem::remove(folder_ / "ran");
    test_reporter().clear();
    create(R"py(
first = first_run()
for number, event in enumerate(events()):
    if first and number == 1:
        )py" +
           nonsense + R"py(
    else:
        answer(event)
)py");
    const auto tokens = deliver(entries(4));
    EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::delivered);
    expect_lost({tokens[1], tokens[2], tokens[3]}, "exec.bad_answer");
    EXPECT_THAT(error_message(tokens[1]), HasSubstr("line 2 of the program's output"));
    EXPECT_TRUE(has_logged("a line that is no answer: line 2: it is "));
    EXPECT_EQ(metric(Conversation::kBadAnswers), 1);
    for (const std::string& line : test_reporter().lines()) {
      EXPECT_LT(line.size(), 1000U);
      EXPECT_EQ(line.find('\x1b'), std::string::npos);
    }
    deliver_in_the_end();
  }
}

TEST_F(ExecEnd, NothingIsLeftOfAProgramThatForks) {
  create(R"py(
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write("child", os.getpid())
    while True:
        signal.pause()
for event in events():
    while not os.path.exists("child"):
        select.select([], [], [], 0.005)
    answer(event)
    if event["type"] == "last":
        os._exit(0)
)py");
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  const pid_t child = pid_in("child");
  EXPECT_TRUE(is_running(child));
  // The child holds all pipes open, and yet the end of the program is seen.
  EXPECT_EQ(deliver_one("last"), OutcomeKind::delivered);
  wait_until([&] { return metric(Conversation::kRunning) == 0; }, "the program has ended");
  wait_until_ended(child);
  std::filesystem::remove(folder_ / "child");
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  const pid_t next = pid_in("child");
  emitter_->stop(Milliseconds{2000});
  wait_until_ended(next);
}

TEST_F(ExecEnd, AProgramThatClosesItsInputEndsAndIsStartedAgain) {
  settings_.number("stop_grace", 100);
  create(R"py(
first = first_run()
event = next(events())
if first:
    write("pid", os.getpid())
    answer(event)
    os.close(0)
    while True:
        signal.pause()
answer(event)
for event in events():
    answer(event)
)py");
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  wait_until_ended(pid_in("pid"));
  deliver_in_the_end();
}

// The two ways in which an entry can be what ends its program, among entries that are not.
TEST_F(ExecEnd, AnEntryThatCrashesItsProgramIsFoundOut) {
  create(R"py(
for event in events():
    if event["type"] == "poison":
        os._exit(1)
    answer(event)
)py");
  deliver_in_the_end();
  std::vector<std::uint64_t> tokens;
  EmitBatch batch = drain_.batch({{}, {}, {.type = "poison"}, {}, {}}, tokens);
  const std::vector<EmitItem> items = batch.items;
  const auto owner = batch.owner;
  emitter_->emit(std::move(batch));
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(tokens[2]), OutcomeKind::possibly_delivered);
  EXPECT_TRUE(outcome(tokens[2]).connection_lost) << "it was not alone";

  // As the drain does with retries: the same envelopes again until they are through.
  const auto again = [&](const EmitItem& item) {
    std::vector<std::uint64_t> token;
    EmitBatch retry = drain_.batch({{}}, token);
    retry.items[0].envelope = item.envelope;
    emitter_->emit(std::move(retry));
    drain_.wait_for_all();
    return token[0];
  };
  const auto settled = [&](const EmitItem& item) {
    std::uint64_t token = 0;
    wait_until(
        [&] {
          token = again(item);
          return drain_.kind(token) != OutcomeKind::destination_unavailable;
        },
        "the program is there");
    return token;
  };
  for (const std::size_t other : {0U, 1U, 3U, 4U}) {
    EXPECT_EQ(drain_.kind(settled(items[other])), OutcomeKind::delivered);
  }
  const std::uint64_t poison = settled(items[2]);
  EXPECT_EQ(drain_.kind(poison), OutcomeKind::possibly_delivered);
  EXPECT_FALSE(outcome(poison).connection_lost) << "it was alone, and others got through before";
  // Without a success in between it may be the program's own fault.
  const std::uint64_t next = settled(items[2]);
  EXPECT_TRUE(outcome(next).connection_lost);
}

TEST_F(ExecEnd, ASuspectIsSentAlone) {
  // Takes all that comes within a moment before it looks at any of it.
  create(R"py(
while True:
    data = b""
    while not data.endswith(b"\n") or select.select([0], [], [], 0.05)[0]:
        data += os.read(0, 65536)
    batch = [json.loads(line) for line in data.splitlines()]
    if any(event["type"] == "poison" for event in batch):
        os._exit(1)
    for event in batch:
        answer(event)
)py");
  std::vector<std::uint64_t> tokens;
  EmitBatch batch = drain_.batch({{.type = "poison"}}, tokens);
  const EmitItem poison = batch.items[0];
  const auto owner = batch.owner;
  emitter_->emit(std::move(batch));
  drain_.wait_for_all();
  deliver_in_the_end();
  std::vector<std::uint64_t> later;
  EmitBatch mixed = drain_.batch(entries(9), later);
  mixed.items[4].envelope = poison.envelope;
  emitter_->emit(std::move(mixed));
  drain_.wait_for_all();
  for (std::size_t i = 0; i < later.size(); ++i) {
    const OutcomeKind expected = i < 4    ? OutcomeKind::delivered
                                 : i == 4 ? OutcomeKind::possibly_delivered
                                          : OutcomeKind::destination_unavailable;
    EXPECT_EQ(drain_.kind(later[i]), expected) << i;
  }
}

TEST_F(ExecEnd, StopWaitsForAnswersAndLetsTheProgramEnd) {
  create(R"py(
held = list(events())
for event in held:
    answer(event)
write("goodbye", len(held))
)py");
  const auto tokens = drain_.emit(*emitter_, entries(10));
  wait_until([&] { return metric(Conversation::kInFlight) == 10; }, "all are in flight");
  emitter_->stop(Milliseconds{20'000});
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(10, OutcomeKind::delivered));
  EXPECT_EQ(read_file(folder_ / "goodbye"), "10");
}

TEST_F(ExecEnd, StopCompletesALineThatIsHalfOut) {
  create(R"py(
write("pid", os.getpid())
while not os.path.exists("read"):
    select.select([], [], [], 0.005)
for event in list(events()):
    answer(event)
)py");
  const auto tokens =
      drain_.emit(*emitter_, {{.payload = "\"" + std::string(500'000, 'x') + "\""}});
  wait_until([&] { return metric(Conversation::kInFlight) == 1; }, "it is in flight");
  const auto start = Clock::now();
  std::jthread later([&] {
    EXPECT_FALSE(holds_within([&] { return drain_.completed() > 0; }, Milliseconds{100}));
    folder_.write("read", "");
  });
  emitter_->stop(Milliseconds{60'000});
  EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::delivered);
  EXPECT_LT(Clock::now() - start, Milliseconds{20'000});
}

TEST_F(ExecEnd, StopAsksBySigtermBeforeItKills) {
  create(R"py(
held = []
def finish(number, frame):
    for event in held:
        answer(event)
    os._exit(0)
signal.signal(signal.SIGTERM, finish)
write("pid", os.getpid())
for event in events():
    held.append(event)
while True:
    signal.pause()
)py");
  const auto tokens = drain_.emit(*emitter_, entries(5));
  wait_until([&] { return metric(Conversation::kInFlight) == 5; }, "all are in flight");
  static_cast<void>(pid_in("pid"));
  emitter_->stop(Milliseconds{2000});
  EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(5, OutcomeKind::delivered));
}

TEST_F(ExecEnd, StopKillsWhatDoesNotListen) {
  create(R"py(
signal.signal(signal.SIGTERM, signal.SIG_IGN)
write("pid", os.getpid())
while True:
    signal.pause()
)py");
  auto tokens = drain_.emit(*emitter_, entries(5));
  const pid_t pid = pid_in("pid");
  const auto start = Clock::now();
  emitter_->stop(Milliseconds{400});
  EXPECT_LT(Clock::now() - start, Milliseconds{1400});
  expect_lost(tokens, "exec.stopped");
  EXPECT_FALSE(is_running(pid));
}

TEST_F(ExecEnd, AnIdleProgramEndsWithTheEmitter) {
  create(R"py(
write("pid", os.getpid())
for event in events():
    answer(event)
write("goodbye", 1)
)py");
  EXPECT_EQ(deliver_one(), OutcomeKind::delivered);
  const auto start = Clock::now();
  emitter_->stop(Milliseconds{60'000});
  EXPECT_LT(Clock::now() - start, Milliseconds{5000});
  EXPECT_TRUE(std::filesystem::exists(folder_ / "goodbye"));
  EXPECT_FALSE(is_running(pid_in("pid")));
}

}  // namespace
}  // namespace outfall::test
