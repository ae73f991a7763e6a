// TLS against a real nginx: verification, authorities, client certificates, HTTP/2.
#include <curl/curl.h>
#include <gmock/gmock.h>

#include "tests/integration/webhook_fixture.h"
#include "tests/support/tcp_gate.h"
#include "tests/support/temp_nginx.h"
#include "tests/support/test_authority.h"
#include "tests/support/tunnel_proxy.h"

namespace outfall::test {
namespace {

class WebhookTls : public WebhookTest {
 protected:
  TempNginx& front(const std::string& server = {}, bool http2 = true) {
    nginx_ = std::make_unique<TempNginx>(TempNginx::Options{
        .certificate = pair_, .upstream_port = server_.port(), .http2 = http2, .server = server});
    settings_.text("url", nginx_->url("/hooks")).text("ca_file", authority_.certificate());
    return *nginx_;
  }

  // What nginx says of the request that came last.
  std::string seen(const char* header) {
    return server_.requests().back().header(header).value_or("");
  }

  const TestAuthority authority_;
  TestAuthority::Pair pair_ = authority_.issue("server");
  std::unique_ptr<TempNginx> nginx_;
};

TEST_F(WebhookTls, SpeaksHttp2WhereItIsOffered) {
  front();
  EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(seen("x-protocol"), "HTTP/2.0");
  emitter_.reset();
  settings_.text("http_version", "1.1");
  EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(seen("x-protocol"), "HTTP/1.1");
}

TEST_F(WebhookTls, ManyRequestsShareAFewConnectionsOfHttp2) {
  front();
  const auto outcomes = deliver(std::vector<TestEntry>(500));
  for (const Outcome* outcome : outcomes) ASSERT_EQ(told(*outcome), "delivered");
  emitter_->stop(Milliseconds{1000});
  EXPECT_EQ(seen("x-protocol"), "HTTP/2.0");
}

// libcurl before 8.2 spends a whole processor on a large body that an endpoint takes slowly by
// HTTP/2.
TEST_F(WebhookTls, WhatGetsLargeBodiesIsSpokenToInHttp1WhereLibcurlIsOld) {
  const bool is_old = curl_version_info(CURLVERSION_NOW)->version_num < 0x080200;
  const char* const large = is_old ? "HTTP/1.1" : "HTTP/2.0";
  front();
  const auto body = [](std::size_t bytes) { return '"' + std::string(bytes, 'x') + '"'; };
  EXPECT_EQ(told(*deliver({{.payload = body(60 << 10)}}).front()), "delivered");
  EXPECT_EQ(seen("x-protocol"), "HTTP/2.0");
  EXPECT_EQ(told(*deliver({{.payload = body(64 << 10)}}).front()), "delivered");
  EXPECT_EQ(seen("x-protocol"), large);
  EXPECT_EQ(server_.requests().back().body, body(64 << 10));
  std::vector<TestEntry> mixed(100);
  for (std::size_t i = 0; i < mixed.size(); i += 3) mixed[i].payload = body(300 << 10);
  for (const Outcome* outcome : deliver(mixed)) ASSERT_EQ(told(*outcome), "delivered");
  EXPECT_EQ(server_.count(), 102U);
  EXPECT_EQ(seen("x-protocol"), large);
}

// libcurl gives up the request alone and sends the next one over the same connection.
TEST_F(WebhookTls, AConnectionOfHttp2ThatDiesSilentlyIsNotUsedAgain) {
  TcpGate gate(front().port());
  settings_.text("url", "https://127.0.0.1:" + std::to_string(gate.port()) + "/hooks")
      .number("timeout", 1000);
  EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(seen("x-protocol"), "HTTP/2.0");
  gate.freeze_connections();
  EXPECT_EQ(told(deliver_one()), "possibly_delivered webhook.timeout lost");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(gate.accepted(), 2U);
}

// One that only this request gets no answer over lives on, and the others with it.
TEST_F(WebhookTls, AConnectionOfHttp2ThatAnswersOthersIsKept) {
  TcpGate gate(front().port());
  settings_.text("url", "https://127.0.0.1:" + std::to_string(gate.port()) + "/hooks")
      .number("timeout", 1000);
  EXPECT_EQ(told(deliver_one()), "delivered");
  server_.answer_by([](const HttpRequest& request) {
    return request.header("ce-type") == "slow"
               ? HttpAnswer{.fault = HttpFault::hang}
               : HttpAnswer{.delay = std::chrono::milliseconds{700}};
  });
  const auto outcomes = deliver({{.key = "a", .type = "slow"}, {.key = "b"}});
  EXPECT_EQ(told(*outcomes[0]), "possibly_delivered webhook.timeout");
  EXPECT_EQ(told(*outcomes[1]), "delivered");
  EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(gate.accepted(), 1U);
}

// With 444 nginx resets the stream of the request and nothing else.
TEST_F(WebhookTls, ARequestThatIsResetAloneMayBeDeliveredAndItsConnectionIsKept) {
  TcpGate gate(front("if ($http_ce_type = reset) { return 444; }").port());
  settings_.text("url", "https://127.0.0.1:" + std::to_string(gate.port()) + "/hooks");
  EXPECT_EQ(told(deliver_one()), "delivered");
  server_.answer_always({.delay = std::chrono::milliseconds{300}});
  const auto outcomes = deliver({{.key = "a"}, {.key = "b", .type = "reset"}, {.key = "c"}});
  EXPECT_EQ(told(*outcomes[0]), "delivered");
  EXPECT_EQ(told(*outcomes[1]), "possibly_delivered webhook.stream_reset");
  EXPECT_EQ(told(*outcomes[2]), "delivered");
  EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(seen("x-protocol"), "HTTP/2.0");
  EXPECT_EQ(gate.accepted(), 1U);
}

TEST_F(WebhookTls, AServerWithHttp1OnlyIsServedAsWell) {
  front({}, false);
  const auto outcomes = deliver(std::vector<TestEntry>(200));
  for (const Outcome* outcome : outcomes) ASSERT_EQ(told(*outcome), "delivered");
  EXPECT_EQ(seen("x-protocol"), "HTTP/1.1");
}

TEST_F(WebhookTls, AnUnknownAuthorityParksTheDestination) {
  front();
  settings_.text("ca_file", "");
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.certificate parks");
  EXPECT_EQ(server_.count(), 0U);
}

TEST_F(WebhookTls, ACertificateForAnotherNameParksTheDestination) {
  pair_ = authority_.issue("other", "DNS:other.example");
  front();
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.certificate parks");
  EXPECT_EQ(server_.count(), 0U);
}

TEST_F(WebhookTls, ACertificateOutsideOfItsTimeParksTheDestination) {
  for (const char* from : {"10 days ago", "10 days"}) {
    pair_ = authority_.issue("late", "IP:127.0.0.1", from);
    front();
    emitter_.reset();
    EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.certificate parks") << from;
  }
  EXPECT_EQ(server_.count(), 0U);
}

// libcurl repeats a request by itself whose connection dies, and what it then meets says nothing
// about the first time.
TEST_F(WebhookTls, ARequestThatWasReadMayBeDeliveredWhateverTheNextConnectionMeets) {
  const TestAuthority stranger("stranger");
  // For the user that nginx's workers run as.
  using std::filesystem::perms;
  const TempFolder shown;
  const TestAuthority::Pair pair{shown / "certificate", shown / "key"};
  const auto show = [&](const TestAuthority::Pair& other) {
    constexpr auto kOverwrite = std::filesystem::copy_options::overwrite_existing;
    std::filesystem::copy_file(other.certificate, pair.certificate, kOverwrite);
    std::filesystem::copy_file(other.key, pair.key, kOverwrite);
    std::filesystem::permissions(shown.path(), perms(0755));
    std::filesystem::permissions(pair.key, perms(0644));
  };
  const auto known = authority_.issue("known");
  const auto unknown = stranger.issue("unknown");
  // Where its path has a variable, nginx reads a certificate for each connection.
  const auto with_variable = [](const std::filesystem::path& path) {
    return std::filesystem::path(path.string() + "$ssl_server_name");
  };
  for (const char* version : {"auto", "1.1"}) {
    SCOPED_TRACE(version);
    show(known);
    nginx_ = std::make_unique<TempNginx>(TempNginx::Options{
        .certificate = {with_variable(pair.certificate), with_variable(pair.key)},
        .upstream_port = server_.port()});
    TcpGate gate(nginx_->port());
    settings_.text("url", "https://127.0.0.1:" + std::to_string(gate.port()) + "/hooks")
        .text("ca_file", authority_.certificate())
        .text("http_version", version);
    emitter_.reset();
    server_.answer_by([](const HttpRequest&) { return HttpAnswer{}; });
    EXPECT_EQ(told(deliver_one()), "delivered");
    const std::size_t read = server_.count();
    server_.answer_by([&](const HttpRequest&) {
      show(unknown);
      gate.end_connections(Ending::reset);
      return HttpAnswer{};
    });
    EXPECT_EQ(told(deliver_one()), "possibly_delivered webhook.connection_lost lost");
    EXPECT_EQ(server_.count(), read + 1);
    EXPECT_EQ(gate.accepted(), 2U) << "it was repeated";
    EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.certificate parks");
    EXPECT_EQ(server_.count(), read + 1);
  }
}

TEST_F(WebhookTls, OldTlsIsRefused) {
  front("ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;");
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.tls_handshake");
  EXPECT_EQ(server_.count(), 0U);
}

TEST_F(WebhookTls, PlainHttpWhereTlsIsExpected) {
  front();
  settings_.text("url", "http://127.0.0.1:" + std::to_string(nginx_->port()) + "/");
  EXPECT_EQ(told(deliver_one()), "failed webhook.status_400") << "nginx says so";
  settings_.map("status", {{"400", "destination_unavailable"}});
  emitter_.reset();
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.status_400");
}

TEST_F(WebhookTls, TlsWherePlainHttpIsExpectedIsToldInPlainWords) {
  const std::string plain = "127.0.0.1:" + std::to_string(free_port());
  front("listen " + plain + ";");
  settings_.text("url", "https://" + plain + "/hooks");
  const Outcome& outcome = deliver_one();
  EXPECT_EQ(told(outcome), "destination_unavailable webhook.tls_handshake");
  EXPECT_THAT(outcome.error->message, testing::HasSubstr("does not speak TLS"));
  EXPECT_THAT(emitter_->check(Milliseconds{3000}).detail,
              testing::AllOf(testing::StartsWith("https://" + plain + ": "),
                             testing::HasSubstr("does not speak TLS")));
  EXPECT_EQ(server_.count(), 0U);
}

TEST_F(WebhookTls, ShowsItsCertificateToThoseWhoAsk) {
  front("ssl_verify_client on;\nssl_client_certificate " + authority_.certificate().string() + ";");
  settings_.map("status", {{"400", "destination_unavailable"}});
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.status_400") << "nginx says so";
  emitter_.reset();
  const auto client = authority_.issue("client");
  settings_.text("client_certificate_file", client.certificate).text("client_key_file", client.key);
  EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(seen("x-client"), "CN=client");
  start();
  EXPECT_TRUE(emitter_->check(Milliseconds{3000}).ok);
}

TEST_F(WebhookTls, AKeyThatDoesNotFitIsOurOwnFault) {
  front();
  settings_.text("client_certificate_file", authority_.issue("client").certificate)
      .text("client_key_file", authority_.issue("another").key);
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.client_certificate");
}

// Which says nothing against the endpoint's. nginx answers in HTTP instead of by an alert.
TEST_F(WebhookTls, AnEndpointThatFindsOurCertificateExpiredIsNotParked) {
  const auto old = authority_.issue("old", "DNS:localhost", "10 days ago");
  const TestAuthority strangers("strangers");
  const auto stranger = strangers.issue("stranger");
  for (const std::string version : {"-tls1_2", "-tls1_3"}) {
    SCOPED_TRACE(version);
    const int port = free_port();
    ChildProcess endpoint({"openssl", "s_server", "-accept", "127.0.0.1:" + std::to_string(port),
                           "-cert", pair_.certificate, "-key", pair_.key, "-CAfile",
                           authority_.certificate(), "-Verify", "1", "-verify_return_error", "-www",
                           version});
    endpoint.wait_for_output("ACCEPT");
    settings_.text("url", "https://127.0.0.1:" + std::to_string(port) + "/hooks")
        .text("ca_file", authority_.certificate());
    for (const auto& [pair, reason] : {std::pair(old, "expired"), std::pair(stranger, "unknown")}) {
      settings_.text("client_certificate_file", pair.certificate).text("client_key_file", pair.key);
      emitter_.reset();
      const Outcome& outcome = deliver_one();
      EXPECT_EQ(told(outcome), "destination_unavailable webhook.tls_handshake");
      EXPECT_THAT(outcome.error->message, testing::HasSubstr(reason));
    }
  }
}

// The name is the proxy's to look up, and the certificate must still be for it.
TEST_F(WebhookTls, AnEndpointBehindAProxyIsSpokenToThroughATunnel) {
  pair_ = authority_.issue("hooks", "DNS:hooks.example");
  front();
  TunnelProxy proxy(nginx_->port());
  const std::string address = "127.0.0.1:" + std::to_string(proxy.port());
  settings_.text("url", "https://hooks.example/in").text("proxy", "http://shop:s3cret@" + address);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(server_.count(), 3U);
  EXPECT_EQ(server_.requests().back().target, "/in");
  EXPECT_EQ(seen("x-protocol"), "HTTP/2.0");
  EXPECT_EQ(seen("proxy-authorization"), "") << "the endpoint is not told";
  ASSERT_EQ(proxy.requests().size(), 1U) << "a tunnel is used again";
  EXPECT_THAT(proxy.requests().front(), testing::StartsWith("CONNECT hooks.example:443 HTTP/1.1"));
  EXPECT_THAT(proxy.requests().front(),
              testing::HasSubstr("Proxy-Authorization: Basic c2hvcDpzM2NyZXQ="));
}

// The proxy's 200 is no answer of the endpoint's.
TEST_F(WebhookTls, ATunnelToTheWrongEndpointDeliversNothing) {
  pair_ = authority_.issue("other", "DNS:other.example");
  front();
  TunnelProxy proxy(nginx_->port());
  settings_.text("url", "https://hooks.example/in")
      .text("proxy", "http://127.0.0.1:" + std::to_string(proxy.port()));
  EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.certificate parks");
  EXPECT_EQ(proxy.requests().size(), 1U);
  EXPECT_EQ(server_.count(), 0U);
}

// A renewed certificate is taken for new connections, without a restart.
TEST_F(WebhookTls, ARenewedClientCertificateIsTaken) {
  front("ssl_verify_client on;\nssl_client_certificate " + authority_.certificate().string() +
        ";\nkeepalive_timeout 0;");
  const auto first = authority_.issue("first");
  const auto second = authority_.issue("second");
  settings_.text("client_certificate_file", first.certificate).text("client_key_file", first.key);
  EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(seen("x-client"), "CN=first");
  std::filesystem::copy_file(second.key, first.key,
                             std::filesystem::copy_options::overwrite_existing);
  std::filesystem::copy_file(second.certificate, first.certificate,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(seen("x-client"), "CN=second");
}

TEST_F(WebhookTls, ChecksTheHandshakeToo) {
  front();
  start();
  EXPECT_TRUE(emitter_->check(Milliseconds{3000}).ok);
  settings_.text("ca_file", "");
  start();
  const Emitter::Health health = emitter_->check(Milliseconds{3000});
  EXPECT_FALSE(health.ok);
  EXPECT_THAT(health.detail, testing::HasSubstr("certificate"));
}

}  // namespace
}  // namespace outfall::test
