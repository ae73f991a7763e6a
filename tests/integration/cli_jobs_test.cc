// `outfall dead-letters jobs`: pause, resume and abort by another process, two that run one job,
// what is seen while it runs, and what is left afterwards.

#include <csignal>

#include <fmt/format.h>

#include "tests/integration/operate_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class CliJobs : public OperateTest {
 protected:
  void dead_letters(int count, const std::string& code = "http.422") {
    sql_.query(
        "INSERT INTO entries (stream, type, key, payload) SELECT 'orders', 't', 'k' || n % 3, "
        "'{}' FROM generate_series(1, $1) n",
        {std::to_string(count)});
    dead_letter_all("orders", code);
  }
  [[nodiscard]] std::int64_t replayed() { return sql_.number("SELECT count(*) FROM replays"); }
  [[nodiscard]] std::string state() {
    return sql_.value("SELECT state FROM jobs WHERE job_id = 1");
  }
  // A replay of all that takes seconds, once it has begun.
  [[nodiscard]] std::unique_ptr<ChildProcess> slow_replay(const std::string& rate = "20/s") {
    auto replay = start({"dead-letters", "replay", "--stream", "orders", "--rate", rate, "--reason",
                         "mended", "--actor", "anna"});
    wait_until([&] { return replayed() > 0; }, "the first chunk is through");
    return replay;
  }
};

TEST_F(CliJobs, ADryRunBreaksDownByReasonAndKeyAndLeavesNoJob) {
  dead_letters(4);
  dead_letters(3, "http.500");
  const boost::json::object all =
      done({"dead-letters", "replay", "--stream", "orders", "--dry-run"});
  EXPECT_EQ(all.at("replayed"), 7);
  EXPECT_EQ(boost::json::serialize(all.at("by_reason")),
            R"([{"count":4,"reason_code":"http.422"},{"count":3,"reason_code":"http.500"}])");
  EXPECT_EQ(all.at("keys"), 3);
  EXPECT_EQ(boost::json::serialize(all.at("by_key").at(0)),
            R"({"key":"k1","count":3,"stream":"orders"})");
  const boost::json::object some =
      done({"dead-letters", "discard", "--stream", "orders", "--limit", "2", "--dry-run"});
  EXPECT_EQ(some.at("discarded"), 2);
  EXPECT_EQ(some.at("more"), true);
  EXPECT_THAT(outfall({"dead-letters", "replay", "--stream", "orders", "--dry-run"}).output,
              AllOf(HasSubstr("7 dead letters would be replayed\n"), HasSubstr("http.422"),
                    HasSubstr("http.500"), HasSubstr("k1"), HasSubstr("--until ")));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM jobs"), 0);
}

TEST_F(CliJobs, AnotherProcessPausesItAndAThirdResumesItWhereItWas) {
  dead_letters(40);
  const auto replay = slow_replay();
  const boost::json::object paused = done(
      {"dead-letters", "jobs", "pause", "1", "--actor", "bob", "--reason", "the sink is slow"});
  EXPECT_EQ(paused.at("state"), "paused");
  EXPECT_EQ(replay->wait().code, 75) << replay->error_output();
  EXPECT_THAT(replay->output(), AllOf(HasSubstr("paused by bob: the sink is slow: "),
                                      HasSubstr("`outfall dead-letters jobs resume 1 --actor "
                                                "anna --reason mended` goes on")));
  const std::int64_t before = replayed();
  EXPECT_LT(before, 40);

  // What has failed again meanwhile is no part of the job.
  dead_letter_all("orders", "http.422");
  const boost::json::object resumed =
      done({"dead-letters", "jobs", "resume", "1", "--rate", "1000/s", "--reason", "it is back"});
  EXPECT_EQ(resumed.at("replayed"), 40);
  EXPECT_EQ(resumed.at("in_this_run"), 40 - before);
  EXPECT_EQ(resumed.at("state"), "finished");
  EXPECT_EQ(sql_.number("SELECT count(DISTINCT entry_id) FROM replays"), 40);
  EXPECT_EQ(replayed(), 40);

  const boost::json::object job = done({"dead-letters", "jobs", "show", "1"});
  EXPECT_EQ(job.at("dead_letters_again"), before);
  EXPECT_EQ(job.at("live"), 40 - before);
  ASSERT_EQ(job.at("changes").as_array().size(), 3U);
  EXPECT_EQ(job.at("changes").at(1).at("actor"), "bob");
  EXPECT_EQ(job.at("changes").at(1).at("reason"), "the sink is slow");
  EXPECT_EQ(job.at("changes").at(1).at("done"), before);
  EXPECT_THAT(outfall({"dead-letters", "jobs", "show", "1"}).output,
              AllOf(HasSubstr("finished"), HasSubstr("the sink is slow"), HasSubstr("it is back")));
}

