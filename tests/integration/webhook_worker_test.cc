// The worker with webhooks, real from the table to the endpoint: an endpoint that is gone for good,
// one that is away for a while, and a slow one beside a fast one.
#include <map>
#include <mutex>
#include <set>

#include <gmock/gmock.h>

#include "tests/integration/worker_fixture.h"
#include "tests/support/http_recorder.h"
#include "tests/support/tcp_gate.h"

namespace outfall::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::HasSubstr;
using testing::Not;

class WebhookWorker : public WorkerTest {
 protected:
  WorkerProcess::Options options(int port, const std::string& more_of_stream = {},
                                 const std::string& more_of_emitter = {}) {
    return {.dsn = database_.dsn(),
            .streams =
                "[streams.orders]\nemitter = \"partners\"\nretry.initial = \"50ms\"\n"
                "retry.max = \"500ms\"\nretry.max_attempts = 4\n" +
                more_of_stream +
                "\n[emitters.partners]\nkind = \"webhook\"\n"
                "url = \"http://127.0.0.1:" +
                std::to_string(port) + "/{header.endpoint}\"\ntimeout = \"2s\"\n" +
                more_of_emitter + "\n",
            .drain = "shutdown_timeout = \"3s\""};
  }

  // `count` entries for each endpoint, over `keys` keys of its own, numbered within the key.
  void enqueue_for(const std::vector<std::string>& endpoints, int count, int keys = 1) {
    for (const std::string& endpoint : endpoints) {
      sql_.query(
          "INSERT INTO entries (stream, type, key, payload, headers) SELECT 'orders', 't', "
          "$1 || '-' || (i % $3::int), json_build_object('n', i), "
          "jsonb_build_object('endpoint', $1) FROM generate_series(1, $2::int) i",
          {endpoint, std::to_string(count), std::to_string(keys)});
    }
  }

  std::string outfall(WorkerProcess& worker, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), OUTFALL_BINARY);
    arguments.insert(arguments.end(), {"--config", worker.file("outfall.toml").string()});
    const Finished finished = run(std::move(arguments));
    EXPECT_EQ(finished.status.code, 0) << finished.error_output;
    return finished.output;
  }

  std::int64_t parked() { return sql_.number("SELECT count(*) FROM destinations"); }
  std::int64_t dead_letters_of_all() { return sql_.number("SELECT count(*) FROM dead_letters"); }
  // The most attempts that any delivered entry took.
  std::int64_t most_attempts() {
    return sql_.number("SELECT coalesce(max(attempts), 0) FROM delivered");
  }

  // Adds entries for the endpoint `fast` and waits until none of them is left.
  void expect_fast_is_not_delayed(int count) {
    const auto start = steady_clock::now();
    enqueue_for({"fast"}, count, 100);
    wait_until(
        [&] {
          const std::string query =
              "SELECT count(*) FROM entries WHERE headers->>'endpoint' = 'fast'";
          return sql_.number(query) == 0;
        },
        "the fast endpoint's entries are delivered");
    EXPECT_LT(steady_clock::now() - start, milliseconds{5000});
  }

  // For each key, that the numbers of first arrivals go up; returns how many different ones came.
  static std::size_t expect_order(const std::vector<HttpRequest>& requests) {
    std::map<std::string, std::int64_t> last;
    std::set<std::string> seen;
    for (const HttpRequest& request : requests) {
      if (!seen.insert(request.header("webhook-id").value_or("")).second) continue;
      const auto n = boost::json::parse(request.body).at("n").to_number<std::int64_t>();
      auto& before = last[request.header("ce-partitionkey").value_or("")];
      EXPECT_LT(before, n) << request.header("ce-partitionkey").value_or("");
      before = n;
    }
    return seen.size();
  }

  // The attempts of one entry carry one id, and each the time at which it was made: receivers
  // refuse old times.
  static void expect_fresh_timestamps(const std::vector<HttpRequest>& requests) {
    std::map<std::string, std::vector<const HttpRequest*>> by_entry;
    for (const HttpRequest& request : requests) {
      by_entry[request.header("ce-partitionkey").value_or("") + " " + request.body].push_back(
          &request);
    }
    std::chrono::seconds longest{0};
    for (const auto& [entry, attempts] : by_entry) {
      const HttpRequest& first = *attempts.front();
      for (const HttpRequest* attempt : attempts) {
        EXPECT_EQ(attempt->header("webhook-id"), first.header("webhook-id")) << entry;
        const std::chrono::seconds renewed{
            std::stoll(attempt->header("webhook-timestamp").value_or("0")) -
            std::stoll(first.header("webhook-timestamp").value_or("0"))};
        const auto later =
            std::chrono::round<std::chrono::seconds>(attempt->arrived - first.arrived);
        EXPECT_LE(std::abs((renewed - later).count()), 2) << entry;
        longest = std::max(longest, later);
      }
    }
    EXPECT_GE(longest.count(), 3) << "no entry was tried over a time that shows";
  }

  HttpRecorder server_;
};

