// A cluster of two brokers, one of which is away: the topic has too few replicas, and all wait.
#include <set>

#include "tests/integration/worker_fixture.h"
#include "tests/support/temp_kafka.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

class KafkaReplicasTest : public WorkerTest {
 protected:
  WorkerProcess::Options options() {
    return {.dsn = database_.dsn(),
            .streams =
                "[streams.orders]\nemitter = \"bus\"\nbreaker.probe_initial = \"100ms\"\n"
                "[emitters.bus]\nkind = \"kafka\"\ntopic = \"orders\"\nbrokers = \"" +
                first_.brokers() +
                "\"\ndelivery_timeout = \"3s\"\nlibrdkafka = { debug = \"msg\" }\n"
                "[log]\nlevel = \"debug\"\n"};
  }
  // Empty while it is closed.
  static std::string error_of_the_breaker(WorkerProcess& worker) {
    const boost::json::value status = worker.status();
    const auto& breakers = status.at("streams").at(0).at("breakers").as_array();
    return breakers.empty() ? "" : std::string(breakers[0].at("error").as_string());
  }
  std::size_t entries_there() {
    std::set<std::string> ids;
    for (const KafkaRecord& record : first_.records("orders")) ids.insert(record.header("ce_id"));
    return ids.size();
  }

  TempKafka first_;
  TempKafka second_{{.joins = &first_}};
};

// The topic is made when its second broker is away: had the two ever been in sync, either of them
// might lead, and the test would end where it was the one that left.
TEST_F(KafkaReplicasTest, ATopicWithTooFewReplicasWaitsForThemAndSpendsNothing) {
  second_.stop();
  wait_until([&] { return first_.brokers_up() == 1; }, "the second broker to be given up");
  first_.create_topic("orders", 2, {{"min.insync.replicas", "2"}}, {1, 2});
  enqueue_many("orders", 100, 10);
  WorkerProcess worker(options());
  // What librdkafka is told each time, and tells nobody but who asks for its log, is error 19.
  worker.process().wait_for_output("Broker: Not enough in-sync replicas");
  wait_until(
      [&] { return error_of_the_breaker(worker).find("kafka.timed_out") != std::string::npos; },
      "the breaker opens");
  EXPECT_EQ(live("orders"), 100);
  EXPECT_EQ(sql_.number("SELECT max(attempts) FROM entries"), 0);
  EXPECT_EQ(first_.count("orders"), 0);

  second_.start();
  wait_until_empty("orders", std::chrono::minutes(2));
  EXPECT_EQ(entries_there(), 100U);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  wait_until([&] { return delivered() == 100; }, "the receipts");
  EXPECT_EQ(sql_.number("SELECT max(attempts) FROM delivered"), 1);
  EXPECT_EQ(worker.stop(), 0);
}

}  // namespace
}  // namespace outfall::test
