// Goal: from the table to the topic nothing is lost, dead-lettered or out of order, whatever the
// broker goes through. Method: the real worker, server and broker.
#include <map>
#include <set>

#include "tests/integration/plain_kafka.h"
#include "tests/integration/worker_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

class KafkaRunTest : public WorkerTest {
 protected:
  static WorkerProcess::Options options(const std::string& dsn, const std::string& topic,
                                        const std::string& emitter = {},
                                        const std::string& stream = {}) {
    return {.dsn = dsn,
            .streams = "[streams.orders]\nemitter = \"bus\"\n" + stream +
                       "\n[emitters.bus]\nkind = \"kafka\"\nbrokers = \"" +
                       plain_kafka().brokers() + "\"\ntopic = \"" + topic +
                       "\"\ndelivery_timeout = \"3s\"\n" + emitter};
  }

  // The first copies, key by key; fails where one is out of order.
  static std::map<std::string, std::vector<std::string>> first_copies(const std::string& topic) {
    std::map<std::string, std::vector<std::string>> keys;
    std::set<std::string> seen;
    for (const KafkaRecord& record : plain_kafka().records(topic)) {
      if (!seen.insert(record.header("ce_id")).second) continue;
      keys[record.key.value_or("")].push_back(*record.value);
    }
    return keys;
  }
  static int number_of(const std::string& payload) {
    return static_cast<int>(boost::json::parse(payload).at("n").to_number<std::int64_t>());
  }
  static void expect_whole(const std::string& topic, std::size_t count) {
    std::size_t found = 0;
    for (const auto& [key, payloads] : first_copies(topic)) {
      found += payloads.size();
      for (std::size_t i = 1; i < payloads.size(); ++i) {
        EXPECT_LT(number_of(payloads[i - 1]), number_of(payloads[i])) << key;
      }
    }
    EXPECT_EQ(found, count);
  }

