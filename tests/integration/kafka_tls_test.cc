// TLS with a real broker, which has a listener for each certificate that a client must judge: who
// is sent to, and what is shown.
#include <gmock/gmock.h>

#include "tests/integration/kafka_fixture.h"
#include "tests/support/leaks_of_others.h"

namespace outfall::test {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class KafkaTls : public KafkaTest {
 protected:
  KafkaTls() {
    settings_.text("brokers", shared_kafka().tls_brokers())
        .number("tls.enabled", 1)
        .text("tls.ca_file", shared_kafka().tls_file("ca.pem"));
  }

  void show_certificate() {
    settings_.text("tls.certificate_file", shared_kafka().tls_file("client.pem"))
        .text("tls.key_file", shared_kafka().tls_file("client.key"));
  }

  void expect_nothing_is_sent() {
    start(settings_);
    EXPECT_FALSE(emitter_->check(milliseconds(2000)).ok);
    const auto tokens = emit(numbered(1, 1));
    drain_.wait_for_all();
    const Outcome& outcome = *drain_.item(tokens[0]).outcome;
    EXPECT_EQ(outcome.kind, OutcomeKind::destination_unavailable);
    if (outcome.error) told_ = outcome.error->code + ": " + outcome.error->message;
    EXPECT_EQ(shared_kafka().count(topic_), 0);
    drain_.new_runs();
  }

  // The settings are right but for what was refused before.
  void expect_all_is_sent(int count) {
    start(settings_);
    EXPECT_TRUE(emitter_->check(milliseconds(5000)).ok);
    deliver_all(numbered(count, 10));
    EXPECT_EQ(shared_kafka().count(topic_), count);
  }

  // The certificate of these brokers is not believed, and that of the usual ones is.
  void expect_only_refused_at(const std::string& brokers) {
    show_certificate();
    settings_.text("brokers", brokers);
    expect_nothing_is_sent();
    EXPECT_THAT(told_,
                AllOf(StartsWith("kafka.tls_failed"), HasSubstr("certificate verify failed")));
    settings_.text("brokers", shared_kafka().tls_brokers());
    expect_all_is_sent(10);
  }

  const std::string topic_ = fresh_topic();
  TestSettings settings_ = kafka_settings(topic_);
  std::string told_;  // of what was refused last
};

TEST_F(KafkaTls, ABrokerThatWantsACertificateIsShownOne) {
  expect_nothing_is_sent();
  EXPECT_THAT(told_, AllOf(StartsWith("kafka.tls_failed"), HasSubstr("tls.certificate_file")));
  show_certificate();
  expect_all_is_sent(100);
}

TEST_F(KafkaTls, ABrokerOfAnUnknownAuthorityGetsNothing) {
  show_certificate();
  settings_.text("tls.ca_file", shared_kafka().tls_file("stranger-ca.pem"));
  expect_nothing_is_sent();
  EXPECT_THAT(told_, AllOf(StartsWith("kafka.tls_failed"), HasSubstr("certificate verify failed")));
  settings_.text("tls.ca_file", shared_kafka().tls_file("ca.pem"));
  expect_all_is_sent(10);
}

TEST_F(KafkaTls, ABrokerWithAnotherNameGetsNothing) {
  expect_only_refused_at(shared_kafka().misnamed_brokers());
}

TEST_F(KafkaTls, ABrokerWhoseCertificateHasExpiredGetsNothing) {
  expect_only_refused_at(shared_kafka().expired_brokers());
}

TEST_F(KafkaTls, AClientCertificateInPkcs12IsShown) {
  const TempFolder folder;
  const std::string store = folder / "client.p12";
  const Finished made =
      run({"openssl", "pkcs12", "-export", "-in", shared_kafka().tls_file("client.pem"), "-inkey",
           shared_kafka().tls_file("client.key"), "-passout", "pass:swordfish", "-out", store});
  ASSERT_EQ(made.status.code, 0) << made.error_output;
  settings_.text("tls.key_password", "swordfish")
      .map("librdkafka", {{"ssl.keystore.location", store}});
  {
    // librdkafka 2.0.2 does not free the keystore that it has read, 500 bytes a producer.
    const LeaksOfOthers leaks;
    start(settings_);
  }
  deliver_all(numbered(10, 10));
  EXPECT_EQ(shared_kafka().count(topic_), 10);
}

}  // namespace
}  // namespace outfall::test
