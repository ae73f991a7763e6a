// Goal: docs/start/debezium.md works as it stands. Method: configuration, SQL and the bytes that it
// promises are read out of the page, and run against the real worker, server and broker. kcat
// stands for the old connector.
#include <map>
#include <set>
#include <sstream>

#include "tests/integration/java_judge.h"
#include "tests/integration/plain_kafka.h"
#include "tests/integration/worker_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

const std::string& page() {
  static const std::string text = read_file(OUTFALL_SOURCE_FOLDER "/docs/start/debezium.md");
  return text;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("the page does not say " + from);
  return text.replace(at, from.size(), to);
}

// The contents of the page's fenced blocks of one language.
std::vector<std::string> blocks(const std::string& language) {
  std::vector<std::string> all;
  bool inside = false;
  std::istringstream lines(page());
  for (std::string line; std::getline(lines, line);) {
    const std::size_t indent = std::min(line.find_first_not_of(' '), line.size());
    const std::string text = line.substr(indent);
    if (text.starts_with("```")) {
      inside = text == "```" + language;
      if (inside) all.emplace_back();
    } else if (inside) {
      all.back() += text + "\n";
    }
  }
  return all;
}

// Of each table row that sets `setting`: what stands in backquotes from that setting on.
std::vector<std::vector<std::string>> rows_that_set(const std::string& setting) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(page());
  for (std::string line; std::getline(lines, line);) {
    const std::size_t at = line.find("`" + setting + " = ");
    if (!line.starts_with("|") || at == std::string::npos) continue;
    std::istringstream pieces(line.substr(at + 1));
    auto& row = rows.emplace_back();
    for (std::string code, between; std::getline(pieces, code, '`');) {
      row.push_back(code);
      std::getline(pieces, between, '`');
    }
  }
  return rows;
}

class KafkaDebeziumTest : public WorkerTest {
 protected:
  static constexpr const char* kId = "4d47e190-0402-4048-bd2c-89dd54343cdc";  // the page's example

