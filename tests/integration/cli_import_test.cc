// `outfall dead-letters export` and `import`: a payload is fixed in a file and goes back in with
// its ids, and what is wrong in the file is named by its line before anything is changed.

#include <sstream>

#include <fmt/format.h>

#include "tests/integration/operate_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class CliImport : public OperateTest {
 protected:
  // Three of one key, with a payload whose text matters, a binary one and none.
  void SetUp() override {
    sql_.exec(
        "INSERT INTO entries (stream, type, key, subject, headers, payload) VALUES ('orders', 't', "
        "'k', '1', '{\"h\": \"1\"}', '{\"amount\":  1.50}');"
        "INSERT INTO entries (stream, type, key, subject, payload_binary) VALUES ('orders', 't', "
        "'k', '2', '\\x00ff10');"
        "INSERT INTO entries (stream, type, key, subject) VALUES ('orders', 't', 'k', '3')");
    dead_letter_all("orders", "http.422", true);
  }
  [[nodiscard]] std::vector<boost::json::object> exported() {
    const Finished finished = outfall({"dead-letters", "export", "--stream", "orders"});
    EXPECT_CODE(finished, 0);
    std::vector<boost::json::object> lines;
    std::istringstream text(finished.output);
    for (std::string line; std::getline(text, line);) {
      lines.push_back(boost::json::parse(line).as_object());
    }
    return lines;
  }
  void write(const std::vector<boost::json::object>& lines) {
    std::string text;
    for (const auto& line : lines) text += boost::json::serialize(line) + "\n";
    folder_.write("fixed.jsonl", text);
  }
  // Import of a file with this text ends with 64 and one problem, which says this.
  void wrong(const std::string& text, int line, const std::string& message) {
    folder_.write("wrong.jsonl", text);
    const boost::json::object error =
        refused(64, {"dead-letters", "import", "wrong.jsonl", "--reason", "x"});
    ASSERT_EQ(error.at("problems").as_array().size(), 1U) << boost::json::serialize(error);
    const boost::json::object& problem = error.at("problems").at(0).as_object();
    EXPECT_EQ(problem.at("file"), "wrong.jsonl");
    EXPECT_EQ(problem.at("line"), line);
    EXPECT_THAT(text_of(problem, "message"), HasSubstr(message));
  }
};

TEST_F(CliImport, AFixedPayloadGoesBackWithItsIdsInOrder) {
  configure(one_stream("on_dead_letter = \"hold-key\""));
  std::vector<boost::json::object> lines = exported();
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].at("payload"), "{\"amount\":  1.50}");
  EXPECT_EQ(lines[1].at("payload_base64"), "AP8Q");
  EXPECT_FALSE(lines[2].contains("payload"));
  lines[0]["payload"] = "{\"amount\":  2.50}";
  std::swap(lines[0], lines[2]);
  write(lines);
  const std::string first = text_of(lines[2], "envelope_id");

  const boost::json::object dry = done({"dead-letters", "import", "fixed.jsonl", "--dry-run"});
  EXPECT_EQ(dry.at("lines"), 3);
  EXPECT_EQ(dry.at("mended"), 1);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM operations"), 0);

  const boost::json::object result = done(
      {"dead-letters", "import", "fixed.jsonl", "--actor", "anna", "--reason", "amount was wrong"});
  EXPECT_EQ(result.at("replayed"), 3);
  EXPECT_EQ(sql_.query("SELECT actor, reason, entry_id, envelope_id, detail ->> 'changed', detail "
                       "->> 'bytes_before', length(detail ->> 'sha256_after') FROM operations "
                       "WHERE action = 'mend_dead_letter'"),
            (PgRows{{"anna", "amount was wrong", "1", first, "[\"payload\"]", "17", "64"}}));
  EXPECT_EQ(sql_.query("SELECT payload::text, envelope_id, headers ->> 'h' FROM entries WHERE id = "
                       "1"),
            (PgRows{{"{\"amount\":  2.50}", first, "1"}}));
  EXPECT_EQ(sql_.value("SELECT payload_binary::text FROM entries WHERE id = 2"), "\\x00ff10");
  {
    const auto worker = run_worker();
    wait_until([&] { return delivered("subject").size() == 3; }, "all are delivered");
    worker->signal(SIGTERM);
    worker->wait();
  }
  EXPECT_THAT(delivered("subject"), ElementsAre("1", "2", "3"));
  EXPECT_EQ(delivered("id").at(0), first);
  EXPECT_THAT(outfall({"entry", "show", first}).output, HasSubstr("amount was wrong"));
}

TEST_F(CliImport, TheSameFileAgainReplaysNothingTwice) {
  write(exported());
  done({"dead-letters", "import", "fixed.jsonl", "--reason", "x"});
  const boost::json::object error =
      refused(64, {"dead-letters", "import", "fixed.jsonl", "--reason", "x"});
  EXPECT_EQ(error.at("problems").as_array().size(), 3U);
  EXPECT_THAT(text_of(error.at("problems").at(0), "message"),
              HasSubstr("entry 1 is no dead letter"));
  EXPECT_THAT(text_of(error.at("problems").at(0), "hint"), HasSubstr("--skip-gone"));

  // One that has failed again is another one than that of the file.
  dead_letter_all("orders", "http.422");
  const boost::json::object again =
      done({"dead-letters", "import", "fixed.jsonl", "--skip-gone", "--reason", "x"});
  EXPECT_EQ(again.at("gone"), 3);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM replays"), 3);
}

