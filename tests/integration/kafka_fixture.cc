#include "tests/integration/kafka_fixture.h"

#include <map>
#include <set>

namespace outfall::test {

TempKafka& shared_kafka() {
  static TempKafka kafka({.gate = true, .sasl = true, .tls = true, .wrong_tls = true});
  return kafka;
}

std::string fresh_topic_name() {
  static int count = 0;
  return "topic-" + std::to_string(++count);
}

std::string fresh_topic(int partitions, const std::map<std::string, std::string>& settings) {
  std::string topic = fresh_topic_name();
  shared_kafka().create_topic(topic, partitions, settings);
  return topic;
}

TestSettings kafka_settings(const std::string& topic) {
  TestSettings settings(kafka_emitter_kind());
  settings.text("brokers", shared_kafka().brokers())
      .text("topic", topic)
      .number("delivery_timeout", 2000)
      .map("librdkafka", {{"statistics.interval.ms", "100"}});
  return settings;
}

KafkaTest::~KafkaTest() {
  emitter_.reset();
  EXPECT_EQ(drain_.owners(), 0U) << "an owner outlives the emitter";
}

Emitter& KafkaTest::start(const TestSettings& settings) {
  emitter_ = make_emitter(kafka_emitter_kind(), settings, drain_);
  return *emitter_;
}

std::vector<TestEntry> KafkaTest::numbered(int count, int keys, int first) {
  std::vector<TestEntry> result;
  for (int i = first; i < first + count; ++i) {
    result.push_back({.key = "key-" + std::to_string(i % keys), .payload = std::to_string(i)});
  }
  return result;
}

std::string KafkaTest::error_code(std::uint64_t token) const {
  const auto& outcome = *drain_.item(token).outcome;
  return outcome.error ? outcome.error->code : std::string();
}

void KafkaTest::expect_delivered(const std::vector<std::uint64_t>& tokens) const {
  for (const std::uint64_t token : tokens) {
    const auto& item = drain_.item(token);
    ASSERT_EQ(item.outcome->kind, OutcomeKind::delivered)
        << item.entry.payload.substr(0, 40) << ": " << error_code(token) << " "
        << (item.outcome->error ? item.outcome->error->message : "");
  }
}

void KafkaTest::expect_in_order(const std::string& topic) const {
  std::map<std::string, int> last;
  std::set<std::string> seen;
  for (const KafkaRecord& record : shared_kafka().records(topic)) {
    if (!seen.insert(*record.value).second) continue;
    const int number = std::stoi(*record.value);
    const auto [found, first] = last.try_emplace(*record.key, -1);
    EXPECT_LT(found->second, number) << "of " << *record.key << " in " << topic;
    found->second = number;
  }
  for (std::uint64_t token = 1; token <= drain_.emitted(); ++token) {
    if (drain_.kind(token) != OutcomeKind::delivered) continue;
    EXPECT_TRUE(seen.contains(drain_.item(token).entry.payload))
        << drain_.item(token).entry.payload << " counts as delivered and is not there";
  }
}

std::size_t KafkaTest::duplicates(const std::string& topic) {
  std::set<std::string> ids;
  const auto records = shared_kafka().records(topic);
  for (const KafkaRecord& record : records) ids.insert(*record.value);
  return records.size() - ids.size();
}

void KafkaTest::deliver_all(std::vector<TestEntry> left) {
  bool probing = false;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (!left.empty()) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up) << left.size() << " are left";
    const std::size_t count = probing ? 1 : left.size();
    const auto tokens = emit({left.begin(), left.begin() + static_cast<std::ptrdiff_t>(count)});
    drain_.wait_for_all(std::chrono::minutes(1));
    std::vector<TestEntry> next;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const OutcomeKind kind = drain_.kind(tokens[i]);
      if (kind == OutcomeKind::delivered) continue;
      ASSERT_NE(kind, OutcomeKind::failed) << error_code(tokens[i]);
      ASSERT_NE(kind, OutcomeKind::exception);
      next.push_back(left[i]);
    }
    probing = !next.empty();
    next.insert(next.end(), left.begin() + static_cast<std::ptrdiff_t>(count), left.end());
    left = std::move(next);
    drain_.new_runs();
  }
}

}  // namespace outfall::test
