// What was sent, read by others' code: Java's own consumer and partitioner, and Python's
// CloudEvents SDK.
#include <algorithm>
#include <map>

#include <boost/json.hpp>

#include "core/text.h"
#include "tests/integration/java_judge.h"
#include "tests/integration/kafka_fixture.h"
#include "tests/support/judges.h"
#include "tests/support/random.h"

namespace outfall::test {
namespace {

namespace json = boost::json;

std::string base64(std::string_view bytes) {
  std::string text;
  append_base64(text, bytes);
  return text;
}

json::value base64_or_null(const std::optional<std::string>& bytes) {
  return bytes ? json::value(base64(*bytes)) : json::value();
}

// What the entries of a thousand have one of.
constexpr auto kSources =
    std::to_array<std::string_view>({"", "/shop", "https://shop.example/orders"});
constexpr auto kContentTypes = std::to_array<std::string_view>(
    {"", "application/vnd.order+json", "text/plain; charset=utf-8"});

class KafkaJudgesTest : public KafkaTest {
 protected:
  static json::array read_by_python(const std::string& topic) {
    json::array records;
    for (const KafkaRecord& record : shared_kafka().records(topic)) {
      json::object headers;
      for (const auto& [name, value] : record.headers) headers[name] = base64(*value);
      records.push_back({{"headers", headers},
                         {"key", base64_or_null(record.key)},
                         {"value", base64_or_null(record.value)}});
    }
    const TempFolder folder;
    const auto file = folder.write("records.json", json::serialize(records));
    return json::parse(
               run_judge(OUTFALL_SOURCE_FOLDER "/tests/judges/kafka_judge.py", {file.string()}))
        .as_array();
  }