TEST_F(WebhookWorker, AnEndpointThatIsGoneIsParkedUntilAnOperatorResumesIt) {
  std::atomic<bool> gone = true;
  server_.answer_by([&](const HttpRequest& request) {
    return HttpAnswer{.status = gone && request.target == "/acme" ? 410 : 200};
  });
  enqueue_for({"acme", "globex"}, 200, 5);
  WorkerProcess worker(options(server_.port()));
  wait_until([&] { return parked() == 1; }, "the endpoint is parked");
  wait_until([&] { return delivered() == 200; }, "the other endpoint's entries are delivered");
  EXPECT_EQ(live("orders"), 200);
  EXPECT_EQ(dead_letters_of_all(), 0);
  EXPECT_EQ(sql_.number("SELECT max(attempts) FROM entries"), 0);
  EXPECT_THAT(sql_.value("SELECT reason FROM destinations WHERE lane = 'acme'"),
              HasSubstr("webhook.status_410"));
  const std::string list = outfall(worker, {"destinations", "list"});
  EXPECT_THAT(list, HasSubstr("acme"));
  EXPECT_THAT(list, Not(HasSubstr("globex")));

  const std::size_t asked = server_.count();
  enqueue_for({"globex"}, 100);
  wait_until([&] { return delivered() == 300; }, "the other endpoint goes on");
  EXPECT_EQ(server_.count(), asked + 100) << "the parked one is not asked again";

  gone = false;
  outfall(worker, {"destinations", "resume", "orders", "acme", "--reason", "they are back"});
  wait_until_empty("orders");
  EXPECT_EQ(parked(), 0);
  EXPECT_EQ(delivered(), 500);
  EXPECT_EQ(most_attempts(), 1);
  EXPECT_EQ(worker.stop(), 0);
}

// Whoever has such a URL may post to it, and more people read logs than the tables.
TEST_F(WebhookWorker, AnEndpointThatIsASecretUrlIsLoggedByItsOriginAndResumedByItsName) {
  std::atomic<int> status = 503;
  server_.answer_by([&](const HttpRequest&) { return HttpAnswer{.status = status}; });
  const std::string endpoint = server_.url("/T0/s3cr3t?token=s3cr3t");
  WorkerProcess::Options whole = options(server_.port());
  const std::string fixed = server_.url("/{header.endpoint}") + "\"";
  whole.streams.replace(whole.streams.find(fixed), fixed.size(),
                        "{header.endpoint}\"\nallow_hosts = [\"127.0.0.1:*\"]");
  enqueue_for({endpoint}, 10, 10);
  WorkerProcess worker(whole);
  worker.process().wait_for_output("destination unavailable");
  status = 410;
  wait_until([&] { return parked() == 1; }, "the endpoint is parked");
  worker.process().wait_for_output("destination parked");
  EXPECT_THAT(outfall(worker, {"destinations", "list"}), HasSubstr("s3cr3t"));
  status = 200;
  outfall(worker, {"destinations", "resume", "orders", endpoint, "--reason", "they are back"});
  wait_until_empty("orders");
  worker.process().wait_for_output("destination answers again");
  EXPECT_EQ(worker.stop(), 0);
  EXPECT_THAT(worker.log(), HasSubstr(server_.url("/…")));
  EXPECT_THAT(worker.log(), Not(HasSubstr("s3cr3t")));
}

