// Operating over HTTP: the command line's operations with a bearer token, what is refused, jobs
// that a worker runs, a role that may not, a database that hangs.

#include <atomic>
#include <csignal>
#include <future>

#include <fmt/format.h>

#include "tests/integration/admin_operate_fixture.h"
#include "tests/support/tcp_gate.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

namespace json = boost::json;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

class AdminOperate : public AdminOperateTest {
 protected:
  // An entry of orders that waits an hour for its retry.
  EntryId failed_entry() {
    const EntryId id = enqueue("orders", "k");
    Worker claimer(database_.dsn());
    claimer.settle_all(claimer.claim("orders"), EntryStatus::retryable_failure,
                       Milliseconds{3'600'000}, "http.503");
    return id;
  }
  [[nodiscard]] std::int64_t operations() { return sql_.number("SELECT count(*) FROM operations"); }
};

TEST_F(AdminOperate, SaysWhatTheCommandLineSays) {
  dead_letters(4);
  const EntryId entry = failed_entry();
  worker();
  done_at("/v1/streams/orders/pause");
  done_at("/v1/streams/orders/destinations/pause", {{"lane", "eu/1"}});
  done_at("/v1/jobs", {{"action", "discard"},
                       {"ids", json::array{sql_.number("SELECT min(id) FROM dead_letters")}}});
  wait_for_state(1, "finished");
  const std::string letter = sql_.value("SELECT min(id) FROM dead_letters");
  const std::string envelope = envelope_of(entry);
  const std::string until = "2100-01-01T00:00:00Z";

  const std::vector<std::pair<std::string, std::vector<std::string>>> same = {
      {"/v1/streams", {"streams", "list"}},
      {"/v1/destinations", {"destinations", "list"}},
      {"/v1/destinations?stream=orders", {"destinations", "list", "--stream", "orders"}},
      {"/v1/dead-letters", {"dead-letters", "list"}},
      {"/v1/dead-letters?stream=orders&key=k1&limit=1&since=2020-01-01",
       {"dead-letters", "list", "--stream", "orders", "--key", "k1", "--limit", "1"}},
      {"/v1/dead-letters/" + letter, {"dead-letters", "show", "--id", letter}},
      {"/v1/dry-run?action=replay&stream=orders&until=" + until,
       {"dead-letters", "replay", "--stream", "orders", "--dry-run", "--until", until}},
      {"/v1/jobs", {"dead-letters", "jobs", "list"}},
      {"/v1/jobs/1", {"dead-letters", "jobs", "show", "1"}},
  };
  for (const auto& [path, command] : same) {
    SCOPED_TRACE(path);
    EXPECT_EQ(json::serialize(read_at(path)), json::serialize(done(command)));
  }
  // These two say when they were asked.
  json::object over_http = read_at("/v1/entries/" + envelope);
  json::object by_command = done({"entry", "show", envelope});
  EXPECT_EQ(over_http.erase("asked_at"), 1U);
  EXPECT_EQ(by_command.erase("asked_at"), 1U);
  EXPECT_EQ(json::serialize(over_http), json::serialize(by_command));
  EXPECT_EQ(text_of(read_at("/v1/entries/" + std::to_string(entry)), "envelope_id"), envelope);
  EXPECT_EQ(read_at("/v1/status").at("streams").at(0).at("paused_by"), "anna");
}

