// Goal: values at the edge of what the table takes, and a database that does not fit, stop nobody
// else and are said where an operator looks. Method: the real worker and server.
#include "tests/integration/admin_client.h"
#include "tests/integration/worker_fixture.h"
#include "tests/support/tcp_gate.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class RunEdges : public WorkerTest {};

std::string repeated(const std::string& text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

TEST_F(RunEdges, ADestinationWithAnEndlessNameClosesAlone) {
  const std::string endless = repeated("ü", 5000);
  const std::string cut = repeated("ü", 200);
  sql_.exec("SELECT register_streams('{orders}')");
  (void)sql_.query("SELECT pause_destination('orders', $1, 'test', 'closed')", {cut});
  (void)sql_.query(
      "INSERT INTO entries (stream, type, key, headers) SELECT 'orders', 't', 'a' || i, "
      "jsonb_build_object('endpoint', $1::text) FROM generate_series(1, 20) i",
      {endless});
  sql_.exec(
      "INSERT INTO entries (stream, type, key, headers) SELECT 'orders', 't', 'b' || i, "
      "'{\"endpoint\": \"short\"}' FROM generate_series(1, 20) i");
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file("lane = \"header.endpoint\"")});
  wait_until([&] { return delivered() == 20; }, "the other destination's entries are delivered");
  EXPECT_EQ(live("orders"), 20);
  (void)sql_.query("SELECT resume_destination('orders', $1, 'test', 'open')", {cut});
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 40);
  EXPECT_THAT(worker.log(), Not(HasSubstr("claim failed")));
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunEdges, TheLongestKeyCanFailAndGoOn) {
  (void)sql_.query("INSERT INTO entries (stream, type, key) VALUES ('orders', 't', $1)",
                   {repeated("ü", 512)});
  enqueue_many("orders", 20, 20);
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = "[streams.orders]\nemitter = \"out\"\nretry.initial = \"20ms\"\n"
                                   "retry.max = \"20ms\"\n[emitters.out]\nkind = \"noop\"\n"
                                   "fail = { retryable_failure = \"0.5\" }\n"});
  wait_until_empty("orders");
  EXPECT_EQ(delivered() + dead_letters("noop.retryable_failure"), 21);
  EXPECT_THAT(worker.log(), Not(HasSubstr("settle failed")));
}

TEST_F(RunEdges, DebugNamesBatchesAndTraceEntriesAndNeitherPayloads) {
  enqueue("orders", "key-1", "{\"card\": \"4111-1111\"}");
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = to_file(),
                        .environment = {{"OUTFALL_LOG__LEVEL", "trace"}}});
  wait_until_empty("orders");
  worker.stop();
  const std::string id = sql_.value("SELECT envelope_id FROM delivered");
  EXPECT_THAT(worker.log(), HasSubstr("debug claimed stream=orders lease_id="));
  EXPECT_THAT(worker.log(), HasSubstr("debug settled stream=orders lease_id="));
  EXPECT_THAT(worker.log(), HasSubstr("envelope_id=" + id + " outcome=delivered"));
  EXPECT_THAT(worker.log(), Not(HasSubstr("4111")));
}

TEST(RunSchema, AWorkerWithoutItsSchemaIsAliveAndNotReady) {
  const TestDatabase empty;
  WorkerProcess worker({.dsn = empty.dsn(), .streams = to_file()});
  wait_until([&] { return !worker.ready(); }, "the missing schema is seen");
  EXPECT_TRUE(worker.alive());
  const Finished migrated =
      run({OUTFALL_BINARY, "migrate"}, {.environment = {{"OUTFALL_DATABASE__URL", empty.dsn()}}});
  ASSERT_EQ(migrated.status.code, 0) << migrated.error_output;
  wait_until([&] { return worker.ready(); }, "it is ready once the schema is there");
}

// A rollout would take "ready" for "goes well with this schema".
TEST_F(RunEdges, AWorkerIsReadyOnlyOnceItsDatabaseHasAnsweredOrNot) {
  TcpGate gate(shared_postgres().port());
  gate.traffic(Traffic::stall);
  WorkerProcess worker(
      {.dsn = shared_postgres().dsn_at(gate.port(), database_.name()), .streams = to_file()});
  EXPECT_FALSE(worker.ready());
  gate.traffic(Traffic::pass);
  wait_until([&] { return worker.ready(); }, "the database has answered");
  gate.admit(Admission::refuse);
  gate.end_connections(Ending::reset);
  enqueue("orders", "k");
  worker.process().wait_for_output("waiting for the database");
  EXPECT_TRUE(worker.ready()) << "an outage is no reason";
}

// A worker whose role cannot claim must not look like one that can.
TEST_F(RunEdges, ARoleThatIsNoWorkersIsWaitedForAndSaidToBe) {
  struct Role {
    ~Role() { shared_postgres().connect().exec("DROP ROLE edges_reader"); }
  } const role;
  shared_postgres().connect().exec("CREATE ROLE edges_reader LOGIN IN ROLE outbox_reader");
  enqueue("orders", "k");
  WorkerProcess worker({.dsn = shared_postgres().dsn(database_.name(), "edges_reader"),
                        .streams = to_file(),
                        .database = "reconnect_max = \"500ms\""});
  worker.process().wait_for_output("membership in outbox_worker");
  wait_until([&] { return !worker.ready(); }, "it says that it is not ready");
  EXPECT_TRUE(worker.alive());
  EXPECT_THAT(worker.log(), Not(HasSubstr("connected to the database")));
  const Finished check = run({OUTFALL_BINARY, "check-config", "--connect", "--config",
                              worker.file("outfall.toml").string()});
  EXPECT_EQ(check.status.code, 78);
  EXPECT_THAT(check.output + check.error_output, HasSubstr("membership in outbox_worker"));
  shared_postgres().connect().exec("GRANT outbox_worker TO edges_reader");
  wait_until_empty("orders");
  EXPECT_TRUE(worker.ready());
  EXPECT_EQ(worker.stop(), 0);
}

// Whoever supervises tries again: the old process may have the port for a moment longer.
TEST_F(RunEdges, APortThatIsTakenIsATemporaryFailure) {
  WorkerProcess first({.dsn = database_.dsn(), .streams = to_file()});
  TempFolder folder;
  const Finished second =
      run({OUTFALL_BINARY, "run", "--config", folder.write("second.toml", first.configuration())});
  EXPECT_EQ(second.status.code, 75);
  EXPECT_THAT(second.error_output, HasSubstr("Address already in use"));
  EXPECT_EQ(first.stop(), 0);
}

}  // namespace
}  // namespace outfall::test
