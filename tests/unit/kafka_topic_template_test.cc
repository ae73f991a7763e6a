#include <gtest/gtest.h>

#include "emitters/kafka/topic_template.h"

namespace outfall::kafka {
namespace {

TopicTemplate parsed(std::string_view text) {
  auto result = TopicTemplate::parse(text);
  EXPECT_TRUE(std::holds_alternative<TopicTemplate>(result))
      << text << ": " << std::get<std::string>(result);
  return std::get<TopicTemplate>(std::move(result));
}

Envelope order() {
  Envelope envelope;
  envelope.stream = "orders";
  envelope.type = "order.placed";
  envelope.source = "shop";
  envelope.subject = "42";
  envelope.headers_json = R"({"region": "eu", "region": "us", "empty": ""})";
  return envelope;
}

std::string expanded(std::string_view text) {
  std::string topic;
  return parsed(text).expand(order(), topic) ? topic : "missing " + topic;
}

TEST(KafkaTopicTemplateTest, PutsTheEntrysValuesIn) {
  EXPECT_EQ(expanded("orders"), "orders");
  EXPECT_EQ(expanded("{stream}.{type}"), "orders.order.placed");
  EXPECT_EQ(expanded("a-{source}_{subject}"), "a-shop_42");
  EXPECT_EQ(expanded("{header.region}"), "eu");
}

TEST(KafkaTopicTemplateTest, SaysWhatTheEntryLacks) {
  EXPECT_EQ(expanded("{header.none}"), "missing header.none");
  EXPECT_EQ(expanded("{header.empty}"), "missing header.empty");
  std::string topic;
  EXPECT_FALSE(parsed("{subject}").expand(Envelope{}, topic));
  EXPECT_EQ(topic, "subject");
}

TEST(KafkaTopicTemplateTest, RefusesWhatCannotBecomeATopic) {
  for (const std::string text :
       {"", "{", "a{type", "{}", "{key}", "{header.}", "a/b", "{type}/x", "a}b", "..", "ü"}) {
    EXPECT_TRUE(std::holds_alternative<std::string>(TopicTemplate::parse(text))) << text;
  }
  EXPECT_TRUE(std::holds_alternative<std::string>(TopicTemplate::parse(std::string(250, 'a'))));
}

TEST(KafkaTopicTemplateTest, KnowsTheNamesOfTopics) {
  EXPECT_TRUE(is_topic_name("shop.Order_placed-2"));
  EXPECT_TRUE(is_topic_name(std::string(249, 'a')));
  for (const std::string name : {"", ".", "..", "a b", "a/b", "ä", "a:b"}) {
    EXPECT_FALSE(is_topic_name(name)) << name;
  }
}

TEST(KafkaTopicTemplateTest, ALaneIsTheOnlyThingThatDecides) {
  EXPECT_EQ(parsed("orders").lane(), "");
  EXPECT_EQ(parsed("{stream}").lane(), "");
  EXPECT_EQ(parsed("shop.{type}").lane(), "type");
  EXPECT_EQ(parsed("{stream}.{source}").lane(), "source");
  EXPECT_EQ(parsed("{subject}-{subject}").lane(), "subject");
  EXPECT_EQ(parsed("x.{header.region}").lane(), "header.region");
  EXPECT_EQ(parsed("{type}.{source}").lane(), "");
  EXPECT_EQ(parsed("{header.a}.{header.b}").lane(), "");
}

}  // namespace
}  // namespace outfall::kafka
