// Many endpoints behind one emitter: concurrency, rate, pauses, batches, templates and leases.
#include <algorithm>
#include <atomic>
#include <future>
#include <map>
#include <set>

#include <gmock/gmock.h>

#include "emitters/webhook/dispatcher.h"
#include "tests/integration/webhook_fixture.h"
#include "tests/support/temp_folder.h"

namespace outfall::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::Each;
using testing::HasSubstr;
using webhook::Metric;

class WebhookEndpoints : public WebhookTest {
 protected:
  WebhookEndpoints() { settings_.text("url", server_.url("/{header.endpoint}")); }

  static TestEntry to(const std::string& endpoint, const std::string& type = "t") {
    return {.type = type, .headers_json = R"({"endpoint":")" + endpoint + "\"}"};
  }

  // Hands entries over with the lane that the drain would give them.
  std::vector<std::uint64_t> hand_over(const std::vector<TestEntry>& entries,
                                       const std::string& lane,
                                       std::shared_ptr<SendDeadline> deadline = nullptr,
                                       const LaneGate* gate = nullptr) {
    if (!emitter_) start();
    std::vector<std::uint64_t> tokens;
    EmitBatch batch = drain_.batch(entries, tokens);
    // The drain's names of lanes outlive their items.
    const std::string& name = *lanes_.insert(lane).first;
    for (EmitItem& item : batch.items) {
      item.lane = name;
      item.gate = gate;
    }
    batch.deadline = std::move(deadline);
    emitter_->emit(std::move(batch));
    return tokens;
  }

  static std::vector<TestEntry> many(std::size_t count, const TestEntry& entry) {
    return std::vector<TestEntry>(count, entry);
  }

  std::set<std::string> lanes_;
};

TEST_F(WebhookEndpoints, EachHasItsOwnConcurrency) {
  settings_.number("max_in_flight", 8);
  server_.answer_always({.delay = milliseconds{5}});
  hand_over(many(200, to("a")), "a");
  drain_.wait_for_all();
  EXPECT_EQ(server_.most_at_once(), 8U);
  EXPECT_LE(server_.connections(), 8U) << "connections are used again";
  hand_over(many(200, to("b")), "b");
  hand_over(many(200, to("c")), "c");
  drain_.wait_for_all();
  EXPECT_LE(server_.most_at_once(), 16U);
  EXPECT_GT(server_.most_at_once(), 8U);
}

TEST_F(WebhookEndpoints, ASlowOneDoesNotDelayAnother) {
  server_.answer_by([](const HttpRequest& request) {
    return HttpAnswer{.delay = milliseconds{request.target == "/slow" ? 2000 : 0}};
  });
  hand_over(many(2000, to("slow")), "slow");
  const auto start = steady_clock::now();
  const auto fast = hand_over(many(500, to("fast")), "fast");
  wait_until(
      [&] { return std::ranges::all_of(fast, [&](auto t) { return drain_.is_complete(t); }); },
      "the fast endpoint's entries");
  EXPECT_LT(steady_clock::now() - start, milliseconds{1500});
  emitter_->stop(Milliseconds{0});
}

TEST_F(WebhookEndpoints, OneThatRefusesConnectionsDoesNotDelayAnother) {
  const std::string gone = "127.0.0.1:" + std::to_string(free_port());
  settings_.text("url", "http://{header.endpoint}/").list("allow_hosts", {"127.0.0.1:*"});
  const auto refused = hand_over(many(1000, to(gone)), gone);
  const std::string here = "127.0.0.1:" + std::to_string(server_.port());
  const auto fast = hand_over(many(500, to(here)), here);
  drain_.wait_for_all();
  EXPECT_THAT(drain_.kinds(refused), Each(OutcomeKind::destination_unavailable));
  EXPECT_THAT(drain_.kinds(fast), Each(OutcomeKind::delivered));
}

