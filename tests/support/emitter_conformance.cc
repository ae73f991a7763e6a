#include "tests/support/emitter_conformance.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

namespace outfall::test {
namespace {

using Clock = std::chrono::steady_clock;

Milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<Milliseconds>(Clock::now() - start);
}

std::vector<TestEntry> entries_of_keys(std::size_t count, std::size_t keys) {
  std::vector<TestEntry> entries;
  for (std::size_t i = 0; i < count; ++i) {
    entries.push_back({.key = "key-" + std::to_string(i % keys),
                       .payload = "{\"number\":" + std::to_string(i) + "}"});
  }
  return entries;
}

// One entry of each kind that has ever surprised somebody.
std::vector<TestEntry> odd_entries() {
  std::string every_byte;
  for (int byte = 0; byte < 256; ++byte) every_byte += static_cast<char>(byte);
  return {
      {.payload = "{}"},
      {.key = "", .payload = "\"empty key\""},
      {.key = "tombstone", .kind = PayloadKind::none, .payload = ""},
      {.key = "käse €😀 \"quoted\" \\ back 'single' {curly} %25", .payload = "{\"a\":\"ü\"}"},
      {.key = "line\nbreak\ttab", .payload = "1"},
      {.key = std::string(2000, 'k'), .payload = "[]"},
      {.key = "pretty", .payload = "{\r\n  \"a\": [\n 1 ]\n}\n"},
      {.key = "null", .payload = "null"},
      {.key = "binary", .kind = PayloadKind::binary, .payload = every_byte},
      {.key = "empty binary", .kind = PayloadKind::binary, .payload = ""},
      {.key = "text",
       .kind = PayloadKind::binary,
       .payload = "zwei\nZeilen",
       .content_type = "text/plain; charset=utf-8"},
      {.key = "headers",
       .headers_json =
           R"({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",)"
           R"( "Odd Name": "€ \"x\"", "empty": ""})",
       .subject = "subject \"quoted\" €"},
      {.key = "megabyte", .payload = "\"" + std::string(1u << 20, 'x') + "\""},
      {.key = "megabyte binary",
       .kind = PayloadKind::binary,
       .payload = std::string(1u << 20, '\xfe')},
  };
}

