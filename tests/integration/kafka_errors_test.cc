// Records and topics that a real broker refuses: each row of the error table that it can be made to
// give, and what becomes of the others.
#include <algorithm>
#include <deque>

#include "emitters/kafka/partitions.h"
#include "tests/integration/kafka_fixture.h"

namespace outfall::test {
namespace {

using std::chrono::milliseconds;

// The clock of a machine that is off.
class ClockThatIsOff final : public Clock {
 public:
  explicit ClockThatIsOff(std::chrono::hours by) : by_(by) {}
  [[nodiscard]] WallTime wall() const noexcept override { return system_clock().wall() + by_; }
  [[nodiscard]] MonotonicTime monotonic() const noexcept override {
    return system_clock().monotonic();
  }

 private:
  const std::chrono::hours by_;
};

class KafkaErrorsTest : public KafkaTest {
 protected:
  // Hands over what `change` makes of the entries' envelopes.
  template <typename Change>
  std::vector<std::uint64_t> emit_changed(const std::vector<TestEntry>& entries, Change&& change) {
    std::vector<std::uint64_t> tokens;
    EmitBatch batch = drain_.batch(entries, tokens);
    for (std::size_t i = 0; i < batch.items.size(); ++i) {
      changed_.push_back(*batch.items[i].envelope);
      change(i, changed_.back());
      batch.items[i].envelope = &changed_.back();
    }
    emitter_->emit(std::move(batch));
    return tokens;
  }
  // An emitter of a machine with such a clock, for a stream with such a limit.
  void start_with(const TestSettings& settings, const Clock& clock,
                  std::int64_t max_payload_bytes = 0) {
    emitter_ = kafka_emitter_kind().create({.name = "test",
                                            .settings = settings.values(),
                                            .sink = drain_,
                                            .clock = clock,
                                            .random = system_random(),
                                            .reporter = test_reporter(),
                                            .max_payload_bytes = max_payload_bytes});
  }
  static WallTime from_now(std::chrono::hours hours) { return system_clock().wall() + hours; }

  // What is in the topic, in the order of one key.
  static std::vector<std::string> values_of(const std::string& topic, const std::string& key) {
    std::vector<std::string> values;
    for (const KafkaRecord& record : shared_kafka().records(topic)) {
      if (record.key == key) values.push_back(record.value->substr(0, 20));
    }
    return values;
  }

  // A stream of 10,000 with one record too large in the middle of 100 of the same key.
  static std::vector<TestEntry> with_poison() {
    std::vector<TestEntry> all = numbered(10'000, 10'000);
    for (std::size_t i = 0; i < all.size(); i += 100) all[i].key = "shared";
    all[5000].payload = "\"" + std::string(20'000, 'x') + "\"";
    return all;
  }

  std::deque<Envelope> changed_;
};

TEST_F(KafkaErrorsTest, ARecordTooLargeForItsTopicFailsAloneAndIsFoundBeforeItIsProduced) {
  const std::string topic = fresh_topic(4, {{"max.message.bytes", "10000"}});
  start(kafka_settings(topic));
  const auto tokens = emit(with_poison());
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(tokens[5000]), OutcomeKind::failed);
  EXPECT_EQ(error_code(tokens[5000]), "kafka.msg_size_too_large");
  std::size_t blocked = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const OutcomeKind kind = drain_.kind(tokens[i]);
    if (kind == OutcomeKind::blocked) {
      ++blocked;
      EXPECT_TRUE(i > 5000 && i % 100 == 0) << i;
    } else if (i != 5000) {
      EXPECT_EQ(kind, OutcomeKind::delivered) << i << " " << error_code(tokens[i]);
    }
  }
  EXPECT_EQ(blocked, 49U);
  EXPECT_EQ(shared_kafka().count(topic), 10'000 - 50);
  expect_in_order(topic);
}

// The brokers tell nothing about the topic's settings, so only the broker's rejection shows it.
TEST_F(KafkaErrorsTest, ARecordThatOnlyTheBrokerRejectsIsIsolatedFromItsBatch) {
  const std::string topic = fresh_topic(2, {{"max.message.bytes", "10000"}});
  // Compression makes the size something that only the broker can judge.
  start(kafka_settings(topic).text("compression", "lz4"));
  std::vector<TestEntry> all = numbered(2000, 2000);
  std::string noise;
  for (std::uint64_t x = 1; noise.size() < 40'000; x = x * 6364136223846793005U + 1) {
    noise += static_cast<char>('a' + (x >> 60));
  }
  all[1000].payload = "\"" + noise + "\"";
  const auto tokens = emit(all);
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(tokens[1000]), OutcomeKind::failed);
  EXPECT_EQ(error_code(tokens[1000]), "kafka.msg_size_too_large");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i == 1000) continue;
    ASSERT_EQ(drain_.kind(tokens[i]), OutcomeKind::delivered) << i << " " << error_code(tokens[i]);
  }
  EXPECT_EQ(shared_kafka().count(topic), 1999);
}

