// What check-config says about a webhook emitter's table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "emitters/webhook/webhook.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/hint_form.h"
#include "tests/support/temp_folder.h"

namespace outfall {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class WebhookSettings : public testing::Test {
 protected:
  // The settings that have problems.
  std::vector<std::string> problems() {
    std::vector<std::string> names;
    for (const SettingProblem& problem : kind_.validate(settings_.values())) {
      EXPECT_FALSE(problem.message.empty());
      test::expect_hint_form(problem);
      names.push_back(problem.setting);
    }
    return names;
  }

  const EmitterKind kind_ = webhook_emitter_kind();
  test::TestSettings settings_ = test::TestSettings(kind_).text("url", "https://a.example/hooks");
};

TEST_F(WebhookSettings, AUrlIsEnough) {
  EXPECT_THAT(problems(), IsEmpty());
  EXPECT_EQ(kind_.lane(settings_.values()), "");
}

TEST_F(WebhookSettings, AHostOfTheEntrysChoiceNeedsAList) {
  settings_.text("url", "https://{header.endpoint}/hooks");
  EXPECT_THAT(problems(), ElementsAre("url"));
  EXPECT_EQ(kind_.lane(settings_.values()), "header.endpoint");
  settings_.list("allow_hosts", {"*.partner.example"});
  EXPECT_THAT(problems(), IsEmpty());
  settings_.text("url", "{header.url}").list("allow_hosts", {});
  EXPECT_THAT(problems(), ElementsAre("url"));
}

TEST_F(WebhookSettings, AFixedHostHasToBeOnTheListWhereThereIsOne) {
  settings_.list("allow_hosts", {"b.example"});
  EXPECT_THAT(problems(), ElementsAre("url"));
  settings_.list("allow_hosts", {"a.example"});
  EXPECT_THAT(problems(), IsEmpty());
  settings_.list("allow_hosts", {"https://a.example"});
  EXPECT_THAT(problems(), ElementsAre("allow_hosts"));
}

TEST_F(WebhookSettings, AProxyIsAnHttpUrlAndItsPasswordIsToldToNobody) {
  settings_.text("proxy", "http://shop:hunter2%40@proxy.example:3128");
  EXPECT_THAT(problems(), IsEmpty());
  for (const char* proxy :
       {"socks5h://shop:hunter2@proxy.example", "https://shop:hunter2@proxy.example",
        "shop:hunter2@proxy.example", "http://", "http://shop:hunter2/@proxy.example:3128"}) {
    settings_.text("proxy", proxy);
    EXPECT_THAT(problems(), ElementsAre("proxy")) << proxy;
    for (const SettingProblem& problem : kind_.validate(settings_.values())) {
      EXPECT_EQ((problem.message + problem.hint).find("hunter2"), std::string::npos) << proxy;
    }
  }
}

TEST_F(WebhookSettings, AllProblemsAreReportedAtOnce) {
  settings_.text("url", "mailto:x")
      .list("secret", {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "hunter2"})
      .text("ca_file", "/does/not/exist")
      .text("client_key_file", "/does/not/exist/either")
      .text("proxy", "proxy.example")
      .text("request_id_header", "x y")
      .map("headers", {{"Host", "x"}, {"ce-id", "x"}, {"a b", "x"}, {"good", "a\r\nbad: x"}})
      .list("forward_headers", {"x y", "webhook-id"})
      .list("allow_cidrs", {"10.0.0.0/99"})
      .list("deny_cidrs", {"x"})
      .map("status", {{"404", "lost"}});
  EXPECT_THAT(problems(),
              ElementsAre("url", "secret", "request_id_header", "ca_file", "client_key_file",
                          "client_key_file", "proxy", "headers.Host", "headers.a b",
                          "headers.ce-id", "headers.good", "forward_headers", "forward_headers",
                          "allow_cidrs", "deny_cidrs", "status.404"));
  for (const SettingProblem& problem : kind_.validate(settings_.values())) {
    EXPECT_EQ((problem.message + problem.hint).find("hunter2"), std::string::npos);
  }
}

TEST_F(WebhookSettings, HeadersThatWouldCollideAreRefused) {
  for (const char* name :
       {"content-length", "Content-Type", "transfer-encoding", "connection", "webhook-signature",
        "Webhook-Id", "CE-anything", "proxy-authorization", "expect", "te", "upgrade"}) {
    settings_.map("headers", {{name, "x"}});
    EXPECT_THAT(problems(), ElementsAre(std::string("headers.") + name)) << name;
  }
  settings_.map("headers", {{"X-Team", "a"}, {"x-team", "b"}});
  EXPECT_THAT(problems(), ElementsAre("headers.x-team"));
  settings_.map("headers", {{"authorization", "Bearer x"}, {"x-api-key", "y"}});
  EXPECT_THAT(problems(), IsEmpty());
}

}  // namespace
}  // namespace outfall
