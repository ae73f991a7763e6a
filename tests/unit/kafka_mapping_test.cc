#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "emitters/kafka/kafka.h"
#include "emitters/kafka/mapping.h"
#include "emitters/kafka/topics.h"
#include "tests/support/emitter_harness.h"

namespace outfall::kafka {
namespace {

using testing::ElementsAre;
using testing::Pair;
using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs headers_of(const Mapped& mapped) {
  Pairs all;
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  for (std::size_t i = 0; rd_kafka_header_get_all(mapped.headers.get(), i, &name, &value, &size) ==
                          RD_KAFKA_RESP_ERR_NO_ERROR;
       ++i) {
    all.emplace_back(name, std::string(static_cast<const char*>(value), size));
  }
  return all;
}

class KafkaMappingTest : public testing::Test {
 protected:
  KafkaMappingTest() {
    values_.text("brokers", "b:1").text("topic", "t");
    envelope_.envelope_id = *Uuid::parse("01a1fd77-3731-71c4-b617-bb9798dca0b8");
    envelope_.stream = "orders";
    envelope_.key = "42";
    envelope_.type = "order.placed";
    envelope_.payload_kind = PayloadKind::json;
    envelope_.payload = R"({"order": 42})";
    envelope_.created_at = WallTime(std::chrono::milliseconds(1'700'000'000'123));
  }

  std::optional<DeliveryError> map() {
    settings_ = std::make_unique<Settings>(read_settings(values_.values()));
    mapping_ = std::make_unique<Mapping>(*settings_);
    return mapping_->map(envelope_, mapped_);
  }