TEST_F(KafkaErrorsTest, WithOneOfAKeyTheOthersArriveInOrderAroundTheRejectedOne) {
  const std::string topic = fresh_topic(2, {{"max.message.bytes", "10000"}});
  start(kafka_settings(topic).text("compression", "lz4").number("key_window", 1));
  std::string noise;
  for (std::uint64_t x = 1; noise.size() < 40'000; x = x * 6364136223846793005U + 1) {
    noise += static_cast<char>('a' + (x >> 60));
  }
  std::vector<std::string> expected;
  for (int i = 0; i < 20; ++i) {
    const bool poison = i == 10;
    const auto tokens =
        emit({{.key = "shared", .payload = poison ? "\"" + noise + "\"" : std::to_string(i)}});
    drain_.wait_for_all();
    EXPECT_EQ(drain_.kind(tokens[0]), poison ? OutcomeKind::failed : OutcomeKind::delivered);
    if (!poison) expected.push_back(std::to_string(i));
    drain_.new_runs();
  }
  EXPECT_EQ(values_of(topic, "shared"), expected);
}

TEST_F(KafkaErrorsTest, ALimitThatWasRaisedCountsAtOnce) {
  const std::string topic = fresh_topic(1, {{"max.message.bytes", "10000"}});
  start(kafka_settings(topic));
  const TestEntry large{.key = "a", .payload = "\"" + std::string(20'000, 'x') + "\""};
  const auto refused = emit({large});
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(refused[0]), OutcomeKind::failed);
  shared_kafka().set_topic(topic, {{"max.message.bytes", "100000"}});
  wait_until(
      [&] {
        drain_.new_runs();
        const auto taken = emit({large});
        drain_.wait_for_all();
        return drain_.kind(taken[0]) == OutcomeKind::delivered;
      },
      "the topic to take it");
}

TEST_F(KafkaErrorsTest, ACompactedTopicTakesNoRecordWithoutAKey) {
  const std::string topic = fresh_topic(1, {{"cleanup.policy", "compact"}});
  start(kafka_settings(topic));
  const auto tokens = emit({{.key = "a"}, {}, {.key = "a", .kind = PayloadKind::none}});
  drain_.wait_for_all();
  expect_delivered({tokens[0], tokens[2]});
  EXPECT_EQ(drain_.kind(tokens[1]), OutcomeKind::failed);
  EXPECT_EQ(error_code(tokens[1]), "kafka.key_missing");
}

TEST_F(KafkaErrorsTest, AnUnknownTopicIsUnavailableUntilSomebodyMakesIt) {
  const std::string topic = fresh_topic_name();
  start(kafka_settings(topic));
  EXPECT_FALSE(emitter_->check(milliseconds(2000)).ok);
  const auto tokens = emit(numbered(100, 100));
  drain_.wait_for_all();
  for (const std::uint64_t token : tokens) {
    EXPECT_EQ(drain_.kind(token), OutcomeKind::destination_unavailable);
    EXPECT_EQ(error_code(token), "kafka.unknown_topic");
  }
  shared_kafka().create_topic(topic);
  drain_.new_runs();
  deliver_all(numbered(100, 100));
  EXPECT_EQ(shared_kafka().count(topic), 100);
}

TEST_F(KafkaErrorsTest, AnUnknownTopicDoesNotHoldUpTheOthers) {
  const std::string known = fresh_topic_name();
  const std::string missing = fresh_topic_name();
  shared_kafka().create_topic("by-type." + known);
  start(kafka_settings("by-type.{type}"));
  const auto held = emit({{.key = "a", .type = missing}});
  const auto other = emit({{.key = "b", .type = known}, {.key = "c", .type = "no/topic"}});
  wait_until([&] { return drain_.is_complete(other[0]) && drain_.is_complete(other[1]); },
             "the topic that is there", milliseconds(2000));
  expect_delivered({other[0]});
  EXPECT_EQ(error_code(other[1]), "kafka.invalid_topic");
  EXPECT_EQ(drain_.kind(other[1]), OutcomeKind::failed);
  drain_.wait_for_all();
  EXPECT_EQ(error_code(held[0]), "kafka.unknown_topic");
}

TEST_F(KafkaErrorsTest, AUserWithoutTheRightToWriteMakesTheTopicUnavailable) {
  const std::string topic = fresh_topic();
  TestSettings settings = kafka_settings(topic);
  settings.text("brokers", shared_kafka().sasl_brokers())
      .text("sasl.mechanism", "PLAIN")
      .text("sasl.username", "alice")
      .text("sasl.password", TempKafka::kPassword);
  start(settings);
  const auto denied = emit(numbered(1000, 50));
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(denied[0]), OutcomeKind::destination_unavailable);
  for (const std::uint64_t token : denied) {
    ASSERT_TRUE(drain_.kind(token) == OutcomeKind::destination_unavailable ||
                drain_.kind(token) == OutcomeKind::blocked)
        << to_string(drain_.kind(token)) << " " << error_code(token);
    if (drain_.kind(token) == OutcomeKind::blocked) continue;
    // A user who may write to no topic at all does not even get a producer's id.
    ASSERT_NE(error_code(token).find("_authorization_failed"), std::string::npos)
        << error_code(token);
  }
  drain_.new_runs();
  shared_kafka().allow("alice", topic);
  deliver_all(numbered(1000, 50));
  shared_kafka().forbid("alice", topic);
  drain_.new_runs();
  wait_until(
      [&] {
        const auto again = emit(numbered(100, 5, 1000));
        drain_.wait_for_all();
        drain_.new_runs();
        return error_code(again[0]).find("_authorization_failed") != std::string::npos;
      },
      "the right to be gone");
  shared_kafka().allow("alice", topic);
  deliver_all(numbered(100, 5, 1000));
  expect_in_order(topic);
}