TEST_F(AdminOperate, ChangesAreMadeAndRecordedWithActorAndReason) {
  const EntryId entry = failed_entry();
  worker();
  const json::object paused = done_at("/v1/streams/orders/pause");
  EXPECT_EQ(paused.at("action"), "pause_stream");
  EXPECT_EQ(sql_.value("SELECT paused_by || ' ' || paused_reason FROM streams"), "anna mended");
  EXPECT_EQ(paused.at("actor"), "anna");

  done_at(fmt::format("/v1/entries/{}/retry", entry));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries WHERE available_at <= clock_timestamp()"), 1);
  done_at(fmt::format("/v1/entries/{}/dead-letter", envelope_of(entry)), {{"hold_key", true}});
  EXPECT_EQ(sql_.value("SELECT holds_key FROM dead_letters"), "t");
  const EntryId other = enqueue("orders", "other");
  done_at(fmt::format("/v1/entries/{}/discard", other));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries"), 0);

  done_at("/v1/streams/orders/destinations/pause", {{"lane", ""}});
  EXPECT_EQ(sql_.number("SELECT count(*) FROM destinations WHERE lane = ''"), 1);
  done_at("/v1/streams/orders/destinations/resume", {{"lane", ""}});
  done_at("/v1/streams/orders/resume");
  EXPECT_EQ(sql_.value("SELECT string_agg(action, ' ' ORDER BY operation_id) FROM operations "
                       "WHERE actor = 'anna' AND reason = 'mended'"),
            "pause_stream retry_entry dead_letter_entry discard_entry pause_destination "
            "resume_destination resume_stream");
  EXPECT_THAT(workers_.back()->error_output(),
              AllOf(HasSubstr("admin request method=POST path=/v1/streams/orders/pause status=200 "
                              "remote=127.0.0.1"),
                    Not(HasSubstr(kToken))));
}

// Path, body, and what is said of it.
std::vector<std::tuple<std::string, json::value, std::string>> wrong_changes() {
  const std::string pause = "/v1/streams/orders/pause";
  return {
      {pause, {{"actor", "anna"}}, "reason is missing"},
      {pause, {{"actor", "anna"}, {"reason", " \t"}}, "reason is blank"},
      {pause, {{"actor", ""}, {"reason", "x"}}, "actor is blank"},
      {pause, {{"actor", nullptr}, {"reason", "x"}}, "actor is null; leave it out or say it"},
      {pause, {{"actor", 7}, {"reason", "x"}}, "actor must be a string"},
      {pause,
       {{"actor", std::string("a\0b", 3)}, {"reason", "x"}},
       "actor must be UTF-8 without NUL"},
      {pause, {{"actor", "a"}, {"reason", "x"}, {"resaon", "x"}}, "resaon is not known here"},
      {"/v1/streams/orders/destinations/pause",
       {{"actor", "a"}, {"reason", "x"}},
       "lane is missing"},
      {"/v1/entries/seven/retry",
       {{"actor", "a"}, {"reason", "x"}},
       "entry is neither an entry id nor an envelope id"},
      {"/v1/jobs/0/pause", {{"actor", "a"}, {"reason", "x"}}, "job must be at least 1"},
      {"/v1/jobs",
       {{"actor", "a"}, {"reason", "x"}, {"action", "replay"}},
       "stream is missing, and no dead letter is named"},
      {"/v1/jobs",
       {{"actor", "a"}, {"reason", "x"}, {"action", "redo"}},
       "action must be one of replay, discard"},
      {"/v1/jobs",
       {{"actor", "a"},
        {"reason", "x"},
        {"action", "replay"},
        {"stream", "orders"},
        {"since", "yesterday"}},
       "since: \"yesterday\" is not a time"},
      {"/v1/jobs",
       {{"actor", "a"},
        {"reason", "x"},
        {"action", "replay"},
        {"stream", "orders"},
        {"since", "2h"},
        {"until", "3h"}},
       "since is not before until"},
      {"/v1/jobs",
       {{"actor", "a"},
        {"reason", "x"},
        {"action", "replay"},
        {"stream", "orders"},
        {"per_second", 0}},
       "per_second must be more than 0"},
      {"/v1/jobs",
       {{"actor", "a"}, {"reason", "x"}, {"action", "replay"}, {"envelope_ids", json::array{"x"}}},
       "envelope_ids has what is not an envelope id"},
      {"/v1/jobs",
       {{"actor", "a"}, {"reason", "x"}, {"action", "replay"}, {"ids", json::array{1.5}}},
       "ids must be a list of whole numbers"},
      // What a script did not find must not become everything.
      {"/v1/jobs",
       {{"actor", "a"},
        {"reason", "x"},
        {"action", "discard"},
        {"stream", "orders"},
        {"ids", json::array{}}},
       "ids is empty; leave it out or name some"},
      {"/v1/jobs",
       {{"actor", "a"},
        {"reason", "x"},
        {"action", "discard"},
        {"stream", "orders"},
        {"reason_code", nullptr}},
       "reason_code is null; leave it out or say it"},
  };
}

