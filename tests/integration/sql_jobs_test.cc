// Goal: a job moves each dead letter once, whoever dies and however many run it, and keeps its rate
// and its bound for all of them together.

#include "tests/integration/sql_fixture.h"

namespace outfall::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kJobsWho = ", p_actor => 'ana', p_reason => 'fixed')";

class SqlJobs : public SqlTest {
 protected:
  void dead_letters(int count) {
    sql_.query(
        "INSERT INTO dead_letters (id, envelope_id, created_at, attempts, replays, stream, type, "
        "key, reason_code) SELECT nextval('entries_id_seq'), new_envelope_id(), clock_timestamp(), "
        "1, 0, 'orders', 't', 'k', 'http.422' FROM generate_series(1, $1::int)",
        {std::to_string(count)});
  }
  std::int64_t begin(const std::string& more = {}) {
    return sql_.number("SELECT (create_job('replay', p_stream => 'orders'" + more + kJobsWho +
                       " ->> 'job_id')::bigint");
  }
  // state, moved, wait_ms > 0
  PgRow run(const std::string& arguments = "1") {
    return sql_.query("SELECT state, moved, wait_ms > 0 FROM run_job(" + arguments + ")").at(0);
  }
  std::int64_t replayed() { return sql_.number("SELECT count(*) FROM replays"); }
};

// A process that dies in the middle of a chunk, or whose chunk fails, leaves the job where it was.
TEST_F(SqlJobs, AChunkAndTheJobsPlaceAreOneTransaction) {
  dead_letters(1500);
  begin();
  PgClient victim = connect();
  victim.exec("BEGIN");
  victim.query("SELECT * FROM run_job(1)");
  EXPECT_EQ(victim.number("SELECT count(*) FROM entries"), 1000);
  sql_.query("SELECT pg_terminate_backend($1)", {std::to_string(victim.backend_pid())});
  EXPECT_EQ(run(), (PgRow{"running", "1000", "f"}));
  EXPECT_EQ(run(), (PgRow{"finished", "500", "f"}));
  EXPECT_EQ(run(), (PgRow{"finished", "0", "f"}));
  EXPECT_EQ(sql_.query("SELECT count(*), count(DISTINCT entry_id), min(job_id) FROM replays"),
            (PgRows{{"1500", "1500", "1"}}));
  EXPECT_EQ(sql_.query("SELECT done, skipped, last_id, total, ended_at IS NOT NULL FROM jobs"),
            (PgRows{{"1500", "0", "1500", "1500", "t"}}));
}

