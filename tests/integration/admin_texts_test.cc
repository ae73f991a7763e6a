// Hostile text in every place of every request that takes text: it is data, comes out as it went
// in or is refused, and changes nothing else.

#include <fmt/format.h>

#include "tests/integration/admin_operate_fixture.h"

namespace outfall::test {
namespace {

namespace json = boost::json;
using testing::HasSubstr;
using testing::Not;

const std::vector<std::string> kHostile = {
    "'; DROP TABLE outbox.entries; --",
    "\"; DROP SCHEMA outbox CASCADE; --",
    "\\'; SELECT pg_terminate_backend(pid) FROM pg_stat_activity; --",
    "' OR '1'='1",
    "$$; DELETE FROM outbox.entries; $$",
    "$1 %s%n {\"a\",NULL}",
    "NULL",
    "../../v1/jobs?state=running#x",
    "a\\x41\\u0041`id`$(id)",
    "\u00e4\u202e\U0001F600",
};

std::string encoded(std::string_view text) {
  std::string result;
  for (const char c : text) result += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  return result;
}

class AdminTexts : public AdminOperateTest {
 protected:
  // Entries that nobody claims yet.
  EntryId later_entry() {
    return sql_.number(
        "INSERT INTO entries (stream, key, type, payload, available_at) VALUES ('orders', 'k', "
        "'t', '{}', clock_timestamp() + interval '1 hour') RETURNING id");
  }
  // A job that has hardly begun when it is looked at, and that nobody runs yet.
  std::int64_t job() {
    return sql_.number(
        "SELECT (create_job('replay', p_stream => 'orders', p_per_second => 0.001, p_actor => "
        "'ana', p_reason => 'x') ->> 'job_id')::bigint");
  }
  // Every table, function and role.
  std::string inventory() {
    return sql_.value(
        "SELECT string_agg(x, ' ' ORDER BY x) FROM (SELECT relname::text || relkind::text x FROM "
        "pg_class WHERE relnamespace = 'outbox'::regnamespace UNION ALL SELECT proname FROM "
        "pg_proc WHERE pronamespace = 'outbox'::regnamespace UNION ALL SELECT rolname FROM "
        "pg_roles WHERE rolname LIKE 'outbox%') y");
  }
  // All that changes state, each of which is possible at its turn.
  std::vector<std::pair<std::string, json::object>> changes(const std::string& lane) {
    const EntryId dead = later_entry();
    const EntryId gone = later_entry();
    const std::int64_t job = this->job();
    return {{"/v1/streams/orders/pause", {}},
            {fmt::format("/v1/entries/{}/retry", dead), {}},
            {fmt::format("/v1/entries/{}/dead-letter", dead), {}},
            {fmt::format("/v1/entries/{}/discard", gone), {}},
            {"/v1/streams/orders/destinations/pause", {{"lane", lane}}},
            {"/v1/streams/orders/destinations/resume", {{"lane", lane}}},
            {fmt::format("/v1/jobs/{}/pause", job), {}},
            {fmt::format("/v1/jobs/{}/resume", job), {{"per_second", 0.001}}},
            {fmt::format("/v1/jobs/{}/abort", job), {}},
            {"/v1/streams/orders/resume", {}}};
  }
  // Changes that were made, and those for which this was said, of entries and of jobs.
  [[nodiscard]] std::int64_t kept(const std::optional<std::string>& reason = {}) {
    const std::string changes =
        "SELECT count(*) FROM (SELECT actor, reason FROM operations UNION ALL SELECT actor, reason "
        "FROM job_changes WHERE action <> 'create') x";
    return reason ? sql_.number(changes + " WHERE reason = $1 AND actor = $1", {*reason})
                  : sql_.number(changes);
  }
};

TEST_F(AdminTexts, WhoAndWhyAreKeptAsTheyWereSaidByEveryChange) {
  dead_letters(30);
  const std::string before = inventory();
  worker();
  for (const std::string& text : kHostile) {
    for (auto& [path, body] : changes(text)) {
      SCOPED_TRACE(path + " " + text);
      const std::int64_t known = kept(text);
      body["actor"] = text;
      body["reason"] = text;
      const AdminAnswer answer = call("POST", path, body);
      EXPECT_EQ(answer.status, 200) << answer.body;
      EXPECT_EQ(kept(text), known + 1);
    }
  }
  EXPECT_EQ(inventory(), before);
}

TEST_F(AdminTexts, NamesInAPathOrABodyAreNamesOfNothing) {
  const std::string before = inventory();
  const EntryId entry = later_entry();
  worker();
  const json::object by = {{"actor", "anna"}, {"reason", "x"}};
  for (const std::string& text : kHostile) {
    SCOPED_TRACE(text);
    const auto post = [&](const std::string& path, json::object more) {
      more.insert(by.begin(), by.end());
      return call("POST", path, more).status;
    };
    for (const std::string what :
         {"pause", "resume", "destinations/pause", "destinations/resume"}) {
      const json::object lane =
          what.starts_with("d") ? json::object{{"lane", text}} : json::object{};
      EXPECT_EQ(post("/v1/streams/" + encoded(text) + "/" + what, lane), 404) << what;
    }
    for (const std::string what : {"retry", "dead-letter", "discard"}) {
      EXPECT_EQ(post("/v1/entries/" + encoded(text) + "/" + what, {}), 400) << what;
      EXPECT_EQ(post(fmt::format("/v1/entries/{}/{}", entry, what), {{"stream", text}}), 404)
          << what;
    }
    for (const char* what : {"pause", "resume", "abort"}) {
      EXPECT_EQ(post("/v1/jobs/" + encoded(text) + "/" + what, {}), 400) << what;
    }
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries"), 1);
  EXPECT_EQ(kept(), 0);
  EXPECT_EQ(inventory(), before);
}

TEST_F(AdminTexts, WhatIsAskedForIsComparedAsItIs) {
  dead_letters(2);
  const std::string before = inventory();
  worker();
  const std::string letter = sql_.value("SELECT min(id) FROM dead_letters");
  // What stands before the text, and what is answered.
  const std::vector<std::pair<std::string, int>> queries = {
      {"/v1/destinations?stream=", 404},
      {"/v1/dead-letters?stream=", 404},
      {"/v1/dead-letters?type=", 200},
      {"/v1/dead-letters?key=", 200},
      {"/v1/dead-letters?reason_code=", 200},
      {"/v1/dead-letters?ids=", 400},
      {"/v1/dead-letters?envelope_ids=", 400},
      {"/v1/dead-letters?since=", 400},
      {"/v1/dead-letters?until=", 400},
      {"/v1/dead-letters?after=", 400},
      {"/v1/dead-letters?limit=", 400},
      {"/v1/dead-letters/", 400},
      {"/v1/dead-letters/" + letter + "?stream=", 404},
      {"/v1/entries/", 400},
      {"/v1/entries/" + letter + "?stream=", 404},
      {"/v1/dry-run?action=", 400},
      {"/v1/dry-run?action=replay&stream=", 404},
      {"/v1/dry-run?action=replay&stream=orders&key=", 200},
      {"/v1/jobs?state=", 400},
      {"/v1/jobs?limit=", 400},
      {"/v1/jobs/", 400},
  };
  for (const std::string& text : kHostile) {
    for (const auto& [path, status] : queries) {
      SCOPED_TRACE(path + text);
      const AdminAnswer answer = get(path + encoded(text));
      EXPECT_EQ(answer.status, status) << answer.body;
      if (answer.status == 200) {
        EXPECT_THAT(answer.body, Not(HasSubstr("http.422"))) << "none of those that there are";
      }
    }
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 2);
  EXPECT_EQ(inventory(), before);
}

// PostgreSQL has neither NUL nor bytes that are no UTF-8.
TEST_F(AdminTexts, WhatNoTextOfTheDatabaseCanHoldIsRefused) {
  dead_letters(1);
  worker();
  for (const char* sequence : {"%00", "a%00b", "%FF", "%C0%AF", "%ED%A0%80"}) {
    for (const char* path :
         {"/v1/destinations?stream=", "/v1/dead-letters?type=", "/v1/dead-letters?key=",
          "/v1/dead-letters?reason_code=", "/v1/dead-letters/", "/v1/entries/",
          "/v1/entries/1?stream=", "/v1/dry-run?action=replay&stream=", "/v1/jobs?state="}) {
      EXPECT_EQ(get(std::string(path) + sequence).status, 400) << path << sequence;
    }
    EXPECT_EQ(call("POST", std::string("/v1/streams/") + sequence + "/pause",
                   json::object{{"actor", "a"}, {"reason", "x"}})
                  .status,
              400)
        << sequence;
  }
  for (const auto& [path, body] : changes("eu")) {
    for (const std::string text : {"a\\u0000b", "\xff", "\xc0\xaf", "\\ud800"}) {
      json::object more = body;
      more["reason"] = "x";
      std::string written = json::serialize(more);
      written.insert(1, "\"actor\": \"" + text + "\", ");
      const AdminAnswer answer = call_with(
          "POST", path,
          {std::string("Authorization: Bearer ") + kToken, "Content-Type: application/json"},
          written);
      EXPECT_EQ(answer.status, 400) << path << " " << written << answer.body;
    }
  }
  EXPECT_EQ(kept(), 0);
}

TEST_F(AdminTexts, ALongTextIsKeptWholeOrRefused) {
  dead_letters(10);
  worker();
  for (const std::size_t bytes : {10'000U, 60'000U, 2'000'000U}) {
    const std::string text(bytes, 'x');
    for (auto& [path, body] : changes("eu")) {
      const std::int64_t known = kept(text);
      body["actor"] = text;
      body["reason"] = text;
      const AdminAnswer answer = call("POST", path, body);
      EXPECT_THAT(answer.status, testing::AnyOf(200, 400, 413)) << path << " " << answer.body;
      EXPECT_EQ(kept(text) - known, answer.status == 200 ? 1 : 0) << path;
    }
  }
}

}  // namespace
}  // namespace outfall::test
