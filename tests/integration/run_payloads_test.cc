// Goal: whatever the database lets in is delivered as it was written, or refused with words.
// Method: a real worker writes CloudEvents lines to a file, and the file is read back.

#include "tests/integration/worker_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

class RunPayloads : public WorkerTest {
 protected:
  boost::json::object only_event() {
    WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
    wait_until_empty("orders");
    const auto events = worker.events("events");
    EXPECT_EQ(worker.stop(), 0) << worker.log();
    EXPECT_EQ(events.size(), 1u);
    return events.empty() ? boost::json::object{} : events.front();
  }
};

TEST_F(RunPayloads, ThePlainInsertOfStreamTypeAndPayloadIsDelivered) {
  sql_.exec(
      "INSERT INTO entries (stream, type, payload) VALUES ('orders', 'order.placed', '{\"total\": "
      "12.50}')");
  const auto event = only_event();
  EXPECT_EQ(event.at("type").as_string(), "order.placed");
  EXPECT_EQ(event.at("source").as_string(), "/outfall/orders");
  EXPECT_EQ(event.at("specversion").as_string(), "1.0");
  EXPECT_EQ(event.at("data").as_object().at("total").to_number<double>(), 12.5);
}

TEST_F(RunPayloads, ATombstoneHasNoData) {
  sql_.exec("INSERT INTO entries (stream, type, key) VALUES ('orders', 'order.deleted', '7')");
  const auto event = only_event();
  EXPECT_FALSE(event.contains("data"));
  EXPECT_FALSE(event.contains("data_base64"));
}

TEST_F(RunPayloads, BinaryThatIsNotWhatItsContentTypeSaysIsDeliveredAsBytes) {
  sql_.exec(
      "INSERT INTO entries (stream, type, content_type, payload_binary) "
      "VALUES ('orders', 'order.placed', 'application/json', '\\x7b6e6f74206a736f6e')");
  const auto event = only_event();
  EXPECT_EQ(event.at("data_base64").as_string(), "e25vdCBqc29u");
}

TEST_F(RunPayloads, AnEmptyBinaryPayloadIsNotATombstone) {
  sql_.exec(
      "INSERT INTO entries (stream, type, payload_binary) VALUES ('orders', 'order.placed', '')");
  EXPECT_EQ(only_event().at("data_base64").as_string(), "");
}

TEST_F(RunPayloads, TwentyMegabytesGoThrough) {
  sql_.exec(
      "INSERT INTO entries (stream, type, payload) "
      "VALUES ('orders', 'order.placed', json_build_object('blob', repeat('x', 20000000)))");
  EXPECT_EQ(only_event().at("data").as_object().at("blob").as_string().size(), 20000000u);
}

TEST_F(RunPayloads, AKeyMayHoldQuotesUnicodeAndWhatLooksLikeNul) {
  const std::string key = "a\"b\\u0000'; DROP TABLE entries; -- \xE2\x82\xAC \xF0\x9F\x98\x80";
  enqueue("orders", key);
  EXPECT_EQ(only_event().at("partitionkey").as_string(), key);
  EXPECT_EQ(sql_.value("SELECT keys[1] FROM receipts"), key);
}

TEST_F(RunPayloads, APayloadAboveTheStreamsLimitIsADeadLetterAndTheRestGoesOn) {
  enqueue("orders", "k", R"({"blob": ")" + std::string(5000, 'x') + "\"}");
  enqueue("orders", "k", R"({"small": true})");
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file("max_payload = \"1KiB\"")});
  wait_until_empty("orders");
  EXPECT_EQ(dead_letters("outbox.payload_too_large"), 1);
  EXPECT_THAT(sql_.value("SELECT reason FROM dead_letters"),
              testing::HasSubstr("max_payload is 1024"));
  EXPECT_EQ(worker.events("events").size(), 1u);
}

}  // namespace
}  // namespace outfall::test
