// `outfall entry`: one entry in every place and state, and what moves it.

#include "tests/integration/operate_fixture.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class CliEntry : public OperateTest {
 protected:
  // As a running worker of the stream does.
  void serve(const std::string& stream) {
    sql_.query("SELECT register_streams(ARRAY[$1]), serve_streams(ARRAY[$1])", {stream});
  }
  // What `entry show` writes for people.
  [[nodiscard]] std::string shown(EntryId id) const {
    const Finished finished = outfall({"entry", "show", "--id", std::to_string(id)});
    EXPECT_CODE(finished, 0);
    return finished.output;
  }
};

TEST_F(CliEntry, APendingEntryIsFoundByEitherId) {
  const EntryId id = enqueue("orders", "k1");
  const std::string envelope = envelope_of(id);
  const boost::json::object explained = done({"entry", "show", envelope});
  EXPECT_EQ(explained.at("found"), true);
  EXPECT_EQ(explained.at("entries").at(0).at("entry_id"), id);
  EXPECT_EQ(text_of(done({"entry", "show", "--id", std::to_string(id)}), "envelope_id"), envelope);
  EXPECT_THAT(shown(id), AllOf(HasSubstr("envelope " + envelope), HasSubstr("key       k1"),
                               HasSubstr("status    pending (100)"),
                               HasSubstr("next: start a worker (`outfall run`)")));
}

TEST_F(CliEntry, ADeliveredEntryTellsWhereItWent) {
  const EntryId id = enqueue("orders");
  Worker worker(database_.dsn());
  worker.deliver(worker.claim("orders"), {"3:1234"});
  EXPECT_THAT(shown(id),
              AllOf(HasSubstr("delivered as  noop record 3:1234"), Not(HasSubstr("next:"))));
}

TEST_F(CliEntry, AHeldEntryNamesWhatItWaitsForAndANextStep) {
  serve("orders");
  const EntryId first = enqueue("orders", "k");
  dead_letter_all("orders", "http.422", true);
  const EntryId second = enqueue("orders", "k");
  Worker worker(database_.dsn());
  EXPECT_TRUE(worker.claim("orders").entries.empty());
  EXPECT_THAT(shown(second),
              AllOf(HasSubstr("dead letter " + std::to_string(first) + " of its key"),
                    HasSubstr("next: `outfall entry show " + envelope_of(first) + "`")));
  EXPECT_THAT(shown(first), AllOf(HasSubstr("reason         http.422: it said no"),
                                  HasSubstr("next: `outfall dead-letters replay --id ")));
}

TEST_F(CliEntry, WhatNobodyKnowsEndsWith69) {
  EXPECT_EQ(refused(69, {"entry", "show", "01a1fd49-71f7-76e8-9e1d-f3bdc69e8b5f"}).at("code"),
            "unavailable");
  refused(69, {"entry", "show", "--id", "77"});
  refused(69, {"entry", "retry", "--id", "77", "--reason", "x"});
  const EntryId id = enqueue("orders");
  refused(69, {"entry", "show", envelope_of(id), "--stream", "mails"});
}

TEST_F(CliEntry, WrongArgumentsEndWith64) {
  const std::string id = std::to_string(enqueue("orders"));
  refused(64, {"entry"});
  refused(64, {"entry", "show"});
  refused(64, {"entry", "show", "not-an-id"});
  refused(64, {"entry", "show", envelope_of(1), "--id", id});
  for (const char* wrong : {"first", "99999999999999999999", "-1", "1.5", ""}) {
    EXPECT_EQ(text_of(refused(64, {"entry", "show", "--id", wrong}), "message"),
              "--id: \"" + std::string(wrong) + "\" is not an entry id");
  }
  refused(64, {"entry", "discard", "--id", id});
  refused(64, {"entry", "discard", "--id", id, "--reason", " "});
  EXPECT_EQ(status_of(std::stoll(id)), "pending");
}

TEST_F(CliEntry, ALeasedEntryIsRefusedForNow) {
  const EntryId id = enqueue("orders");
  Worker worker(database_.dsn(), "worker-7");
  const LeasedBatch batch = worker.claim("orders");
  for (const char* command : {"retry", "dead-letter", "discard"}) {
    const auto error =
        refused(75, {"entry", command, "--id", std::to_string(id), "--reason", "stuck"});
    EXPECT_EQ(text_of(error, "code"), "temporary");
    EXPECT_THAT(text_of(error, "message"), HasSubstr("is leased by worker-7 until "));
  }
  EXPECT_THAT(shown(id), HasSubstr("leased by  worker-7 (worker "));
  worker.deliver(batch);
  EXPECT_EQ(status_of(id), "delivered");
}