  KafkaDebeziumTest() : shop_(database_.connect()) {
    sql_.exec(
        "DO $$ BEGIN CREATE ROLE shop; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        "GRANT CREATE ON SCHEMA public TO shop");
    sql_.exec(blocks("sql").at(0));
    shop_.exec("SET ROLE shop");
    // As Debezium's documentation has it.
    shop_.exec(
        "CREATE TABLE outboxevent (id uuid NOT NULL PRIMARY KEY, aggregatetype varchar(255) NOT "
        "NULL, aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb)");
  }

  void make_trigger(const std::string& payload = "NEW.payload::json") {
    shop_.exec(replaced(blocks("sql").at(1), "NEW.payload::json", payload));
  }

  std::string insert(const std::string& id, const std::string& route, const std::string& key,
                     const std::string& payload) {
    shop_.query("INSERT INTO outboxevent VALUES ($1, $2, $3, 'OrderCreated', $4)",
                {id, route, key, payload});
    return id;
  }

  WorkerProcess::Options options(const std::string& more = {}) {
    return {.dsn = database_.dsn(),
            .streams = replaced(blocks("toml").at(0), "kafka-1:9092,kafka-2:9092",
                                plain_kafka().brokers()) +
                       more + "\n"};
  }

  // A topic of the page's template that no other test has, and its route.
  static std::string fresh_route() {
    static int count = 0;
    const std::string route = "Order" + std::to_string(++count);
    plain_kafka().create_topic("outbox.event." + route, 12);
    return route;
  }

  // One event through the page's configuration; the record as Java reads it.
  JavasRecord deliver(const std::string& more, const std::string& key,
                      const std::string& payload = R"({"order": 42})") {
    const std::string route = fresh_route();
    insert(kId, route, key, payload);
    WorkerProcess worker(options(more));
    wait_until_empty("events");
    EXPECT_EQ(worker.stop(), 0);
    const auto records = read_by_java(plain_kafka().brokers(), "outbox.event." + route);
    if (records.size() != 1) throw std::runtime_error("not one record: " + worker.log());
    shop_.exec("DELETE FROM outboxevent");
    return records.front();
  }

  // What the connector does with a row, for rows that it got to before it was stopped.
  static void connector_sends(const std::string& route, const std::string& id,
                              const std::string& key, const std::string& payload) {
    const Finished sent =
        run({"kcat", "-P", "-b", plain_kafka().brokers(), "-t", "outbox.event." + route, "-k", key,
             "-H", "id=" + id, "-X", "topic.partitioner=murmur2_random"},
            {.input = payload});
    ASSERT_EQ(sent.status.code, 0) << sent.error_output;
  }

  PgClient shop_;
};

TEST_F(KafkaDebeziumTest, TheThreeKeyEncodingsAreByteExactAndInJavasPartition) {
  make_trigger();
  const auto rows = rows_that_set("key_encoding");
  ASSERT_EQ(rows.size(), 3U);
  std::set<std::string> keys;
  std::set<int> partitions;
  for (const auto& row : rows) {
    SCOPED_TRACE(row.at(0));
    const JavasRecord record = deliver(row.at(0), "42");
    EXPECT_EQ(record.key, java_word(row.at(1)));
    EXPECT_EQ(record.partition, record.javas_partition);
    EXPECT_EQ(record.value, java_word(R"({"order": 42})"));
    keys.insert(record.key);
    partitions.insert(record.partition);
  }
  EXPECT_EQ(keys.size(), 3U);
  // What makes the encoding matter: of these three keys not all are in one partition.
  EXPECT_GT(partitions.size(), 1U);
}

TEST_F(KafkaDebeziumTest, TheHeadersAreByteExact) {
  make_trigger();
  const auto rows = rows_that_set("debezium.id_encoding");
  ASSERT_EQ(rows.size(), 3U);
  for (const auto& row : rows) {
    SCOPED_TRACE(row.at(0));
    const JavasRecord record = deliver(row.at(0), "42");
    const std::map<std::string, std::string> expected = {
        {java_word("id"), java_word(row.at(1))}, {java_word("eventType"), java_word(row.at(2))}};
    EXPECT_EQ(record.headers, expected);
  }
}

TEST_F(KafkaDebeziumTest, TheQuotedPayloadIsThatOfTheJsonConverter) {
  ASSERT_NE(page().find("`to_json(NEW.payload::text)`"), std::string::npos);
  make_trigger("to_json(NEW.payload::text)");
  EXPECT_EQ(deliver({}, "42").value, java_word(R"("{\"order\": 42}")"));
}

TEST_F(KafkaDebeziumTest, TheCutOverLosesNothingAndKeepsTheOrderOfEachKey) {
  const std::string route = fresh_route();
  const int before = 20;       // committed before the trigger was made: the connector's alone
  const int overlapping = 40;  // the connector was stopped after these
  const int all = 100;
  const int keys = 5;
  for (int i = 0; i < all; ++i) {
    if (i == before) make_trigger();
    const std::string id = sql_.value("SELECT gen_random_uuid()");
    const std::string key = "customer-" + std::to_string(i % keys);
    const std::string payload = "{\"n\": " + std::to_string(i) + "}";
    insert(id, route, key, payload);
    if (i < overlapping) connector_sends(route, id, key, payload);
  }
  EXPECT_EQ(live("events"), all - before);
  ASSERT_EQ(plain_kafka().count("outbox.event." + route), overlapping);
  WorkerProcess worker(options());
  wait_until_empty("events");
  EXPECT_EQ(worker.stop(), 0);

  std::map<std::string, std::set<std::string>> copies;
  std::map<std::string, int> last;
  std::map<std::string, std::set<int>> partitions;
  for (const KafkaRecord& record : plain_kafka().records("outbox.event." + route)) {
    partitions[*record.key].insert(record.partition);
    if (!copies[record.header("id")].insert(*record.value).second) continue;
    const int number =
        static_cast<int>(boost::json::parse(*record.value).at("n").to_number<std::int64_t>());
    const auto [found, first] = last.try_emplace(*record.key, number);
    if (first) continue;
    EXPECT_EQ(number, found->second + keys) << *record.key;
    found->second = number;
  }
  EXPECT_EQ(copies.size(), static_cast<std::size_t>(all));
  for (const auto& [id, payloads] : copies) EXPECT_EQ(payloads.size(), 1U) << id;
  EXPECT_EQ(plain_kafka().count("outbox.event." + route), all + overlapping - before);
  for (const auto& [key, found] : partitions) EXPECT_EQ(found.size(), 1U) << key;
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
}

TEST_F(KafkaDebeziumTest, TheQuestionForTheSlotIsAnswered) {
  EXPECT_EQ(sql_.query(blocks("sql").at(2)).size(), 0U);
}

}  // namespace
}  // namespace outfall::test