  // 10,000 entries and one that the topic takes at no size, in the middle of 100 of its key.
  void enqueue_with_poison() {
    const auto fill = [&](int from, int to) {
      sql_.query(
          "INSERT INTO entries (stream, type, key, payload) SELECT 'orders', 'order.placed', "
          "CASE WHEN i % 100 = 0 THEN 'shared' ELSE 'key-' || i END, json_build_object('n', i) "
          "FROM generate_series(" +
          std::to_string(from) + ", " + std::to_string(to) + ") i");
    };
    fill(1, 5050);
    // Random digits, which no compression makes small.
    sql_.query(
        "INSERT INTO entries (stream, type, key, payload) SELECT 'orders', 'order.placed', "
        "'shared', json_build_object('n', 5051, 'x', string_agg(md5(i::text), '')) "
        "FROM generate_series(1, 2000) i");
    fill(5052, 10'001);
  }

  // Only the poison becomes a dead letter, whoever finds it.
  void expect_poison_alone(const std::string& topic, const std::string& emitter, bool holds_key) {
    plain_kafka().create_topic(topic, 4, {{"max.message.bytes", "5000"}});
    enqueue_with_poison();
    WorkerProcess worker(
        options(database_.dsn(), topic, emitter,
                holds_key ? "on_dead_letter = \"hold-key\"\n" : "on_dead_letter = \"continue\"\n"));
    // Of its key, 5100 to 10,000 come after it.
    const std::int64_t held = holds_key ? 50 : 0;
    wait_until([&] { return live("orders") == held; }, "all but the held", std::chrono::minutes(2));
    expect_whole(topic, static_cast<std::size_t>(10'000 - held));
    EXPECT_EQ(first_copies(topic).at("shared").size(), static_cast<std::size_t>(100 - held));
    EXPECT_EQ(dead_letters("kafka.msg_size_too_large"), 1);
    EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 1);
    // Records are sent apart only where the broker has rejected a batch.
    const bool rejected =
        worker.metric("outfall_kafka_isolated_records_total{emitter=\"bus\"}") > 0;
    EXPECT_EQ(rejected, emitter == kOnlyTheBrokerKnows);
    EXPECT_EQ(worker.stop(), 0);
  }

  static constexpr const char* kOnlyTheBrokerKnows = "compression = \"lz4\"\nkey_window = 1\n";
};

TEST_F(KafkaRunTest, ReceiptsNameTopicPartitionAndOffset) {
  plain_kafka().create_topic("receipts", 3);
  WorkerProcess worker(options(database_.dsn(), "receipts"));
  enqueue_many("orders", 100, 10);
  wait_until_empty("orders");
  expect_whole("receipts", 100);
  std::set<std::string> places;
  for (const KafkaRecord& record : plain_kafka().records("receipts")) {
    places.insert("receipts/" + std::to_string(record.partition) + "/" +
                  std::to_string(record.offset));
  }
  wait_until([&] { return delivered() == 100; }, "the receipts");
  EXPECT_EQ(sql_.number("SELECT count(DISTINCT record_id) FROM delivered"), 100);
  EXPECT_TRUE(places.contains(sql_.value("SELECT min(record_id) FROM delivered")));
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(KafkaRunTest, ABrokerThatDiesAndHangsUnderLoadCostsNeitherOrderNorAttempts) {
  plain_kafka().create_topic("outage", 4);
  WorkerProcess worker(options(database_.dsn(), "outage"));
  enqueue_many("orders", 50'000, 200);
  wait_until([&] { return plain_kafka().count("outage") > 5000; }, "the first records");
  plain_kafka().kill();
  worker.process().wait_for_output("breaker");
  plain_kafka().start();
  const auto back = std::chrono::steady_clock::now();
  const std::int64_t before = live("orders");
  wait_until([&] { return live("orders") < before; }, "delivery to go on");
  EXPECT_LT(std::chrono::steady_clock::now() - back, std::chrono::seconds(5));
  plain_kafka().freeze();
  EXPECT_FALSE(holds_within([&] { return live("orders") == 0; }, std::chrono::seconds(6)));
  plain_kafka().thaw();
  wait_until_empty("orders");
  expect_whole("outage", 50'000);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  EXPECT_EQ(sql_.number("SELECT max(attempts) FROM delivered"), 1);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(KafkaRunTest, ATopicThatIsMadeAgainUnderLoadCostsNeitherEntriesNorAttempts) {
  for (const int partitions : {2, 12, 20}) {
    SCOPED_TRACE(partitions);
    const std::string topic = "remade-" + std::to_string(partitions);
    plain_kafka().create_topic(topic, 12);
    WorkerProcess worker(options(database_.dsn(), topic));
    enqueue_many("orders", 30'000, 300);
    wait_until([&] { return plain_kafka().count(topic) > 3000; }, "the first records");
    plain_kafka().delete_topic(topic);
    plain_kafka().create_topic(topic, partitions);
    wait_until_empty("orders");
    EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
    EXPECT_EQ(sql_.number("SELECT max(attempts) FROM delivered"), 1);
    EXPECT_EQ(worker.stop(), 0);
  }
}

TEST_F(KafkaRunTest, APoisonRecordThatIsFoundBeforeLetsItsKeyContinue) {
  expect_poison_alone("found-continue", "", false);
}

TEST_F(KafkaRunTest, APoisonRecordThatIsFoundBeforeHoldsItsKey) {
  expect_poison_alone("found-hold", "", true);
}

TEST_F(KafkaRunTest, APoisonRecordThatOnlyTheBrokerRejectsLetsItsKeyContinue) {
  expect_poison_alone("rejected-continue", kOnlyTheBrokerKnows, false);
}

TEST_F(KafkaRunTest, APoisonRecordThatOnlyTheBrokerRejectsHoldsItsKey) {
  expect_poison_alone("rejected-hold", kOnlyTheBrokerKnows, true);
}

TEST_F(KafkaRunTest, AWorkerStartsAndServesOthersWhileTheBrokerOfOneStreamIsDown) {
  plain_kafka().create_topic("alive", 3);
  WorkerProcess::Options both = options(database_.dsn(), "alive");
  both.streams +=
      "\n[streams.refunds]\nemitter = \"absent\"\n"
      "[emitters.absent]\nkind = \"kafka\"\nbrokers = \"127.0.0.1:1\"\ntopic = \"refunds\"\n"
      "delivery_timeout = \"1s\"\n";
  enqueue_many("refunds", 100, 10);
  enqueue_many("orders", 1000, 50);
  WorkerProcess worker(both);
  wait_until_empty("orders");
  expect_whole("alive", 1000);
  worker.process().wait_for_output("breaker");
  EXPECT_EQ(live("refunds"), 100);
  EXPECT_EQ(sql_.number("SELECT max(attempts) FROM entries"), 0);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  EXPECT_TRUE(worker.alive());
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(KafkaRunTest, APoisonRecordHoldsItsKeyWhereTheStreamSaysSo) {
  plain_kafka().create_topic("hold", 1, {{"max.message.bytes", "5000"}});
  for (const std::string& payload :
       {std::string("{\"n\": 1}"), "{\"n\": 2, \"x\": \"" + std::string(9000, 'x') + "\"}",
        std::string("{\"n\": 3}")}) {
    enqueue("orders", "held", payload);
  }
  enqueue("orders", "other", "{\"n\": 4}");
  WorkerProcess worker(options(database_.dsn(), "hold", {}, "on_dead_letter = \"hold-key\"\n"));
  wait_until([&] { return live("orders") == 1 && plain_kafka().count("hold") == 2; },
             "all but the held");
  EXPECT_EQ(first_copies("hold").at("held").size(), 1U);
  EXPECT_EQ(dead_letters("kafka.msg_size_too_large"), 1);
  EXPECT_EQ(worker.stop(), 0);
}

}  // namespace
}  // namespace outfall::test
