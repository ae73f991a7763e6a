// SQL injection: everything that somebody outside can write into an entry or a command line is
// data, comes out as it went in, and changes nothing else.

#include "tests/integration/security_injection.h"

#include <fmt/format.h>

#include "tests/support/http_recorder.h"
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

TEST_F(SecurityInjection, WhoAndWhyOfEntriesAndJobsAreData) {
  const std::string before = inventory();
  for (const std::string& text : kFewTexts) {
    SCOPED_TRACE(text);
    const std::vector<std::string> by = {"--reason", text, "--actor", text};
    const auto as_data = [&](std::vector<std::string> command) {
      command.insert(command.end(), by.begin(), by.end());
      done(std::move(command));
    };
    const auto wrong = [&](std::vector<std::string> command) {
      command.insert(command.end(), by.begin(), by.end());
      EXPECT_EQ(outfall(std::move(command)).status.code, 64);
    };
    const std::string dead = std::to_string(add(text));
    const std::string gone = std::to_string(add(text));
    sql_.exec("UPDATE entries SET available_at = clock_timestamp() + interval '1 hour'");
    as_data({"entry", "retry", "--id", dead});
    as_data({"entry", "dead-letter", "--id", dead});
    as_data({"entry", "discard", "--id", gone});
    for (const char* what : {"retry", "dead-letter", "discard"}) {
      wrong({"entry", what, "--id", text});
      wrong({"entry", what, text});
    }
    as_data({"dead-letters", "jobs", "pause", new_job()});
    as_data({"dead-letters", "jobs", "resume", job_});
    as_data({"dead-letters", "jobs", "abort", new_job()});
    for (const char* what : {"pause", "resume", "abort"}) {
      wrong({"dead-letters", "jobs", what, text});
    }
    EXPECT_EQ(
        sql_.number("SELECT count(*) FROM (SELECT action, actor, reason FROM operations UNION "
                    "SELECT action, actor, reason FROM job_changes) x WHERE actor = $1 AND reason "
                    "= $1 AND action IN ('retry_entry', 'dead_letter_entry', 'discard_entry', "
                    "'pause', 'resume', 'abort')",
                    {text}),
        6);
    EXPECT_EQ(outfall({"entry", "retry", "--id", dead, "--reason", "\xff"}).status.code, 64);
  }
  EXPECT_EQ(inventory(), before);
}

TEST_F(SecurityInjection, AFileThatIsImportedIsData) {
  const std::string before = inventory();
  for (const std::string& text : kFewTexts) {
    SCOPED_TRACE(text);
    const std::string id = std::to_string(enqueue("orders", "k"));
    dead_letter_all("orders", "http.422");
    const auto import = [&](const boost::json::object& fields) {
      boost::json::object line = {{"entry_id", std::stoll(id)}};
      for (const auto& field : fields) line[field.key()] = field.value();
      folder_.write("fixed.jsonl", boost::json::serialize(line) + "\n");
      return outfall({"dead-letters", "import", "fixed.jsonl", "--no-replay", "--reason", text,
                      "--actor", text});
    };
    for (const char* field : {"entry_id", "envelope_id", "stream", "payload_base64", "headers"}) {
      boost::json::object fields = {{field, text}};
      EXPECT_EQ(import(fields).status.code, 64) << field;
    }
    EXPECT_EQ(sql_.number("SELECT count(*) FROM operations WHERE actor = $1", {text}), 0);

    const std::string headers = boost::json::serialize(boost::json::object{{"ext", text}});
    const std::string payload = boost::json::serialize(boost::json::value(text));
    EXPECT_CODE(import({{"payload", payload},
                        {"content_type", json_type(text)},
                        {"headers", boost::json::parse(headers)}}),
                0);
    EXPECT_EQ(sql_.query("SELECT payload::text, content_type, headers ->> 'ext' FROM dead_letters "
                         "WHERE id = $1",
                         {id}),
              (PgRows{{payload, json_type(text), text}}));
    EXPECT_EQ(
        sql_.number("SELECT count(*) FROM operations WHERE actor = $1 AND reason = $1", {text}), 1);
  }
  EXPECT_EQ(inventory(), before);
}

// They go into an array of a receipt, all of a lease together.
TEST_F(SecurityInjection, RecordIdsThatASinkChoosesAreKeptAsTheyAre) {
  const std::string before = inventory();
  std::vector<std::string> chosen = kTexts;
  const std::vector<std::string> bad = {"\xff\xfe", "a\x01\x7f\x62", "\xed\xa0\x80",
                                        std::string(20'000, '\'')};
  chosen.insert(chosen.end(), bad.begin(), bad.end());
  HttpRecorder hooks;
  hooks.answer_by([&](const HttpRequest& request) {
    const std::size_t number = std::stoul(request.header("ce-type").value_or("0"));
    return HttpAnswer{.headers = {{"X-Request-Id", chosen.at(number)}}};
  });
  folder_.write("program",
                "import json, sys\n"
                "for line in sys.stdin:\n"
                "    event = json.loads(line)\n"
                "    answer = {\"id\": event[\"id\"], \"outcome\": \"delivered\"}\n"
                "    print(json.dumps({**answer, \"record\": event[\"data\"]}), flush=True)\n");
  configure(fmt::format(R"([streams.hooks]
emitter = "hooks"
[emitters.hooks]
kind = "webhook"
url = "{}"
[streams.program]
emitter = "program"
[emitters.program]
kind = "exec"
command = ["python3", "{}"]
)",
                        hooks.url("/"), (folder_ / "program").string()));
  const auto add_to = [&](const std::string& stream, std::size_t number, const std::string& text) {
    sql_.query("INSERT INTO entries (stream, type, payload) VALUES ($1, $2, to_json($3::text))",
               {stream, std::to_string(number), text});
  };
  for (std::size_t i = 0; i < chosen.size(); ++i) add_to("hooks", i, "x");
  for (std::size_t i = 0; i < kTexts.size(); ++i) add_to("program", i, kTexts[i]);
  const auto worker = run_worker();
  wait_until([&] { return sql_.number("SELECT count(*) FROM entries") == 0; }, "all are settled");

  const auto record_ids = [&](const char* stream) {
    std::vector<std::string> ids;
    for (const PgRow& row : sql_.query("SELECT record_id FROM delivered WHERE stream = $1 ORDER BY "
                                       "type::int",
                                       {stream})) {
      ids.push_back(row[0].value());
    }
    return ids;
  };
  EXPECT_EQ(record_ids("program"), kTexts);
  const std::vector<std::string> of_hooks = record_ids("hooks");
  ASSERT_EQ(of_hooks.size(), chosen.size());
  for (std::size_t i = 0; i < kTexts.size(); ++i) {
    EXPECT_THAT(of_hooks[i], testing::StartsWith("200 " + kTexts[i] + " "));
  }
  for (std::size_t i = kTexts.size(); i < chosen.size(); ++i) {
    EXPECT_THAT(of_hooks[i], testing::AllOf(testing::StartsWith("200 "), testing::EndsWith("ms")));
    EXPECT_LT(of_hooks[i].size(), 1024U);
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  EXPECT_EQ(inventory(), before);
}

}  // namespace
}  // namespace outfall::test
