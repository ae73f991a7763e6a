// What the admin server answers to well-formed requests, over real sockets: its routes, methods,
// tokens, bodies, connections, and handlers that block or fail.

#include <algorithm>
#include <atomic>
#include <future>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include "daemon/admin/server.h"
#include "daemon/admin/standard_routes.h"
#include "telemetry/metrics.h"
#include "tests/integration/admin_client.h"
#include "tests/support/wait_until.h"

namespace outfall {
namespace {

using test::AdminAnswer;
using test::http_call;
using test::http_get;
using test::RawConnection;
using test::wait_until;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class AdminServerTest : public testing::Test {
 protected:
  // The four standard routes and three like those of operators.
  void start(AdminOptions options = {}) {
    if (options.listen == AdminOptions{}.listen) options.listen = "127.0.0.1:0";
    auto routes = standard_routes({
        .metrics = [this] { return metrics_.serialize(); },
        .live = alive_while_beating(heartbeat_, dead_after_),
        .ready =
            [this] {
              return HealthReport{ready_, {"the schema is \"old\""}};
            },
        .status = [this] { return status(); },
    });
    routes.push_back({.method = "POST",
                      .pattern = "/streams/{stream}/pause",
                      .needs_token = true,
                      .summary = "Pauses a stream.",
                      .handler = [this](const Request& request) { return pause(request); }});
    routes.push_back({.method = "GET",
                      .pattern = "/database",
                      .summary = "Asks the database.",
                      .handler =
                          [this](const Request&) {
                            ++asked_;
                            if (database_gate_) database_gate_->wait();
                            return Response{};
                          },
                      .asks_database = true});
    routes.push_back({.method = "PUT",
                      .pattern = "/echo",
                      .may_block = false,
                      .summary = "Gives the body back.",
                      .handler = [](const Request& request) {
                        return Response{.status = 201,
                                        .content_type = request.content_type,
                                        .body = request.body,
                                        .headers = {{"X-Query", request.query.at("q")}}};
                      }});
    routes.push_back({.method = "GET",
                      .pattern = "/throws",
                      .summary = "Fails.",
                      .handler = [](const Request&) -> Response {
                        throw std::runtime_error("the secret reason");
                      }});
    server_.emplace(options, std::move(routes), log_);
    server_->start();
    url_ = "http://" + server_->address();
  }

  std::string status() {
    ++status_calls_;
    if (status_gate_) status_gate_->wait();
    return "{\"streams\":[]}";
  }

  Response pause(const Request& request) {
    ++pauses_;
    if (pause_gate_) pause_gate_->wait();
    return {.body = request.method + " " + request.params.at("stream") + " from " + request.remote};
  }

  Metrics metrics_{{"1", "r", "c"}, system_clock()};
  Heartbeat heartbeat_{system_clock(), metrics_.gauge(Metric::heartbeat_timestamp_seconds)};
  Milliseconds dead_after_{60'000};
  std::atomic<bool> ready_{true};
  std::atomic<int> asked_{0};
  std::optional<std::shared_future<void>> database_gate_;
  std::atomic<int> status_calls_{0};
  std::atomic<int> pauses_{0};
  std::optional<std::shared_future<void>> status_gate_;
  std::optional<std::shared_future<void>> pause_gate_;
  std::ostringstream log_text_;
  Logger log_{system_clock(), LogLevel::debug, LogFormat::text,
              std::make_shared<spdlog::sinks::ostream_sink_mt>(log_text_)};
  std::optional<AdminServer> server_;
  std::string url_;
};

TEST_F(AdminServerTest, MetricsAreInPrometheusFormat) {
  metrics_.stream("orders").entries_claimed.Increment(5);
  start();
  const AdminAnswer answer = http_get(url_ + "/metrics");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(answer.headers.at("cache-control"), "no-store");
  EXPECT_THAT(answer.body, HasSubstr("outfall_entries_claimed_total{stream=\"orders\"} 5\n"));
}

TEST_F(AdminServerTest, LivenessFollowsTheHeartbeat) {
  start();
  const AdminAnswer alive = http_get(url_ + "/livez");
  EXPECT_EQ(alive.status, 200);
  EXPECT_EQ(alive.headers.at("content-type"), "application/json");
  EXPECT_EQ(alive.body, "{\"alive\":true,\"reasons\":[]}\n");

  const auto stalled = alive_while_beating(heartbeat_, Milliseconds(-1))();
  EXPECT_FALSE(stalled.ok);
  EXPECT_THAT(stalled.reasons.at(0), StartsWith("the main loop last turned "));
}

TEST_F(AdminServerTest, LivenessEndsWhenTheLoopNoLongerTurns) {
  dead_after_ = Milliseconds(-1);
  start();
  const AdminAnswer dead = http_get(url_ + "/livez");
  EXPECT_EQ(dead.status, 503);
  EXPECT_THAT(dead.body, StartsWith("{\"alive\":false,\"reasons\":[\"the main loop last turned "));
}

TEST_F(AdminServerTest, ReadinessGivesItsReasons) {
  start();
  EXPECT_EQ(http_get(url_ + "/readyz").status, 200);
  ready_ = false;
  const AdminAnswer answer = http_get(url_ + "/readyz");
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.body, "{\"ready\":false,\"reasons\":[\"the schema is \\\"old\\\"\"]}\n");
}

TEST_F(AdminServerTest, StatusIsWhatTheCallbackMakes) {
  start();
  const AdminAnswer answer = http_get(url_ + "/status?verbose=1");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("content-type"), "application/json");
  EXPECT_EQ(answer.body, "{\"streams\":[]}");
}

TEST_F(AdminServerTest, HeadHasTheLengthAndNoBody) {
  start();
  const AdminAnswer answer = http_call({.method = "HEAD", .url = url_ + "/status"});
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("content-length"), "14");
  EXPECT_EQ(answer.body, "");
}

