// `outfall dead-letters list`, `show` and `discard`; cli_replay_test.cc has the replays.

#include <fmt/format.h>

#include "tests/integration/operate_fixture.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class CliDeadLetters : public OperateTest {
 protected:
  // Ids 1 to 4: orders of two types and keys with two reasons, and one mail.
  void SetUp() override {
    enqueue("orders", "a", "order.placed");
    enqueue("orders", "b", "order.placed");
    dead_letter_all("orders", "http.422");
    enqueue("orders", "a", "order.paid");
    dead_letter_all("orders", "http.410", true);
    enqueue("mails", {}, "mail.sent");
    dead_letter_all("mails", "http.422");
  }

  // The entry ids that `list` shows.
  std::vector<std::int64_t> listed(std::vector<std::string> filter) const {
    filter.insert(filter.begin(), {"dead-letters", "list"});
    std::vector<std::int64_t> ids;
    const boost::json::object list = done(std::move(filter));
    for (const auto& letter : list.at("dead_letters").as_array()) {
      ids.push_back(letter.at("entry_id").as_int64());
    }
    return ids;
  }
};

TEST_F(CliDeadLetters, ListNarrowsByEveryFilter) {
  EXPECT_THAT(listed({}), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(listed({"--stream", "orders"}), ElementsAre(1, 2, 3));
  EXPECT_THAT(listed({"--type", "order.placed"}), ElementsAre(1, 2));
  EXPECT_THAT(listed({"--key", "a"}), ElementsAre(1, 3));
  EXPECT_THAT(listed({"--reason-code", "http.422"}), ElementsAre(1, 2, 4));
  EXPECT_THAT(listed({"--id", "2", "--id", "4"}), ElementsAre(2, 4));
  EXPECT_THAT(listed({envelope_of(3), envelope_of(1)}), ElementsAre(1, 3));
  EXPECT_THAT(listed({"--after", "2"}), ElementsAre(3, 4));
  EXPECT_THAT(listed({"--stream", "orders", "--key", "nope"}), ElementsAre());
  EXPECT_EQ(refused(69, {"dead-letters", "list", "--stream", "nope"}).at("message"),
            "no stream is named 'nope'");
  EXPECT_EQ(refused(64, {"dead-letters", "list", "--id", "abc"}).at("message"),
            "--id: \"abc\" is not an entry id");
}

TEST_F(CliDeadLetters, ListTakesTimesAndHowLongAgo) {
  sql_.exec("UPDATE dead_letters SET dead_lettered_at = '2026-03-01 12:00:00+00' WHERE id = 1");
  sql_.exec("UPDATE dead_letters SET dead_lettered_at = now() - interval '3 hours' WHERE id = 2");
  EXPECT_THAT(listed({"--until", "2026-03-01T12:00:00Z"}), ElementsAre());
  EXPECT_THAT(listed({"--until", "2026-03-01T12:00:00.000001Z"}), ElementsAre(1));
  EXPECT_THAT(listed({"--since", "2026-03-01", "--until", "2026-03-01T14:00:01+02:00"}),
              ElementsAre(1));
  EXPECT_THAT(listed({"--since", "2026-03-01 12:00", "--until", "2h"}), ElementsAre(1, 2));
  EXPECT_THAT(listed({"--since", "2h"}), ElementsAre(3, 4));
  for (const char* wrong : {"yesterday", "2026-13-01", "2026-02-30", "2026-03-01T25:00", "12:00",
                            "2026-03-01T12:00:00Zulu", "2 h", "2026-3-1"}) {
    EXPECT_EQ(text_of(refused(64, {"dead-letters", "list", "--since", wrong}), "message"),
              fmt::format("--since: \"{}\" is not a time", wrong));
  }
}

TEST_F(CliDeadLetters, ASpanOfTimeThatIsNoneIsRefused) {
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"list"}, {"replay", "--dry-run"}, {"export"}}) {
    std::vector<std::string> all{"dead-letters"};
    all.insert(all.end(), command.begin(), command.end());
    for (const char* more : {"--stream", "orders", "--since", "2h", "--until", "3h"}) {
      all.emplace_back(more);
    }
    EXPECT_THAT(text_of(refused(64, all), "message"),
                AllOf(HasSubstr("--since 20"), HasSubstr(" is not before --until 20")))
        << command.front();
  }
  EXPECT_EQ(text_of(refused(64, {"dead-letters", "list", "--since", "2026-03-01", "--until",
                                 "2026-03-01T01:00+01:00"}),
                    "message"),
            "--since 2026-03-01T00:00:00Z is not before --until 2026-03-01T00:00:00Z");
}