// Some thousand may wait in here when the first answer comes.
TEST_F(WebhookEndpoints, OneThatIsGoneIsNotAskedAgainForWhatWaits) {
  for (const int status : {410, 301}) {
    SCOPED_TRACE(status);
    const std::size_t asked = server_.count();
    server_.answer_by([&](const HttpRequest& request) {
      return HttpAnswer{.status = request.target == "/gone" ? status : 200};
    });
    settings_.number("max_in_flight", 1);
    const auto gone = hand_over(many(500, to("gone")), "gone");
    const auto other = hand_over(many(10, to("other")), "other");
    drain_.wait_for_all();
    for (const std::uint64_t token : gone) {
      EXPECT_EQ(told(*drain_.item(token).outcome),
                "destination_unavailable webhook.status_" + std::to_string(status) + " parks");
    }
    EXPECT_THAT(drain_.kinds(other), Each(OutcomeKind::delivered));
    EXPECT_EQ(server_.count(), asked + 1 + other.size());
    // What comes after an operator has resumed it is sent again.
    server_.answer_by([](const HttpRequest&) { return HttpAnswer{}; });
    drain_.new_runs();
    const auto back = hand_over(many(5, to("gone")), "gone");
    drain_.wait_for_all();
    EXPECT_THAT(drain_.kinds(back), Each(OutcomeKind::delivered));
  }
}

// Where the stream has no lanes, the endpoint is a host, of which one address may be gone.
TEST_F(WebhookEndpoints, WhatIsGoneIsOneAddressOfAHost) {
  server_.answer_by([](const HttpRequest& request) {
    return HttpAnswer{.status = request.target == "/gone" ? 410 : 200};
  });
  settings_.number("max_in_flight", 1);
  std::vector<TestEntry> entries = many(50, to("gone"));
  const std::vector<TestEntry> others = many(50, to("there"));
  entries.insert(entries.end(), others.begin(), others.end());
  const auto tokens = hand_over(entries, "");
  drain_.wait_for_all();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(drain_.kind(tokens[i]),
              i < 50 ? OutcomeKind::destination_unavailable : OutcomeKind::delivered);
  }
  EXPECT_EQ(server_.count(), 51U);
}

TEST_F(WebhookEndpoints, WhatWaitsForAnAddressThatIsGoneDoesNotWaitForItsTurn) {
  server_.answer_by([](const HttpRequest& request) {
    return HttpAnswer{.status = request.target == "/gone" ? 410 : 200};
  });
  settings_.number("rate", 1);
  std::vector<TestEntry> entries = {to("gone")};
  for (const char* target : {"there", "gone"}) {
    const std::vector<TestEntry> more = many(20, to(target));
    entries.insert(entries.end(), more.begin(), more.end());
  }
  const auto tokens = hand_over(entries, "");
  wait_until([&] { return drain_.is_complete(tokens.back()); }, "the last one is answered");
  EXPECT_EQ(drain_.kind(tokens.back()), OutcomeKind::destination_unavailable);
  EXPECT_FALSE(drain_.is_complete(tokens[20])) << "at one a second it takes 20 s";
  emitter_->stop(Milliseconds{0});
}

TEST_F(WebhookEndpoints, TheRateOfEachIsKept) {
  settings_.number("rate", 50);
  hand_over(many(60, to("a")), "a");
  hand_over(many(60, to("b")), "b");
  drain_.wait_for_all();
  std::map<std::string, std::vector<steady_clock::time_point>> arrived;
  for (const HttpRequest& request : server_.requests()) {
    arrived[request.target].push_back(request.arrived);
  }
  ASSERT_EQ(arrived.size(), 2U);
  for (const auto& [target, times] : arrived) {
    // 60 entries with a burst of 5 take 55 fiftieths of a second.
    EXPECT_GE(times.back() - times.front(), milliseconds{1050}) << target;
    EXPECT_LE(times.back() - times.front(), milliseconds{3000}) << target;
  }
}