TEST_F(CliEntry, RetryMakesAWaitingEntryDueAndRecordsWho) {
  serve("orders");
  const EntryId id = enqueue("orders");
  Worker worker(database_.dsn());
  worker.settle_all(worker.claim("orders"), EntryStatus::retryable_failure, std::chrono::hours(1),
                    "http.503");
  EXPECT_THAT(shown(id), HasSubstr("next: `outfall entry retry "));
  const boost::json::object record =
      done({"entry", "retry", envelope_of(id), "--reason", "sink is back", "--actor", "anna"});
  EXPECT_EQ(text_of(record, "action"), "retry_entry");
  EXPECT_EQ(text_of(record, "actor"), "anna");
  EXPECT_EQ(record.at("entry_id"), id);
  EXPECT_EQ(text_of(record.at("detail"), "last_error_code"), "http.503");
  EXPECT_EQ(sql_.value("SELECT actor || ': ' || reason FROM operations"), "anna: sink is back");
  EXPECT_EQ(ids_of(worker.claim("orders")), std::vector{id});
}

TEST_F(CliEntry, RetryOfAHeldEntryDoesNotSayThatItIsDue) {
  serve("orders");
  enqueue("orders", "k");
  dead_letter_all("orders", "http.422", true);
  const EntryId held = enqueue("orders", "k");
  Worker worker(database_.dsn());
  EXPECT_TRUE(worker.claim("orders").entries.empty());
  const Finished retried =
      outfall({"entry", "retry", "--id", std::to_string(held), "--reason", "impatience"});
  EXPECT_CODE(retried, 0);
  EXPECT_THAT(retried.output,
              AllOf(HasSubstr(" is held, and goes on as soon as nothing is before it\n"),
                    HasSubstr("` tells what it waits for\n"), Not(HasSubstr("is due now"))));
  EXPECT_TRUE(worker.claim("orders").entries.empty());
  EXPECT_EQ(status_of(held), "held");
}

TEST_F(CliEntry, ADiscardedEntryStillTellsItsWholeStory) {
  const EntryId id = enqueue("orders", "k");
  dead_letter_all("orders", "http.422");
  const std::string number = std::to_string(id);
  done({"dead-letters", "replay", "--id", number, "--reason", "mended", "--actor", "ben"});
  dead_letter_all("orders", "http.422");
  done({"dead-letters", "discard", "--id", number, "--reason", "hopeless", "--actor", "ana"});
  EXPECT_THAT(shown(id), AllOf(HasSubstr("discarded by ana (hopeless)\n  replayed  20"),
                               HasSubstr(" by ben: mended (was http.422)\n"),
                               HasSubstr("discard_dead_letter by ana: hopeless (entry " + number +
                                         " of orders, order.placed, key k, ")));
}

TEST_F(CliEntry, TheActorIsTheVariableElseTheUser) {
  enqueue("orders");
  enqueue("orders");
  EXPECT_CODE(outfall({"entry", "discard", "--id", "1", "--reason", "x"},
                      {{"OUTFALL_ACTOR", "release-job"}}),
              0);
  EXPECT_EQ(sql_.value("SELECT actor FROM operations WHERE entry_id = 1"), "release-job");
  EXPECT_EQ(
      refused(64, {"entry", "discard", "--id", "2", "--reason", "x", "--actor", " "}).at("message"),
      "--actor: it names nobody");
  refused(64, {"entry", "discard", "--id", "2", "--reason", "x", "--actor", ""});
  const Finished blank =
      outfall({"entry", "discard", "--id", "2", "--reason", "x"}, {{"OUTFALL_ACTOR", " "}});
  EXPECT_CODE(blank, 64);
  EXPECT_THAT(blank.error_output, testing::StartsWith("outfall: OUTFALL_ACTOR names nobody\n"));
  EXPECT_EQ(status_of(2), "pending");
  EXPECT_CODE(outfall({"entry", "discard", "--id", "2", "--reason", "x"}), 0);
  const Finished user = run({"id", "-un"});
  EXPECT_EQ(sql_.value("SELECT actor FROM operations WHERE entry_id = 2") + "\n", user.output);
}

