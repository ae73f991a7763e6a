#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "emitter/emitter.h"
#include "tests/support/wait_until.h"

namespace outfall::test {

// The settings of an emitter as a test gives them: the defaults of its rows, and what is set on
// top. Aborts for a name without a row.
class TestSettings {
 public:
  explicit TestSettings(const EmitterKind& kind);
  TestSettings& text(std::string_view name, std::string value);
  TestSettings& number(std::string_view name, std::int64_t value);  // also durations and flags
  TestSettings& list(std::string_view name, std::vector<std::string> value);
  TestSettings& map(std::string_view name, std::map<std::string, std::string> value);
  [[nodiscard]] const SettingValues& values() const { return values_; }

 private:
  SettingValues::Value& value(std::string_view name);
  std::map<std::string, SettingValues::Value, std::less<>> raw_;
  SettingValues values_;
};

// What emitters under test report, and what was reported last.
class TestReporter final : public EmitterReporter {
 public:
  void log(ReportLevel level, std::string_view id, std::string_view message,
           std::string_view detail) noexcept override;
  void set(std::size_t metric, double value, std::string_view label) noexcept override;
  void add(std::size_t metric, double amount, std::string_view label) noexcept override;
  void forget(std::size_t metric, std::string_view label) noexcept override;

  // "message: detail" of every line.
  [[nodiscard]] std::vector<std::string> lines() const;
  [[nodiscard]] std::optional<double> value(std::size_t metric,
                                            const std::string& label = {}) const;
  void clear();

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
  std::map<std::pair<std::size_t, std::string>, double> values_;
};

// The one that make_emitter() hands to every emitter of the test's process.
[[nodiscard]] TestReporter& test_reporter();

// Builds an emitter as the daemon does, and fails the test where its settings have problems.
[[nodiscard]] std::unique_ptr<Emitter> make_emitter(const EmitterKind& kind,
                                                    const TestSettings& settings,
                                                    CompletionSink& sink);

// An entry to hand over.
struct TestEntry {
  std::optional<std::string> key = std::nullopt;
  std::string type = "test.entry";
  PayloadKind kind = PayloadKind::json;
  std::string payload = "{}";
  std::string content_type = {};
  std::string headers_json = {};
  std::string subject = {};
  std::int32_t attempts = 0;
};

// Plays the drain towards one emitter: makes batches with runs, keeps what comes back, and checks
// what must hold for every completion: its token is known and was not completed before, and the run
// of an item that was not delivered is broken by then. What is wrong is a failure of the test.
//
// emit() by one thread at a time; the rest from any. Must outlive the emitter.
class TestDrain final : public CompletionSink {
 public:
  struct Item {
    Uuid envelope_id;
    TestEntry entry;
    KeyRun* run = nullptr;
    std::optional<Outcome> outcome;
    std::chrono::microseconds duration{0};
  };

  // Tokens of the entries, in order. Entries with a key share its run until new_runs() is called.
  std::vector<std::uint64_t> emit(Emitter& emitter, const std::vector<TestEntry>& entries,
                                  MonotonicTime deadline = MonotonicTime::max());
  // The same without handing over, for tests that do more to the batch first.
  EmitBatch batch(const std::vector<TestEntry>& entries, std::vector<std::uint64_t>& tokens);

  // The next entries of every key belong to fresh runs.
  void new_runs();
  [[nodiscard]] KeyRun& run_of(const std::string& key);

  void complete(std::span<Completion> completions) noexcept override;
  // Called inside complete(), before anything else.
  void on_complete(std::function<void()> hook) { hook_ = std::move(hook); }

  // Waits until everything that was handed over is completed.
  void wait_for_all(std::chrono::milliseconds deadline = kDefaultDeadline);
  [[nodiscard]] std::size_t emitted() const;
  [[nodiscard]] std::size_t completed() const;
  [[nodiscard]] bool is_complete(std::uint64_t token) const;
  // Owners of batches that are still alive.
  [[nodiscard]] std::size_t owners() const;

  // Of a completed token; a reference stays valid.
  [[nodiscard]] const Item& item(std::uint64_t token) const;
  [[nodiscard]] OutcomeKind kind(std::uint64_t token) const;
  [[nodiscard]] std::vector<OutcomeKind> kinds(const std::vector<std::uint64_t>& tokens) const;
  // In the order of their completion.
  [[nodiscard]] std::vector<std::uint64_t> completion_order() const;

 private:
  struct Owner;
  KeyRun& run_locked(const std::string& key);

  mutable std::mutex mutex_;
  std::deque<Item> items_;  // by token - 1
  std::vector<std::uint64_t> order_;
  std::deque<KeyRun> runs_;
  std::map<std::string, KeyRun*> current_runs_;
  std::size_t owners_ = 0;
  std::function<void()> hook_;
};

}  // namespace outfall::test
