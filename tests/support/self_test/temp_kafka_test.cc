// The broker of the tests itself: it starts, keeps its data over a crash, and limits who may write.
#include "tests/support/temp_kafka.h"

#include <gtest/gtest.h>

namespace outfall::test {
namespace {

TEST(TempKafkaTest, MakesTopicsAndKeepsThemOverACrash) {
  TempKafka kafka({.gate = true, .sasl = true, .tls = true});
  kafka.create_topic("orders", 3, {{"max.message.bytes", "2000"}});
  EXPECT_EQ(kafka.count("orders"), 0);
  EXPECT_TRUE(kafka.records("orders").empty());
  const Finished written = run({"kcat", "-P", "-b", kafka.gated_brokers(), "-t", "orders", "-p",
                                "1", "-k", "key", "-H", "name=value"},
                               {.input = "payload"});
  ASSERT_EQ(written.status.code, 0) << written.error_output;
  kafka.kill();
  kafka.start();
  const auto records = kafka.records("orders");
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].partition, 1);
  EXPECT_EQ(records[0].key, "key");
  EXPECT_EQ(records[0].value, "payload");
  EXPECT_EQ(records[0].header("name"), "value");

  const auto as_alice = [&] {
    return run({"kcat", "-P", "-b", kafka.sasl_brokers(), "-t", "orders", "-X",
                "security.protocol=SASL_PLAINTEXT", "-X", "sasl.mechanism=PLAIN", "-X",
                "sasl.username=alice", "-X", std::string("sasl.password=") + TempKafka::kPassword,
                "-X", "message.timeout.ms=5000", "-E"},
               {.input = "hers"})
        .status.code;
  };
  EXPECT_NE(as_alice(), 0);
  kafka.allow("alice", "orders");
  wait_until([&] { return as_alice() == 0; }, "alice to be allowed");
  std::vector<std::string> by_tls = {"kcat", "-L",
                                     "-m",   "3",
                                     "-b",   kafka.tls_brokers(),
                                     "-X",   "security.protocol=SSL",
                                     "-X",   "ssl.ca.location=" + kafka.tls_file("ca.pem")};
  EXPECT_NE(run(by_tls).status.code, 0) << "it wants a certificate";
  by_tls.insert(by_tls.end(), {"-X", "ssl.certificate.location=" + kafka.tls_file("client.pem"),
                               "-X", "ssl.key.location=" + kafka.tls_file("client.key")});
  EXPECT_EQ(run(by_tls).status.code, 0);
  kafka.delete_topic("orders");
}

}  // namespace
}  // namespace outfall::test