TEST_F(AdminServerTest, UnknownPathIsToldWhatThereIs) {
  start();
  const AdminAnswer answer = http_get(url_ + "/metric");
  EXPECT_EQ(answer.status, 404);
  EXPECT_THAT(answer.body, StartsWith("{\"error\":\"not_found\","));
  EXPECT_THAT(answer.body, HasSubstr("GET /metrics, GET /livez"));
  EXPECT_EQ(http_get(url_ + "/metrics/").status, 404);
  EXPECT_EQ(http_get(url_ + "/../metrics").status, 404);
  EXPECT_EQ(http_get(url_ + "/streams/%zz/pause").status, 400);
}

TEST_F(AdminServerTest, WrongMethodIsToldTheRightOne) {
  start();
  const AdminAnswer post = http_call({.method = "POST", .url = url_ + "/metrics", .body = "x"});
  EXPECT_EQ(post.status, 405);
  EXPECT_EQ(post.headers.at("allow"), "GET, HEAD");
  EXPECT_THAT(post.body, HasSubstr("\"hint\":\"use GET, HEAD\""));
  const AdminAnswer get = http_get(url_ + "/streams/orders/pause");
  EXPECT_EQ(get.status, 405);
  EXPECT_EQ(get.headers.at("allow"), "POST");
  EXPECT_EQ(http_call({.method = "BREW", .url = url_ + "/status"}).status, 405);
  EXPECT_EQ(pauses_, 0);
}

TEST_F(AdminServerTest, ChangesOfStateNeedTheToken) {
  start({.token = "s3cret"});
  test::HttpCall call{.method = "POST", .url = url_ + "/streams/my%20orders/pause", .body = "{}"};
  const AdminAnswer missing = http_call(call);
  EXPECT_EQ(missing.status, 401);
  EXPECT_EQ(missing.headers.at("www-authenticate"), "Bearer realm=\"outfall\"");
  EXPECT_THAT(missing.body, HasSubstr("a bearer token is missing"));
  for (const char* wrong : {"Authorization: Bearer s3cre", "Authorization: Bearer s3cret2",
                            "Authorization: Basic s3cret", "Authorization: s3cret"}) {
    call.headers = {wrong};
    const AdminAnswer answer = http_call(call);
    EXPECT_EQ(answer.status, 401) << wrong;
    EXPECT_THAT(answer.body, HasSubstr("the bearer token is wrong"));
  }
  EXPECT_EQ(pauses_, 0);

  call.headers = {"Authorization: Bearer s3cret"};
  const AdminAnswer right = http_call(call);
  EXPECT_EQ(right.status, 200);
  EXPECT_EQ(right.body, "POST my orders from 127.0.0.1");
  EXPECT_EQ(pauses_, 1);
  EXPECT_EQ(http_get(url_ + "/livez").status, 200) << "reading needs no token";

  server_.reset();
  const std::string log = log_text_.str();
  EXPECT_THAT(log, HasSubstr("info admin request method=POST path=/streams/my%20orders/pause "
                             "status=200 remote=127.0.0.1"));
  EXPECT_THAT(log, HasSubstr("warning admin request refused method=POST"));
  EXPECT_THAT(log, Not(HasSubstr("s3cret")));
}