TEST_F(CliJobs, AbortedItLeavesTheRestAndCannotGoOn) {
  dead_letters(40);
  const auto replay = slow_replay();
  done({"dead-letters", "jobs", "abort", "1", "--reason", "the wrong stream"});
  EXPECT_EQ(replay->wait().code, 75) << replay->error_output();
  EXPECT_THAT(replay->output(), AllOf(HasSubstr("aborted by "), HasSubstr("the wrong stream"),
                                      Not(HasSubstr("jobs resume"))));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 40 - replayed());
  for (const std::string what : {"resume", "pause", "abort"}) {
    EXPECT_THAT(
        text_of(refused(64, {"dead-letters", "jobs", what, "1", "--reason", "x"}), "message"),
        HasSubstr("job 1 is aborted since 20"));
  }
}

// The filter may be what was wrong.
TEST_F(CliJobs, OneThatWasAbortedDoesNotAdviseToReplayTheRest) {
  dead_letters(40);
  const auto text = slow_replay("5/s");
  done({"dead-letters", "jobs", "abort", "1", "--reason", "wrong filter"});
  EXPECT_EQ(text->wait().code, 75) << text->error_output();
  EXPECT_THAT(text->output(), AllOf(HasSubstr("aborted by "), Not(HasSubstr("--stream orders")),
                                    HasSubstr("`outfall dead-letters jobs show 1` says what was "
                                              "replayed; the rest are dead letters still")));

  const auto json = start({"dead-letters", "replay", "--stream", "orders", "--rate", "5/s",
                           "--reason", "mended", "--json"});
  const std::int64_t before = replayed();
  wait_until([&] { return replayed() > before; }, "the first chunk is through");
  done({"dead-letters", "jobs", "abort", "2", "--reason", "wrong filter"});
  EXPECT_EQ(json->wait().code, 75) << json->error_output();
  const boost::json::object report = boost::json::parse(json->output()).as_object();
  EXPECT_EQ(report.at("state"), "aborted");
  EXPECT_EQ(report.at("more"), true);
  EXPECT_FALSE(report.contains("resume")) << json->output();
}

TEST_F(CliJobs, TwoProcessesOfOneJobDoubleNothing) {
  dead_letters(60);
  const auto first = slow_replay("40/s");
  const boost::json::object second =
      done({"dead-letters", "jobs", "resume", "1", "--reason", "is it alive?"});
  EXPECT_EQ(second.at("state"), "finished");
  EXPECT_EQ(first->wait().code, 75) << first->error_output();
  EXPECT_THAT(first->output(), HasSubstr("another process runs the job now: "));
  EXPECT_EQ(replayed(), 60);
  EXPECT_EQ(sql_.number("SELECT count(DISTINCT entry_id) FROM replays"), 60);
  EXPECT_EQ(sql_.value("SELECT bool_and(n = 1) FROM (SELECT count(*) n FROM entries GROUP BY "
                       "envelope_id) x"),
            "t");
}

TEST_F(CliJobs, ADiscardIsAJobToo) {
  dead_letters(5);
  const boost::json::object result =
      done({"dead-letters", "discard", "--stream", "orders", "--rate", "1000/s", "--reason", "x"});
  EXPECT_EQ(result.at("discarded"), 5);
  EXPECT_EQ(result.at("job_id"), 1);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM operations WHERE job_id = 1 AND action = "
                        "'discard_dead_letter'"),
            5);
  EXPECT_EQ(boost::json::serialize(done({"dead-letters", "jobs", "show", "1"}).at("by_reason")),
            R"([{"count":5,"reason_code":"http.422"}])");
}

// With two in flight the next ones come only as fast as a worker delivers.
TEST_F(CliJobs, NoMoreThanSoManyAreInFlight) {
  dead_letters(6);
  const auto replay = start({"dead-letters", "replay", "--stream", "orders", "--in-flight", "2",
                             "--reason", "mended", "--json"});
  wait_until([&] { return replayed() == 2; }, "two are in flight");
  EXPECT_FALSE(holds_within([&] { return replayed() > 2; }, std::chrono::milliseconds{300}));
  {
    const auto worker = run_worker();
    EXPECT_EQ(replay->wait().code, 0) << replay->error_output();
    wait_until([&] { return sql_.number("SELECT count(*) FROM entries") == 0; }, "all delivered");
    worker->signal(SIGTERM);
    worker->wait();
  }
  EXPECT_EQ(replayed(), 6);
  EXPECT_LE(sql_.number("SELECT max(n) FROM (SELECT count(*) AS n FROM replays GROUP BY "
                        "xmin::text) x"),
            2);
}

