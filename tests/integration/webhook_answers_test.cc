// Every row of the table of errors against a real server, and what becomes of its answers.
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <gmock/gmock.h>

#include "tests/integration/webhook_fixture.h"
#include "tests/support/tcp_gate.h"
#include "tests/support/temp_folder.h"

namespace outfall::test {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

std::string nobody() {
  return "http://127.0.0.1:" + std::to_string(free_port()) + "/";
}

std::string expected_of(int status) {
  const std::string code = "webhook.status_" + std::to_string(status);
  if (status < 300) return "delivered";
  if (status < 400 || status == 410) return "destination_unavailable " + code + " parks";
  if (status == 401 || status == 403 || status == 407) return "destination_unavailable " + code;
  if (status == 404 || status == 409 || status == 425) return "retryable_failure " + code;
  if (status == 408 || status == 429 || status >= 500) {
    return "retryable_failure " + code + " suspect";
  }
  return "failed " + code;
}

class WebhookAnswers : public WebhookTest {};

// Each at an address of its own, since one that is gone is not asked again.
TEST_F(WebhookAnswers, EveryStatusMeansWhatTheTableSays) {
  settings_.text("url", server_.url("/{type}"));
  server_.answer_by([](const HttpRequest& request) {
    return HttpAnswer{.status = std::stoi(request.header("ce-type").value_or("0")),
                      .body = "because"};
  });
  std::vector<TestEntry> entries;
  for (int status = 200; status < 600; ++status) {
    entries.push_back({.key = std::to_string(status), .type = std::to_string(status)});
  }
  const auto outcomes = deliver(entries);
  for (int status = 200; status < 600; ++status) {
    EXPECT_EQ(told(*outcomes[static_cast<std::size_t>(status - 200)]), expected_of(status));
  }
  EXPECT_EQ(server_.count(), entries.size()) << "each was sent once";
}

// libcurl 7.88 appends such a line to the last header of the answer before, which it has freed.
TEST_F(WebhookAnswers, AnAnswerThatBeginsWithTheRestOfAHeaderHarmsNothing) {
  settings_.number("max_in_flight", 1).text("request_id_header", "x-request-id");
  for (int i = 0; i < 20; ++i) {
    server_.answer_next({.status = 503, .headers = {{"X-Request-Id", std::string(500, 'a')}}});
    server_.answer_next({.status = 503, .headers = {{" the-rest", std::string(900, 'b')}}});
  }
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(told(deliver_one()), "retryable_failure webhook.status_503 suspect");
  }
  EXPECT_EQ(server_.count(), 40U);
}

TEST_F(WebhookAnswers, AnOperatorsTableGoesBefore) {
  settings_.map("status", {{"404", "failed"}, {"422", "retryable_failure"}, {"5xx", "parked"}});
  server_.answer_next({.status = 404});
  EXPECT_EQ(told(deliver_one()), "failed webhook.status_404");
  server_.answer_next({.status = 422});
  EXPECT_EQ(told(deliver_one()), "retryable_failure webhook.status_422");
  server_.answer_next({.status = 503});
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.status_503 parks");
}

TEST_F(WebhookAnswers, ANameThatDoesNotResolve) {
  // A label of more than 63 characters, which no name server needs to be asked about.
  settings_.text("url", "http://" + std::string(80, 'a') + ".example/");
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.dns");
}

TEST_F(WebhookAnswers, NobodyListens) {
  settings_.text("url", nobody());
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.refused");
}

TEST_F(WebhookAnswers, AHandshakeThatNeverEnds) {
  TcpGate gate(server_.port());
  gate.admit(Admission::hang);
  settings_.text("url", "https://127.0.0.1:" + std::to_string(gate.port()) + "/")
      .number("connect_timeout", 300);
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.connect_timeout");
}

TEST_F(WebhookAnswers, AHandshakeThatIsCutOff) {
  TcpGate gate(server_.port());
  gate.cut_after(Direction::to_server, 10);
  settings_.text("url", "https://127.0.0.1:" + std::to_string(gate.port()) + "/");
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.tls_handshake");
}

