// Goal: statements that the database cannot carry out, on connections that live, are asked again at
// a measured pace, and what an operator is told of them is true.
// Method: a real worker, and triggers that fail as the server does.
#include <algorithm>

#include "tests/integration/worker_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using std::chrono::steady_clock;
using testing::HasSubstr;
using testing::Not;

class RunTrouble : public WorkerTest {
 protected:
  // What becomes of each settle that writes a receipt.
  void break_receipts(const std::string& statement) {
    sql_.exec("CREATE FUNCTION public.trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " +
              statement +
              "; RETURN NEW; END $$;"
              "CREATE TRIGGER trouble BEFORE INSERT ON receipts FOR EACH ROW EXECUTE FUNCTION "
              "public.trouble()");
  }
  void mend_receipts() { sql_.exec("DROP TRIGGER trouble ON receipts"); }
};

int count(const std::string& text, const std::string& what) {
  int found = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

// It took the connection for lost: 35 new ones and 65 log lines a second, for one entry.
TEST_F(RunTrouble, AFullDiskIsWaitedForOnTheSameConnections) {
  break_receipts("RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'");
  enqueue("orders", "k");
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  wait_until([&] { return worker.metric("outfall_database_errors_total{kind=\"timeout\"}") >= 4; },
             "the settle is tried again and again");
  EXPECT_EQ(worker.metric("outfall_database_reconnects_total"), 0);
  EXPECT_EQ(worker.metric("outfall_database_errors_total{kind=\"connection_lost\"}"), 0);
  EXPECT_EQ(count(worker.log(), "connected to the database"), 1);
  EXPECT_THAT(worker.log(), HasSubstr("settle failed"));
  EXPECT_THAT(worker.log(), HasSubstr("SQLSTATE 53100"));
  EXPECT_THAT(worker.log(), Not(HasSubstr("waiting for the database")));
  mend_receipts();
  wait_until_empty("orders");
  EXPECT_EQ(worker.events("events").size(), 1u);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunTrouble, ASettleThatEndsEachSessionIsTriedAtAMeasuredPace) {
  enqueue("orders", "k");
  break_receipts("PERFORM pg_terminate_backend(pg_backend_pid())");
  const auto begun = steady_clock::now();
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  wait_until([&] { return worker.metric("outfall_database_reconnects_total") >= 6; },
             "it connects again");
  EXPECT_GE(steady_clock::now() - begun, std::chrono::seconds{1});
  mend_receipts();
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 1);
  EXPECT_EQ(worker.stop(), 0);
}

// What another worker had taken over and delivered again was counted nowhere.
TEST_F(RunTrouble, ASettleInDoubtWhoseLeaseIsGoneCountsPossibleDuplicates) {
  enqueue_many("orders", 50, 5);
  break_receipts("PERFORM pg_terminate_backend(pg_backend_pid())");
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  wait_until([&] { return worker.metric("outfall_database_reconnects_total") >= 2; },
             "the answer to a settle is lost");
  // As another worker leaves them that has delivered them all.
  sql_.exec("DELETE FROM leases; DELETE FROM entries");
  worker.process().wait_for_output("after a settle whose answer was lost");
  EXPECT_EQ(worker.metric("outfall_stale_settles_total{stream=\"orders\"}"), 1);
  EXPECT_EQ(worker.metric("outfall_duplicates_possible_total{stream=\"orders\"}"), 50);
  EXPECT_EQ(worker.metric("outfall_entries_settled_total{stream=\"orders\"}"), 0);
  EXPECT_EQ(worker.stop(), 0);
}

// It let its presence go with the connection, and took back all that was on its way to a sink.
TEST_F(RunTrouble, ALookForOtherWorkersThatFailsCostsNoPresence) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  const auto holder = [&] {
    return sql_.value(
        "SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_locks JOIN pg_stat_activity a "
        "USING (pid) WHERE locktype = 'advisory' AND granted AND a.datname = current_database() "
        "AND a.query LIKE '%present_workers%'");
  };
  wait_until([&] { return !holder().empty(); }, "the worker is present");
  const std::string before = holder();
  const std::string looks = "outfall_database_errors_total{kind=\"timeout\"}";
  sql_.exec(
      "CREATE OR REPLACE FUNCTION present_workers(p_workers uuid[]) RETURNS SETOF uuid LANGUAGE "
      "plpgsql AS $$ BEGIN RAISE EXCEPTION 'too slow' USING ERRCODE = 'query_canceled'; END $$");
  wait_until([&] { return worker.metric(looks) >= 3; }, "its looks fail");
  EXPECT_EQ(holder(), before);
  enqueue("orders", "k");
  wait_until_empty("orders");
  EXPECT_THAT(worker.log(), HasSubstr("the look for other workers failed"));
  EXPECT_THAT(worker.log(), Not(HasSubstr("waiting for the database")));
  EXPECT_EQ(worker.stop(), 0);
}