// However many answers say so.
TEST_F(WebhookWorker, AParkingIsToldOnce) {
  server_.answer_by([](const HttpRequest& request) {
    const bool is_late = request.header("ce-partitionkey") == "acme-0";
    return HttpAnswer{.status = 410, .delay = milliseconds{is_late ? 1000 : 0}};
  });
  enqueue_for({"acme"}, 2, 2);
  WorkerProcess worker(options(server_.port()));
  const auto wait_for_calls = [&](int calls) {
    wait_until(
        [&] {
          return sql_.number(
                     "SELECT count(*) FROM operations WHERE action = 'pause_destination'") >= calls;
        },
        "every answer has been told to the database");
  };
  const auto told = [&] {
    const std::string log = worker.log();
    int lines = 0;
    for (std::size_t at = 0; (at = log.find("destination parked", at)) != std::string::npos; ++at) {
      ++lines;
    }
    return lines;
  };
  wait_for_calls(2);
  wait_until([&] { return told() > 0; }, "a line");
  outfall(worker, {"destinations", "resume", "orders", "acme", "--reason", "they say so"});
  wait_for_calls(3);
  wait_until([&] { return told() > 1; }, "a line for the next parking");
  EXPECT_EQ(worker.stop(), 0);
  EXPECT_EQ(told(), 2);
}

// How an endpoint goes away.
enum class Outage { refuses, resets, silent };

class WebhookOutage : public WebhookWorker, public testing::WithParamInterface<Outage> {};

TEST_P(WebhookOutage, LosesNothingAndSpendsNoAttempt) {
  TcpGate gate(server_.port());
  WorkerProcess worker(options(gate.port(), "breaker.probe_max = \"1s\""));
  // Slow enough that the outage comes in the middle.
  server_.answer_by([](const HttpRequest&) { return HttpAnswer{.delay = milliseconds{20}}; });
  enqueue_for({"acme"}, 2000, 20);
  wait_until([&] { return delivered() > 200; }, "the first entries are delivered");
  const auto begun = steady_clock::now();
  switch (GetParam()) {
    case Outage::refuses:
      gate.admit(Admission::refuse);
      gate.end_connections(Ending::reset);
      break;
    case Outage::resets:
      gate.cut_after(Direction::to_server, 1);
      break;
    case Outage::silent:
      gate.traffic(Traffic::drop);
      break;
  }
  wait_until(
      [&] {
        return worker.metric("outfall_breaker_state{state=\"open\",stream=\"orders\"}") +
                   worker.metric("outfall_breaker_state{state=\"half_open\",stream=\"orders\"}") >
               0;
      },
      "the breaker opens");
  // Long enough for several probes.
  const auto end = steady_clock::now() + milliseconds{4000};
  wait_until([&] { return steady_clock::now() > end; }, "the outage lasts a while");
  gate.cut_after(Direction::to_server, std::nullopt);
  gate.traffic(Traffic::pass);
  gate.admit(Admission::accept);
  if (GetParam() == Outage::silent) gate.end_connections(Ending::reset);
  const auto back = steady_clock::now();
  const auto at_return = delivered();
  wait_until([&] { return delivered() >= std::min<std::int64_t>(2000, at_return + 200); },
             "deliveries go on");
  EXPECT_LT(steady_clock::now() - back, milliseconds{5000});
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 2000);
  EXPECT_EQ(dead_letters_of_all(), 0);
  EXPECT_EQ(most_attempts(), 1);
  EXPECT_EQ(expect_order(server_.requests()), 2000U);
  // Probes come and go without a trace in the gauges.
  EXPECT_EQ(worker.metric("outfall_breaker_state{state=\"open\",stream=\"orders\"}"), 0);
  EXPECT_EQ(worker.metric("outfall_breaker_state{state=\"half_open\",stream=\"orders\"}"), 0);
  EXPECT_EQ(worker.metric("outfall_breaker_state{state=\"closed\",stream=\"orders\"}"), 1);
  const double open = worker.metric("outfall_breaker_open_seconds_total{stream=\"orders\"}");
  EXPECT_GE(open, 4);
  EXPECT_LT(open, std::chrono::duration<double>(steady_clock::now() - begun).count());
  // The log says why it began, and that it is over.
  EXPECT_THAT(worker.log(),
              testing::ContainsRegex("destination unavailable .*error_code=webhook[.].* "
                                     "error=\"[^\"]"));
  EXPECT_THAT(worker.log(),
              testing::ContainsRegex("destination answers again .*after_seconds=[0-9]"));
  EXPECT_EQ(worker.stop(), 0);
}