// Whatever opens a descriptor in this process finds none while this lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    rlimit limit{};
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    before_ = limit;
    // The kernel's poll() takes no more descriptors than the limit, so the open ones stay below it.
    const int first = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    EXPECT_GE(first, 0);
    limit.rlim_cur = static_cast<rlim_t>(first) + 64;
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int taken = first; taken >= 0; taken = ::dup(first)) taken_.push_back(taken);
    EXPECT_EQ(errno, EMFILE);
  }
  ~NoDescriptors() {
    for (const int taken : taken_) ::close(taken);
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0);
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit before_{};
  std::vector<int> taken_;
};

TEST_F(WebhookAnswers, WhereDescriptorsAreShortEntriesWaitAndNobodyIsBlamed) {
  start();
  {
    const NoDescriptors none;
    const Outcome& outcome = deliver_one();
    EXPECT_EQ(told(outcome), "deferred webhook.local_resources");
    EXPECT_EQ(outcome.retry_after, milliseconds{1000});
  }
  EXPECT_EQ(server_.connections(), 0U);
  EXPECT_EQ(told(deliver_one()), "delivered");
}

TEST_F(WebhookAnswers, ALostConnectionMayHaveDelivered) {
  for (const HttpFault fault : {HttpFault::reset, HttpFault::close}) {
    server_.answer_next({.fault = fault});
    emitter_.reset();
    EXPECT_EQ(told(deliver_one()), "possibly_delivered webhook.connection_lost lost");
  }
  EXPECT_EQ(server_.count(), 2U) << "a new connection is not tried a second time";
}

TEST_F(WebhookAnswers, NonsenseMayHaveBeenDelivered) {
  server_.answer_next({.status = 200, .headers = {{"Content-Length", "nonsense"}}});
  const std::string outcome = told(deliver_one());
  EXPECT_TRUE(outcome == "delivered" ||
              outcome == "possibly_delivered webhook.connection_lost lost")
      << outcome;
}

TEST_F(WebhookAnswers, AnAnswerThatIsNotHttpParksNothing) {
  for (const char* answer :
       {"garbage\r\n\r\n", "HTTP/4.2 200 OK\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n", "SSH-2.0-OpenSSH_9.2p1\r\n"}) {
    server_.answer_next({.body = answer, .fault = HttpFault::no_head});
    emitter_.reset();
    EXPECT_EQ(told(deliver_one()), "possibly_delivered webhook.connection_lost lost") << answer;
  }
}

// libcurl takes any number of digits behind HTTP/2 for a status.
TEST_F(WebhookAnswers, AStatusOfMoreThanThreeDigitsIsNotReportedAsThatStatus) {
  for (const char* answer : {"HTTP/22222222\r\n\r\n", "HTTP/2 2000\r\n\r\n",
                             "HTTP/2 4100 Gone\r\n\r\n", "HTTP/2 99999 \r\n\r\n"}) {
    server_.answer_next({.body = answer, .fault = HttpFault::no_head});
    emitter_.reset();
    EXPECT_EQ(told(deliver_one()), "possibly_delivered webhook.connection_lost lost") << answer;
  }
}

// libcurl calls a head above 1 MiB a lack of memory, for which an entry waited again and again.
TEST_F(WebhookAnswers, HeadersThatNoRequestCanCarryAreTheEntrysOwnFault) {
  settings_.list("forward_headers", {"x-*"});
  const auto entry = [](std::size_t bytes) {
    return TestEntry{.headers_json = R"({"x-large":")" + std::string(bytes, 'a') + "\"}"};
  };
  const auto outcomes = deliver({entry(2 << 20), entry(600 << 10), entry(400 << 10)});
  EXPECT_EQ(told(*outcomes[0]), "failed webhook.headers_too_large");
  EXPECT_EQ(told(*outcomes[1]), "failed webhook.headers_too_large");
  EXPECT_THAT(outcomes[1]->error->message, HasSubstr("512 KiB"));
  EXPECT_EQ(told(*outcomes[2]), "delivered");
  EXPECT_EQ(server_.count(), 1U);
}

TEST_F(WebhookAnswers, AnEndpointThatAnswersNobodyCountsNoAttempt) {
  settings_.number("timeout", 300);
  server_.answer_always({.fault = HttpFault::hang});
  EXPECT_EQ(told(deliver_one()), "possibly_delivered webhook.timeout lost");
}