// What the database refuses to write of one entry.
class RunRefusals : public WorkerTest {
 protected:
  void refuse(const std::string& condition, const std::string& sqlstate = "P0001") {
    sql_.exec(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'not this one' USING ERRCODE = '" +
        sqlstate +
        "'; END $$;"
        "CREATE TRIGGER refuse BEFORE DELETE OR UPDATE ON entries FOR EACH ROW WHEN (" +
        condition + ") EXECUTE FUNCTION public.refuse()");
  }
  void accept() { sql_.exec("DROP TRIGGER refuse ON entries"); }
  // The numbers of each key, as they came.
  static std::map<std::string, std::vector<std::int64_t>> by_key(const WorkerProcess& worker) {
    std::map<std::string, std::vector<std::int64_t>> numbers;
    for (const boost::json::object& event : worker.events("events")) {
      numbers[std::string(event.at("partitionkey").as_string())].push_back(
          event.at("data").at("n").to_number<std::int64_t>());
    }
    return numbers;
  }
  void enqueue_numbers(int from, int count, int keys) {
    sql_.exec(
        "INSERT INTO entries (stream, type, key, payload) SELECT 'orders', 'order.placed', "
        "'key-' || n % " +
        std::to_string(keys) + ", json_build_object('n', n) FROM generate_series(" +
        std::to_string(from) + ", " + std::to_string(from + count - 1) + ") n");
  }
};

// It was tried again for ever, and with it the outcomes of its whole batch and of all later ones.
TEST_F(RunRefusals, OfOneEntryKeepsItsKeyAndNothingElse) {
  enqueue_numbers(0, 200, 20);
  const std::string bad = sql_.value("SELECT id FROM entries WHERE payload->>'n' = '107'");
  refuse("OLD.id = " + bad);
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  wait_until([&] { return live("orders") == 5; }, "what does not wait for it is settled");
  EXPECT_EQ(sql_.value("SELECT string_agg(payload->>'n', ' ' ORDER BY id) FROM entries"),
            "107 127 147 167 187");
  EXPECT_EQ(sql_.number("SELECT remaining FROM leases"), 5);
  EXPECT_THAT(worker.log(), HasSubstr("refuses the outcome of an entry"));
  EXPECT_THAT(worker.log(), HasSubstr("entry_id=" + bad));
  EXPECT_THAT(worker.log(), HasSubstr("sqlstate=P0001"));

  enqueue_numbers(200, 200, 20);
  wait_until([&] { return live("orders") == 15; }, "the other keys go on");
  EXPECT_EQ(worker.events("events").size(), 390u);
  EXPECT_LT(worker.metric("outfall_claims_total{result=\"entries\",stream=\"orders\"}"), 20);
  accept();
  wait_until_empty("orders");
  const auto numbers = by_key(worker);
  ASSERT_EQ(numbers.size(), 20u);
  for (const auto& [key, of_key] : numbers) {
    EXPECT_EQ(of_key.size(), 20u) << key;
    EXPECT_TRUE(std::is_sorted(of_key.begin(), of_key.end())) << key;
  }
  EXPECT_EQ(worker.metric("outfall_duplicates_possible_total{stream=\"orders\"}"), 0);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunRefusals, OfADeadLetterKeepsItsKeyToo) {
  enqueue_numbers(0, 20, 4);
  refuse("OLD.payload->>'n' = '2'");
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = "[streams.orders]\nemitter = \"out\"\n[emitters.out]\n"
                                   "kind = \"noop\"\nfail = { failed = \"1\" }\n"});
  wait_until([&] { return live("orders") == 5; }, "the other keys are settled");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries WHERE key = 'key-2'"), 5);
  accept();
  wait_until_empty("orders");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters WHERE attempts = 1"), 20);
  EXPECT_EQ(worker.stop(), 0);
}

