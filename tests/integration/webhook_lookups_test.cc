// A name server that hangs.
#include <gmock/gmock.h>

#include "emitters/webhook/abandoned_lookups.h"
#include "tests/integration/webhook_fixture.h"
#include "tests/support/hanging_lookups.h"

namespace outfall::test {
namespace {

using webhook::AbandonedLookups;

class WebhookLookups : public WebhookTest {
 protected:
  WebhookLookups() {
    settings_.text("url", "http://{header.endpoint}/")
        .list("allow_hosts", {"*.hang.test", "127.0.0.1:*"})
        .number("connect_timeout", 500);
  }

  static TestEntry to(const std::string& endpoint) {
    return {.headers_json = R"({"endpoint":")" + endpoint + "\"}"};
  }

  const HangingLookups lookups_;
};

// libcurl has a thread for each, which it leaves behind when the transfer has timed out.
TEST_F(WebhookLookups, ThatHangDoNotAddUp) {
  std::vector<TestEntry> entries;
  for (std::size_t i = 0; i < AbandonedLookups::kMost; ++i) {
    entries.push_back(to("a" + std::to_string(i) + ".hang.test"));
  }
  for (const Outcome* outcome : deliver(entries)) {
    ASSERT_EQ(told(*outcome), "destination_unavailable webhook.connect_timeout");
  }
  EXPECT_EQ(lookups_.waiting(), AbandonedLookups::kMost);
  const auto more = deliver({to("b.hang.test"), to("127.0.0.1:" + std::to_string(server_.port()))});
  EXPECT_EQ(told(*more[0]), "deferred webhook.local_resources");
  EXPECT_THAT(more[0]->error->message, testing::HasSubstr("name server"));
  EXPECT_EQ(told(*more[1]), "delivered") << "an address needs no lookup";
  EXPECT_EQ(lookups_.waiting(), AbandonedLookups::kMost);
}

}  // namespace
}  // namespace outfall::test
