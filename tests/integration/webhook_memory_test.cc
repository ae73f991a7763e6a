// Out of memory in the webhook's dispatcher: each allocation of its thread fails once in turn, and
// whatever was under way then, each item is completed once, by an outcome that gives nothing up.
// And how many allocations there are, which is how much it does.
#include <cstdlib>
#include <limits>
#include <new>
#include <utility>

#include <gmock/gmock.h>

#include "emitters/webhook/dispatcher.h"
#include "emitters/webhook/options.h"
#include "emitters/webhook/webhook.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/http_recorder.h"

namespace outfall::test {
namespace {

// Which allocations of this thread fail; none where `failures` is 0.
struct Shortage {
  std::size_t allowed = 0;
  std::size_t failures = 0;
  std::size_t least_bytes = 0;
  bool suspended = false;

  bool takes(std::size_t bytes) noexcept {
    if (failures == 0 || suspended || bytes < least_bytes) return false;
    if (allowed > 0) {
      --allowed;
      return false;
    }
    --failures;
    return true;
  }
};

thread_local Shortage shortage;
thread_local std::size_t allocations = 0;

}  // namespace
}  // namespace outfall::test

void* operator new(std::size_t size) {
  ++outfall::test::allocations;
  if (outfall::test::shortage.takes(size)) throw std::bad_alloc();
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// Not inlined, where GCC would miss their operator new.
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}