TEST_F(AdminOperate, WhatIsWrongInARequestIsNamedAndChangesNothing) {
  worker();
  const std::string pause = "/v1/streams/orders/pause";
  for (const auto& [path, body, message] : wrong_changes()) {
    const AdminAnswer answer = call("POST", path, body);
    EXPECT_EQ(answer.status, 400) << path << answer.body;
    EXPECT_EQ(message_of(answer), message);
  }
  EXPECT_EQ(call("POST", pause, json::array{1}).status, 400);
  EXPECT_EQ(message_of(get("/v1/dead-letters?limit=many")), "limit must be a whole number");
  EXPECT_EQ(message_of(get("/v1/dead-letters?reason=x")), "reason is not known here");
  EXPECT_EQ(message_of(get("/v1/dead-letters?key=%ff")), "key must be UTF-8 without NUL");
  const std::string bearer = std::string("Authorization: Bearer ") + kToken;
  EXPECT_EQ(code_of(call_with("POST", pause, {bearer, "Content-Type: application/json"}, "{")),
            "malformed_body");
  EXPECT_EQ(call_with("POST", pause, {bearer}, "actor=anna&reason=x").status, 415);
  EXPECT_EQ(call("GET", pause).headers.at("allow"), "POST");
  EXPECT_EQ(operations(), 0);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM jobs"), 0);
}

TEST_F(AdminOperate, WhatIsNotThereOrRefusedByItsStateSaysSo) {
  // Another worker delivers an entry, for as long as this takes: nobody claims from a paused
  // stream.
  const EntryId leased = enqueue("orders", "k");
  Worker claimer(database_.dsn());
  const LeasedBatch batch = claimer.claim("orders");
  ASSERT_EQ(batch.entries.size(), 1U);
  sql_.exec("SELECT pause_stream('orders', 'a', 'b')");
  worker();
  const json::object by = {{"actor", "anna"}, {"reason", "x"}};
  for (const char* path : {"/v1/streams/ordres/pause", "/v1/entries/77/retry", "/v1/jobs/9/abort",
                           "/v1/streams/orders/destinations/resume"}) {
    json::object body = by;
    if (std::string_view(path).ends_with("destinations/resume")) body["lane"] = "nowhere";
    const AdminAnswer answer = call("POST", path, body);
    EXPECT_EQ(answer.status, 404) << path << answer.body;
    EXPECT_EQ(code_of(answer), "unknown");
    EXPECT_THAT(hint_of(answer), Not(HasSubstr("()"))) << "functions of SQL are not its words";
  }
  json::object job = by;
  job["action"] = "replay";
  job["stream"] = "ordres";
  const AdminAnswer mistyped = call("POST", "/v1/jobs", job);
  EXPECT_EQ(mistyped.status, 404);
  EXPECT_EQ(hint_of(mistyped), "There are: orders.");

  const AdminAnswer busy = call("POST", fmt::format("/v1/entries/{}/discard", leased), by);
  EXPECT_EQ(busy.status, 409) << busy.body;
  EXPECT_EQ(code_of(busy), "leased");
  EXPECT_EQ(busy.headers.at("retry-after"), "1");
}

