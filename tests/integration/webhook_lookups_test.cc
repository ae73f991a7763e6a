// A name server that hangs.
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>

#include "emitters/webhook/abandoned_lookups.h"
#include "tests/integration/webhook_fixture.h"
#include "tests/support/hanging_lookups.h"

namespace outfall::test {
namespace {

using webhook::AbandonedLookups;

// How many descriptors all epolls of this process have on record (proc(5), fdinfo). The kernel
// strikes out one that is closed.
std::size_t descriptors_in_epoll() {
  std::size_t count = 0;
  for (const auto& of_one : std::filesystem::directory_iterator("/proc/self/fdinfo")) {
    std::ifstream lines(of_one.path());
    for (std::string line; std::getline(lines, line);) count += line.starts_with("tfd:") ? 1 : 0;
  }
  return count;
}

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

// The second one's descriptor has the number of the first one's, and was taken for watched: what
// the lookup found was noticed when libcurl asked for it by itself, up to a quarter of a second
// late.
TEST_F(WebhookLookups, AreEachWatchedAlsoWithTheDescriptorOfAnEarlierOne) {
  settings_.number("connect_timeout", 3000);
  start();
  const std::size_t before = descriptors_in_epoll();
  for (std::size_t hanging = 1; hanging <= 2; ++hanging) {
    SCOPED_TRACE(hanging);
    static_cast<void>(drain_.emit(*emitter_, {to("a" + std::to_string(hanging) + ".hang.test")}));
    wait_until([&] { return lookups_.waiting() == hanging; }, "it hangs");
    wait_until([&] { return descriptors_in_epoll() == before + 1; }, "it is watched",
               std::chrono::seconds{2});
    drain_.wait_for_all();
    wait_until([&] { return descriptors_in_epoll() == before; }, "it is forgotten");
  }
}

}  // namespace
}  // namespace outfall::test