TEST_F(CliEntry, DeadLetteringCanHoldTheKeyAndDiscardingIsForGood) {
  const EntryId first = enqueue("orders", "k");
  const EntryId second = enqueue("orders", "k");
  const Finished moved = outfall({"entry", "dead-letter", "--id", std::to_string(first),
                                  "--hold-key", "--reason", "blocks the key"});
  EXPECT_CODE(moved, 0);
  EXPECT_THAT(moved.output, AllOf(HasSubstr("is a dead letter now\n"), Not(HasSubstr("note:")),
                                  HasSubstr("next: `outfall dead-letters replay --id 1 ")));
  Worker worker(database_.dsn());
  EXPECT_TRUE(worker.claim("orders").entries.empty()) << "its key is held";
  EXPECT_EQ(
      text_of(refused(64, {"entry", "discard", "--id", std::to_string(first), "--reason", "x"}),
              "hint"),
      "`outfall dead-letters replay` returns it to its stream, `outfall dead-letters "
      "discard` removes it.");

  const std::string keyless = std::to_string(enqueue("orders"));
  EXPECT_THAT(
      outfall({"entry", "dead-letter", "--id", keyless, "--hold-key", "--reason", "x"}).output,
      HasSubstr("note: it has no key, so --hold-key holds nothing\n"));

  const std::string envelope = envelope_of(second);
  done({"entry", "discard", "--id", std::to_string(second), "--reason", "test data"});
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries"), 0);
  EXPECT_THAT(shown(second), AllOf(HasSubstr("discarded by "), HasSubstr("(test data)")));
  EXPECT_EQ(done({"entry", "show", envelope}).at("found"), false);
}

// Nothing claims from a paused stream of one destination, so nothing marks its entries.
TEST_F(CliEntry, AnEntryThatWaitsForItsPausedDestinationSaysSo) {
  const EntryId id = enqueue("orders");
  const auto worker = run_worker();
  wait_until([&] { return status_of(id) == "delivered"; }, "the worker works");
  EXPECT_THAT(shown(id), Not(HasSubstr("breakers")));
  done({"destinations", "pause", "orders", "", "--reason", "the sink moves", "--actor", "ana"});
  const EntryId waiting = enqueue("orders");
  EXPECT_THAT(shown(waiting),
              AllOf(HasSubstr("lanes paused  '' since 20"), HasSubstr(" by ana: the sink moves\n"),
                    HasSubstr("next: `outfall destinations list --stream orders` shows what")));
  const boost::json::object story =
      done({"entry", "show", "--id", std::to_string(waiting)}).at("entries").at(0).as_object();
  EXPECT_EQ(story.at("stream_state").at("paused_destinations").at(0).at("paused_by"), "ana");
}

TEST_F(CliEntry, AnEntryBehindAnOpenBreakerIsLedToTheWorkerThatKnows) {
  configure(
      "[streams.orders]\nemitter = \"away\"\n[emitters.away]\nkind = \"noop\"\n"
      "fail = { destination_unavailable = \"1\" }\n");
  const EntryId id = enqueue("orders");
  const auto worker = run_worker();
  worker->wait_for_output("destination unavailable");
  wait_until(
      [&] {
        return shown(id).find(
                   "next: if it goes on waiting, `/status` of a worker (admin.listen) "
                   "shows under `breakers` whether its destination does not answer") !=
               std::string::npos;
      },
      "it is due and not leased for a probe");
}

TEST_F(CliEntry, AnEnvelopeInTwoStreamsNeedsItsStream) {
  const EntryId id = enqueue("orders");
  const std::string envelope = envelope_of(id);
  sql_.query("INSERT INTO entries (stream, type, envelope_id) VALUES ('mails', 'm', $1)",
             {envelope});
  EXPECT_THAT(text_of(refused(64, {"entry", "discard", envelope, "--reason", "x"}), "hint"),
              HasSubstr("--stream"));
  EXPECT_EQ(done({"entry", "show", envelope}).at("entries").as_array().size(), 2U);
  EXPECT_EQ(done({"entry", "show", envelope, "--stream", "mails"}).at("entries").as_array().size(),
            1U);
  done({"entry", "discard", envelope, "--stream", "mails", "--reason", "x"});
  EXPECT_EQ(status_of(id), "pending");
}

TEST_F(CliEntry, WhatATerminalWouldObeyIsEscaped) {
  const EntryId id = enqueue("orders", "k\x1b[2J\n\"ü\"");
  EXPECT_THAT(shown(id), AllOf(HasSubstr("k\\x1b[2J\\n\"ü\""), Not(HasSubstr("\x1b"))));
}

}  // namespace
}  // namespace outfall::test