TEST_F(AdminOperate, AJobRunsAtTheWorkerThatTookIt) {
  dead_letters(2500);
  worker();
  const AdminAnswer begun = call("POST", "/v1/jobs",
                                 {{"action", "replay"},
                                  {"stream", "orders"},
                                  {"actor", "anna"},
                                  {"reason", "consumer mended"}});
  EXPECT_EQ(begun.status, 201) << begun.body;
  EXPECT_EQ(begun.headers.at("location"), "/v1/jobs/1");
  EXPECT_EQ(json::parse(begun.body).at("total"), 2500);
  wait_for_state(1, "finished");
  wait_until([&] { return sql_.number("SELECT count(*) FROM entries") == 0; }, "all delivered");
  const json::object job = read_at("/v1/jobs/1");
  EXPECT_EQ(job.at("done"), 2500);
  EXPECT_EQ(job.at("actor"), "anna");
  EXPECT_EQ(sql_.query("SELECT count(*), count(DISTINCT entry_id), min(actor), min(reason) FROM "
                       "replays"),
            (PgRows{{"2500", "2500", "anna", "consumer mended"}}));
  EXPECT_EQ(delivered("id").size(), 2500U);
  workers_.back()->wait_for_output("job ended here job=1 state=finished done=2500");
}

TEST_F(AdminOperate, AJobIsPausedResumedAndAbortedFromHereAndByTheCommandLine) {
  dead_letters(60);
  worker();
  done_at("/v1/jobs", {{"action", "replay"}, {"stream", "orders"}, {"per_second", 20}});
  wait_until([&] { return replayed() > 0; }, "it has begun");
  EXPECT_EQ(done_at("/v1/jobs/1/pause").at("state"), "paused");
  const std::int64_t before = replayed();
  EXPECT_LT(before, 60);
  EXPECT_FALSE(holds_within([&] { return replayed() > before; }, std::chrono::milliseconds{600}));

  const json::object resumed = done_at("/v1/jobs/1/resume", {{"per_second", 40}});
  EXPECT_EQ(resumed.at("per_second"), 40);
  wait_until([&] { return replayed() > before; }, "it goes on");
  done({"dead-letters", "jobs", "pause", "1", "--reason", "slower"});
  const std::int64_t then = replayed();
  EXPECT_FALSE(holds_within([&] { return replayed() > then; }, std::chrono::milliseconds{600}));
  EXPECT_EQ(done_at("/v1/jobs/1/abort").at("state"), "aborted");
  const AdminAnswer ended =
      call("POST", "/v1/jobs/1/resume", {{"actor", "anna"}, {"reason", "once more"}});
  EXPECT_EQ(ended.status, 409);
  EXPECT_THAT(message_of(ended), HasSubstr("job 1 is aborted since 20"));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 60 - replayed());
}

// It was looked at again only when its rate let it do more, up to a second later.
TEST_F(AdminOperate, AJobThatIsAbortedOrPausedGivesItsRoomFree) {
  dead_letters(60);
  worker();
  const json::object slow = {{"action", "replay"},
                             {"stream", "orders"},
                             {"per_second", 0.001},
                             {"actor", "anna"},
                             {"reason", "mended"}};
  for (int job = 1; job <= 8; ++job) EXPECT_EQ(call("POST", "/v1/jobs", slow).status, 201);
  const AdminAnswer refused = call("POST", "/v1/jobs", slow);
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.body, HasSubstr("no_room_for_jobs"));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM jobs"), 8);

  for (int job = 1; job <= 8; ++job) {
    done_at(fmt::format("/v1/jobs/{}/{}", job, job % 2 == 0 ? "abort" : "pause"));
  }
  wait_until([&] { return call("POST", "/v1/jobs", slow).status == 201; }, "there is room");
  workers_.back()->wait_for_output("job ended here job=8 state=aborted");
}