INSTANTIATE_TEST_SUITE_P(All, WebhookOutage,
                         testing::Values(Outage::refuses, Outage::resets, Outage::silent));

TEST_F(WebhookWorker, AnEndpointThatAnswers5xxKeepsItsEntries) {
  std::atomic<bool> broken = true;
  server_.answer_by([&](const HttpRequest&) { return HttpAnswer{.status = broken ? 503 : 200}; });
  enqueue_for({"acme"}, 300, 30);
  WorkerProcess worker(options(server_.port(), "breaker.probe_max = \"300ms\""));
  const auto end = steady_clock::now() + milliseconds{4000};
  wait_until([&] { return steady_clock::now() > end; }, "the outage lasts a while");
  EXPECT_EQ(dead_letters_of_all(), 0);
  EXPECT_THAT(worker.log(), HasSubstr("error_code=webhook.status_503"));
  broken = false;
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 300);
  EXPECT_EQ(dead_letters_of_all(), 0);
  EXPECT_EQ(expect_order(server_.requests()), 300U);
  expect_fresh_timestamps(server_.requests());
}

// The worker has taken all of it by the time at which the breaker opens.
TEST_F(WebhookWorker, AnEndpointThatAnswers5xxGetsNothingButProbesOnceItsBreakerIsOpen) {
  std::atomic<bool> broken = true;
  server_.answer_by([&](const HttpRequest&) { return HttpAnswer{.status = broken ? 503 : 200}; });
  enqueue_for({"acme"}, 5000, 5000);
  WorkerProcess worker(options(server_.port(), "breaker.probe_max = \"1s\""));
  wait_until(
      [&] { return worker.metric("outfall_breaker_open_seconds_total{stream=\"orders\"}") >= 3; },
      "the breaker is open for a while");
  // It had 2,000 in hand; those that go out before the first answers are judged are not that many.
  EXPECT_LT(server_.count(), 1000U);
  EXPECT_LE(sql_.number("SELECT sum(attempts) FROM entries"), 5);
  broken = false;
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 5000);
  EXPECT_EQ(dead_letters_of_all(), 0);
  EXPECT_LE(most_attempts(), 2);
  EXPECT_EQ(worker.stop(), 0);
}

// A firewall before the application that dislikes one payload: by the answer the endpoint refuses
// everybody.
TEST_F(WebhookWorker, AnEndpointThatRefusesOneEntryStillGetsThoseOfOtherKeys) {
  std::mutex mutex;
  std::string refused;
  std::atomic<bool> refuses = true;
  server_.answer_by([&](const HttpRequest& request) {
    const std::lock_guard lock(mutex);
    const std::string id = request.header("webhook-id").value_or("");
    if (refused.empty()) refused = id;
    return HttpAnswer{.status = refuses && id == refused ? 403 : 200};
  });
  enqueue_for({"acme"}, 300, 30);
  WorkerProcess worker(options(server_.port(), "breaker.probe_max = \"300ms\""));
  wait_until([&] { return delivered() == 290; }, "the entries of the 29 other keys");
  EXPECT_EQ(live("orders"), 10);
  EXPECT_EQ(most_attempts(), 1);
  refuses = false;
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 300);
  EXPECT_EQ(dead_letters_of_all(), 0);
  EXPECT_EQ(most_attempts(), 1);
  EXPECT_EQ(expect_order(server_.requests()), 300U);
}

TEST_F(WebhookWorker, LeasesAreRenewedWhileASlowEndpointTakesLongerThanOneLasts) {
  server_.answer_always({.delay = milliseconds{500}});
  enqueue_for({"acme"}, 10, 10);
  auto slow = options(server_.port(), {}, "max_in_flight = 1");
  slow.streams.replace(slow.streams.find("timeout = \"2s\""), 14, "timeout = \"1s\"");
  slow.drain += "\nlease = \"3s\"";
  WorkerProcess worker(slow);
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 10);
  EXPECT_EQ(most_attempts(), 1);
  EXPECT_EQ(server_.count(), 10U);
  EXPECT_EQ(server_.most_at_once(), 1U);
  // An entry whose lease is about to end would be given back unsent, and claimed again.
  EXPECT_EQ(worker.metric("outfall_entries_claimed_total{stream=\"orders\"}"), 10);
  EXPECT_EQ(worker.metric("outfall_lease_lost_total{stream=\"orders\"}"), 0);
  EXPECT_EQ(worker.metric("outfall_stale_settles_total{stream=\"orders\"}"), 0);
  EXPECT_EQ(worker.stop(), 0);
}