TEST_F(AdminServerTest, WithoutATokenNothingCanBeChanged) {
  start();
  for (const char* header : {"Authorization: Bearer ", "Authorization: Bearer x", "X-None: 1"}) {
    const AdminAnswer answer =
        http_call({.method = "POST", .url = url_ + "/streams/orders/pause", .headers = {header}});
    EXPECT_EQ(answer.status, 403) << header;
    EXPECT_THAT(answer.body, HasSubstr("admin.token_file"));
  }
  EXPECT_EQ(pauses_, 0);
}

TEST_F(AdminServerTest, WrongTokensMakeAnAddressWait) {
  AdminOptions options{.token = "s3cret"};
  options.limits.wrong_tokens = {.allowed = 3, .window = Milliseconds(2'000), .addresses = 4};
  start(options);
  const auto pause = [this](const std::string& header) {
    return http_call(
        {.method = "POST", .url = url_ + "/streams/a/pause", .headers = {header}, .body = "{}"});
  };
  for (int i = 0; i < 9; ++i) EXPECT_EQ(pause("X-None: 1").status, 401) << "nobody has guessed";
  for (int i = 0; i < 3; ++i) EXPECT_EQ(pause("Authorization: Bearer x").status, 401);
  const AdminAnswer answer = pause("Authorization: Bearer x");
  EXPECT_EQ(answer.status, 429);
  EXPECT_THAT(answer.headers.at("retry-after"), testing::AnyOf("1", "2"));
  EXPECT_THAT(answer.body, HasSubstr("too_many_failures"));
  EXPECT_EQ(pauses_, 0);
  EXPECT_EQ(pause("Authorization: Bearer s3cret").status, 200) << "nobody locks operators out";
  EXPECT_EQ(http_get(url_ + "/livez").status, 200);
  wait_until([&] { return pause("Authorization: Bearer x").status == 401; },
             "the window has passed");
}

TEST_F(AdminServerTest, AnotherTokenCountsFromTheNextRequestOn) {
  start({.token = "old"});
  const auto pause = [this](const std::string& token) {
    return http_call({.method = "POST",
                      .url = url_ + "/streams/a/pause",
                      .headers = {"Authorization: Bearer " + token}})
        .status;
  };
  EXPECT_EQ(pause("old"), 200);
  server_->set_token("new");
  EXPECT_EQ(pause("old"), 401);
  EXPECT_EQ(pause("new"), 200);
  server_->set_token("");
  EXPECT_EQ(pause("new"), 403);
}

TEST_F(AdminServerTest, ADatabaseThatHangsKeepsOnlyItsOwnRequestsWaiting) {
  std::promise<void> gate;
  database_gate_ = gate.get_future().share();
  AdminOptions options;
  options.limits.database_queue = 2;
  start(options);
  const auto ask = [this] {
    return std::async(std::launch::async, [this] { return http_get(url_ + "/database"); });
  };
  std::vector<std::future<AdminAnswer>> asking;
  asking.push_back(ask());
  wait_until([this] { return asked_ == 1; }, "the first one is at work");
  for (int i = 0; i < 5; ++i) asking.push_back(ask());
  const auto refused = [&] {
    return std::ranges::count_if(asking, [](const std::future<AdminAnswer>& one) {
      return one.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    });
  };
  wait_until([&] { return refused() == 3; }, "two wait, and three more are refused");
  EXPECT_EQ(asked_, 1) << "one thread";
  EXPECT_EQ(http_get(url_ + "/status").status, 200) << "handlers of other routes are free";
  gate.set_value();
  int busy = 0;
  for (auto& one : asking) {
    const AdminAnswer answer = one.get();
    if (answer.status == 200) continue;
    ++busy;
    EXPECT_EQ(answer.status, 503);
    EXPECT_EQ(answer.headers.at("retry-after"), "5");
    EXPECT_THAT(answer.body, HasSubstr("\"busy\""));
  }
  EXPECT_EQ(busy, 3);
  EXPECT_EQ(http_get(url_ + "/database").status, 200);
}

TEST_F(AdminServerTest, WhatComesUpTooLateDoesNotBegin) {
  std::promise<void> gate;
  database_gate_ = gate.get_future().share();
  AdminOptions options;
  options.limits.handler_timeout = Milliseconds(200);
  start(options);
  auto first = std::async(std::launch::async, [this] { return http_get(url_ + "/database"); });
  wait_until([this] { return asked_ == 1; }, "the first one is at work");
  EXPECT_EQ(http_get(url_ + "/database").status, 504);
  EXPECT_EQ(first.get().status, 504);
  gate.set_value();
  wait_until([this] { return http_get(url_ + "/database").status == 200; }, "the thread is free");
  EXPECT_EQ(asked_, 2) << "the one that had waited too long was left out";
}

TEST_F(AdminServerTest, BodiesUpToTheLimitArrive) {
  start();
  const std::string body(1u << 20, 'b');
  // libcurl asks for "100 Continue" first at this size.
  const AdminAnswer answer = http_call({.method = "PUT",
                                        .url = url_ + "/echo?q=a%20b",
                                        .headers = {"Content-Type: text/x-test"},
                                        .body = body});
  EXPECT_EQ(answer.status, 201);
  EXPECT_EQ(answer.headers.at("content-type"), "text/x-test");
  EXPECT_EQ(answer.headers.at("x-query"), "a b");
  EXPECT_EQ(answer.body, body);

  const AdminAnswer chunked = http_call({.method = "PUT",
                                         .url = url_ + "/echo?q=1",
                                         .headers = {"Transfer-Encoding: chunked"},
                                         .body = "in chunks"});
  EXPECT_EQ(chunked.body, "in chunks");
}

TEST_F(AdminServerTest, ExpectContinueIsAnsweredByTheHeaderAlone) {
  start({.token = "s3cret"});
  RawConnection refused(server_->port());
  refused.send(
      "POST /streams/a/pause HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n"
      "Expect: 100-continue\r\n\r\n");
  EXPECT_THAT(refused.read_to_end(), StartsWith("HTTP/1.1 401 "));

  RawConnection accepted(server_->port());
  accepted.send(
      "PUT /echo?q=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
      "Expect: 100-continue\r\n\r\n");
  EXPECT_EQ(accepted.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  accepted.send("body");
  EXPECT_THAT(accepted.read_until("\r\n\r\nbody"), StartsWith("HTTP/1.1 201 "));
}

TEST_F(AdminServerTest, ConnectionIsKeptAndRequestsMayBePipelined) {
  start();
  RawConnection connection(server_->port());
  const std::string request = "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";
  connection.send(request);
  EXPECT_THAT(connection.read_until("]}\n"), StartsWith("HTTP/1.1 200 "));
  connection.send(request + "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n" +
                  "GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(connection.read_until("]}\n"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(connection.read_until("}\n"), StartsWith("HTTP/1.1 404 "));
  const std::string last = connection.read_to_end();
  EXPECT_THAT(last, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(last, HasSubstr("Connection: close\r\n"));
  EXPECT_THAT(last, HasSubstr("{\"streams\":[]}"));
}

TEST_F(AdminServerTest, OldHttpClientsAreServed) {
  start();
  RawConnection plain(server_->port());
  plain.send("GET /livez HTTP/1.0\r\n\r\n");
  EXPECT_THAT(plain.read_to_end(), StartsWith("HTTP/1.0 200 "));
  RawConnection kept(server_->port());
  kept.send("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_THAT(kept.read_until("]}\n"), HasSubstr("Connection: keep-alive\r\n"));
  kept.send("GET /livez HTTP/1.0\r\n\r\n");
  EXPECT_THAT(kept.read_to_end(), StartsWith("HTTP/1.0 200 "));
}

TEST_F(AdminServerTest, FailingHandlerIsLoggedAndKeepsItsReasonFromTheClient) {
  start();
  const AdminAnswer answer = http_get(url_ + "/throws");
  EXPECT_EQ(answer.status, 500);
  EXPECT_THAT(answer.body, StartsWith("{\"error\":\"internal_error\""));
  EXPECT_THAT(answer.body, Not(HasSubstr("secret")));
  EXPECT_EQ(http_get(url_ + "/livez").status, 200);
  server_.reset();
  EXPECT_THAT(log_text_.str(), HasSubstr("error=\"the secret reason\""));
}

TEST_F(AdminServerTest, BlockedHandlersDoNotKeepHealthAndMetricsWaiting) {
  std::promise<void> gate;
  status_gate_ = gate.get_future().share();
  start();
  std::vector<std::future<AdminAnswer>> blocked;
  for (int i = 0; i < 5; ++i) {
    blocked.push_back(
        std::async(std::launch::async, [this] { return http_get(url_ + "/status"); }));
  }
  wait_until([this] { return status_calls_ == 2; }, "both handler threads to be blocked");
  EXPECT_EQ(http_get(url_ + "/livez").status, 200);
  EXPECT_EQ(http_get(url_ + "/readyz").status, 200);
  EXPECT_EQ(http_get(url_ + "/metrics").status, 200);
  EXPECT_EQ(status_calls_, 2);
  gate.set_value();
  for (auto& answer : blocked) EXPECT_EQ(answer.get().status, 200);
}

TEST_F(AdminServerTest, SlowHandlerIsAnsweredForAndItsResultDropped) {
  std::promise<void> gate;
  status_gate_ = gate.get_future().share();
  AdminOptions options;
  options.limits.handler_timeout = Milliseconds(100);
  start(options);
  const AdminAnswer answer = http_get(url_ + "/status");
  EXPECT_EQ(answer.status, 504);
  EXPECT_THAT(answer.body, HasSubstr("look before you repeat it"));
  gate.set_value();
  EXPECT_EQ(http_get(url_ + "/status").status, 200);
  server_.reset();
  EXPECT_THAT(log_text_.str(), HasSubstr("late admin request method=GET path=/status status=200"));
}

// It may have taken effect all the same, and nothing told whether it had.
TEST_F(AdminServerTest, TheLogTellsHowAnOperatorsRequestEndedThatWasAnsweredWith504) {
  std::promise<void> gate;
  pause_gate_ = gate.get_future().share();
  AdminOptions options{.token = "s3cret"};
  options.limits.handler_timeout = Milliseconds(500);
  log_.set_level(LogLevel::info);
  start(options);
  const AdminAnswer answer = http_call({.method = "POST",
                                        .url = url_ + "/streams/a/pause",
                                        .headers = {"Authorization: Bearer s3cret"},
                                        .body = ""});
  EXPECT_EQ(answer.status, 504);
  EXPECT_EQ(pauses_, 1);
  gate.set_value();
  server_.reset();
  EXPECT_THAT(log_text_.str(), HasSubstr("late admin request method=POST path=/streams/a/pause "
                                         "status=200"));
}

TEST_F(AdminServerTest, ClientMayGoAwayWhileItsRequestIsHandled) {
  std::promise<void> gate;
  status_gate_ = gate.get_future().share();
  start();
  {
    RawConnection connection(server_->port());
    connection.send("GET /status HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until([this] { return status_calls_ == 1; }, "the handler to run");
  }
  gate.set_value();
  EXPECT_EQ(http_get(url_ + "/status").status, 200);
}

TEST_F(AdminServerTest, ConcurrentScrapesSeeWholeDocuments) {
  start();
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (int i = 0; !done; ++i) {
      StreamMetrics& stream = metrics_.stream("s" + std::to_string(i % 10));
      stream.entries_settled.Increment(10);
      stream.settle_duration.observe(std::chrono::microseconds(i));
    }
  });
  std::vector<std::thread> scrapers;
  for (int t = 0; t < 6; ++t) {
    scrapers.emplace_back([this] {
      for (int i = 0; i < 20; ++i) {
        const AdminAnswer answer = http_get(url_ + "/metrics");
        EXPECT_EQ(answer.status, 200);
        EXPECT_THAT(answer.body, HasSubstr("# TYPE process_start_time_seconds gauge\n"));
        EXPECT_TRUE(answer.body.ends_with('\n'));
        EXPECT_EQ(http_get(url_ + "/status").status, 200);
      }
    });
  }
  for (auto& scraper : scrapers) scraper.join();
  done = true;
  writer.join();
}