TEST_F(WebhookEndpoints, RetryAfterPausesTheEndpointAndNoOther) {
  server_.answer_by([](const HttpRequest& request) {
    return request.header("ce-type") == "busy"
               ? HttpAnswer{.status = 429, .headers = {{"Retry-After", "1"}}}
               : HttpAnswer{};
  });
  hand_over({to("a", "busy")}, "a");
  drain_.wait_for_all();
  const auto start = steady_clock::now();
  const auto paused = hand_over({to("a")}, "a");
  const auto other = hand_over({to("b")}, "b");
  wait_until([&] { return drain_.is_complete(other[0]); }, "the other endpoint's entry");
  EXPECT_LT(steady_clock::now() - start, milliseconds{800});
  drain_.wait_for_all();
  EXPECT_GE(steady_clock::now() - start, milliseconds{900});
  EXPECT_EQ(drain_.kind(paused[0]), OutcomeKind::delivered);
}

// A gateway says for one entry when to come again, and lets others through; but fewer at a time.
TEST_F(WebhookEndpoints, RetryAfterOf502And504HoldsTheEntryAloneAndTheWindowIsHalved) {
  settings_.number("max_in_flight", 8);
  for (const int status : {502, 504}) {
    SCOPED_TRACE(status);
    const std::string lane = std::to_string(status);
    std::atomic<int> waiting = 0;
    std::promise<void> release;
    server_.answer_by([&, released = release.get_future().share()](const HttpRequest& request) {
      const auto type = request.header("ce-type");
      if (type == "busy") return HttpAnswer{.status = status, .headers = {{"Retry-After", "20"}}};
      if (type == "waits") {
        ++waiting;
        released.wait();
      }
      return HttpAnswer{};
    });
    hand_over(many(100, to(lane)), lane);
    drain_.wait_for_all();
    const auto busy = hand_over({to(lane, "busy")}, lane);
    drain_.wait_for_all();
    const auto start = steady_clock::now();
    EXPECT_EQ(told(*drain_.item(busy[0]).outcome),
              "retryable_failure webhook.status_" + lane + " suspect");
    EXPECT_EQ(drain_.item(busy[0]).outcome->retry_after, milliseconds{20'000});
    const auto others = hand_over(many(20, to(lane, "waits")), lane);
    wait_until([&] { return waiting == 4; }, "half of eight to be out");
    EXPECT_FALSE(holds_within([&] { return waiting > 4; }, milliseconds{200}));
    release.set_value();
    drain_.wait_for_all();
    EXPECT_LT(steady_clock::now() - start, milliseconds{15'000});
    EXPECT_THAT(drain_.kinds(others), Each(OutcomeKind::delivered));
  }
}

TEST_F(WebhookEndpoints, ABatchCarriesWhatWaits) {
  settings_.text("body", "batch").number("batch_entries", 50).number("max_in_flight", 1);
  const auto tokens = hand_over(many(500, to("a")), "a");
  drain_.wait_for_all();
  EXPECT_THAT(drain_.kinds(tokens), Each(OutcomeKind::delivered));
  EXPECT_LE(server_.count(), 11U);
}

TEST_F(WebhookEndpoints, APoisonousEntryOfABatchIsAlone) {
  settings_.text("body", "batch").number("max_in_flight", 2);
  server_.answer_by([](const HttpRequest& request) {
    return HttpAnswer{.status = request.body.find("poison") == std::string::npos ? 200 : 422};
  });
  std::vector<TestEntry> entries = many(40, to("a"));
  entries[17].type = "poison";
  const auto tokens = hand_over(entries, "a");
  drain_.wait_for_all();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(drain_.kind(tokens[i]), i == 17 ? OutcomeKind::failed : OutcomeKind::delivered) << i;
  }
}

TEST_F(WebhookEndpoints, ABatchThatFindsTheEndpointDownFailsAsOne) {
  settings_.text("body", "batch");
  server_.answer_always({.status = 503});
  const auto tokens = hand_over(many(30, to("a")), "a");
  drain_.wait_for_all();
  for (const std::uint64_t token : tokens) {
    EXPECT_EQ(told(*drain_.item(token).outcome), "retryable_failure webhook.status_503 suspect");
  }
  EXPECT_LE(server_.count(), 30U);
}

TEST_F(WebhookEndpoints, AHostThatIsNotAllowedParksItsLaneAndNothingElse) {
  settings_.text("url", "http://{header.endpoint}/").list("allow_hosts", {"127.0.0.1:*"});
  const std::string here = "127.0.0.1:" + std::to_string(server_.port());
  const auto bad = hand_over({to("evil.example")}, "evil.example");
  const auto good = hand_over({to(here)}, here);
  drain_.wait_for_all();
  EXPECT_EQ(told(*drain_.item(bad[0]).outcome), "destination_unavailable webhook.bad_url parks");
  EXPECT_THAT(drain_.item(bad[0]).outcome->error->message, HasSubstr("evil.example:80"));
  EXPECT_EQ(drain_.kind(good[0]), OutcomeKind::delivered);
}

// Others of the lane have it.
TEST_F(WebhookEndpoints, WhatAnEntryLacksBesideItsLaneIsItsOwnFault) {
  settings_.text("url", "http://{header.endpoint}/hooks/{subject}")
      .list("allow_hosts", {"127.0.0.1:*"});
  const std::string here = "127.0.0.1:" + std::to_string(server_.port());
  TestEntry lacking = to(here);
  TestEntry unfit = to(here);
  unfit.subject = "..";
  TestEntry good = to(here);
  good.subject = "7";
  const auto tokens = hand_over({lacking, unfit, {.subject = "7"}, good}, here);
  drain_.wait_for_all();
  const auto message = [&](std::size_t i) {
    return drain_.item(tokens[i]).outcome->error->message;
  };
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(told(*drain_.item(tokens[i]).outcome), "failed webhook.bad_url") << i;
  }
  EXPECT_EQ(message(0), "the entry has no subject to make the URL of");
  EXPECT_EQ(message(1), "the subject of the entry does not fit into the URL");
  EXPECT_EQ(message(2), "the entry has no header \"endpoint\" to make the URL of");
  EXPECT_EQ(drain_.kind(tokens[3]), OutcomeKind::delivered);
}

TEST_F(WebhookEndpoints, ALaneThatDoesNotFitIntoTheUrlIsParked) {
  settings_.text("url", "http://{header.endpoint}/hooks").list("allow_hosts", {"127.0.0.1:*"});
  const auto host = hand_over({to("a b")}, "a b");
  drain_.wait_for_all();
  EXPECT_EQ(told(*drain_.item(host[0]).outcome), "destination_unavailable webhook.bad_url parks");
  emitter_.reset();
  settings_.text("url", server_.url("/{header.endpoint}"));
  const auto path = hand_over({to("..")}, "..");
  drain_.wait_for_all();
  EXPECT_EQ(told(*drain_.item(path[0]).outcome), "destination_unavailable webhook.bad_url parks");
}

// Whoever knows such a URL may post to it.
TEST_F(WebhookEndpoints, TheLogShowsNoMoreOfAnEndpointThanItsOrigin) {
  test_reporter().clear();
  settings_.text("url", "{header.endpoint}")
      .list("allow_hosts", {"127.0.0.1:*"})
      .list("deny_cidrs", {"127.0.0.0/8"});
  const std::string endpoint = server_.url("/T0/s3cr3t?token=s3cr3t");
  hand_over({to(endpoint)}, endpoint);
  drain_.wait_for_all();
  const std::vector<std::string> lines = test_reporter().lines();
  EXPECT_THAT(lines, testing::Contains(HasSubstr(server_.url("/") + "…: ")));
  EXPECT_THAT(lines, Each(testing::Not(HasSubstr("s3cr3t"))));
}

TEST_F(WebhookEndpoints, WithoutALaneABadUrlIsTheEntrysOwnFault) {
  settings_.text("url", "http://{header.endpoint}/").list("allow_hosts", {"127.0.0.1:*"});
  const auto outcomes = deliver({{.key = "no header"}, to("evil.example"), to("a b")});
  for (const Outcome* outcome : outcomes) EXPECT_EQ(told(*outcome), "failed webhook.bad_url");
}

TEST_F(WebhookEndpoints, NothingBeginsThatTheLeaseMayNotOutlast) {
  settings_.number("timeout", 5000);
  const auto deadline = std::make_shared<SendDeadline>(steady_clock::now() + milliseconds{4000});
  const auto late = hand_over({to("a")}, "a", deadline);
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(late[0]), OutcomeKind::shutdown);
  deadline->move(steady_clock::now() + milliseconds{60'000});
  const auto renewed = hand_over({to("a")}, "a", deadline);
  drain_.wait_for_all();
  EXPECT_EQ(drain_.kind(renewed[0]), OutcomeKind::delivered);
  EXPECT_EQ(server_.count(), 1U);
}

TEST_F(WebhookEndpoints, WhatWaitsIsGivenBackWhenItsLeaseIsLost) {
  settings_.number("max_in_flight", 1);
  server_.answer_always({.fault = HttpFault::hang});
  const auto deadline = std::make_shared<SendDeadline>(steady_clock::now() + milliseconds{60'000});
  hand_over({to("a")}, "a");
  server_.wait_for(1);
  const auto waiting = hand_over(many(10, to("a")), "a", deadline);
  deadline->move(steady_clock::now());
  wait_until([&] { return drain_.is_complete(waiting.back()); }, "the queue is given back");
  EXPECT_THAT(drain_.kinds(waiting), Each(OutcomeKind::shutdown));
  emitter_->stop(Milliseconds{0});
}

TEST_F(WebhookEndpoints, WhatWaitsIsGivenBackWhenTheBreakerOpens) {
  settings_.number("max_in_flight", 1);
  server_.answer_always({.fault = HttpFault::hang});
  hand_over({to("a")}, "a");
  server_.wait_for(1);
  LaneGate gate;
  const auto waiting = hand_over(many(10, to("a")), "a", nullptr, &gate);
  gate.closings = 1;
  wait_until([&] { return drain_.is_complete(waiting.back()); }, "the queue is given back");
  EXPECT_THAT(drain_.kinds(waiting), Each(OutcomeKind::blocked));
  EXPECT_EQ(server_.count(), 1U);
  emitter_->stop(Milliseconds{0});
}

TEST_F(WebhookEndpoints, StoppingTellsWhatWasSentFromWhatWasNot) {
  settings_.number("max_in_flight", 2);
  server_.answer_always({.fault = HttpFault::hang});
  const auto tokens = hand_over(many(10, to("a")), "a");
  server_.wait_for(2);
  emitter_->stop(Milliseconds{100});
  std::map<std::string, int> count;
  for (const std::uint64_t token : tokens) ++count[told(*drain_.item(token).outcome)];
  EXPECT_EQ(count["possibly_delivered webhook.stopped lost"], 2);
  EXPECT_EQ(count["shutdown"], 8);
}

TEST_F(WebhookEndpoints, MetricsSayWhatIsGoingOn) {
  test_reporter().clear();
  settings_.number("max_in_flight", 2);
  server_.answer_always({.fault = HttpFault::hang});
  hand_over(many(10, to("a")), "a");
  const auto value = [](Metric metric) {
    return test_reporter().value(static_cast<std::size_t>(metric)).value_or(-1);
  };
  wait_until([&] { return value(Metric::queue_entries) == 8; }, "the queue is published");
  EXPECT_EQ(value(Metric::requests_in_flight), 2);
  EXPECT_EQ(value(Metric::endpoints), 1);
  EXPECT_EQ(value(Metric::connections), 2);
  EXPECT_EQ(value(Metric::connections_opened), 2);
  emitter_->stop(Milliseconds{0});
  EXPECT_EQ(value(Metric::requests_in_flight), 0);
  EXPECT_EQ(value(Metric::queue_entries), 0);
}

}  // namespace
}  // namespace outfall::test