TEST_F(WebhookAnswers, AnEntryThatTheEndpointIsTooSlowForCountsOne) {
  settings_.number("timeout", 600);
  server_.answer_by([](const HttpRequest& request) {
    return request.header("ce-type") == "slow" ? HttpAnswer{.fault = HttpFault::hang}
                                               : HttpAnswer{.delay = milliseconds{450}};
  });
  const auto outcomes = deliver({{.key = "a", .type = "slow"}, {.key = "b"}});
  EXPECT_EQ(told(*outcomes[0]), "possibly_delivered webhook.timeout");
  EXPECT_EQ(told(*outcomes[1]), "delivered");
}

TEST_F(WebhookAnswers, TheStatusLineSettlesItThoughTheBodyIsCutOrSlow) {
  settings_.number("timeout", 500);
  server_.answer_next({.status = 200, .body = "half", .fault = HttpFault::cut_body});
  EXPECT_EQ(told(deliver_one()), "delivered");
  server_.answer_by([](const HttpRequest&) {
    return HttpAnswer{.status = 202,
                      .body = std::string(10'000, 'x'),
                      .fault = HttpFault::trickle,
                      .pace = milliseconds{1}};
  });
  EXPECT_EQ(told(deliver_one()), "delivered");
}

TEST_F(WebhookAnswers, ADrippingServerIsBounded) {
  settings_.number("timeout", 500);
  server_.answer_always({.fault = HttpFault::trickle, .pace = milliseconds{200}});
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(told(deliver_one()), "possibly_delivered webhook.timeout lost");
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds{2000});
}

TEST_F(WebhookAnswers, RedirectsAreNeverFollowed) {
  HttpRecorder other;
  for (const int status : {301, 302, 303, 307, 308}) {
    server_.answer_next({.status = status, .headers = {{"Location", other.url("/elsewhere")}}});
    EXPECT_EQ(told(deliver_one()), expected_of(status));
  }
  EXPECT_EQ(other.connections(), 0U);
}

TEST_F(WebhookAnswers, AFloodIsCutOff) {
  TcpGate gate(server_.port());
  settings_.text("url", "http://127.0.0.1:" + std::to_string(gate.port()) + "/");
  server_.answer_next({.status = 200, .body = std::string(64 << 20, 'x')});
  EXPECT_EQ(told(deliver_one()), "delivered");
  wait_until([&] { return gate.open_connections() == 0; }, "the flooding connection is closed");
  EXPECT_LT(gate.bytes(Direction::to_client), 20U << 20);
  EXPECT_EQ(told(deliver_one()), "delivered");
}

TEST_F(WebhookAnswers, RetryAfterIsReadInBothForms) {
  server_.answer_next({.status = 429, .headers = {{"Retry-After", "7"}}});
  EXPECT_EQ(deliver_one().retry_after.count(), 7000);
  emitter_.reset();  // the next one does not wait for the seven seconds
  server_.answer_next(
      {.status = 503, .headers = {{"retry-after", "Thu, 31 Dec 2099 23:59:59 GMT"}}});
  EXPECT_EQ(deliver_one().retry_after.count(), 30LL * 24 * 3600 * 1000);
  emitter_.reset();
  server_.answer_next({.status = 503, .headers = {{"Retry-After", "soon"}}});
  EXPECT_LT(deliver_one().retry_after.count(), 0);
}

TEST_F(WebhookAnswers, TheReceiptHoldsStatusRequestIdAndDuration) {
  EXPECT_THAT(deliver_one().record_id, MatchesRegex("200 [0-9]+ms"));
  server_.answer_next({.status = 202, .headers = {{"X-Request-Id", "req-7"}}});
  EXPECT_THAT(deliver_one().record_id, MatchesRegex("202 req-7 [0-9]+ms"));
  server_.answer_next({.headers = {{"X-Request-Id", std::string(9000, 'r')}}});
  EXPECT_LT(deliver_one().record_id.size(), 200U);
  emitter_.reset();
  settings_.text("request_id_header", "x-trace");
  server_.answer_next({.headers = {{"x-trace", "t1"}, {"x-request-id", "no"}}});
  EXPECT_THAT(deliver_one().record_id, MatchesRegex("200 t1 [0-9]+ms"));
}