TEST_F(AdminOperate, AWorkerThatStopsPausesItsJobAndAnotherGoesOnExactlyThere) {
  dead_letters(80);
  worker();
  done_at("/v1/jobs", {{"action", "replay"}, {"stream", "orders"}, {"per_second", 20}});
  wait_until([&] { return replayed() > 0; }, "it has begun");
  stop_worker();
  EXPECT_EQ(sql_.value("SELECT state FROM jobs"), "paused");
  EXPECT_EQ(sql_.value("SELECT actor || ': ' || reason FROM job_changes WHERE action = 'pause'"),
            "anna: interrupted, the worker stopped: mended");

  // One that is killed leaves it running, and nobody runs it.
  ChildProcess& second = worker();
  const std::int64_t before = replayed();
  done_at("/v1/jobs/1/resume");
  wait_until([&] { return replayed() > before; }, "it goes on");
  second.kill();
  EXPECT_EQ(sql_.value("SELECT state FROM jobs"), "running");
  EXPECT_LT(replayed(), 80);

  worker();
  done_at("/v1/jobs/1/resume", {{"per_second", 10'000}});
  wait_for_state(1, "finished");
  EXPECT_EQ(sql_.query("SELECT count(*), count(DISTINCT entry_id) FROM replays"),
            (PgRows{{"80", "80"}}));
}

TEST_F(AdminOperate, AJobOutlivesARestartOfTheDatabase) {
  dead_letters(80);
  worker();
  done_at("/v1/jobs", {{"action", "replay"}, {"stream", "orders"}, {"per_second", 40}});
  wait_until([&] { return replayed() > 0; }, "it has begun");
  sql_.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> "
      "pg_backend_pid() AND datname = current_database()");
  workers_.back()->wait_for_output("job waits for the database");
  wait_for_state(1, "finished");
  EXPECT_EQ(sql_.query("SELECT count(*), count(DISTINCT entry_id) FROM replays"),
            (PgRows{{"80", "80"}}));
}

// A chunk that failed was counted nowhere.
TEST_F(AdminOperate, AChunkThatTheDatabaseDoesNotKnowIsCounted) {
  dead_letters(80);
  worker();
  const auto counts = [this](const std::string& errors) {
    return testing::Value(
        get("/metrics").body,
        HasSubstr("outfall_database_errors_total{kind=\"schema\"} " + errors + "\n"));
  };
  EXPECT_TRUE(counts("0"));
  done_at("/v1/jobs", {{"action", "replay"}, {"stream", "orders"}, {"per_second", 40}});
  wait_until([&] { return replayed() > 0; }, "it has begun");
  sql_.exec("ALTER FUNCTION run_job RENAME TO run_job_of_tomorrow");
  workers_.back()->wait_for_output("job cannot be run here");
  EXPECT_TRUE(counts("1"));
}

// The role of a worker may look; what it may not is told with the grant that is missing.
TEST_F(AdminOperate, AWorkersRoleNeedsTheGrantThatTheRefusalNames) {
  dead_letters(1);
  sql_.exec("DROP ROLE IF EXISTS \"t-admin\"; CREATE ROLE \"t-admin\" LOGIN IN ROLE outbox_worker");
  configure_token(shared_postgres().dsn(database_.name(), "t-admin"));
  worker();
  for (const char* path :
       {"/v1/streams", "/v1/dead-letters", "/v1/dead-letters/1", "/v1/entries/1", "/v1/jobs",
        "/v1/status", "/v1/destinations", "/v1/dry-run?action=replay&stream=orders"}) {
    EXPECT_EQ(get(path).status, 200) << path;
  }
  const json::object by = {{"actor", "anna"}, {"reason", "x"}};
  const AdminAnswer refused = call("POST", "/v1/streams/orders/pause", by);
  EXPECT_EQ(refused.status, 403) << refused.body;
  EXPECT_EQ(code_of(refused), "role_denied");
  const std::string hint = hint_of(refused);
  const std::string grant = hint.substr(0, hint.find(';'));
  EXPECT_EQ(grant, "GRANT outbox_operator TO \"t-admin\"");
  json::object job = by;
  job["action"] = "discard";
  job["stream"] = "orders";
  EXPECT_EQ(call("POST", "/v1/jobs", job).status, 403);

  sql_.exec(grant);
  done_at("/v1/streams/orders/pause");
  EXPECT_EQ(sql_.value("SELECT database_user FROM operations"), "t-admin");
  done_at("/v1/jobs", {{"action", "discard"}, {"stream", "orders"}});
  wait_for_state(1, "finished");
}

TEST_F(AdminOperate, ADatabaseThatHangsKeepsNobodyElseWaiting) {
  TcpGate gate(shared_postgres().port());
  configure_token(shared_postgres().dsn_at(gate.port(), database_.name()));
  worker();
  wait_until([&] { return get("/v1/streams").status == 200; }, "the database is there");
  gate.admit(Admission::hang);
  gate.traffic(Traffic::stall);
  std::atomic<int> busy{0};
  std::atomic<int> away{0};
  std::vector<std::future<AdminAnswer>> waiting;
  for (int i = 0; i < 30; ++i) {
    waiting.push_back(std::async(std::launch::async, [&] {
      const AdminAnswer answer = get("/v1/streams");
      if (answer.status == 503) ++(code_of(answer) == "busy" ? busy : away);
      return answer;
    }));
  }
  wait_until([&] { return busy >= 10; }, "sixteen wait, one is at work, the others are refused");
  const auto begun = std::chrono::steady_clock::now();
  for (const char* path : {"/livez", "/metrics", "/readyz", "/status", "/openapi.json"}) {
    EXPECT_EQ(http_get(url_ + path).status, 200) << path;
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds{10});
  wait_until([&] { return away >= 1; }, "the first one has tried long enough");
  gate.traffic(Traffic::pass);
  gate.admit(Admission::accept);
  gate.end_connections(Ending::reset);
  for (auto& future : waiting) {
    const AdminAnswer answer = future.get();
    EXPECT_THAT(answer.status, AnyOf(200, 503)) << answer.body;
    EXPECT_EQ(answer.headers.contains("retry-after"), answer.status == 503);
  }
  EXPECT_GE(waiting.size() - static_cast<std::size_t>(busy + away), 1U) << "those that waited";
  wait_until([&] { return get("/v1/streams").status == 200; }, "it answers again");
}

TEST_F(AdminOperate, TextsOfRequestsAreDataAndComeOutAsTheyWentIn) {
  dead_letters(1);
  worker();
  for (const std::string text :
       {"'; DROP TABLE outbox.entries; --", "\"; DROP SCHEMA outbox CASCADE; --", "$1 %s {\"a\"}",
        "line\r\nX-Injected: 1", "\u00e4\u202e\U0001F600"}) {
    const json::object by = {{"actor", text}, {"reason", text}};
    json::object pause = by;
    pause["lane"] = text;
    EXPECT_EQ(call("POST", "/v1/streams/orders/destinations/pause", pause).status, 200) << text;
    EXPECT_EQ(
        sql_.number("SELECT count(*) FROM destinations WHERE lane = $1 AND parked_by = $1 AND "
                    "reason = $1",
                    {text}),
        1)
        << text;
    json::object job = by;
    job["action"] = "discard";
    for (const char* field : {"stream", "type", "key", "reason_code"}) job[field] = text;
    const AdminAnswer unknown = call("POST", "/v1/jobs", job);
    EXPECT_EQ(unknown.status, 404) << unknown.body;
    EXPECT_FALSE(unknown.headers.contains("x-injected"));
    job["stream"] = "orders";
    const AdminAnswer made = call("POST", "/v1/jobs", job);
    EXPECT_EQ(made.status, 201) << made.body;
    EXPECT_EQ(text_of(json::parse(made.body).at("filter"), "key"), text);
    EXPECT_EQ(text_of(json::parse(made.body), "actor"), text);
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 1);
  EXPECT_THAT(workers_.back()->error_output(), Not(HasSubstr("\nX-Injected")));
}

TEST_F(AdminOperate, TheTokenIsReadAgainWithAReload) {
  worker();
  EXPECT_EQ(get("/v1/jobs").status, 200);
  folder_.write("token", "another-one-of-them");
  workers_.back()->signal(SIGHUP);
  workers_.back()->wait_for_output("configuration reloaded");
  EXPECT_EQ(get("/v1/jobs").status, 401);
  EXPECT_EQ(call_with("GET", "/v1/jobs", {"Authorization: Bearer another-one-of-them"}).status,
            200);
  EXPECT_THAT(workers_.back()->error_output(),
              AllOf(HasSubstr("setting changed setting=admin.token"), Not(HasSubstr(kToken)),
                    Not(HasSubstr("another-one-of-them"))));
}

}  // namespace
}  // namespace outfall::test