TEST_F(KafkaErrorsTest, AWrongPasswordIsSaidInTheBrokersWords) {
  TestSettings settings = kafka_settings(fresh_topic());
  settings.text("brokers", shared_kafka().sasl_brokers())
      .text("sasl.mechanism", "PLAIN")
      .text("sasl.username", "alice")
      .text("sasl.password", "hunter2");
  start(settings);
  const auto health = emitter_->check(milliseconds(2000));
  EXPECT_FALSE(health.ok);
  EXPECT_NE(health.detail.find("Authentication failed"), std::string::npos) << health.detail;
  const auto tokens = emit(numbered(1, 1));
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::destination_unavailable);
  EXPECT_EQ(error_code(tokens[0]), "kafka.authentication_failed");
  const std::string& message = drain_.item(tokens[0]).outcome->error->message;
  EXPECT_EQ(message.find("hunter2"), std::string::npos);
  EXPECT_EQ(message.find("SCRAM"), std::string::npos);
}

// The librdkafka of Debian 12 cannot; the broker's words then speak of the password.
TEST_F(KafkaErrorsTest, ALoginByScramWorksOrIsSaidNotToBeThePasswordsFault) {
  const std::string topic = fresh_topic();
  shared_kafka().allow("alice", topic);
  start(kafka_settings(topic)
            .text("brokers", shared_kafka().sasl_brokers())
            .text("sasl.mechanism", "SCRAM-SHA-512")
            .text("sasl.username", "alice")
            .text("sasl.password", TempKafka::kPassword));
  if (rd_kafka_version() >= 0x020601ff) {
    EXPECT_TRUE(emitter_->check(milliseconds(5000)).ok);
    return deliver_all(numbered(100, 10));
  }
  const std::string note = "whatever the password";
  const auto health = emitter_->check(milliseconds(2000));
  EXPECT_FALSE(health.ok);
  EXPECT_NE(health.detail.find(note), std::string::npos) << health.detail;
  const auto tokens = emit(numbered(1, 1));
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::destination_unavailable);
  EXPECT_EQ(error_code(tokens[0]), "kafka.authentication_failed");
  const std::string& message = drain_.item(tokens[0]).outcome->error->message;
  EXPECT_NE(message.find(note), std::string::npos) << message;
}