// Nothing gets through where every entry becomes a dead letter, and an alert goes by this number.
TEST_F(RunRefusals, DeadLettersAreFailuresInARow) {
  enqueue_numbers(0, 3, 3);
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams =
                            "[streams.orders]\nemitter = \"out\"\n[emitters.out]\nkind = \"noop\"\n"
                            "fail_types = { \"order.placed\" = \"failed\" }\n"});
  wait_until([&] { return sql_.number("SELECT count(*) FROM dead_letters") == 3; },
             "all are dead letters");
  EXPECT_EQ(worker.metric("outfall_consecutive_failures{stream=\"orders\"}"), 3);
  sql_.exec("SELECT enqueue('orders', 'another', '{}')");
  wait_until([&] { return worker.metric("outfall_consecutive_failures{stream=\"orders\"}") == 0; },
             "a delivery ends the row");
}

// It was counted when it was decided: also where it was never written, and once more by the worker
// that had taken the lease over.
TEST_F(RunRefusals, ADeadLetterCountsOnceItIsWritten) {
  enqueue_numbers(0, 1, 1);
  refuse("true");
  WorkerProcess worker(
      {.dsn = database_.dsn(),
       .streams = "[streams.orders]\nemitter = \"out\"\nretry.max_attempts = 1\n[emitters.out]\n"
                  "kind = \"noop\"\nfail = { retryable_failure = \"1\" }\n"});
  worker.process().wait_for_output("refuses the outcome of an entry");
  const std::string dead =
      "outfall_dead_lettered_total{reason=\"outbox.max_retry_attempts_exceeded\","
      "stream=\"orders\"}";
  EXPECT_EQ(worker.metric(dead), 0);
  accept();
  wait_until_empty("orders");
  wait_until([&] { return worker.metric(dead) > 0; }, "it is counted");
  EXPECT_EQ(worker.metric(dead), 1);
  EXPECT_EQ(worker.stop(), 0);
}

// A trigger that may not write where it wants to, or whose table is gone.
TEST_F(RunRefusals, OfATriggersOwnRightsAndTablesAreTheSame) {
  for (const std::string sqlstate : {"42501", "42P01"}) {
    enqueue_numbers(0, 20, 4);
    refuse("OLD.payload->>'n' = '2'", sqlstate);
    WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
    wait_until([&] { return live("orders") == 5; }, "the other keys are settled");
    accept();
    sql_.exec("DROP FUNCTION public.refuse");
    wait_until_empty("orders");
    EXPECT_EQ(worker.stop(), 0);
  }
}

// Delivering on would only add to what is delivered again where the worker ends.
TEST_F(RunRefusals, OfEverythingStopsTheClaims) {
  refuse("true");
  enqueue_numbers(0, 20'000, 200);
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  const std::string errors = "outfall_database_errors_total{kind=\"other\"}";
  worker.process().wait_for_output("refuses the outcome of an entry");
  const double before = worker.metric(errors);
  const std::size_t delivered_before = worker.events("events").size();
  EXPECT_LT(delivered_before, 15'000u);
  wait_until([&] { return worker.metric(errors) >= before + 6; }, "it is tried again");
  EXPECT_EQ(worker.events("events").size(), delivered_before);
  EXPECT_EQ(live("orders"), 20'000);
  accept();
  wait_until_empty("orders");
  EXPECT_EQ(worker.events("events").size(), 20'000u);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunRefusals, AStopLeavesWhatIsRefusedToTheNextWorker) {
  enqueue_numbers(0, 20, 4);
  refuse("OLD.payload->>'n' = '2'");
  WorkerProcess worker({.dsn = database_.dsn(), .streams = to_file()});
  wait_until([&] { return live("orders") == 5; }, "the other keys are settled");
  EXPECT_EQ(worker.stop(), 0);
  EXPECT_EQ(sql_.number("SELECT remaining FROM leases WHERE released"), 5);
  accept();
  worker.start();
  wait_until_empty("orders");
  const auto numbers = by_key(worker);
  EXPECT_EQ(numbers.at("key-2"), (std::vector<std::int64_t>{2, 6, 10, 14, 18, 2, 6, 10, 14, 18}));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM receipts r, unnest(r.attempts) a WHERE a <> 1"), 0);
  EXPECT_EQ(worker.stop(), 0);
}

}  // namespace
}  // namespace outfall::test