TEST_F(WebhookAnswers, AnExcerptOfTheAnswerIsKeptCleanAndShort) {
  server_.answer_next({.status = 422, .body = "bad\r\n\x01 field \xff" + std::string(5000, 'x')});
  const Outcome& outcome = deliver_one();
  EXPECT_THAT(outcome.error->message, StartsWith("HTTP 422: bad field x"));
  EXPECT_LE(outcome.error->message.size(), 256U + 10U);
  emitter_.reset();
  settings_.number("response_excerpt", 0);
  server_.answer_next({.status = 422, .body = "secret"});
  EXPECT_EQ(deliver_one().error->message, "HTTP 422");
}

TEST_F(WebhookAnswers, ABlockedAddressIsNeverConnectedTo) {
  settings_.list("deny_cidrs", {"127.0.0.0/8", "::1"});
  const Outcome& outcome = deliver_one();
  EXPECT_EQ(told(outcome), "destination_unavailable webhook.blocked_address parks");
  EXPECT_THAT(outcome.error->message, HasSubstr("127.0.0.1"));
  EXPECT_EQ(server_.connections(), 0U);
}

// The name says nothing about where it leads: what counts is the address of the socket.
TEST_F(WebhookAnswers, ANameThatLeadsToABlockedAddressIsCaughtAtTheSocket) {
  settings_.text("url", "http://localhost:" + std::to_string(server_.port()) + "/")
      .text("addresses", "public_only");
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.blocked_address parks");
  EXPECT_EQ(server_.connections(), 0U);
  emitter_.reset();
  settings_.list("allow_cidrs", {"127.0.0.1"});
  EXPECT_EQ(told(deliver_one()), "delivered");
}

TEST_F(WebhookAnswers, AnAddressInDisguiseIsStillThatAddress) {
  settings_.text("url", "http://[::ffff:169.254.169.254]/latest/meta-data");
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.blocked_address parks");
}

TEST_F(WebhookAnswers, AProxyForwardsAndItsAbsenceIsTheProxys) {
  settings_.text("url", "http://a.example/hooks").text("proxy", server_.url());
  EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(server_.requests().front().target, "http://a.example/hooks");
  emitter_.reset();
  settings_.text("proxy", nobody());
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.proxy");
  emitter_.reset();
  // A tunnel that the proxy does not open.
  settings_.text("url", "https://a.example/hooks").text("proxy", server_.url());
  server_.answer_always({.status = 403});
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.proxy");
}

TEST_F(WebhookAnswers, AProxyIsToldTheUserAndPasswordOfItsUrl) {
  const std::string proxy = "http://shop:s3cret%40@127.0.0.1:" + std::to_string(server_.port());
  settings_.text("url", "http://a.example/hooks").text("proxy", proxy);
  EXPECT_EQ(told(deliver_one()), "delivered");
  // shop:s3cret@
  EXPECT_EQ(server_.requests().front().header("proxy-authorization"), "Basic c2hvcDpzM2NyZXRA");
}

TEST_F(WebhookAnswers, ProxiesOfTheEnvironmentAreNotUsed) {
  ASSERT_EQ(::setenv("http_proxy", nobody().c_str(), 1), 0);
  EXPECT_EQ(told(deliver_one()), "delivered");
  ::unsetenv("http_proxy");
}

TEST_F(WebhookAnswers, CheckConnectsAndDeliversNothing) {
  start();
  const Emitter::Health here = emitter_->check(milliseconds{2000});
  EXPECT_TRUE(here.ok) << here.detail;
  EXPECT_EQ(here.detail, "http://127.0.0.1:" + std::to_string(server_.port()));
  EXPECT_EQ(server_.count(), 0U);
  settings_.text("url", nobody());
  start();
  EXPECT_FALSE(emitter_->check(milliseconds{2000}).ok);
  settings_.text("url", "http://169.254.169.254/");
  start();
  const Emitter::Health refused = emitter_->check(milliseconds{2000});
  EXPECT_FALSE(refused.ok);
  EXPECT_THAT(refused.detail, HasSubstr("metadata"));
  settings_.text("url", "https://{header.h}/").list("allow_hosts", {"*.partner.example"});
  start();
  EXPECT_TRUE(emitter_->check(milliseconds{2000}).ok);
}

}  // namespace
}  // namespace outfall::test