TEST_F(CliDeadLetters, ListStopsAtItsLimitAndSaysHowToGoOn) {
  const boost::json::object two = done({"dead-letters", "list", "--limit", "2"});
  EXPECT_EQ(two.at("dead_letters").as_array().size(), 2U);
  EXPECT_EQ(two.at("more"), true);
  EXPECT_EQ(done({"dead-letters", "list", "--limit", "4"}).at("more"), false);
  const Finished text = outfall({"dead-letters", "list", "--stream", "orders", "--limit", "2"});
  EXPECT_THAT(text.output,
              HasSubstr("next: `outfall dead-letters list --stream orders --after 2` shows more"));
  refused(64, {"dead-letters", "list", "--limit", "0"});
  EXPECT_EQ(outfall({"dead-letters", "list", "--type", "nope"}).output,
            "no dead letter is as the filter says\n");
  refused(69, {"dead-letters", "list", "--stream", "nope"});
}

TEST_F(CliDeadLetters, ShowHasThePayloadAndThePayloadAloneIsExact) {
  const std::string payload = "{\"a\": 1,  \"a\": 2.50, \"text\": \"ü\\u0000\"}\n";
  const std::string id = sql_.value(
      "INSERT INTO entries (stream, type, headers, payload) VALUES ('orders', 't', "
      "'{\"traceparent\": \"00-x\"}', $1) RETURNING id",
      {payload});
  dead_letter_all("orders", "http.422");
  const boost::json::object letter = done({"dead-letters", "show", "--id", id});
  EXPECT_EQ(text_of(letter, "payload"), payload);
  EXPECT_EQ(letter.at("headers").at("traceparent"), "00-x");
  EXPECT_EQ(letter.at("last_error").at("code"), "http.422");
  EXPECT_EQ(outfall({"dead-letters", "show", "--id", id, "--payload"}).output, payload);
  EXPECT_THAT(outfall({"dead-letters", "show", "--id", id}).output,
              AllOf(HasSubstr("payload        {\"a\": 1,  \"a\": 2.50"),
                    HasSubstr("next: `outfall dead-letters replay --id " + id)));
}

TEST_F(CliDeadLetters, ABinaryPayloadIsBase64InJson) {
  const std::string id = sql_.value(
      "INSERT INTO entries (stream, type, payload_binary) VALUES ('orders', 't', '\\x00ff10') "
      "RETURNING id");
  dead_letter_all("orders", "http.422");
  EXPECT_EQ(done({"dead-letters", "show", "--id", id}).at("payload_base64"), "AP8Q");
  EXPECT_EQ(outfall({"dead-letters", "show", "--id", id, "--payload"}).output,
            std::string("\x00\xff\x10", 3));
}

TEST_F(CliDeadLetters, ShowOfWhatIsNoDeadLetterEndsWith69) {
  const EntryId live = enqueue("orders");
  EXPECT_EQ(refused(69, {"dead-letters", "show", "--id", std::to_string(live)}).at("hint"),
            "`outfall entry show` says what became of it.");
  refused(69, {"dead-letters", "show", "--id", "1", "--stream", "mails"});
}

TEST_F(CliDeadLetters, DiscardDeletesWhatItNamesAndReleasesTheKey) {
  const EntryId held = enqueue("orders", "a");
  Worker worker(database_.dsn());
  EXPECT_TRUE(worker.claim("orders").entries.empty());

  refused(64, {"dead-letters", "discard", "--reason", "x"});
  refused(64, {"dead-letters", "discard", "--stream", "orders"});
  EXPECT_EQ(done({"dead-letters", "discard", "--stream", "orders", "--dry-run"}).at("discarded"),
            3);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 4);

  const boost::json::object result = done({"dead-letters", "discard", "--stream", "orders",
                                           "--reason", "test data", "--actor", "anna"});
  EXPECT_EQ(result.at("discarded"), 3);
  EXPECT_EQ(result.at("more"), false);
  EXPECT_EQ(sql_.value("SELECT string_agg(id::text, ' ') FROM dead_letters"), "4");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM operations WHERE action = 'discard_dead_letter' "
                        "AND actor = 'anna' AND reason = 'test data'"),
            3);
  EXPECT_THAT(worker.drain("orders"), ElementsAre(held));
}

TEST_F(CliDeadLetters, ARoleThatMayNotIsToldWhichRoleMay) {
  sql_.exec("CREATE ROLE cli_reader LOGIN IN ROLE outbox_reader");
  configure_url(shared_postgres().dsn(database_.name(), "cli_reader"), one_stream());
  EXPECT_THAT(listed({"--stream", "orders"}), ElementsAre(1, 2, 3));
  EXPECT_THAT(
      text_of(refused(78, {"dead-letters", "discard", "--stream", "orders", "--reason", "x"}),
              "hint"),
      HasSubstr("outbox_operator"));
  sql_.exec("DROP ROLE cli_reader");
}

}  // namespace
}  // namespace outfall::test