  test::TestSettings values_{kafka_emitter_kind()};
  Envelope envelope_;
  std::unique_ptr<Settings> settings_;
  std::unique_ptr<Mapping> mapping_;
  Mapped mapped_;
};

TEST_F(KafkaMappingTest, BinaryModeHasAttributesAsHeadersAndThePayloadAsItIs) {
  envelope_.subject = "s";
  envelope_.data_schema = "https://example.com/schema";
  EXPECT_FALSE(map());
  EXPECT_EQ(mapped_.key, "42");
  EXPECT_EQ(mapped_.value, R"({"order": 42})");
  EXPECT_EQ(mapped_.value->data(), envelope_.payload.data());
  EXPECT_FALSE(mapped_.value_is_ours);
  EXPECT_EQ(mapped_.timestamp_ms, 1'700'000'000'123);
  EXPECT_EQ(mapped_.partition, RD_KAFKA_PARTITION_UA);
  EXPECT_THAT(headers_of(mapped_),
              ElementsAre(Pair("ce_specversion", "1.0"),
                          Pair("ce_id", "01a1fd77-3731-71c4-b617-bb9798dca0b8"),
                          Pair("ce_source", "/outfall/orders"), Pair("ce_type", "order.placed"),
                          Pair("ce_time", "2023-11-14T22:13:20.123000Z"), Pair("ce_subject", "s"),
                          Pair("ce_dataschema", "https://example.com/schema"),
                          Pair("content-type", "application/json")));
}

TEST_F(KafkaMappingTest, TheEntrysHeadersFollowAndTheTraceAlsoAsAnExtension) {
  envelope_.headers_json =
      R"({"traceparent": "00-a-b-01", "Odd Name": "€", "ce_id": "mine", "content-type": "x"})";
  EXPECT_FALSE(map());
  const Pairs headers = headers_of(mapped_);
  const Pairs own(headers.end() - 3, headers.end());
  EXPECT_THAT(own, ElementsAre(Pair("traceparent", "00-a-b-01"),
                               Pair("ce_traceparent", "00-a-b-01"), Pair("Odd Name", "€")));
}

TEST_F(KafkaMappingTest, ATombstoneHasNoValueAndAnEmptyPayloadHasAnEmptyOne) {
  envelope_.payload_kind = PayloadKind::none;
  envelope_.payload = {};
  EXPECT_FALSE(map());
  EXPECT_FALSE(mapped_.value);
  envelope_.payload_kind = PayloadKind::binary;
  EXPECT_FALSE(map());
  EXPECT_EQ(mapped_.value, "");
}

TEST_F(KafkaMappingTest, NoKeyAndAnEmptyKeyDiffer) {
  envelope_.key = "";
  EXPECT_FALSE(map());
  EXPECT_EQ(mapped_.key, "");
  envelope_.key = std::nullopt;
  EXPECT_FALSE(map());
  EXPECT_FALSE(mapped_.key);
}

TEST_F(KafkaMappingTest, StructuredModeIsOneJsonObject) {
  values_.text("format", "structured");
  EXPECT_FALSE(map());
  EXPECT_TRUE(mapped_.value_is_ours);
  EXPECT_TRUE(mapped_.value->starts_with(R"({"specversion":"1.0")")) << *mapped_.value;
  EXPECT_TRUE(mapped_.value->ends_with(R"("data":{"order": 42}})")) << *mapped_.value;
  EXPECT_THAT(headers_of(mapped_),
              ElementsAre(Pair("content-type", "application/cloudevents+json; charset=UTF-8")));
}

TEST_F(KafkaMappingTest, DebeziumsRecordHasAnIdAndTheTypeWhereItIsWanted) {
  values_.text("format", "debezium");
  EXPECT_FALSE(map());
  EXPECT_EQ(mapped_.value, R"({"order": 42})");
  EXPECT_THAT(headers_of(mapped_), ElementsAre(Pair("id", "01a1fd77-3731-71c4-b617-bb9798dca0b8")));
  values_.text("debezium.type_header", "eventType");
  EXPECT_FALSE(map());
  EXPECT_THAT(headers_of(mapped_), ElementsAre(Pair("id", "01a1fd77-3731-71c4-b617-bb9798dca0b8"),
                                               Pair("eventType", "order.placed")));
}

TEST_F(KafkaMappingTest, KeysAndIdsAreWrittenAsConnectsConvertersDo) {
  envelope_.key = "a\"b";
  values_.text("key_encoding", "json");
  EXPECT_FALSE(map());
  EXPECT_EQ(mapped_.key, R"("a\"b")");
  values_.text("key_encoding", "json_schema")
      .text("format", "debezium")
      .text("debezium.id_encoding", "json_schema")
      .text("debezium.type_header", "eventType");
  EXPECT_FALSE(map());
  EXPECT_EQ(mapped_.key, R"({"schema":{"type":"string","optional":false},"payload":"a\"b"})");
  EXPECT_THAT(
      headers_of(mapped_),
      ElementsAre(
          Pair("id",
               R"({"schema":{"type":"string","optional":false,"name":"io.debezium.data.Uuid",)"
               R"("version":1},"payload":"01a1fd77-3731-71c4-b617-bb9798dca0b8"})"),
          Pair("eventType",
               R"({"schema":{"type":"string","optional":false},"payload":"order.placed"})")));
}

TEST_F(KafkaMappingTest, ThePartitionComesFromItsHeader) {
  values_.text("partition", "header.shard");
  EXPECT_FALSE(map());
  EXPECT_EQ(mapped_.partition, RD_KAFKA_PARTITION_UA);
  envelope_.headers_json = R"({"shard": "12"})";
  EXPECT_FALSE(map());
  EXPECT_EQ(mapped_.partition, 12);
  for (const std::string_view wrong : {R"({"shard": "-1"})", R"({"shard": "1x"})",
                                       R"({"shard": ""})", R"({"shard": "9999999999"})"}) {
    envelope_.headers_json = wrong;
    const auto problem = map();
    ASSERT_TRUE(problem) << wrong;
    EXPECT_EQ(problem->code, "kafka.invalid_partition");
  }
}

TEST_F(KafkaMappingTest, ATimeBefore1970IsThatOfTheEntryInstead) {
  envelope_.occurred_at = WallTime(std::chrono::milliseconds(-5));
  EXPECT_FALSE(map());
  EXPECT_EQ(mapped_.timestamp_ms, 1'700'000'000'123);
  envelope_.occurred_at = WallTime(std::chrono::milliseconds(5));
  EXPECT_FALSE(map());
  EXPECT_EQ(mapped_.timestamp_ms, 5);
}

TEST(KafkaSizeTest, WhatATopicTakesIsComparedWithThePayloadItsKeyAndItsHeaders) {
  constexpr std::int64_t kKafkasDefault = 1'048'588;
  EXPECT_TRUE(may_be_too_large(kKafkasDefault, 0));
  EXPECT_TRUE(may_be_too_large(kKafkasDefault, 1 << 20));
  EXPECT_FALSE(may_be_too_large(kKafkasDefault, kKafkasDefault - 1024));
  EXPECT_EQ(size_text(kKafkasDefault, 1'000'000), " takes records up to 1048588 bytes");
  EXPECT_EQ(size_text(kKafkasDefault, 1 << 20),
            " takes records up to 1048588 bytes; the stream lets in payloads up to 1048576 bytes, "
            "larger records become dead letters (key and headers count)");
  EXPECT_NE(size_text(kKafkasDefault, 0).find("payloads of any size"), std::string::npos);
}

TEST_F(KafkaMappingTest, OnlyWhatATopicSurelyRefusesIsRefused) {
  EXPECT_FALSE(map());
  const std::int64_t now = mapped_.timestamp_ms;
  TopicLimits limits;
  limits.max_message_bytes = mapped_.wire_bytes;
  EXPECT_FALSE(record_problem(mapped_, limits, false, now));
  --limits.max_message_bytes;
  EXPECT_EQ(record_problem(mapped_, limits, false, now)->code, "kafka.msg_size_too_large");
  EXPECT_FALSE(record_problem(mapped_, limits, true, now));
  limits = {};
  limits.before_max_ms = 3'600'000;
  limits.after_max_ms = 3'600'000;
  EXPECT_FALSE(record_problem(mapped_, limits, false, now + 3'600'000 + 299'000));
  EXPECT_TRUE(record_problem(mapped_, limits, false, now + 3'600'000 + 301'000));
  EXPECT_FALSE(record_problem(mapped_, limits, false, now - 3'600'000 - 301'000));
  EXPECT_FALSE(seems_too_new(now, limits, now - 3'600'000 - 299'000));
  EXPECT_TRUE(seems_too_new(now, limits, now - 3'600'000 - 301'000));
  limits.create_time = false;
  EXPECT_FALSE(record_problem(mapped_, limits, false, now + 3'600'000 + 301'000));
  EXPECT_FALSE(seems_too_new(now, limits, now - 3'600'000 - 301'000));
  limits.compacted = true;
  EXPECT_FALSE(record_problem(mapped_, limits, false, now));
  mapped_.key.reset();
  EXPECT_EQ(record_problem(mapped_, limits, false, now)->code, "kafka.key_missing");
}

}  // namespace
}  // namespace outfall::kafka