TEST_F(SqlJobs, TwoThatRunOneJobTakeTurns) {
  dead_letters(2000);
  begin();
  PgClient one = connect();
  PgClient two = connect();
  one.exec("BEGIN");
  one.query("SELECT * FROM run_job(1)");
  two.start("SELECT moved, last_id FROM run_job(1)");
  wait_until([&] { return sql_.number("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0; },
             "the second to wait");
  one.exec("COMMIT");
  EXPECT_EQ(two.finish(), (PgRows{{"1000", "2000"}}));
  EXPECT_EQ(sql_.number("SELECT count(DISTINCT entry_id) FROM replays"), 2000);
}

TEST_F(SqlJobs, WhoeverResumesWithAnotherRunnerTakesItOver) {
  const std::string first = "'00000000-0000-4000-8000-000000000001'";
  const std::string second = "'00000000-0000-4000-8000-000000000002'";
  dead_letters(1500);
  begin(", p_runner => " + first);
  EXPECT_EQ(run("1, " + first), (PgRow{"running", "1000", "f"}));
  sql_.query("SELECT resume_job(1, " + second + kJobsWho);
  EXPECT_EQ(run("1, " + first), (PgRow{"taken_over", "0", "f"}));
  EXPECT_EQ(run("1, " + second), (PgRow{"finished", "500", "f"}));
}

TEST_F(SqlJobs, TheRateIsThatOfTheJobAndNotMadeUpForAfterAPause) {
  dead_letters(100);
  begin(", p_per_second => 40");
  EXPECT_EQ(run(), (PgRow{"running", "10", "f"}));
  EXPECT_EQ(run(), (PgRow{"running", "0", "t"}));
  sql_.exec("UPDATE jobs SET due_at = due_at - interval '1 hour'");
  EXPECT_EQ(run(), (PgRow{"running", "10", "f"}));
  EXPECT_EQ(run(), (PgRow{"running", "0", "t"}));
  EXPECT_EQ(replayed(), 20);
}

TEST_F(SqlJobs, TheBoundCountsEntriesThatAreNotFinished) {
  dead_letters(5);
  begin(", p_in_flight => 2");
  EXPECT_EQ(run(), (PgRow{"running", "2", "f"}));
  EXPECT_EQ(run(), (PgRow{"running", "0", "t"}));
  Worker worker(database_.dsn());
  worker.deliver(worker.claim("orders", 1));
  EXPECT_EQ(run(), (PgRow{"running", "1", "f"}));
  EXPECT_EQ(run(), (PgRow{"running", "0", "t"}));
  EXPECT_THAT(worker.drain("orders"), ElementsAre(2, 3));
  EXPECT_EQ(run(), (PgRow{"finished", "2", "f"}));
}

TEST_F(SqlJobs, ALimitEndsItAndSaysWhetherThereIsMore) {
  dead_letters(5);
  begin(", p_limit => 3");
  EXPECT_EQ(run(), (PgRow{"finished", "3", "f"}));
  EXPECT_EQ(sql_.query("SELECT more, total, last_id FROM jobs"), (PgRows{{"t", "3", "3"}}));
}

TEST_F(SqlJobs, WhatDiesLaterIsNoPartOfIt) {
  dead_letters(1);
  begin();
  dead_letters(1);
  EXPECT_EQ(run(), (PgRow{"finished", "1", "f"}));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 1);
}

// One producer's open transaction must not end a job of a million.
TEST_F(SqlJobs, AChunkThatMeetsAnOpenTransactionIsTriedAgainLater) {
  for (const std::string action : {"replay", "discard"}) {
    dead_letters(1);
    const std::string job = sql_.value("SELECT create_job('" + action + "', p_stream => 'orders'" +
                                       kJobsWho + " ->> 'job_id'");
    PgClient other = connect();
    other.exec("BEGIN");
    other.query("SELECT FROM dead_letters FOR UPDATE");
    sql_.exec("SET statement_timeout = '30s'");
    EXPECT_EQ(sql_.query("SELECT state, moved, wait_ms > 0, waits_for LIKE '% is locked by %' FROM "
                         "run_job(" +
                         job + ")"),
              (PgRows{{"running", "0", "t", "t"}}));
    // Not at once, so that the claims of its streams have their turn.
    other.exec("COMMIT");
    EXPECT_EQ(run(job), (PgRow{"running", "0", "t"}));
    sql_.exec("UPDATE jobs SET due_at = due_at - interval '1 hour'");
    EXPECT_EQ(run(job), (PgRow{"finished", "1", "f"})) << action;
  }
}

TEST_F(SqlJobs, PausedAndAbortedNothingMovesAndEachIsRecorded) {
  dead_letters(1);
  begin();
  sql_.query(std::string("SELECT pause_job(1") + kJobsWho);
  EXPECT_EQ(run(), (PgRow{"paused", "0", "f"}));
  sql_.query(std::string("SELECT resume_job(1") + kJobsWho);
  sql_.query(std::string("SELECT abort_job(1") + kJobsWho);
  EXPECT_EQ(run(), (PgRow{"aborted", "0", "f"}));
  EXPECT_EQ(refusal(sql_, std::string("SELECT resume_job(1") + kJobsWho).sqlstate, "OF004");
  EXPECT_EQ(sql_.value("SELECT string_agg(action, ' ' ORDER BY change_id) FROM job_changes WHERE "
                       "actor = 'ana' AND reason = 'fixed' AND database_user = session_user"),
            "create pause resume abort");
  EXPECT_EQ(replayed(), 0);
}

TEST_F(SqlJobs, ARequestThatLacksSomethingIsRefused) {
  for (const std::string arguments : {"'repeat', p_stream => 'orders'", "'replay', p_type => 't'",
                                      "'replay', p_stream => 'orders', p_limit => 0",
                                      "'replay', p_stream => 'orders', p_per_second => 0",
                                      "'replay', p_stream => 'orders', p_per_second => 'NaN'",
                                      "'replay', p_stream => 'orders', p_in_flight => 10001",
                                      "'discard', p_stream => 'orders', p_in_flight => 1"}) {
    EXPECT_EQ(refusal(sql_, "SELECT create_job(" + arguments + kJobsWho).sqlstate, "OF005")
        << arguments;
  }
  EXPECT_EQ(
      refusal(sql_, "SELECT create_job('replay', p_stream => 'orders', p_actor => 'ana')").sqlstate,
      "OF005");
  EXPECT_EQ(refusal(sql_, "SELECT run_job(1)").sqlstate, "OF002");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM jobs"), 0);
}

}  // namespace
}  // namespace outfall::test