// JSON may reach the consumer with other white space between its tokens.
std::string without_line_breaks(std::string text) {
  std::ranges::replace_if(
      text, [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return text;
}

}  // namespace

EmitterConformance::EmitterConformance() : subject_(GetParam().make()) {
}

EmitterConformance::~EmitterConformance() {
  emitter_.reset();
  EXPECT_EQ(drain_.owners(), 0U) << "an owner outlives the emitter";
}

std::vector<std::uint64_t> EmitterConformance::deliver(const std::vector<TestEntry>& entries,
                                                       std::size_t batch) {
  const Capabilities& limits = emitter_->capabilities();
  std::vector<std::uint64_t> tokens;
  std::vector<TestEntry> next;
  std::set<std::string> keys;
  std::size_t bytes = 0;
  std::size_t in_flight = 0;
  const auto send = [&] {
    const auto sent = drain_.emit(*emitter_, next);
    tokens.insert(tokens.end(), sent.begin(), sent.end());
    in_flight += next.size();
    next.clear();
  };
  for (const TestEntry& entry : entries) {
    const bool key_is_out = limits.key_window == 1 && entry.key && keys.contains(*entry.key);
    if (key_is_out || in_flight + next.size() >= limits.max_in_flight ||
        bytes + entry.payload.size() > limits.max_in_flight_bytes) {
      send();
      drain_.wait_for_all();
      in_flight = 0;
      bytes = 0;
      keys.clear();
    }
    next.push_back(entry);
    bytes += entry.payload.size();
    if (entry.key) keys.insert(*entry.key);
    if (next.size() == batch) send();
  }
  send();
  drain_.wait_for_all();
  return tokens;
}

void EmitterConformance::expect_delivered(const std::vector<std::uint64_t>& tokens) {
  for (const std::uint64_t token : tokens) {
    const TestDrain::Item& item = drain_.item(token);
    ASSERT_EQ(item.outcome->kind, OutcomeKind::delivered)
        << "token " << token << " key " << item.entry.key.value_or("(none)") << ": "
        << (item.outcome->error ? item.outcome->error->code + " " + item.outcome->error->message
                                : "");
    EXPECT_FALSE(item.outcome->error);
  }
  const auto received = subject_->received();
  if (!received) return;
  std::map<Uuid, std::uint64_t> token_of;
  for (const std::uint64_t token : tokens) token_of[drain_.item(token).envelope_id] = token;
  std::map<std::string, std::uint64_t> last_of_key;
  std::set<std::uint64_t> seen;
  for (const ConformanceSubject::Received& one : *received) {
    const auto found = token_of.find(one.envelope_id);
    if (found == token_of.end()) continue;
    const TestEntry& entry = drain_.item(found->second).entry;
    EXPECT_TRUE(seen.insert(found->second).second) << "received twice";
    ASSERT_EQ(one.payload.has_value(), entry.kind != PayloadKind::none)
        << entry.key.value_or("(none)");
    if (entry.kind == PayloadKind::binary) {
      EXPECT_EQ(*one.payload, entry.payload);
    } else if (entry.kind == PayloadKind::json) {
      EXPECT_EQ(without_line_breaks(*one.payload), without_line_breaks(entry.payload));
    }
    if (!entry.key) continue;
    std::uint64_t& last = last_of_key[*entry.key];
    EXPECT_LT(last, found->second) << "out of order for key " << *entry.key;
    last = found->second;
  }
  EXPECT_EQ(seen.size(), tokens.size()) << "not everything that was delivered has arrived";
}

std::string conformance_case_name(const testing::TestParamInfo<ConformanceCase>& info) {
  return info.param.name;
}

void PrintTo(const ConformanceCase& subject, std::ostream* out) {
  *out << subject.name;
}

TEST_P(EmitterConformance, SaysWhatItCanDo) {
  create();
  const Capabilities& capabilities = emitter_->capabilities();
  EXPECT_GE(capabilities.max_in_flight, 1U);
  EXPECT_GE(capabilities.max_in_flight_bytes, std::size_t{1} << 20);
}

TEST_P(EmitterConformance, DeliversEverythingOnceAndInOrderPerKey) {
  create();
  expect_delivered(deliver(entries_of_keys(2000, 40), 100));
}

TEST_P(EmitterConformance, DeliversEntriesWithoutAKey) {
  create();
  expect_delivered(deliver(std::vector<TestEntry>(500), 50));
}

TEST_P(EmitterConformance, DeliversOneKeyAlone) {
  create();
  expect_delivered(deliver(entries_of_keys(300, 1), 30));
}

TEST_P(EmitterConformance, DeliversEveryKindOfPayloadKeyAndHeader) {
  create();
  expect_delivered(deliver(odd_entries(), 4));
}

TEST_P(EmitterConformance, TakesAnEmptyBatch) {
  create();
  drain_.emit(*emitter_, {});
  expect_delivered(deliver(entries_of_keys(1, 1), 1));
}

TEST_P(EmitterConformance, NeverWaitsForTheSinkInsideEmit) {
  if (!subject_->stall()) GTEST_SKIP() << "its sink cannot be stalled";
  create();
  const std::size_t count = std::min<std::size_t>(emitter_->capabilities().max_in_flight, 2000);
  const std::size_t bytes = emitter_->capabilities().max_in_flight_bytes / count / 2;
  for (std::size_t sent = 0; sent < count;) {
    std::vector<TestEntry> entries;
    for (; entries.size() < 100 && sent < count; ++sent) {
      entries.push_back({.key = "key-" + std::to_string(sent),
                         .kind = PayloadKind::binary,
                         .payload = std::string(std::min<std::size_t>(bytes, 4000), 'x')});
    }
    const auto start = Clock::now();
    drain_.emit(*emitter_, entries);
    EXPECT_LT(since(start), kPrompt);
  }
  subject_->release();
  drain_.wait_for_all();
}

TEST_P(EmitterConformance, LetsGoOfTheOwnerOnceItsItemsAreComplete) {
  create();
  // That it does not let go before is checked by the owner itself.
  deliver(entries_of_keys(200, 10), 20);
  wait_until([this] { return drain_.owners() == 0; }, "the owners to be let go");
}

TEST_P(EmitterConformance, StopCompletesEverythingInTime) {
  create();
  for (int i = 0; i < 10; ++i) {
    std::vector<TestEntry> entries;
    for (int n = 0; n < 10; ++n) entries.push_back({.key = std::to_string(10 * i + n)});
    if (drain_.emitted() + entries.size() <= emitter_->capabilities().max_in_flight) {
      drain_.emit(*emitter_, entries);
    }
  }
  const auto start = Clock::now();
  emitter_->stop(Milliseconds{200});
  EXPECT_LT(since(start), Milliseconds{200} + kPrompt);
  EXPECT_EQ(drain_.completed(), drain_.emitted());
  emitter_.reset();
  EXPECT_EQ(drain_.completed(), drain_.emitted());
}

TEST_P(EmitterConformance, StopGivesUpOnAStalledSink) {
  if (!subject_->stall()) GTEST_SKIP() << "its sink cannot be stalled";
  create();
  std::vector<std::uint64_t> tokens;
  const std::size_t count = std::min<std::size_t>(emitter_->capabilities().max_in_flight, 100);
  for (std::size_t i = 0; i < count; ++i) {
    const auto sent = drain_.emit(
        *emitter_, {{.key = std::to_string(i), .payload = "\"" + std::string(5000, 'x') + "\""}});
    tokens.insert(tokens.end(), sent.begin(), sent.end());
  }
  const auto start = Clock::now();
  emitter_->stop(Milliseconds{300});
  EXPECT_LT(since(start), Milliseconds{300} + kPrompt);
  ASSERT_EQ(drain_.completed(), drain_.emitted());
  std::size_t not_delivered = 0;
  for (const OutcomeKind kind : drain_.kinds(tokens)) {
    EXPECT_TRUE(kind == OutcomeKind::delivered || kind == OutcomeKind::possibly_delivered ||
                kind == OutcomeKind::shutdown)
        << to_string(kind);
    if (kind != OutcomeKind::delivered) ++not_delivered;
  }
  EXPECT_GT(not_delivered, 0U) << "the sink was not stalled";
  subject_->release();
}

TEST_P(EmitterConformance, StopsWithNothingToDo) {
  create();
  const auto start = Clock::now();
  emitter_->stop(Milliseconds{60'000});
  EXPECT_LT(since(start), kPrompt * 5);
}

TEST_P(EmitterConformance, EndsWithoutAStop) {
  create();
  drain_.emit(*emitter_, entries_of_keys(1, 1));
  emitter_.reset();
  const std::size_t completed = drain_.completed();
  EXPECT_FALSE(holds_within([&] { return drain_.completed() != completed; }, Milliseconds{50}));
}

TEST_P(EmitterConformance, SendsNothingOfABrokenRun) {
  create();
  drain_.run_of("broken").broken = true;
  const auto blocked = drain_.emit(*emitter_, {{.key = "broken"}});
  const auto whole = drain_.emit(*emitter_, {{.key = "whole"}, {}});
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(blocked[0]), OutcomeKind::blocked);
  expect_delivered(whole);
  if (const auto received = subject_->received()) {
    for (const auto& one : *received) {
      EXPECT_NE(one.envelope_id, drain_.item(blocked[0]).envelope_id);
    }
  }
  drain_.new_runs();
  expect_delivered(deliver({{.key = "broken"}}, 1));
}

TEST_P(EmitterConformance, SendsNothingForADestinationThatWentAway) {
  create();
  LaneGate gate;
  std::vector<std::uint64_t> tokens;
  EmitBatch batch = drain_.batch({{.key = "away"}, {}, {.key = "back"}, {.key = "probe"}}, tokens);
  batch.items[0].gate = batch.items[1].gate = batch.items[2].gate = &gate;
  gate.closings = 7;
  batch.items[2].gate_closings = 7;
  emitter_->emit(std::move(batch));
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::blocked);
  EXPECT_EQ(drain_.kind(tokens[1]), OutcomeKind::blocked);
  expect_delivered({tokens[2], tokens[3]});
  if (const auto received = subject_->received()) {
    EXPECT_EQ(received->size(), 2U);
  }
  // What follows it in its key may be for another destination, and must not overtake it.
  if (emitter_->capabilities().key_window != 1) {
    const auto behind = drain_.emit(*emitter_, {{.key = "away"}});
    drain_.wait_for_all();
    EXPECT_EQ(drain_.kind(behind[0]), OutcomeKind::blocked);
  }
  drain_.new_runs();
  expect_delivered(deliver({{.key = "away"}}, 1));
}

TEST_P(EmitterConformance, BlocksWhatComesAfterAFailedItemOfItsKey) {
  const std::string rejected = subject_->rejected_type();
  if (rejected.empty()) GTEST_SKIP() << "its sink rejects nothing";
  create();
  if (emitter_->capabilities().key_window == 1) GTEST_SKIP() << "it does not pipeline keys";
  const auto tokens = drain_.emit(*emitter_, {{.key = "a"},
                                              {.key = "b"},
                                              {.key = "a", .type = rejected},
                                              {.key = "a"},
                                              {.key = "b"},
                                              {},
                                              {.key = "a"}});
  const auto later = drain_.emit(*emitter_, {{.key = "a"}, {.key = "b"}});
  drain_.wait_for_all();
  expect_delivered({tokens[0], tokens[1], tokens[4], tokens[5], later[1]});
  EXPECT_NE(drain_.kind(tokens[2]), OutcomeKind::delivered);
  EXPECT_NE(drain_.kind(tokens[2]), OutcomeKind::blocked);
  EXPECT_TRUE(drain_.item(tokens[2]).outcome->error);
  EXPECT_EQ(drain_.kinds({tokens[3], tokens[6], later[0]}),
            std::vector<OutcomeKind>(3, OutcomeKind::blocked));
  drain_.new_runs();
  expect_delivered(deliver({{.key = "a"}, {.key = "a"}}, 2));
}

TEST_P(EmitterConformance, ItemsWithoutARunOweEachOtherNothing) {
  const std::string rejected = subject_->rejected_type();
  if (rejected.empty()) GTEST_SKIP() << "its sink rejects nothing";
  create();
  const auto tokens = drain_.emit(*emitter_, {{}, {.type = rejected}, {}, {}});
  drain_.wait_for_all();
  EXPECT_NE(drain_.kind(tokens[1]), OutcomeKind::delivered);
  expect_delivered({tokens[0], tokens[2], tokens[3]});
}

TEST_P(EmitterConformance, BeginsNothingAfterTheDeadline) {
  create();
  SendDeadline lost(MonotonicTime::max());
  lost.end();
  for (const MonotonicTime deadline : {Clock::now(), lost.at()}) {
    const auto tokens = drain_.emit(*emitter_, {{.key = "late"}, {}}, deadline);
    drain_.wait_for_all();
    EXPECT_EQ(drain_.kinds(tokens), std::vector<OutcomeKind>(2, OutcomeKind::shutdown));
    drain_.new_runs();
  }
  if (const auto received = subject_->received()) {
    EXPECT_TRUE(received->empty());
  }
}

// The drain hands over a second batch under a lock of its own for which complete() waits at that
// very moment, in another thread or inside the same emit().
TEST_P(EmitterConformance, HoldsNoLockWhileItCompletes) {
  create();
  if (emitter_->capabilities().max_in_flight < 2) GTEST_SKIP() << "it takes one item at a time";
  std::recursive_timed_mutex lock_of_drain;
  std::atomic<bool> completing = false;
  std::atomic<bool> deadlock = false;
  drain_.on_complete([&] {
    completing = true;
    // Giving up dissolves the deadlock that this test is about. By the wall clock, since the thread
    // sanitizer of g++ 12 does not know the other call.
    if (!deadlock && lock_of_drain.try_lock_until(std::chrono::system_clock::now() + kPrompt)) {
      lock_of_drain.unlock();
    } else {
      deadlock = true;
    }
  });
  {
    const std::lock_guard lock(lock_of_drain);
    drain_.emit(*emitter_, {{.key = "a"}});
    wait_until([&] { return completing.load(); }, "the first item to be completed");
    drain_.emit(*emitter_, {{.key = "b"}});
  }
  drain_.wait_for_all();
  EXPECT_FALSE(deadlock) << "it completes under a lock that emit() takes";
  emitter_.reset();
}

TEST_P(EmitterConformance, ChecksItsSinkWithoutDelivering) {
  create();
  const auto start = Clock::now();
  const Emitter::Health health = emitter_->check(Milliseconds{2000});
  EXPECT_LT(since(start), Milliseconds{2000} + kPrompt);
  EXPECT_TRUE(health.ok) << health.detail;
  if (const auto received = subject_->received()) {
    EXPECT_TRUE(received->empty());
  }
}

}  // namespace outfall::test