TEST_F(CliJobs, LinesTellHowFarItIsWithoutATerminal) {
  dead_letters(20);
  const Finished text = outfall({"dead-letters", "replay", "--stream", "orders", "--rate", "20/s",
                                 "--progress", "100ms", "--limit", "10", "--reason", "x"});
  EXPECT_CODE(text, 0);
  EXPECT_THAT(text.error_output,
              AllOf(HasSubstr("job 1: 10 of 10 replayed (100 %), "), Not(HasSubstr("\x1b"))));
  EXPECT_THAT(text.output, HasSubstr("10 dead letters replayed\n"));
  const Finished json = outfall({"dead-letters", "replay", "--stream", "orders", "--rate", "20/s",
                                 "--progress", "100ms", "--reason", "x", "--json"});
  EXPECT_CODE(json, 0);
  const std::string line = json.error_output.substr(0, json.error_output.find('\n'));
  EXPECT_EQ(boost::json::parse(line).at("progress").at("total"), 10);
}

TEST_F(CliJobs, WhatItWaitsForIsSaidAtOnce) {
  dead_letters(2);
  PgClient other = connect();
  other.exec("BEGIN");
  other.query("SELECT FROM dead_letters FOR UPDATE");
  const auto replay = start({"dead-letters", "replay", "--stream", "orders", "--reason", "mended"});
  wait_until([&] { return !replay->error_output().empty(); }, "the job says what it waits for");
  EXPECT_THAT(replay->error_output(), AllOf(HasSubstr("job 1: 0 of 2 replayed (0 %), waits: "),
                                            HasSubstr(" is locked by ")));
  other.exec("COMMIT");
  EXPECT_EQ(replay->wait().code, 0) << replay->error_output();
  EXPECT_EQ(replayed(), 2);
}

TEST_F(CliJobs, ABarMovesOnATerminal) {
  dead_letters(20);
  const std::string command =
      fmt::format("{} dead-letters replay --stream orders --rate 20/s --reason x", OUTFALL_BINARY);
  const Finished seen =
      run({"script", "-qec", command, "/dev/null"}, {.working_folder = folder_.path()});
  EXPECT_CODE(seen, 0);
  EXPECT_THAT(seen.output, AllOf(HasSubstr("\r[#"), HasSubstr(" of 20 replayed, "),
                                 HasSubstr("\r\x1b[K20 dead letters replayed")));
}

TEST_F(CliJobs, TheListShowsTheNewestFirstAndOneThatNobodyRuns) {
  EXPECT_EQ(outfall({"dead-letters", "jobs", "list"}).output, "no jobs\n");
  dead_letters(40);
  slow_replay()->kill();
  done({"dead-letters", "discard", "--stream", "orders", "--limit", "1", "--reason", "x"});
  sql_.exec("UPDATE jobs SET ran_at = ran_at - interval '1 minute'");
  const boost::json::object list = done({"dead-letters", "jobs", "list"});
  EXPECT_EQ(list.at("jobs").at(0).at("job_id"), 2);
  EXPECT_EQ(list.at("jobs").at(1).at("state"), "running");
  EXPECT_EQ(list.at("jobs").at(1).at("interrupted"), true);
  const boost::json::object running = done({"dead-letters", "jobs", "list", "--state", "running"});
  EXPECT_EQ(running.at("jobs").as_array().size(), 1U);
  EXPECT_THAT(outfall({"dead-letters", "jobs", "list"}).output,
              AllOf(HasSubstr("interrupted"), HasSubstr("finished"), HasSubstr("mended")));
}

TEST_F(CliJobs, WhatIsWrongIsRefusedBeforeAnythingIsDone) {
  dead_letters(2);
  const auto replay = [](std::vector<std::string> more) {
    more.insert(more.begin(), {"dead-letters", "replay", "--stream", "orders", "--reason", "x"});
    return more;
  };
  refused(64, replay({"--rate", "0/s"}));
  refused(64, replay({"--in-flight", "0"}));
  refused(64, replay({"--in-flight", "10001"}));
  refused(64, replay({"--progress", "soon"}));
  refused(64,
          {"dead-letters", "discard", "--stream", "orders", "--in-flight", "2", "--reason", "x"});
  refused(64, {"dead-letters", "jobs", "resume", "1"});
  refused(64, {"dead-letters", "jobs", "pause", "--reason", "x"});
  refused(64, {"dead-letters", "jobs", "show", "first"});
  refused(64, {"dead-letters", "jobs", "list", "--state", "lost"});
  for (const std::string what : {"resume", "pause", "abort"}) {
    const boost::json::object error =
        refused(69, {"dead-letters", "jobs", what, "7", "--reason", "x"});
    EXPECT_EQ(error.at("message"), "there is no job 7");
    EXPECT_EQ(error.at("hint"), "`outfall dead-letters jobs list` shows those that there are.");
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM jobs"), 0);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 2);
}

}  // namespace
}  // namespace outfall::test