TEST_F(AdminServerTest, ListensOnIpv6) {
  try {
    start({.listen = "[::1]:0"});
  } catch (const AdminListenError& e) {
    GTEST_SKIP() << "this machine has no IPv6 loopback: " << e.what();
  }
  EXPECT_THAT(url_, StartsWith("http://[::1]:"));
  EXPECT_EQ(http_get(url_ + "/livez").status, 200);
}

TEST_F(AdminServerTest, PortInUseNamesTheSetting) {
  start();
  try {
    AdminServer second({.listen = server_->address()}, {}, log_);
    FAIL() << "two servers on one port";
  } catch (const AdminListenError& e) {
    EXPECT_EQ(std::string(e.what()),
              "admin.listen = \"" + server_->address() +
                  "\": Address already in use; set another port, or stop the process that has "
                  "this one");
  }
}

TEST_F(AdminServerTest, UnusableAddressNamesTheSetting) {
  for (const char* listen : {"", "9464", "localhost", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x",
                             "127.0.0.1:70000", "::1:9464", "example.org:80", "192.0.2.1:0"}) {
    try {
      AdminServer server({.listen = listen}, {}, log_);
      ADD_FAILURE() << listen;
    } catch (const AdminListenError& e) {
      EXPECT_THAT(e.what(), StartsWith("admin.listen = \"" + std::string(listen) + "\": "));
    }
  }
}

TEST_F(AdminServerTest, TableCanBeReadBack) {
  start();
  ASSERT_EQ(server_->routes().size(), 8U);
  for (const Route& route : server_->routes()) EXPECT_TRUE(route.summary.ends_with('.'));
}

}  // namespace
}  // namespace outfall
