// What a request says: attributes as headers with their encoding, the three bodies, signatures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "emitters/webhook/abandoned_lookups.h"
#include "emitters/webhook/http1_origins.h"
#include "emitters/webhook/percent.h"
#include "emitters/webhook/request.h"
#include "emitters/webhook/webhook.h"
#include "tests/support/emitter_harness.h"

namespace outfall::webhook {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::Not;
using testing::StartsWith;

constexpr WallTime kNow{std::chrono::seconds{1'614'265'330}};

class WebhookRequest : public testing::Test {
 protected:
  WebhookRequest() {
    envelope_.envelope_id = *Uuid::parse("018f0000-0000-7000-8000-00000000000a");
    envelope_.stream = "orders";
    envelope_.type = "order.placed";
    envelope_.payload_kind = PayloadKind::json;
    envelope_.payload = R"({"n": 1})";
    envelope_.created_at = kNow;
  }

  std::vector<std::string> lines(std::vector<const Envelope*> envelopes = {}) {
    if (envelopes.empty()) envelopes.push_back(&envelope_);
    std::vector<SettingProblem> problems;
    WebhookOptions options = options_from(settings_.values(), problems);
    EXPECT_TRUE(problems.empty()) << problems.front().message;
    RequestBuilder builder(options);
    builder.build(request_, envelopes, kNow);
    std::size_t linked = 0;
    for (const curl_slist* node = request_.headers(); node != nullptr; node = node->next) ++linked;
    EXPECT_EQ(linked, request_.lines().size());
    return request_.lines();
  }

  const EmitterKind kind_ = webhook_emitter_kind();
  test::TestSettings settings_ =
      test::TestSettings(kind_).text("url", "https://a.example/").text("body", "payload");
  Envelope envelope_;
  Request request_;
};

TEST_F(WebhookRequest, CarriesThePayloadWithItsAttributesAsHeaders) {
  envelope_.key = "key-1";
  envelope_.subject = "order 7";
  envelope_.data_schema = "https://schema.example/order";
  EXPECT_THAT(
      lines(),
      ElementsAre("content-type: application/json", "ce-specversion: 1.0",
                  "ce-id: 018f0000-0000-7000-8000-00000000000a", "ce-source: /outfall/orders",
                  "ce-type: order.placed", "ce-time: 2021-02-25T15:02:10.000000Z",
                  "ce-subject: order%207", "ce-dataschema: https://schema.example/order",
                  "ce-partitionkey: key-1", "webhook-id: 018f0000-0000-7000-8000-00000000000a",
                  "webhook-timestamp: 1614265330", StartsWith("user-agent: outfall/"), "Expect:"));
  EXPECT_EQ(request_.body(), envelope_.payload);
  EXPECT_EQ(request_.body().data(), envelope_.payload.data()) << "it is not copied";
}

TEST_F(WebhookRequest, SignsWhatItSends) {
  settings_.list("secret", {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"});
  Signer signer;
  ASSERT_EQ(signer.add_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), std::nullopt);
  for (const char* body : {"payload", "structured", "batch"}) {
    settings_.text("body", body);
    const auto sent = lines();
    std::string expected = "webhook-signature: ";
    signer.append_signatures(expected, "018f0000-0000-7000-8000-00000000000a", 1'614'265'330,
                             request_.body());
    EXPECT_THAT(sent, Contains(expected)) << body;
  }
}

TEST_F(WebhookRequest, ATombstoneHasNeitherBodyNorType) {
  envelope_.payload_kind = PayloadKind::none;
  envelope_.payload = {};
  EXPECT_THAT(lines(), Contains("content-type:"));
  EXPECT_EQ(request_.body(), "");
}

TEST_F(WebhookRequest, EncodesAttributesAsCloudEventsSays) {
  envelope_.subject = "Euro € 😀 \"q\" 100% a\tb\r\nX: y ~!";
  EXPECT_THAT(lines(), Contains("ce-subject: Euro%20%E2%82%AC%20%F0%9F%98%80%20%22q%22%20100%25%20a"
                                "%09b%0D%0AX:%20y%20~!"));
}

TEST_F(WebhookRequest, HeadersOfTheEntryTravelAsExtensions) {
  envelope_.headers_json =
      R"({"tenant":"a b","X-Odd":"1","traceparent":"00-1-2-01","tracestate":"a=b, c=d",)"
      R"("id":"forged","endpoint":"x"})";
  const auto sent = lines();
  EXPECT_THAT(sent, Contains("ce-tenant: a%20b"));
  EXPECT_THAT(sent, Contains("ce-traceparent: 00-1-2-01"));
  EXPECT_THAT(sent, Contains("traceparent: 00-1-2-01"));
  EXPECT_THAT(sent, Contains("tracestate: a=b, c=d"));
  EXPECT_THAT(sent, Not(Contains(testing::HasSubstr("Odd"))));
  EXPECT_THAT(sent, Not(Contains(testing::HasSubstr("forged"))));
}

TEST_F(WebhookRequest, ForwardsWhatItIsToldToAndNothingThatCollides) {
  settings_.list("forward_headers", {"Correlation-Id", "x-*"}).map("headers", {{"X-Mine", "1"}});
  envelope_.headers_json =
      R"({"correlation-id":"käse","x-tenant":"a b","X-Mine":"forged","webhook-id":"forged",)"
      R"("Host":"forged","other-thing":"1","x bad":"1"})";
  const auto sent = lines();
  EXPECT_THAT(sent, Contains("correlation-id: k%C3%A4se"));
  EXPECT_THAT(sent, Contains("x-tenant: a b"));
  EXPECT_THAT(sent, Contains("X-Mine: 1"));
  EXPECT_THAT(sent, Not(Contains(testing::HasSubstr("other-thing"))));
  for (const std::string& line : sent) {
    EXPECT_EQ(line.find("forged"), std::string::npos) << line;
    EXPECT_EQ(line.find("x bad"), std::string::npos) << line;
  }
}

TEST_F(WebhookRequest, AStructuredOneHoldsEverythingInItsBody) {
  settings_.text("body", "structured");
  EXPECT_THAT(lines(), AllOf(Contains("content-type: application/cloudevents+json; charset=UTF-8"),
                             Not(Contains(StartsWith("ce-")))));
  EXPECT_THAT(std::string(request_.body()), StartsWith(R"({"specversion":"1.0","id":"018f)"));
}

TEST_F(WebhookRequest, ABatchHasAnIdOfItsEntries) {
  settings_.text("body", "batch");
  Envelope second = envelope_;
  second.envelope_id = *Uuid::parse("018f0000-0000-7000-8000-00000000000b");
  const auto both = lines({&envelope_, &second});
  EXPECT_THAT(both, Contains("content-type: application/cloudevents-batch+json; charset=UTF-8"));
  EXPECT_EQ(request_.body().front(), '[');
  EXPECT_EQ(request_.body().back(), ']');
  EXPECT_NE(request_.body().find("00000000000b"), std::string_view::npos);
  EXPECT_THAT(both, Contains(StartsWith("webhook-id: batch_")));
  EXPECT_EQ(lines({&envelope_, &second}), both) << "the same on each attempt";
  EXPECT_NE(lines({&second, &envelope_}), both);
  EXPECT_THAT(lines(), Contains("webhook-id: 018f0000-0000-7000-8000-00000000000a"));
  EXPECT_EQ(request_.body().front(), '[') << "one entry is a batch as well";
}

TEST_F(WebhookRequest, OperatorsHeadersGoAlong) {
  settings_.map("headers", {{"authorization", "Bearer x"}, {"user-agent", "shop"}, {"x-e", ""}});
  const auto sent = lines();
  EXPECT_THAT(sent, Contains("authorization: Bearer x"));
  EXPECT_THAT(sent, Contains("user-agent: shop"));
  EXPECT_THAT(sent, Contains("x-e;"));
  EXPECT_THAT(sent, Not(Contains(StartsWith("user-agent: outfall"))));
}

TEST(WebhookAbandonedLookups, CountForHalfAMinute) {
  AbandonedLookups lookups;
  const MonotonicTime now{std::chrono::hours{1}};
  for (std::size_t i = 0; i + 1 < AbandonedLookups::kMost; ++i) lookups.add(now);
  EXPECT_TRUE(lookups.leave_room(now));
  lookups.add(now + std::chrono::seconds{1});
  EXPECT_FALSE(lookups.leave_room(now + std::chrono::seconds{29}));
  EXPECT_TRUE(lookups.leave_room(now + std::chrono::seconds{30}));
}

TEST(WebhookHttp1Origins, StayWhatALargeBodyMadeThem) {
  Http1Origins origins(0x075801);
  EXPECT_FALSE(origins.takes("https://a.example/x", 65'535));
  EXPECT_TRUE(origins.takes("https://a.example/x", 65'536));
  EXPECT_TRUE(origins.takes("https://a.example?y", 1));
  EXPECT_FALSE(origins.takes("https://a.example:8443/x", 1));
  EXPECT_FALSE(origins.takes("https://a.example.org/x", 1));
  EXPECT_FALSE(origins.takes("http://a.example/x", 1 << 20)) << "it is HTTP/1.1 anyway";
  EXPECT_FALSE(Http1Origins(0x080200).takes("https://a.example/x", 1 << 20));
}

TEST(WebhookHttp1Origins, TheOneThatWasUsedLongestAgoIsForgotten) {
  Http1Origins origins(0x075801);
  const auto takes = [&](std::size_t i, std::size_t bytes) {
    return origins.takes("https://" + std::to_string(i) + ".example/", bytes);
  };
  for (std::size_t i = 0; i < Http1Origins::kMost; ++i) EXPECT_TRUE(takes(i, 1 << 20));
  EXPECT_TRUE(takes(0, 1)) << "used again";
  EXPECT_TRUE(takes(Http1Origins::kMost, 1 << 20));
  EXPECT_FALSE(takes(1, 1));
  for (const std::size_t i : {std::size_t{0}, std::size_t{2}, Http1Origins::kMost}) {
    EXPECT_TRUE(takes(i, 1)) << i;
  }
  for (std::size_t i = 0; i < 3 * Http1Origins::kMost; ++i) EXPECT_TRUE(takes(i, 1 << 20));
  EXPECT_FALSE(takes(2 * Http1Origins::kMost - 1, 1));
  EXPECT_TRUE(takes(2 * Http1Origins::kMost, 1));
}

}  // namespace
}  // namespace outfall::webhook