// Its lease would let it go on for half a minute; the other worker sees at once that it is gone.
TEST_F(WebhookWorker, AWorkerThatIsCutOffSendsNothingMoreThatAnotherMayHaveTakenOver) {
  TcpGate gate(shared_postgres().port());
  HttpRecorder of_other;
  server_.answer_always({.delay = milliseconds{200}});
  WorkerProcess::Options behind_gate = options(server_.port(), {}, "max_in_flight = 1");
  behind_gate.dsn = shared_postgres().dsn_at(gate.port(), database_.name());
  enqueue_for({"acme"}, 60, 60);
  WorkerProcess cut_off(behind_gate);
  (void)server_.wait_for(3);
  gate.admit(Admission::refuse);
  gate.end_connections(Ending::reset);
  const auto present = [&] { return cut_off.status().at("database").at("present").as_bool(); };
  wait_until([&] { return !present(); }, "it knows");
  const auto knew = steady_clock::now();
  WorkerProcess other(options(of_other.port()));
  wait_until_empty("orders");
  // One may have been on its way. The other worker takes longer than that to begin.
  EXPECT_GT(of_other.requests().back().arrived, knew + milliseconds{800});
  EXPECT_LT(server_.requests().back().arrived, knew + milliseconds{400});
  EXPECT_LT(server_.count(), 60U);
  EXPECT_EQ(other.stop(), 0);

  gate.admit(Admission::accept);
  enqueue_for({"globex"}, 5);
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 65);
  EXPECT_EQ(most_attempts(), 1);
  EXPECT_EQ(cut_off.stop(), 0);
}