TEST_F(CliImport, MendedAndLeftDead) {
  folder_.write("fixed.jsonl",
                "{\"entry_id\": 2, \"payload_base64\": null, \"payload\": \"[1]\", "
                "\"headers\": null, \"content_type\": \"application/json\"}\n\n");
  const boost::json::object result =
      done({"dead-letters", "import", "fixed.jsonl", "--no-replay", "--reason", "x"});
  EXPECT_EQ(result.at("mended"), 1);
  EXPECT_EQ(sql_.query("SELECT payload, payload_binary, content_type, stream, key FROM "
                       "dead_letters WHERE id = 2"),
            (PgRows{{"[1]", {}, "application/json", "orders", "k"}}));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM jobs"), 0);
}

TEST_F(CliImport, WhatIsWrongIsNamedByItsLineAndNothingIsChanged) {
  const std::string good = "{\"entry_id\": 1, \"payload\": \"{}\"}\n";
  wrong(good + "{\"entry_id\": 2,\n", 2, "this is not JSON");
  wrong(good + "[]\n", 2, "a line must be a JSON object");
  wrong(good + "\n{\"payload\": \"1\"}\n", 3, "neither envelope_id nor entry_id");
  wrong(good + "{\"entry_id\": 2, \"paylod\": \"1\"}", 2, "\"paylod\" is no field");
  wrong(good + "{\"entry_id\": 2, \"payload\": {\"a\": 1}}", 2, "holds the JSON text");
  wrong(good + "{\"entry_id\": 2, \"payload\": \"{a\", \"payload_base64\": null}", 2,
        "the payload is not JSON");
  wrong(good + "{\"entry_id\": 2, \"payload_base64\": \"A\"}", 2, "the payload is not base64");
  wrong(good + "{\"entry_id\": 2, \"payload_base64\": \"AP8Q\", \"payload\": \"1\"}", 2,
        "JSON or binary, not both");
  wrong(good + "{\"entry_id\": 2, \"headers\": {\"a\": 1}}", 2, "headers must be an object");
  wrong(good + "{\"entry_id\": 2, \"key\": \"other\"}", 2, "key is not that of the dead letter");
  wrong(good + "{\"entry_id\": 2, \"stream\": \"mails\"}", 2, "stream is not that of the");
  wrong(good + "{\"entry_id\": 99}", 2, "entry 99 is no dead letter");
  wrong(good + good, 2, "line 1 is about the same dead letter");
  wrong("{\"envelope_id\": \"x\"}", 1, "envelope_id is no envelope id");
  refused(64, {"dead-letters", "import", "nosuch.jsonl", "--reason", "x"});
  refused(64, {"dead-letters", "import", "wrong.jsonl"});
  refused(64, {"dead-letters", "export"});
  refused(69, {"dead-letters", "export", "--stream", "nosuch"});
  EXPECT_EQ(sql_.value("SELECT payload::text FROM dead_letters WHERE id = 1"),
            "{\"amount\":  1.50}");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM operations"), 0);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM jobs"), 0);
}

// As jq leaves it when it fails, with its error lost in a pipe or a log.
TEST_F(CliImport, AFileWithoutALineIsNoSuccess) {
  folder_.write("empty.jsonl", "");
  folder_.write("blank.jsonl", "\n \n");
  for (const std::string file : {"empty.jsonl", "blank.jsonl"}) {
    for (const std::string option : {"--dry-run", "--no-replay", "--skip-gone", "--progress=5s"}) {
      const boost::json::object error =
          refused(64, {"dead-letters", "import", file, option, "--reason", "x"});
      EXPECT_EQ(text_of(error, "message"), file + " has no dead letter in it") << option;
    }
  }
  const Finished piped = run({OUTFALL_BINARY, "dead-letters", "import", "-", "--reason", "x"},
                             {.working_folder = folder_.path(), .input = ""});
  EXPECT_EQ(piped.status.code, 64) << piped.output;
  EXPECT_THAT(piped.error_output, HasSubstr("standard input has no dead letter in it"));
}

TEST_F(CliImport, ExportFollowsItsFilterIntoAFileAndStandardInputGoesBack) {
  const boost::json::object result =
      done({"dead-letters", "export", "--stream", "orders", "--id", "3", "--id", "1", "--limit",
            "1", "--output", "a.jsonl"});
  EXPECT_EQ(result.at("exported"), 1);
  const std::string text = read_file(folder_ / "a.jsonl");
  EXPECT_EQ(boost::json::parse(text).at("entry_id"), 1);
  const Finished imported = run({OUTFALL_BINARY, "dead-letters", "import", "-", "--reason", "x"},
                                {.working_folder = folder_.path(), .input = text});
  EXPECT_CODE(imported, 0);
  EXPECT_THAT(imported.output, AllOf(HasSubstr("0 dead letters mended, 1 as they were\n"),
                                     HasSubstr("1 dead letter replayed\n")));
}

}  // namespace
}  // namespace outfall::test
