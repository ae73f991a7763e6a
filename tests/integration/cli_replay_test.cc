// `outfall dead-letters replay`: what comes back, in which order, how fast, and what an
// interruption leaves.

#include <csignal>

#include <fmt/format.h>

#include "tests/integration/operate_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class CliReplay : public OperateTest {
 protected:
  void dead_letters(int count) {
    sql_.query(
        "INSERT INTO entries (stream, type, key, payload) SELECT 'orders', 't', 'k' || n, "
        "'{}' FROM generate_series(1, $1) n",
        {std::to_string(count)});
    dead_letter_all("orders", "http.422");
  }
  [[nodiscard]] std::int64_t replayed() { return sql_.number("SELECT count(*) FROM replays"); }
};

TEST_F(CliReplay, ADryRunCountsAndTheReplayRecordsWhoAndWhy) {
  dead_letters(3);
  const boost::json::object dry =
      done({"dead-letters", "replay", "--stream", "orders", "--dry-run"});
  EXPECT_EQ(dry.at("replayed"), 3);
  EXPECT_EQ(dry.at("dry_run"), true);
  EXPECT_EQ(replayed(), 0);

  refused(64, {"dead-letters", "replay", "--stream", "orders"});
  refused(64, {"dead-letters", "replay", "--dry-run"});
  refused(64, {"dead-letters", "replay", "--stream", "orders", "--dry-run", "--rate", "fast"});

  const Finished text = outfall({"dead-letters", "replay", "--stream", "orders", "--limit", "2",
                                 "--actor", "anna", "--reason", "consumer's fixed"});
  EXPECT_CODE(text, 0);
  EXPECT_THAT(text.output,
              AllOf(HasSubstr("2 dead letters replayed\n"), HasSubstr("--after 2 --actor anna "
                                                                      "--reason 'consumer'\\''s "
                                                                      "fixed'`")));
  EXPECT_EQ(sql_.value("SELECT string_agg(DISTINCT actor || ' ' || reason, ',') FROM replays"),
            "anna consumer's fixed");
  const boost::json::object rest =
      done({"dead-letters", "replay", "--stream", "orders", "--reason", "x"});
  EXPECT_EQ(rest.at("replayed"), 1);
  EXPECT_EQ(rest.at("last_entry_id"), 3);
  EXPECT_EQ(rest.at("more"), false);
}

TEST_F(CliReplay, AStreamThatNobodyKnowsIsRefused) {
  dead_letters(1);
  for (const std::string command : {"replay", "discard"}) {
    const boost::json::object error =
        refused(69, {"dead-letters", command, "--stream", "nosuch", "--reason", "x"});
    EXPECT_EQ(error.at("message"), "no stream is named 'nosuch'");
    EXPECT_EQ(error.at("hint"), "There are: orders.");
    refused(69, {"dead-letters", command, "--stream", "nosuch", "--dry-run"});
    // One that is known may have nothing to do.
    done({"dead-letters", command, "--stream", "orders", "--type", "other", "--dry-run"});
  }
  // Known by its dead letter alone, which the filter leaves out.
  sql_.exec("UPDATE dead_letters SET stream = 'gone'");
  done({"dead-letters", "replay", "--stream", "gone", "--type", "other", "--dry-run"});
}

TEST_F(CliReplay, ADeadLetterThatIsNamedAndNotThereIsAnErrorAndNoEmptySuccess) {
  dead_letters(2);
  const std::string unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
  for (const std::string command : {"replay", "discard"}) {
    EXPECT_EQ(
        text_of(refused(69, {"dead-letters", command, "--id", "1", "--id", "77", "--reason", "x"}),
                "message"),
        "no dead letter has the entry id 77; nothing was changed");
    refused(69, {"dead-letters", command, "--id", "77", "--dry-run"});
    EXPECT_THAT(
        text_of(refused(69, {"dead-letters", command, unknown, "--reason", "x"}), "message"),
        HasSubstr("the envelope id " + unknown + ";"));
    // One that is there and that another filter leaves out is no mistake.
    const Finished none =
        outfall({"dead-letters", command, "--id", "1", "--type", "other", "--reason", "x"});
    EXPECT_CODE(none, 0);
    EXPECT_THAT(none.output, HasSubstr("0 dead letters "));
    EXPECT_THAT(none.output, HasSubstr("ed: none is as the filter says\n"));
  }
  refused(69, {"dead-letters", "export", "--id", "77"});
  EXPECT_EQ(replayed(), 0);

  // What was done with is not looked for when the rest is asked for.
  const boost::json::object first =
      done({"dead-letters", "replay", "--id", "1", "--id", "2", "--limit", "1", "--reason", "x"});
  EXPECT_THAT(text_of(first, "resume"), HasSubstr("--id 1 --id 2 --until"));
  EXPECT_EQ(
      done({"dead-letters", "replay", "--id", "1", "--id", "2", "--after", "1", "--reason", "x"})
          .at("replayed"),
      1);
}