TEST_F(KafkaErrorsTest, ThePartitionOfAKeyIsKnownBeforeLibrdkafkaChoosesIt) {
  for (const char* name :
       {"murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a"}) {
    SCOPED_TRACE(name);
    const std::string topic = fresh_topic(7);
    start(kafka_settings(topic).map("librdkafka", {{"partitioner", name}}));
    const auto tokens = emit(numbered(100, 100));
    drain_.wait_for_all();
    expect_delivered(tokens);
    const kafka::Partitioner partitioner(name);
    for (const KafkaRecord& record : shared_kafka().records(topic)) {
      EXPECT_EQ(record.partition, partitioner.of_key(*record.key, 7)) << *record.key;
    }
  }
}

TEST_F(KafkaErrorsTest, APartitionFromAHeaderIsTakenOrIsTheEntrysFault) {
  const std::string topic = fresh_topic(3);
  start(kafka_settings(topic).text("partition", "header.shard"));
  const auto tokens = emit({{.key = "a", .headers_json = R"({"shard": "2"})"},
                            {.key = "b", .headers_json = R"({"shard": "7"})"},
                            {.key = "c", .headers_json = R"({"shard": "two"})"},
                            {.key = "d"}});
  drain_.wait_for_all();
  expect_delivered({tokens[0], tokens[3]});
  EXPECT_TRUE(drain_.item(tokens[0]).outcome->record_id.starts_with(topic + "/2/"));
  EXPECT_EQ(drain_.kind(tokens[1]), OutcomeKind::failed);
  EXPECT_EQ(error_code(tokens[1]), "kafka.unknown_partition");
  EXPECT_EQ(drain_.kind(tokens[2]), OutcomeKind::failed);
  EXPECT_EQ(error_code(tokens[2]), "kafka.invalid_partition");
}

TEST_F(KafkaErrorsTest, ATimeBeyondTheTopicsBoundsIsTheEntrysFault) {
  const std::string topic = fresh_topic(1, {{"message.timestamp.before.max.ms", "3600000"}});
  start(kafka_settings(topic));
  const auto tokens =
      emit_changed({{.key = "old"}, {.key = "new"}}, [](std::size_t i, Envelope& envelope) {
        envelope.created_at = from_now(std::chrono::hours(0));
        if (i == 0) envelope.occurred_at = from_now(std::chrono::hours(-48));
      });
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(tokens[0]), OutcomeKind::failed);
  EXPECT_EQ(error_code(tokens[0]), "kafka.invalid_timestamp");
  expect_delivered({tokens[1]});
}

// The broker says so, and it says it of this record alone.
TEST_F(KafkaErrorsTest, ATimeTooFarAheadFailsAloneAndItsKeyWaitsForTheAnswer) {
  const std::string topic = fresh_topic(1);
  start(kafka_settings(topic));
  const auto tokens = emit_changed(numbered(1000, 10), [](std::size_t i, Envelope& envelope) {
    envelope.created_at = from_now(std::chrono::hours(0));
    if (i == 500) envelope.occurred_at = from_now(std::chrono::hours(48));
  });
  drain_.wait_for_all();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const OutcomeKind expected = i < 500 || i % 10 != 0 ? OutcomeKind::delivered
                                 : i == 500             ? OutcomeKind::failed
                                                        : OutcomeKind::blocked;
    EXPECT_EQ(drain_.kind(tokens[i]), expected) << i << " " << error_code(tokens[i]);
  }
  EXPECT_EQ(error_code(tokens[500]), "kafka.invalid_timestamp");
  expect_in_order(topic);
}

TEST_F(KafkaErrorsTest, AWorkersWrongClockCondemnsNoEntry) {
  for (const auto off : {std::chrono::hours(-4), std::chrono::hours(4)}) {
    SCOPED_TRACE(off.count());
    const std::string topic = fresh_topic(1, {{"message.timestamp.before.max.ms", "3600000"},
                                              {"message.timestamp.after.max.ms", "3600000"}});
    const ClockThatIsOff clock(off);
    const TestSettings settings = kafka_settings(topic);
    start_with(settings, clock);
    // The newest of them is old, so that nothing but our clock seems to tell the time.
    const auto tokens = emit_changed(numbered(200, 20), [](std::size_t, Envelope& envelope) {
      envelope.created_at = from_now(std::chrono::hours(-3));
      envelope.occurred_at = from_now(std::chrono::hours(0));
    });
    drain_.wait_for_all();
    expect_delivered(tokens);
    expect_in_order(topic);
    emitter_.reset();
  }
}

