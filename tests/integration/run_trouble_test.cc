// Goal: statements that the database cannot carry out, on connections that live, are asked again at
// a measured pace, and what an operator is told of them is true.
// Method: a real worker, and triggers that fail as the server does.
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

}  // namespace
}  // namespace outfall::test