[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace outfall::test {
namespace {

using testing::AnyOf;
using webhook::Dispatcher;

// The test's own part has all the memory that it needs.
class WholeMemory {
 public:
  WholeMemory() noexcept : before_(shortage.suspended) { shortage.suspended = true; }
  ~WholeMemory() { shortage.suspended = before_; }

 private:
  bool before_;
};

// The time of a dispatcher that must not sweep.
class StandingClock final : public Clock {
 public:
  [[nodiscard]] MonotonicTime monotonic() const noexcept override { return now_; }
  [[nodiscard]] WallTime wall() const noexcept override { return system_clock().wall(); }

 private:
  const MonotonicTime now_ = system_clock().monotonic();
};

class QuietReporter final : public EmitterReporter {
 public:
  void log(ReportLevel, std::string_view, std::string_view, std::string_view) noexcept override {}
  void set(std::size_t, double, std::string_view) noexcept override {}
  void add(std::size_t, double, std::string_view) noexcept override {}
  void forget(std::size_t, std::string_view) noexcept override {}
};

class DrainWithMemory final : public CompletionSink {
 public:
  void complete(std::span<Completion> completions) noexcept override {
    const WholeMemory whole;
    drain.complete(completions);
  }
  TestDrain drain;
};

struct Entry {
  std::string lane;
  std::string endpoint;  // empty: it has none
  std::string payload = "{}";
};

class WebhookMemory : public testing::Test {
 protected:
  static constexpr std::size_t kUntilTheEnd = std::numeric_limits<std::size_t>::max();

  WebhookMemory() {
    settings_.text("url", server_.url("/{header.endpoint}")).number("max_in_flight", 1);
    server_.answer_by([](const HttpRequest& request) {
      if (request.target == "/gone") return HttpAnswer{.status = 410};
      return HttpAnswer{.status = request.body.find("poison") == std::string::npos ? 200 : 422};
    });
  }

  // Hands the entries over and waits for their ends. Of the allocations of `least_bytes_` or more,
  // those from `first` on fail, `failures` of them, until there were so many turns; with none, the
  // dispatcher is shut down then. Returns how many did.
  std::size_t deliver(const std::vector<Entry>& entries, std::size_t first, std::size_t failures,
                      std::size_t turns = kUntilTheEnd) {
    std::vector<SettingProblem> problems = kind_.validate(settings_.values());
    webhook::WebhookOptions options = webhook::options_from(settings_.values(), problems);
    EXPECT_TRUE(problems.empty());
    DrainWithMemory sink;
    std::vector<std::uint64_t> tokens;
    EmitBatch batch = batch_of(entries, sink.drain, tokens);
    std::size_t failed = 0;
    {
      Dispatcher dispatcher(options, {.name = "test",
                                      .settings = settings_.values(),
                                      .sink = sink,
                                      .clock = *clock_,
                                      .random = system_random(),
                                      .reporter = reporter_});
      shortage = {.allowed = first, .failures = failures, .least_bytes = least_bytes_};
      dispatcher.take(std::move(batch));
      run(dispatcher, sink.drain, turns);
      failed = failures - std::exchange(shortage, {}).failures - unused_;
    }
    EXPECT_EQ(sink.drain.completed(), tokens.size());
    EXPECT_EQ(sink.drain.owners(), 0U);
    if (!HasFailure()) outcomes_ = sink.drain.kinds(tokens);
    return failed;
  }

  // Lets each allocation fail once, in one delivery each.
  void deliver_short_of_each(const std::vector<Entry>& entries, std::size_t poison) {
    std::size_t first = 0;
    while (deliver(entries, first, 1) > 0) {
      SCOPED_TRACE("allocation " + std::to_string(first));
      for (std::size_t i = 0; i < outcomes_.size(); ++i) {
        if (i == poison) continue;
        EXPECT_THAT(outcomes_[i],
                    AnyOf(OutcomeKind::delivered, OutcomeKind::exception,
                          OutcomeKind::destination_unavailable, OutcomeKind::blocked));
      }
      if (HasFailure()) return;
      ++first;
    }
    EXPECT_GT(first, 20U);
    ASSERT_GT(outcomes_.size(), poison);
    EXPECT_EQ(outcomes_[poison], OutcomeKind::failed) << "with all the memory that it needs";
  }

  std::vector<OutcomeKind> outcomes_;
  // What one delivery of so many entries allocates for each of them, where each has a URL of its
  // own that is gone.
  std::size_t allocations_for_each_of(std::size_t entries) {
    std::vector<Entry> gone;
    for (std::size_t i = 0; i < entries; ++i)
      gone.push_back({"", "gone-for-good-and-of-an-entry-of-its-own-" + std::to_string(i)});
    const std::size_t before = allocations;
    deliver(gone, 0, 0);
    EXPECT_THAT(outcomes_, testing::Each(OutcomeKind::destination_unavailable));
    return (allocations - before) / entries;
  }

  const Clock* clock_ = &system_clock();
  std::size_t least_bytes_ = 0;
  HttpRecorder server_;
  const EmitterKind kind_ = webhook_emitter_kind();
  TestSettings settings_{kind_};

 private:
  void run(Dispatcher& dispatcher, const TestDrain& drain, std::size_t turns) {
    const auto end = std::chrono::steady_clock::now() + kDefaultDeadline;
    unused_ = 0;
    const auto end_shortage = [this] { unused_ = std::exchange(shortage.failures, 0); };
    if (turns == 0) {
      end_shortage();
      dispatcher.shut_down_queues();
    }
    while (drain.completed() < drain.emitted() && std::chrono::steady_clock::now() < end) {
      dispatcher.turn(Milliseconds{20});
      if (turns > 0 && --turns == 0) end_shortage();
    }
    // What the dispatcher's end would complete is not to pass for what it did in time.
    EXPECT_EQ(drain.completed(), drain.emitted()) << "nobody completes what waits";
    EXPECT_TRUE(dispatcher.is_idle());
  }

  static EmitBatch batch_of(const std::vector<Entry>& entries, TestDrain& drain,
                            std::vector<std::uint64_t>& tokens) {
    std::vector<TestEntry> made;
    for (const Entry& entry : entries) {
      made.push_back({.key = "key " + std::to_string(made.size()), .payload = entry.payload});
      if (!entry.endpoint.empty())
        made.back().headers_json = R"({"endpoint":")" + entry.endpoint + "\"}";
    }
    EmitBatch batch = drain.batch(made, tokens);
    for (std::size_t i = 0; i < entries.size(); ++i) batch.items[i].lane = entries[i].lane;
    return batch;
  }

  QuietReporter reporter_;
  std::size_t unused_ = 0;  // failures that were left when the shortage ended
};

TEST_F(WebhookMemory, WhateverFailsEachItemIsCompletedOnce) {
  const std::string long_lane = "a-lane-whose-name-is-longer-than-a-string-holds-in-itself";
  deliver_short_of_each({{"", ""},
                         {long_lane, long_lane},
                         {long_lane, long_lane},
                         {"gone", "gone"},
                         {"gone", "gone"},
                         {"", "a-host-alone-with-a-long-path-that-is-allocated"}},
                        0);
}

// What is put back into the queue needs a new node of it: a batch that is larger than one, and the
// last of one that does not go to the URL of those before it.
TEST_F(WebhookMemory, WhateverFailsABatchGivesUpNobodyButWhoIsAtFault) {
  settings_.text("body", "batch").number("batch_entries", 30).number("max_in_flight", 8);
  for (const std::size_t others : {35U, 20U}) {
    std::vector<Entry> entries(40, {"lane", "one-path-that-is-longer-than-a-string-holds"});
    entries[2].payload = R"("poison")";
    for (std::size_t i = others; i < entries.size(); ++i) entries[i].endpoint = "other";
    deliver_short_of_each(entries, 2);
  }
}

// More endpoints than one node of the queue of those that may send holds.
TEST_F(WebhookMemory, WhateverFailsWhileABatchIsTakenInEachItemIsCompletedOnce) {
  std::vector<Entry> entries;
  for (int i = 0; i < 70; ++i) entries.push_back({"lane " + std::to_string(i), "path"});
  for (std::size_t first = 0; !HasFailure(); ++first) {
    SCOPED_TRACE("allocation " + std::to_string(first));
    if (deliver(entries, first, 1, 0) == 0) break;
  }
}

// Also where what is small is still to be had, such as a node of a queue.
TEST_F(WebhookMemory, ALastingShortageDoesNotKeepTheThread) {
  constexpr std::size_t kMany = 100'000;
  const std::vector<Entry> entries(4, {"lane", "path"});
  for (const std::size_t bytes : {0U, 513U}) {
    least_bytes_ = bytes;
    std::size_t first = 0;
    while (!HasFailure()) {
      const std::size_t failed = deliver(entries, first, kMany, 3);
      if (failed == 0) break;
      EXPECT_LT(failed, 1000U) << "allocation " << first << " of " << bytes << " bytes or more";
      ++first;
    }
    EXPECT_GT(first, 0U);
  }
}

// Each such answer looked through all that waited, and made the URL of each, which is an
// allocation. The sweep, which looks at all of them too, comes by the clock.
TEST_F(WebhookMemory, ManyUrlsThatAreGoneAreNotMadeAgainForEachAnswer) {
  const StandingClock clock;
  clock_ = &clock;
  settings_.number("max_in_flight", 32);
  server_.answer_by([](const HttpRequest&) { return HttpAnswer{.status = 410}; });
  const std::size_t of_few = allocations_for_each_of(100);
  const std::size_t of_many = allocations_for_each_of(2000);
  RecordProperty("of_few", std::to_string(of_few));
  RecordProperty("of_many", std::to_string(of_many));
  EXPECT_GT(of_few, 0U);
  EXPECT_LT(of_many, 2 * of_few) << "of 100 it is " << of_few;
}

}  // namespace
}  // namespace outfall::test