TEST_F(KafkaErrorsTest, CheckSaysWhatTheTopicTakes) {
  const std::string topic = fresh_topic(3, {{"max.message.bytes", "10000"}});
  start(kafka_settings(topic));
  const auto health = emitter_->check(milliseconds(5000));
  EXPECT_TRUE(health.ok);
  EXPECT_NE(health.detail.find("1 broker; topic " + topic +
                               " has 3 partitions and takes records up to 10000 bytes"),
            std::string::npos)
      << health.detail;
}

// One line, also where all is well; check() says the same.
TEST_F(KafkaErrorsTest, TheLogSaysThatBrokersAnswerAndWhatTheyTake) {
  const std::string topic = fresh_topic();
  const auto said = [](const std::string& line) {
    return [line] {
      const auto lines = test_reporter().lines();
      return std::ranges::count(lines, line) == 1;
    };
  };
  const std::string takes = " takes records up to 1048588 bytes";
  const std::string warning =
      "; the stream lets in payloads up to 1048576 bytes, larger records become dead letters (key "
      "and headers count)";
  start_with(kafka_settings(topic), system_clock(), 500'000);
  wait_until(said("brokers answer: topic " + topic + takes), "the line");
  EXPECT_TRUE(emitter_->check(milliseconds(5000)).detail.ends_with(takes));
  start_with(kafka_settings(topic), system_clock(), 1 << 20);
  wait_until(said("brokers answer: topic " + topic + takes + warning), "the line with a warning");
  EXPECT_TRUE(emitter_->check(milliseconds(5000)).detail.ends_with(takes + warning));
  const std::string by_template = "topics are a.{type}; one without a limit of its own" + takes;
  start_with(kafka_settings("a.{type}"), system_clock(), 500'000);
  wait_until(said("brokers answer: " + by_template), "the line of a template");
  EXPECT_EQ(emitter_->check(milliseconds(5000)).detail, "1 broker; " + by_template);
  start_with(kafka_settings("a.{type}"), system_clock(), 1 << 20);
  wait_until(said("brokers answer: " + by_template + warning), "its warning");
  EXPECT_TRUE(emitter_->check(milliseconds(5000)).detail.ends_with(takes + warning));
}

TEST_F(KafkaErrorsTest, AMistypedTopicIsNotMadeWhereTheClusterMakesTopicsUnlessOneSaysSo) {
  TempKafka kafka({.settings = {{"auto.create.topics.enable", "true"}}});
  const auto there = [&] { return std::filesystem::exists(kafka.folder() / "data" / "ordres-0"); };
  TestSettings settings = kafka_settings("ordres").text("brokers", kafka.brokers());
  start(settings);
  EXPECT_FALSE(emitter_->check(milliseconds(5000)).ok);
  auto tokens = emit(numbered(10, 10));
  drain_.wait_for_all();
  for (const std::uint64_t token : tokens) EXPECT_EQ(error_code(token), "kafka.unknown_topic");
  EXPECT_FALSE(there());
  drain_.new_runs();
  start(settings.map("librdkafka", {{"allow.auto.create.topics", "true"}}));
  deliver_all(numbered(10, 10));
  EXPECT_TRUE(there());
  emitter_.reset();
}

TEST_F(KafkaErrorsTest, MetricsComeFromTheStatistics) {
  const std::string topic = fresh_topic();
  start(kafka_settings(topic));
  deliver_all(numbered(100, 10));
  const auto specs = kafka_emitter_kind().metrics;
  const auto place = [&](std::string_view name) {
    std::size_t index = 0;
    while (specs[index].name != name) ++index;
    return index;
  };
  const std::string broker = shared_kafka().brokers();
  wait_until(
      [&] {
        return test_reporter().value(place("broker_up"), broker) == 1 &&
               test_reporter().value(place("queue_messages")) == 0 &&
               test_reporter().value(place("broker_rtt_seconds"), broker).value_or(0) > 0;
      },
      "the statistics");
  EXPECT_EQ(test_reporter().value(place("producers_total")), 1);
}

}  // namespace
}  // namespace outfall::test