  static std::vector<TestEntry> a_thousand();
  // Hands them over as of times that are a millisecond apart, and of kSources.
  std::vector<std::uint64_t> emit_as_of_then(const std::vector<TestEntry>& entries);
  // Whether Java saw of `entries[index]` what CloudEvents' binding to Kafka asks for.
  static void expect_event(const JavasRecord& seen, const TestEntry& entry, std::size_t index);
};

std::vector<TestEntry> KafkaJudgesTest::a_thousand() {
  SeededRandom random(20261121);
  std::vector<TestEntry> entries;
  for (int i = 0; i < 1000; ++i) {
    std::string key;
    // Valid UTF-8 of all lengths from nothing on, as PostgreSQL's text is.
    for (std::uint64_t left = random.up_to(40); left > 0; --left) {
      append_utf8(key, static_cast<std::uint32_t>(1 + random.up_to(0xd000)));
    }
    TestEntry& entry = entries.emplace_back();
    if (i % 50 != 7) entry.key = key;
    entry.kind = i % 10 == 3 ? PayloadKind::none : PayloadKind::json;
    entry.payload = entry.kind == PayloadKind::none ? "" : std::to_string(i);
    entry.type = "test.entry-" + std::to_string(i % 7);
    entry.content_type = kContentTypes[static_cast<std::size_t>(i) % kContentTypes.size()];
    entry.headers_json = R"({"number": ")" + std::to_string(i) + R"(", "Odd Name": "€"})";
  }
  return entries;
}

std::vector<std::uint64_t> KafkaJudgesTest::emit_as_of_then(const std::vector<TestEntry>& entries) {
  std::vector<std::uint64_t> tokens;
  EmitBatch batch = drain_.batch(entries, tokens);
  std::vector<Envelope> envelopes;
  envelopes.reserve(entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    envelopes.push_back(*batch.items[i].envelope);
    envelopes.back().occurred_at = WallTime(std::chrono::milliseconds(1'700'000'000'000 + i));
    envelopes.back().source = kSources[i % kSources.size()];
    batch.items[i].envelope = &envelopes.back();
  }
  emitter_->emit(std::move(batch));
  drain_.wait_for_all();
  return tokens;
}

void KafkaJudgesTest::expect_event(const JavasRecord& seen, const TestEntry& entry,
                                   std::size_t index) {
  const auto header = [&](const std::string& name) {
    const auto found = seen.headers.find(java_word(name));
    return found == seen.headers.end() ? "none" : found->second;
  };
  EXPECT_EQ(header("ce_specversion"), java_word("1.0"));
  EXPECT_EQ(header("ce_type"), java_word(entry.type));
  const std::string_view source = kSources[index % kSources.size()];
  EXPECT_EQ(header("ce_source"),
            java_word(source.empty() ? "/outfall/conformance" : std::string(source)));
  std::string thousandths = std::to_string(index);
  thousandths.insert(0, 3 - thousandths.size(), '0');
  EXPECT_EQ(header("ce_time"), java_word("2023-11-14T22:13:20." + thousandths + "000Z"));
  // A tombstone has no data whose type could be told, unless the producer tells it all the same.
  const bool is_plain = entry.content_type.empty();
  const std::string of_kind =
      entry.kind == PayloadKind::none ? "none" : java_word("application/json");
  EXPECT_EQ(header("content-type"), is_plain ? of_kind : java_word(entry.content_type));
}

TEST_F(KafkaJudgesTest, JavasConsumerAndPartitionerAgreeForAThousandRandomKeys) {
  const std::string topic = fresh_topic(12);
  start(kafka_settings(topic));
  const std::vector<TestEntry> entries = a_thousand();
  const std::vector<std::uint64_t> tokens = emit_as_of_then(entries);
  expect_delivered(tokens);

  const auto judged = read_by_java(shared_kafka().brokers(), topic);
  ASSERT_EQ(judged.size(), entries.size());
  std::vector<bool> seen(entries.size());
  for (const JavasRecord& one : judged) {
    const std::string number = one.headers.at(java_word("number"));
    std::size_t index = 0;
    while (index < entries.size() && java_word(std::to_string(index)) != number) ++index;
    ASSERT_LT(index, entries.size());
    EXPECT_FALSE(seen[index]);
    seen[index] = true;
    const TestEntry& entry = entries[index];
    EXPECT_EQ(one.key, java_word(entry.key));
    EXPECT_EQ(one.value, entry.kind == PayloadKind::none ? "-" : java_word(entry.payload));
    EXPECT_EQ(one.timestamp_ms, 1'700'000'000'000 + static_cast<std::int64_t>(index));
    EXPECT_EQ(one.javas_partition, entry.key ? one.partition : -1);
    EXPECT_EQ(one.headers.at(java_word("Odd Name")), java_word("€"));
    expect_event(one, entry, index);
    EXPECT_EQ(one.headers.at(java_word("ce_id")),
              java_word(drain_.item(tokens[index]).envelope_id.to_string()));
    EXPECT_TRUE(
        drain_.item(tokens[index])
            .outcome->record_id.starts_with(topic + "/" + std::to_string(one.partition) + "/"));
  }
}

TEST_F(KafkaJudgesTest, TheCloudEventsSdkOfPythonReadsBothModes) {
  const std::vector<TestEntry> entries = {
      {.key = "käse €", .payload = R"({"n": 1, "text": "ü \" \\"})", .subject = "order 7/ä%"},
      {.headers_json =
           R"({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})"},
      {.key = "b", .kind = PayloadKind::binary, .payload = std::string("\0\xff", 2)},
      {.key = "t", .kind = PayloadKind::none, .payload = ""}};
  for (const std::string format : {"binary", "structured"}) {
    SCOPED_TRACE(format);
    const std::string topic = fresh_topic(1);
    start(kafka_settings(topic).text("format", format));
    const auto tokens = emit(entries);
    drain_.wait_for_all();
    expect_delivered(tokens);
    const json::array events = read_by_python(topic);
    ASSERT_EQ(events.size(), entries.size());
    std::map<std::string, json::object> by_id;
    for (const json::value& event : events) {
      by_id[std::string(event.at("attributes").at("id").as_string())] = event.as_object();
    }
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const auto& event = by_id.at(drain_.item(tokens[i]).envelope_id.to_string());
      const json::object& attributes = event.at("attributes").as_object();
      EXPECT_EQ(attributes.at("type").as_string(), "test.entry");
      EXPECT_EQ(attributes.at("specversion").as_string(), "1.0");
      if (!entries[i].subject.empty()) {
        EXPECT_EQ(attributes.at("subject").as_string(), entries[i].subject);
      }
      EXPECT_EQ(attributes.contains("traceparent"), !entries[i].headers_json.empty());
    }
    const auto data = [&](std::size_t i) {
      return by_id.at(drain_.item(tokens[i]).envelope_id.to_string()).at("data");
    };
    EXPECT_EQ(data(0), json::parse(entries[0].payload));
    EXPECT_EQ(data(1), json::parse(entries[1].payload));
    EXPECT_EQ(data(2), (json::value{{"base64", base64(entries[2].payload)}}));
    EXPECT_EQ(data(3), json::value()) << "a tombstone has no data";
    drain_.new_runs();
  }
}

}  // namespace
}  // namespace outfall::test