TEST_F(CliReplay, AnEnvelopeThatIsInTheStreamAgainIsSkipped) {
  dead_letters(2);
  sql_.query("INSERT INTO entries (stream, type, envelope_id) VALUES ('orders', 't', $1)",
             {envelope_of(1)});
  const boost::json::object result =
      done({"dead-letters", "replay", "--stream", "orders", "--reason", "x"});
  EXPECT_EQ(result.at("replayed"), 1);
  EXPECT_EQ(result.at("skipped"), 1);
}

TEST_F(CliReplay, ThroughAWorkerTheHeldKeyGoesOnInOrder) {
  configure(one_stream("on_dead_letter = \"hold-key\""));
  const auto add = [&](const std::string& key, int n) {
    return sql_.value(
        "INSERT INTO entries (stream, type, key, subject, payload) VALUES ('orders', "
        "'t', $1, $2, '{}') RETURNING id",
        {key, std::to_string(n)});
  };
  add("k", 1);
  dead_letter_all("orders", "http.422", true);
  add("k", 2);
  add("other", 3);
  add("k", 4);
  {
    const auto worker = run_worker();
    wait_until([&] { return delivered("subject").size() == 1; }, "the other key is delivered");
    wait_until([&] { return status_of(2) == "held" && status_of(4) == "held"; },
               "the later entries of the key are held");
    EXPECT_THAT(delivered("subject"), ElementsAre("3"));
    EXPECT_EQ(done({"dead-letters", "replay", "--id", "1", "--reason", "mended"}).at("replayed"),
              1);
    wait_until([&] { return delivered("subject").size() == 4; }, "the key goes on");
    worker->signal(SIGTERM);
    EXPECT_EQ(worker->wait().code, 0) << worker->error_output();
  }
  EXPECT_THAT(delivered("subject"), ElementsAre("3", "1", "2", "4"));
  EXPECT_THAT(outfall({"entry", "show", "--id", "1"}).output,
              AllOf(HasSubstr("delivered at"), HasSubstr("mended (was http.422)")));
}

TEST_F(CliReplay, ARateIsKept) {
  dead_letters(10);
  const boost::json::object result =
      done({"dead-letters", "replay", "--stream", "orders", "--rate", "20/s", "--reason", "x"});
  EXPECT_EQ(result.at("replayed"), 10);
  // Chunks of five, so that the second starts a quarter of a second after the first.
  EXPECT_EQ(sql_.value("SELECT max(replayed_at) - min(replayed_at) >= interval '200 ms' "
                       "AND count(DISTINCT xmin::text) = 2 FROM replays"),
            "t");
}

TEST_F(CliReplay, AnInterruptionEndsBetweenChunksAndTheRestIsResumed) {
  dead_letters(20);
  // The command that resumes it works as it is printed: it names the configuration that was named.
  std::filesystem::rename(folder_ / "outfall.toml", folder_ / "our shop.toml");
  const auto replay = start({"dead-letters", "replay", "--stream", "orders", "--rate", "8/s",
                             "--reason", "mended `it`", "--json", "--config", "our shop.toml"});
  wait_until([&] { return replayed() >= 4; }, "two chunks are through");
  replay->signal(SIGINT);
  EXPECT_EQ(replay->wait().code, 75) << replay->error_output();
  const boost::json::value result = boost::json::parse(replay->output());
  EXPECT_EQ(result.at("interrupted"), true);
  EXPECT_EQ(result.at("more"), true);
  EXPECT_EQ(result.at("replayed"), replayed());
  EXPECT_LT(replayed(), 20);

  // One that has failed again meanwhile is not part of it.
  dead_letter_all("orders", "http.422");
  std::string resume(result.at("resume").as_string());
  ASSERT_EQ(resume.substr(0, 8), "outfall ");
  resume = std::string(OUTFALL_BINARY) + resume.substr(7);
  const std::int64_t before = replayed();
  const Finished resumed = run({"bash", "-c", resume}, {.working_folder = folder_.path()});
  EXPECT_CODE(resumed, 0);
  EXPECT_EQ(sql_.number("SELECT count(DISTINCT entry_id) FROM replays"), 20);
  EXPECT_EQ(replayed(), 20) << "each once; " << before << " before the resumption";
}

TEST_F(CliReplay, AFailureOnTheWaySaysHowFarItGot) {
  dead_letters(12);
  const auto replay = start({"dead-letters", "replay", "--stream", "orders", "--rate", "8/s",
                             "--reason", "mended", "--json"});
  wait_until([&] { return replayed() >= 2; }, "a chunk is through");
  sql_.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
      "current_database() AND application_name = 'outfall command'");
  EXPECT_EQ(replay->wait().code, 69) << replay->error_output();
  const boost::json::value error = boost::json::parse(replay->error_output()).at("error");
  EXPECT_THAT(text_of(error, "message"), HasSubstr("dead letters replayed: "));
  EXPECT_THAT(text_of(error, "hint"), HasSubstr("`outfall dead-letters jobs resume 1 --actor "));
  EXPECT_EQ(replay->output(), "");
}

}  // namespace
}  // namespace outfall::test
