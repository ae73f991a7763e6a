#include "tests/support/emitter_harness.h"

#include <cstdlib>
#include <utility>

#include <gtest/gtest.h>

#include "core/quantity.h"

namespace outfall::test {
namespace {

// A default as written after `=` in TOML; strings there hold no escapes.
std::string unquoted(std::string_view text) {
  if (text.size() >= 2 && text.front() == '"') text = text.substr(1, text.size() - 2);
  return std::string(text);
}

SettingValues::Value default_of(const SettingSpec& spec) {
  SettingValues::Value value;
  const std::string text = unquoted(spec.default_value);
  value.is_set = !spec.default_value.empty();
  if (!value.is_set) return value;
  switch (spec.type) {
    case SettingType::string:
    case SettingType::choice:
      value.text = text;
      break;
    case SettingType::integer:
      value.number = std::stoll(text);
      break;
    case SettingType::boolean:
      value.number = text == "true" ? 1 : 0;
      break;
    case SettingType::duration:
      value.number = parse_duration(text).value().count();
      break;
    case SettingType::bytes:
      value.number = parse_bytes(text).value();
      break;
    case SettingType::string_list:
    case SettingType::string_map:
      if (text != "[]" && text != "{}") std::abort();
      break;
  }
  return value;
}

std::string_view optional_view(const std::optional<std::string>& text) {
  return text ? std::string_view(*text) : std::string_view{};
}

}  // namespace

TestSettings::TestSettings(const EmitterKind& kind) {
  for (const SettingSpec& spec : kind.settings) {
    raw_[std::string(spec.name)] = default_of(spec);
    values_.set(std::string(spec.name), raw_[std::string(spec.name)]);
  }
}

SettingValues::Value& TestSettings::value(std::string_view name) {
  const auto found = raw_.find(name);
  if (found == raw_.end()) std::abort();
  found->second.is_set = true;
  return found->second;
}

TestSettings& TestSettings::text(std::string_view name, std::string text_value) {
  value(name).text = std::move(text_value);
  values_.set(std::string(name), value(name));
  return *this;
}

TestSettings& TestSettings::number(std::string_view name, std::int64_t number_value) {
  value(name).number = number_value;
  values_.set(std::string(name), value(name));
  return *this;
}

TestSettings& TestSettings::list(std::string_view name, std::vector<std::string> list_value) {
  value(name).list = std::move(list_value);
  values_.set(std::string(name), value(name));
  return *this;
}

TestSettings& TestSettings::map(std::string_view name,
                                std::map<std::string, std::string> map_value) {
  value(name).map = std::move(map_value);
  values_.set(std::string(name), value(name));
  return *this;
}

std::unique_ptr<Emitter> make_emitter(const EmitterKind& kind, const TestSettings& settings,
                                      CompletionSink& sink) {
  if (kind.validate) {
    for (const SettingProblem& problem : kind.validate(settings.values())) {
      ADD_FAILURE() << problem.setting << ": " << problem.message << " " << problem.hint;
    }
  }
  return kind.create({.name = "test",
                      .settings = settings.values(),
                      .sink = sink,
                      .clock = system_clock(),
                      .random = system_random(),
                      .reporter = test_reporter()});
}

TestReporter& test_reporter() {
  static TestReporter reporter;
  return reporter;
}

void TestReporter::log(ReportLevel, std::string_view, std::string_view message,
                       std::string_view detail) noexcept {
  const std::lock_guard lock(mutex_);
  lines_.push_back(std::string(message) + ": " + std::string(detail));
}

void TestReporter::set(std::size_t metric, double value, std::string_view label) noexcept {
  const std::lock_guard lock(mutex_);
  values_[{metric, std::string(label)}] = value;
}

void TestReporter::add(std::size_t metric, double amount, std::string_view label) noexcept {
  const std::lock_guard lock(mutex_);
  values_[{metric, std::string(label)}] += amount;
}

void TestReporter::forget(std::size_t metric, std::string_view label) noexcept {
  const std::lock_guard lock(mutex_);
  values_.erase({metric, std::string(label)});
}

std::vector<std::string> TestReporter::lines() const {
  const std::lock_guard lock(mutex_);
  return lines_;
}

std::optional<double> TestReporter::value(std::size_t metric, const std::string& label) const {
  const std::lock_guard lock(mutex_);
  const auto found = values_.find({metric, label});
  return found == values_.end() ? std::nullopt : std::optional(found->second);
}

void TestReporter::clear() {
  const std::lock_guard lock(mutex_);
  lines_.clear();
  values_.clear();
}

// Keeps the envelopes and their texts, and sees to it that no item outlives them.
struct TestDrain::Owner {
  TestDrain* drain = nullptr;
  std::vector<std::uint64_t> tokens;
  std::deque<TestEntry> entries;
  std::deque<Envelope> envelopes;

