#include <algorithm>

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include "emitters/kafka/kafka.h"
#include "emitters/kafka/passthrough.h"
#include "emitters/kafka/settings.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/hint_form.h"

namespace outfall::kafka {
namespace {

bool refuses(std::string_view name, std::string_view value) {
  const PassthroughProblem problem = passthrough_problem(name, value);
  test::expect_hint_form(
      {.origin = {}, .setting = std::string(name), .message = {}, .hint = problem.hint});
  return !problem.message.empty();
}

class KafkaSettingsTest : public testing::Test {
 protected:
  KafkaSettingsTest() { values_.text("brokers", "kafka:9092").text("topic", "orders"); }

  // The settings that have a problem.
  std::vector<std::string> wrong() {
    std::vector<std::string> names;
    for (const SettingProblem& problem : setting_problems(values_.values())) {
      EXPECT_FALSE(problem.message.empty());
      test::expect_hint_form(problem);
      names.push_back(problem.setting);
    }
    return names;
  }
  std::string property(const std::string& name) {
    std::string value;
    for (const auto& [each, text] : read_settings(values_.values()).properties) {
      if (each == name) value = text;
    }
    return value;
  }

  test::TestSettings values_{kafka_emitter_kind()};
};

TEST_F(KafkaSettingsTest, TheDefaultsAreSafeAndLibrdkafkaTakesThem) {
  EXPECT_TRUE(wrong().empty());
  EXPECT_EQ(property("enable.idempotence"), "true");
  EXPECT_EQ(property("acks"), "all");
  EXPECT_EQ(property("partitioner"), "murmur2_random");
  EXPECT_EQ(property("security.protocol"), "");
}

// It waits in whole milliseconds, rounded down, and went round without a pause for what was left of
// the last one: three times for each record, with 2 ms and four partitions.
TEST_F(KafkaSettingsTest, LibrdkafkaIsGivenNoLingerOfWholeMillisecondsForWhichItSpins) {
  for (const int linger : {1, 2, 5, 50, 999, 1000}) {
    values_.number("linger", linger);
    const std::string given = property("linger.ms");
    const double rest = std::stod(given) - linger;
    EXPECT_GT(rest, 0.05) << given;
    EXPECT_LT(rest, 0.5) << given << " is another linger";
    rd_kafka_conf_t* const conf = rd_kafka_conf_new();
    EXPECT_EQ(rd_kafka_conf_set(conf, "linger.ms", given.c_str(), nullptr, 0), RD_KAFKA_CONF_OK);
    rd_kafka_conf_destroy(conf);
  }
  values_.number("linger", 0);
  EXPECT_EQ(property("linger.ms"), "0") << "each record goes at once";
}

TEST_F(KafkaSettingsTest, TemplatesAndHeadersAreChecked) {
  values_.text("topic", "a b").text("partition", "shard");
  EXPECT_EQ(wrong(), (std::vector<std::string>{"topic", "partition"}));
}

TEST_F(KafkaSettingsTest, DebeziumsSettingsBelongToItsFormat) {
  values_.text("debezium.type_header", "eventType");
  EXPECT_EQ(wrong(), std::vector<std::string>{"format"});
  values_.text("format", "debezium");
  EXPECT_TRUE(wrong().empty());
}

TEST_F(KafkaSettingsTest, SecurityIsWholeOrAbsent) {
  values_.text("tls.certificate_file", "/dev/null");
  EXPECT_EQ(wrong(), (std::vector<std::string>{"tls.key_file", "tls.enabled"}));
  values_.text("tls.certificate_file", "").text("sasl.mechanism", "PLAIN");
  EXPECT_EQ(wrong(), (std::vector<std::string>{"sasl.username", "sasl.password"}));
  values_.text("sasl.username", "alice");
  EXPECT_EQ(wrong(), std::vector<std::string>{"sasl.password"});
  values_.text("sasl.password", "p");
  EXPECT_TRUE(wrong().empty());
  EXPECT_EQ(property("security.protocol"), "sasl_plaintext");
  values_.number("tls.enabled", 1);
  EXPECT_EQ(property("security.protocol"), "sasl_ssl");
  EXPECT_EQ(property("ssl.endpoint.identification.algorithm"), "https");
  values_.text("sasl.mechanism", "none");
  EXPECT_EQ(wrong(), std::vector<std::string>{"sasl.mechanism"});
}

TEST_F(KafkaSettingsTest, FilesThatAreNotThereAreToldBeforeAnythingConnects) {
  values_.number("tls.enabled", 1)
      .text("tls.ca_file", "/no/such/ca.pem")
      .text("tls.certificate_file", "/dev/null")
      .text("tls.key_file", "/no/such/key.pem");
  EXPECT_EQ(wrong(), (std::vector<std::string>{"tls.ca_file", "tls.key_file"}));
}

TEST_F(KafkaSettingsTest, ScramIsHandedToLibrdkafka) {
  values_.text("sasl.mechanism", "SCRAM-SHA-512")
      .text("sasl.username", "a")
      .text("sasl.password", "p");
  EXPECT_TRUE(wrong().empty());
  EXPECT_EQ(property("sasl.mechanism"), "SCRAM-SHA-512");
}

TEST_F(KafkaSettingsTest, WhatBreaksThePromiseIsRefusedWithTheReason) {
  for (const std::string_view name :
       {"acks", "request.required.acks", "enable.idempotence", "enable.gapless.guarantee",
        "retries", "message.send.max.retries", "message.timeout.ms", "delivery.timeout.ms",
        "transactional.id", "queuing.strategy", "delivery.report.only.error", "bootstrap.servers",
        "sasl.password", "batch.size", "linger.ms"}) {
    EXPECT_TRUE(refuses(name, "1")) << name;
  }
  for (const std::string_view value : {"6", "1000000", "x", "0", ""}) {
    EXPECT_TRUE(refuses("max.in.flight", value)) << value;
  }
  EXPECT_FALSE(refuses("max.in.flight", "5"));
  EXPECT_TRUE(refuses("partitioner", "random"));
  EXPECT_FALSE(refuses("partitioner", "fnv1a_random"));
  EXPECT_TRUE(refuses("enable.ssl.certificate.verification", "false"));
  EXPECT_TRUE(refuses("ssl.endpoint.identification.algorithm", "none"));
  EXPECT_FALSE(refuses("ssl.endpoint.identification.algorithm", "https"));
  EXPECT_FALSE(refuses("socket.keepalive.enable", "false"));
  EXPECT_TRUE(refuses("test.mock.num.brokers", "3"));
  // librdkafka takes this for "acks".
  EXPECT_TRUE(refuses("topic.acks", "0"));
  EXPECT_FALSE(refuses("topic.metadata.refresh.interval.ms", "1"));
}

// librdkafka took them all: of a port what is left of it in 16 bits, of "x:y" the host.
TEST_F(KafkaSettingsTest, BrokersAreAddresses) {
  for (const char* fit : {"a", "a:9092", "a:1,b:65535", " a:9092 , [::1]:9092", "[fe80::1]"}) {
    values_.text("brokers", fit);
    EXPECT_TRUE(wrong().empty()) << fit;
  }
  for (const char* unfit : {",", "a,", "a:0", "a:65536", "a:94728", "a:x", "a:", ":9092", "a:1;b:2",
                            "http://a:9092", "SSL://a:9092", "[::1", "[::1]x:1", "a b:1"}) {
    values_.text("brokers", unfit);
    const std::vector<std::string> problems = wrong();
    EXPECT_FALSE(problems.empty()) << unfit;
    EXPECT_EQ(problems, std::vector<std::string>(problems.size(), "brokers")) << unfit;
  }
}

TEST_F(KafkaSettingsTest, PropertiesArePassedOnAndCheckedByLibrdkafka) {
  values_.map("librdkafka", {{"statistics.interval.ms", "15000"}, {"max.in.flight", "1"}});
  EXPECT_TRUE(wrong().empty());
  EXPECT_EQ(property("statistics.interval.ms"), "15000");
  values_.map("librdkafka", {{"no.such.property", "1"}});
  EXPECT_EQ(wrong(), std::vector<std::string>{"librdkafka.no.such.property"});
  values_.map("librdkafka", {{"no.such.property", "1"}, {"nor.this", "1"}, {"acks", "1"}});
  EXPECT_EQ(wrong(), (std::vector<std::string>{"librdkafka.acks", "librdkafka.no.such.property",
                                               "librdkafka.nor.this"}));
  values_.map("librdkafka", {{"acks", "1"}});
  EXPECT_EQ(wrong(), std::vector<std::string>{"librdkafka.acks"});
}

TEST_F(KafkaSettingsTest, ThePasswordOfAKeyIsThatOfAKeystoreToo) {
  values_.number("tls.enabled", 1)
      .map("librdkafka", {{"ssl.keystore.location", "/etc/outfall/client.p12"}});
  EXPECT_EQ(wrong(), std::vector<std::string>{"librdkafka.ssl.keystore.location"});
  values_.text("tls.key_password", "swordfish");
  EXPECT_TRUE(wrong().empty());
  EXPECT_EQ(property("ssl.keystore.password"), "swordfish");
  EXPECT_NE(passthrough_problem("ssl.keystore.password", "x").hint.find("tls.key_password"),
            std::string::npos);
}

// librdkafka would take one of the two without a word.
TEST_F(KafkaSettingsTest, AClientHasOneCertificate) {
  values_.number("tls.enabled", 1)
      .text("tls.certificate_file", "/dev/null")
      .text("tls.key_file", "/dev/null")
      .text("tls.key_password", "swordfish")
      .map("librdkafka", {{"ssl.keystore.location", "/etc/outfall/client.p12"}});
  const auto problems = setting_problems(values_.values());
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].setting, "librdkafka.ssl.keystore.location");
  EXPECT_EQ(problems[0].message, "it and tls.certificate_file each name the client's certificate");
  values_.text("tls.certificate_file", "").text("tls.key_file", "");
  EXPECT_TRUE(wrong().empty());
}

TEST_F(KafkaSettingsTest, OnlyTheSettingSaysWhetherRecordsAreCompressed) {
  values_.map("librdkafka", {{"compression.level", "5"}});
  EXPECT_TRUE(wrong().empty());
  EXPECT_FALSE(read_settings(values_.values()).compresses);
  values_.text("compression", "lz4");
  EXPECT_TRUE(read_settings(values_.values()).compresses);
}

TEST_F(KafkaSettingsTest, TheLaneFollowsTheTemplate) {
  const EmitterKind kind = kafka_emitter_kind();
  EXPECT_EQ(kind.lane(values_.values()), "");
  values_.text("topic", "shop.{type}");
  EXPECT_EQ(kind.lane(values_.values()), "type");
}

}  // namespace
}  // namespace outfall::kafka
