// What was sent, read by others' code: Python's standardwebhooks, cryptography and cloudevents.
#include <algorithm>
#include <cctype>

#include <boost/json.hpp>
#include <gmock/gmock.h>

#include "core/text.h"
#include "emitters/webhook/signature.h"
#include "tests/integration/webhook_fixture.h"
#include "tests/support/judges.h"
#include "tests/support/temp_folder.h"

namespace outfall::test {
namespace {

namespace json = boost::json;

constexpr const char* kSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
constexpr const char* kOtherSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
constexpr const char* kUnknownSecret = "whsec_ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4";
constexpr const char* kPair = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";

class WebhookJudges : public WebhookTest {
 protected:
  // The judge's verdicts about all requests so far.
  json::array judged(const std::vector<std::string>& secrets,
                     const std::vector<std::string>& public_keys = {}) {
    json::array requests;
    for (const HttpRequest& request : server_.requests()) {
      json::object headers;
      for (const auto& [name, value] : request.headers) {
        std::string lower = name;
        std::ranges::transform(lower, lower.begin(),
                               [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        headers[lower] = value;
      }
      std::string body;
      append_base64(body, request.body);
      requests.push_back({{"headers", headers}, {"body", body}});
    }
    const TempFolder folder;
    const auto file =
        folder.write("recorded.json",
                     json::serialize(json::object{{"secrets", json::value_from(secrets)},
                                                  {"public_keys", json::value_from(public_keys)},
                                                  {"requests", requests}}));
    return json::parse(
               run_judge(OUTFALL_SOURCE_FOLDER "/tests/judges/webhook_judge.py", {file.string()}))
        .as_array();
  }

  static std::vector<TestEntry> entries() {
    return {{.key = "käse €", .payload = R"({"n": 1, "text": "ü \" \\"})", .subject = "order 7/ä%"},
            {.headers_json = R"({"tenant":"a b","traceparent":"00-0af7651916cd43dd8448eb211c80319c)"
                             R"(-b7ad6b7169203331-01"})"},
            {.key = "pretty", .payload = "{\n  \"a\": [1, 2]\n}\n"},
            {.key = "text",
             .kind = PayloadKind::binary,
             .payload = "zwei\nZeilen",
             .content_type = "text/plain"}};
  }
};

TEST_F(WebhookJudges, VerifyEverySignatureAlsoDuringARotation) {
  settings_.list("secret", {kOtherSecret, kPair, kSecret});
  deliver(entries());
  webhook::Signer signer;
  ASSERT_EQ(signer.add_key(kPair), std::nullopt);
  const std::string public_key = signer.public_keys().front();
  const json::array verdicts = judged({kSecret, kOtherSecret, kUnknownSecret}, {public_key});
  ASSERT_EQ(verdicts.size(), entries().size());
  for (const json::value& verdict : verdicts) {
    EXPECT_EQ(verdict.at("v1"), (json::array{true, true, false}));
    EXPECT_EQ(verdict.at("v1a"), json::array{true});
  }
}

TEST_F(WebhookJudges, RefuseKeysThatDidNotSign) {
  settings_.list("secret", {kSecret, kPair});
  server_.answer_next({.status = 503});
  deliver_one();
  const json::array verdicts =
      judged({kUnknownSecret}, {"whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="});
  EXPECT_EQ(verdicts.at(0).at("v1"), json::array{false});
  EXPECT_EQ(verdicts.at(0).at("v1a"), json::array{false});
}

void expect_event(const json::value& event, const TestDrain::Item& item) {
  const json::object& attributes = event.at("attributes").as_object();
  const TestEntry& entry = item.entry;
  EXPECT_EQ(attributes.at("id"), json::value(item.envelope_id.to_string()));
  EXPECT_EQ(attributes.at("type"), json::value(entry.type));
  EXPECT_EQ(attributes.contains("partitionkey"), entry.key.has_value());
  if (entry.key) {
    EXPECT_EQ(attributes.at("partitionkey"), json::value(*entry.key));
  }
  if (!entry.subject.empty()) {
    EXPECT_EQ(attributes.at("subject"), json::value(entry.subject));
  }
  if (!entry.headers_json.empty()) {
    EXPECT_EQ(attributes.at("tenant"), "a b");
    EXPECT_EQ(attributes.at("traceparent"),
              "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  }
  if (entry.kind == PayloadKind::json) {
    EXPECT_EQ(event.at("data"), json::parse(entry.payload));
  } else {
    EXPECT_EQ(event.at("data"), json::value(entry.payload));
  }
}

TEST_F(WebhookJudges, ReadEveryEventInEveryMode) {
  for (const char* body : {"payload", "structured", "batch"}) {
    settings_.text("url", server_.url("/" + std::string(body))).text("body", body);
    emitter_.reset();
    const std::size_t requests_before = server_.count();
    const std::size_t tokens_before = drain_.emitted();
    deliver(entries());
    const json::array verdicts = judged({});
    std::vector<json::value> events;
    for (std::size_t i = requests_before; i < verdicts.size(); ++i) {
      for (const json::value& event : verdicts.at(i).at("events").as_array()) {
        events.push_back(event);
      }
    }
    ASSERT_EQ(events.size(), entries().size()) << body;
    for (std::uint64_t token = tokens_before + 1; token <= drain_.emitted(); ++token) {
      const TestDrain::Item& item = drain_.item(token);
      const auto found = std::ranges::find_if(events, [&](const json::value& event) {
        return event.at("attributes").at("id") == json::value(item.envelope_id.to_string());
      });
      ASSERT_NE(found, events.end()) << body;
      expect_event(*found, item);
    }
  }
}

}  // namespace
}  // namespace outfall::test