  ~Owner() {
    for (const std::uint64_t token : tokens) {
      EXPECT_TRUE(drain->is_complete(token)) << "the owner is gone before token " << token;
    }
    const std::lock_guard lock(drain->mutex_);
    --drain->owners_;
  }
};

EmitBatch TestDrain::batch(const std::vector<TestEntry>& entries,
                           std::vector<std::uint64_t>& tokens) {
  auto owner = std::make_shared<Owner>();
  owner->drain = this;
  EmitBatch batch;
  const std::lock_guard lock(mutex_);
  ++owners_;
  for (const TestEntry& given : entries) {
    const TestEntry& entry = owner->entries.emplace_back(given);
    Envelope& envelope = owner->envelopes.emplace_back();
    const std::uint64_t token = items_.size() + 1;
    envelope.entry_id = static_cast<EntryId>(token);
    envelope.envelope_id = system_random().uuid();
    envelope.stream = "conformance";
    if (entry.key) envelope.key = optional_view(entry.key);
    envelope.type = entry.type;
    envelope.subject = entry.subject;
    envelope.content_type = entry.content_type;
    envelope.headers_json = entry.headers_json;
    envelope.payload_kind = entry.kind;
    envelope.payload = entry.payload;
    envelope.created_at = system_clock().wall();
    envelope.attempts = entry.attempts;
    KeyRun* const run = entry.key ? &run_locked(*entry.key) : nullptr;
    items_.push_back({envelope.envelope_id, entry, run, std::nullopt});
    owner->tokens.push_back(token);
    batch.items.push_back({.envelope = &envelope, .token = token, .run = run});
  }
  tokens = owner->tokens;
  batch.owner = std::move(owner);
  return batch;
}

std::vector<std::uint64_t> TestDrain::emit(Emitter& emitter, const std::vector<TestEntry>& entries,
                                           MonotonicTime deadline) {
  std::vector<std::uint64_t> tokens;
  EmitBatch made = batch(entries, tokens);
  if (deadline != MonotonicTime::max()) made.deadline = std::make_shared<SendDeadline>(deadline);
  emitter.emit(std::move(made));
  return tokens;
}

KeyRun& TestDrain::run_locked(const std::string& key) {
  KeyRun*& run = current_runs_[key];
  if (run == nullptr) run = &runs_.emplace_back();
  return *run;
}

KeyRun& TestDrain::run_of(const std::string& key) {
  const std::lock_guard lock(mutex_);
  return run_locked(key);
}

void TestDrain::new_runs() {
  const std::lock_guard lock(mutex_);
  current_runs_.clear();
}

void TestDrain::complete(std::span<Completion> completions) noexcept {
  if (hook_) hook_();
  const std::lock_guard lock(mutex_);
  for (Completion& completion : completions) {
    if (completion.token == 0 || completion.token > items_.size()) {
      ADD_FAILURE() << "token " << completion.token << " was never handed over";
      continue;
    }
    Item& item = items_[completion.token - 1];
    if (item.outcome) {
      ADD_FAILURE() << "token " << completion.token << " was completed twice, as "
                    << to_string(item.outcome->kind) << " and "
                    << to_string(completion.outcome.kind);
      continue;
    }
    if (completion.outcome.kind != OutcomeKind::delivered && item.run) {
      EXPECT_TRUE(item.run->broken) << "the run of token " << completion.token << " goes on after "
                                    << to_string(completion.outcome.kind);
    }
    item.outcome = std::move(completion.outcome);
    item.duration = completion.duration;
    order_.push_back(completion.token);
  }
}

void TestDrain::wait_for_all(std::chrono::milliseconds deadline) {
  wait_until([this] { return completed() == emitted(); }, "every item to be completed", deadline);
}

std::size_t TestDrain::emitted() const {
  const std::lock_guard lock(mutex_);
  return items_.size();
}

std::size_t TestDrain::completed() const {
  const std::lock_guard lock(mutex_);
  return order_.size();
}

bool TestDrain::is_complete(std::uint64_t token) const {
  const std::lock_guard lock(mutex_);
  return items_.at(token - 1).outcome.has_value();
}

std::size_t TestDrain::owners() const {
  const std::lock_guard lock(mutex_);
  return owners_;
}

const TestDrain::Item& TestDrain::item(std::uint64_t token) const {
  const std::lock_guard lock(mutex_);
  return items_.at(token - 1);
}

OutcomeKind TestDrain::kind(std::uint64_t token) const {
  const std::lock_guard lock(mutex_);
  return items_.at(token - 1).outcome.value().kind;
}

std::vector<OutcomeKind> TestDrain::kinds(const std::vector<std::uint64_t>& tokens) const {
  std::vector<OutcomeKind> all;
  for (const std::uint64_t token : tokens) all.push_back(kind(token));
  return all;
}

std::vector<std::uint64_t> TestDrain::completion_order() const {
  const std::lock_guard lock(mutex_);
  return order_;
}

}  // namespace outfall::test