TEST_F(WebhookWorker, AWorkerWhosePresenceIsCutForAMomentGivesBackWhatItHasNotSentAndGoesOn) {
  server_.answer_always({.delay = milliseconds{50}});
  enqueue_for({"acme"}, 80, 20);
  WorkerProcess worker(options(server_.port(), {}, "max_in_flight = 2"));
  for (std::size_t i = 1; i <= 3; ++i) {
    (void)server_.wait_for(i * 10);
    const std::string session =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_locks JOIN pg_database d ON d.oid = "
        "database WHERE locktype = 'advisory' AND datname = current_database()";
    // It may have been lost a moment ago and not be back yet.
    wait_until([&] { return sql_.number(session) >= 1; }, "there is a presence to end");
  }
  wait_until_empty("orders");
  EXPECT_EQ(server_.count(), 80U) << "something was sent twice";
  EXPECT_EQ(expect_order(server_.requests()), 80U);
  EXPECT_EQ(delivered(), 80);
  EXPECT_EQ(most_attempts(), 1);
  EXPECT_GT(worker.metric("outfall_returned_total{stream=\"orders\"}"), 0);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(WebhookWorker, ASlowEndpointDoesNotDelayAFastOne) {
  server_.answer_by([](const HttpRequest& request) {
    return HttpAnswer{.delay = milliseconds{request.target == "/slow" ? 1000 : 0}};
  });
  enqueue_for({"slow"}, 5000, 5000);
  WorkerProcess worker(options(server_.port(), {}, "max_in_flight = 16"));
  server_.wait_for(16);
  expect_fast_is_not_delayed(1000);
  EXPECT_EQ(dead_letters_of_all(), 0);
  EXPECT_LE(server_.most_at_once(), 32U);
  worker.stop();
}

// As many as docs/operating/capacity.md says: four lanes of 75 leave half a batch of the 400.
TEST_F(WebhookWorker, SlowEndpointsThatLeaveRoomForHalfABatchDoNotDelayAFastOne) {
  server_.answer_by([](const HttpRequest& request) {
    return HttpAnswer{.delay = milliseconds{request.target == "/fast" ? 0 : 1500}};
  });
  enqueue_for({"s1", "s2", "s3", "s4"}, 200, 200);
  auto small = options(server_.port(), "lane_in_flight = 50", "max_in_flight = 2");
  small.drain += "\nmax_in_flight = 400\nbatch_entries = 100";
  WorkerProcess worker(small);
  const auto held = [&] { return worker.metric("outfall_in_flight_entries{stream=\"orders\"}"); };
  wait_until([&] { return held() >= 4 * 45; }, "the slow lanes are full");
  expect_fast_is_not_delayed(200);
  EXPECT_GE(live("orders"), 4 * 100) << "they were not slow";
  worker.stop();
}

TEST_F(WebhookWorker, AKeyWhoseEntriesTakeForeverClosesNoLaneForTheOthers) {
  std::atomic<bool> stuck = true;
  server_.answer_by([&](const HttpRequest& request) {
    const bool hot = request.header("ce-partitionkey") == "acme-0";
    return HttpAnswer{.status = hot && stuck ? 503 : 200,
                      .delay = milliseconds{hot && stuck ? 1500 : 0}};
  });
  // More than the worker holds in all, of one key, and then the others of the same endpoint.
  enqueue_for({"acme"}, 10'000);
  WorkerProcess worker(
      options(server_.port(), "lane = \"header.endpoint\"\nbreaker.failures = 1000000"));
  server_.wait_for(1);
  sql_.exec(
      "INSERT INTO entries (stream, type, key, payload, headers) SELECT 'orders', 't', 'other-' || "
      "i % 50, "
      "json_build_object('n', i), '{\"endpoint\": \"acme\"}' FROM generate_series(1, 1000) i");
  wait_until([&] { return delivered() == 1000; }, "the other keys are delivered");
  stuck = false;
  wait_until_empty("orders");
  EXPECT_EQ(expect_order(server_.requests()), 11'000U);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM parkings"), 0);
}

TEST_F(WebhookWorker, WhatIsPassedOverForAClosedEndpointComesInOrderWhenItOpens) {
  sql_.exec("SELECT register_streams('{orders}')");
  (void)sql_.query("SELECT pause_destination('orders', 'acme', 'test', 'closed for the day')");
  enqueue_for({"acme"}, 20'000, 500);
  enqueue_for({"globex"}, 500, 50);
  WorkerProcess worker(options(server_.port(), "lane = \"header.endpoint\""));
  wait_until([&] { return delivered() == 500; }, "the open endpoint's entries are delivered");
  (void)sql_.query("SELECT resume_destination('orders', 'acme', 'test', 'open again')");
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 20'500);
  EXPECT_EQ(expect_order(server_.requests()), 20'500U);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM parkings"), 0);
}

// What a stream with this limit refuses, and what it takes.
constexpr const char* kLimit = "max_payload = \"64B\"";
const std::string kLarge = "\"" + std::string(100, 'x') + "\"";

// The worker ended, or went on with memory that was another's, when the last of a key was refused
// while an answer to the one before it was taken in.
TEST_F(WebhookWorker, APayloadAboveTheLimitBehindASmallOneOfItsKeyEndsNothing) {
  sql_.query(
      "INSERT INTO entries (stream, type, key, payload, headers) SELECT 'orders', 't', 'k' || i, "
      "CASE WHEN n = 1 THEN '{}'::json ELSE $1::json END, '{\"endpoint\": \"acme\"}' "
      "FROM generate_series(1, 50) i, generate_series(1, 2) n ORDER BY n, i",
      {kLarge});
  WorkerProcess worker(options(server_.port(), kLimit));
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 50);
  EXPECT_EQ(dead_letters("outbox.payload_too_large"), 50);
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(WebhookWorker, ManyPayloadsAboveTheLimitInARowOfOneKeyDoNotStopIt) {
  constexpr int kRow = 900;
  const auto enqueue_small = [&](int n) {
    enqueue("orders", "k", "{\"n\": " + std::to_string(n) + "}");
  };
  enqueue_small(1);
  sql_.query(
      "INSERT INTO entries (stream, type, key, payload) SELECT 'orders', 't', 'k', $1::json "
      "FROM generate_series(1, $2::int)",
      {kLarge, std::to_string(kRow)});
  enqueue_small(2);
  enqueue_small(3);
  // Without a template in its URL, the stream is one lane.
  WorkerProcess::Options one_lane = options(server_.port(), kLimit);
  one_lane.streams.replace(one_lane.streams.find("/{header.endpoint}"), 18, "/acme");
  WorkerProcess worker(one_lane);
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 3);
  EXPECT_EQ(dead_letters("outbox.payload_too_large"), kRow);
  EXPECT_EQ(expect_order(server_.requests()), 3U);
  EXPECT_EQ(worker.stop(), 0);
}

// Where nobody else waits it is the probe again when the next one is due. It left three to others
// that were not there, so that the return of a quiet destination was noticed three times as late.
TEST_F(WebhookWorker, AnEntryThatIsAloneIsTheNextProbeAgain) {
  server_.answer_always({.status = 503});
  WorkerProcess worker(
      options(server_.port(), "breaker.failures = 1\nbreaker.probe_max = \"400ms\"\n"));
  enqueue_for({"acme"}, 1);
  (void)server_.wait_for(8);
  // The longest pause and drain.poll_idle.
  const auto waits_longer = [&] {
    return sql_.number(
               "SELECT count(*) FROM entries WHERE available_at > clock_timestamp() + "
               "interval '660 ms'") > 0;
  };
  EXPECT_FALSE(holds_within(waits_longer, milliseconds{3000}));
  EXPECT_EQ(most_attempts(), 0);
  server_.answer_always({});
  wait_until_empty("orders");
  EXPECT_EQ(worker.stop(), 0);
}

// The same of what the emitter refuses before it sends anything: each such entry was a probe that
// opened the destination for what was behind it.
TEST_F(WebhookWorker, AnEntryThatMakesNoUrlIsNoAnswerOfAnEndpointThatIsAway) {
  server_.answer_always({.status = 503});
  WorkerProcess::Options of_subject =
      options(server_.port(),
              "lane = \"header.endpoint\"\nbreaker.failures = 1\nbreaker.probe_max = \"300ms\"\n");
  of_subject.streams.replace(of_subject.streams.find("/{header.endpoint}"), 18,
                             "/{header.endpoint}/{subject}");
  WorkerProcess worker(of_subject);
  const auto enqueue = [&](const std::string& key, const std::string& subject) {
    sql_.query(
        "INSERT INTO entries (stream, type, key, subject, payload, headers) VALUES "
        "('orders', 't', $1, nullif($2, ''), '{}', '{\"endpoint\": \"acme\"}')",
        {key, subject});
  };
  enqueue("good", "7");
  worker.process().wait_for_output("destination unavailable");
  for (int i = 0; i < 20; ++i) enqueue("bad-" + std::to_string(i), "");
  wait_until([&] { return dead_letters("webhook.bad_url") == 20; }, "all are refused");
  EXPECT_THAT(worker.log(), Not(HasSubstr("destination answers again")));
  server_.answer_always({});
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 1);
  EXPECT_EQ(worker.stop(), 0);
}

// Nobody has asked the endpoint, so nothing is known of it: it stays closed until it answers. The
// entry that closed it waits longer than its next probes do, and leaves them to those behind it.
TEST_F(WebhookWorker, APayloadAboveTheLimitIsNoAnswerOfAnEndpointThatIsAway) {
  server_.answer_always({.status = 503});
  WorkerProcess worker(
      options(server_.port(),
              std::string("breaker.failures = 1\nbreaker.probe_max = \"300ms\"\n") + kLimit));
  enqueue_for({"acme"}, 1);
  worker.process().wait_for_output("destination unavailable");
  for (int i = 0; i < 20; ++i)
    sql_.query(
        "INSERT INTO entries (stream, type, key, payload, headers) VALUES "
        "('orders', 't', $1, $2, '{\"endpoint\": \"acme\"}')",
        {"large-" + std::to_string(i), kLarge});
  wait_until([&] { return dead_letters("outbox.payload_too_large") == 20; }, "all are refused");
  EXPECT_THAT(worker.log(), Not(HasSubstr("destination answers again")));
  server_.answer_always({});
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 1);
  EXPECT_EQ(worker.stop(), 0);
}

}  // namespace
}  // namespace outfall::test
