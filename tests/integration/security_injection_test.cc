// SQL injection: everything that somebody outside can write into an entry or a command line is
// data, comes out as it went in, and changes nothing else.

#include "tests/integration/security_injection.h"

#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::ElementsAre;
using testing::SizeIs;
using testing::UnorderedElementsAreArray;

TEST_F(SecurityInjection, AttributesOfEntriesArriveAsTheyAre) {
  const std::string before = inventory();
  for (const std::string& text : kTexts) add(text);
  const auto worker = run_worker();
  wait_until([&] { return delivered("type").size() == kTexts.size(); }, "all are delivered");
  for (const char* field :
       {"type", "source", "subject", "partitionkey", "dataschema", "ext", "data"}) {
    EXPECT_THAT(delivered(field), UnorderedElementsAreArray(kTexts)) << field;
  }
  std::vector<std::string> types;
  for (const std::string& text : kTexts) types.push_back(json_type(text));
  EXPECT_THAT(delivered("datacontenttype"), UnorderedElementsAreArray(types));
  wait_until([&] { return sql_.number("SELECT count(*) FROM entries") == 0; }, "all are settled");
  std::vector<std::string> keys;
  for (const PgRow& row : sql_.query("SELECT key FROM delivered WHERE type = key")) {
    keys.push_back(*row[0]);
  }
  EXPECT_THAT(keys, UnorderedElementsAreArray(kTexts));
  EXPECT_EQ(inventory(), before);
}

TEST_F(SecurityInjection, WhatFailsIsKeptParkedAndReplayedAsItIs) {
  const std::string before = inventory();
  Worker worker(database_.dsn());
  worker.lane = "subject";
  for (const std::string& text : kTexts) {
    const EntryId head = add(text);
    worker.settle_all(worker.claim("orders"), EntryStatus::retryable_failure, Milliseconds{0},
                      text);
    EXPECT_EQ(
        sql_.value("SELECT last_error_code FROM entries WHERE id = $1", {std::to_string(head)}),
        text);
    worker.settle_all(worker.claim("orders"), EntryStatus::dead_lettered, Milliseconds{0}, text,
                      true);
    const EntryId next = add(text);
    EXPECT_THAT(worker.drain("orders", true), SizeIs(0)) << "behind a dead letter of its key";
    EXPECT_EQ(status_of(next), "held");
  }
  EXPECT_EQ(sql_.number("SELECT count(DISTINCT value) FROM holds"),
            static_cast<std::int64_t>(kTexts.size()));
  for (const std::string& text : kTexts) {
    const boost::json::object replayed = done({"dead-letters", "replay", "--stream", "orders",
                                               "--type", text, "--reason", text, "--actor", text});
    EXPECT_EQ(replayed.at("replayed"), 1) << text;
    EXPECT_EQ(sql_.number("SELECT count(*) FROM replays WHERE reason = $1 AND actor = $1", {text}),
              1);
  }
  EXPECT_THAT(worker.drain("orders", true), SizeIs(2 * kTexts.size()));
  EXPECT_EQ(inventory(), before);
}

TEST_F(SecurityInjection, ArgumentsOfCommandsAreData) {
  const std::string before = inventory();
  enqueue("orders", "k");
  for (const std::string& text : kFewTexts) {
    add(text);
    dead_letter_all("orders", text);
  }
  const auto found = [&](const char* option, const std::string& text) {
    return done({"dead-letters", "list", option, text}).at("dead_letters").as_array().size();
  };
  for (const std::string& text : kFewTexts) {
    EXPECT_EQ(found("--type", text), 1U) << text;
    EXPECT_EQ(found("--key", text), 1U) << text;
    refused(69, {"dead-letters", "list", "--stream", text});
    EXPECT_EQ(found("--reason-code", text), text == kFewTexts.front() ? 2U : 1U) << text;
    for (const char* option : {"--since", "--id", "--after", "--limit"}) {
      EXPECT_EQ(outfall({"dead-letters", "list", option, text}).status.code, 64) << text;
    }
    EXPECT_EQ(outfall({"entry", "show", text}).status.code, 64) << text;
    refused(69, {"streams", "pause", text, "--reason", "x"});

    done({"destinations", "pause", "orders", text, "--reason", text, "--actor", text});
    const boost::json::value listed = done({"destinations", "list"}).at("destinations");
    ASSERT_EQ(listed.as_array().size(), 1U) << text;
    EXPECT_EQ(text_of(listed.at(0), "lane"), text);
    EXPECT_EQ(text_of(listed.at(0), "paused_reason"), text);
    done({"destinations", "resume", "orders", text, "--reason", text, "--actor", text});
    done({"streams", "pause", "orders", "--reason", text, "--actor", text});
    done({"streams", "resume", "orders", "--reason", text, "--actor", text});
    EXPECT_EQ(
        sql_.number("SELECT count(*) FROM operations WHERE actor = $1 AND reason = $1", {text}), 4);
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"),
            static_cast<std::int64_t>(kFewTexts.size()) + 1);
  EXPECT_EQ(inventory(), before);
}

}  // namespace
}  // namespace outfall::test
