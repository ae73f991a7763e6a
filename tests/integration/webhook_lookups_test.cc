// A name server that hangs. This program's own getaddrinfo() stands before the C library's.
#include <condition_variable>
#include <dlfcn.h>
#include <mutex>
#include <netdb.h>
#include <string_view>

#include <gmock/gmock.h>

#include "emitters/webhook/abandoned_lookups.h"
#include "tests/integration/webhook_fixture.h"

namespace {

// Lookups of names below hang.test wait here.
struct Hanging {
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t waiting = 0;
  bool may_hang = false;
};

// Never destroyed: threads of lookups may outlive main().
Hanging& hanging() {
  static auto& all = *new Hanging;
  return all;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int getaddrinfo(const char* name,
                                                                  const char* service,
                                                                  const addrinfo* hints,
                                                                  addrinfo** found) {
  using Function = decltype(&::getaddrinfo);
  static const auto real = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "getaddrinfo"));
  if (name == nullptr || !std::string_view(name).ends_with(".hang.test")) {
    return real(name, service, hints, found);
  }
  Hanging& all = hanging();
  std::unique_lock lock(all.mutex);
  ++all.waiting;
  all.changed.wait(lock, [&] { return !all.may_hang; });
  --all.waiting;
  return EAI_AGAIN;
}

namespace outfall::test {
namespace {

using webhook::AbandonedLookups;

class WebhookLookups : public WebhookTest {
 protected:
  WebhookLookups() {
    settings_.text("url", "http://{header.endpoint}/")
        .list("allow_hosts", {"*.hang.test", "127.0.0.1:*"})
        .number("connect_timeout", 500);
    may_hang(true);
  }
  ~WebhookLookups() override {
    may_hang(false);
    wait_until([] { return waiting() == 0; }, "the lookups to end");
  }

  static void may_hang(bool value) {
    const std::lock_guard lock(hanging().mutex);
    hanging().may_hang = value;
    hanging().changed.notify_all();
  }
  static std::size_t waiting() {
    const std::lock_guard lock(hanging().mutex);
    return hanging().waiting;
  }
  static TestEntry to(const std::string& endpoint) {
    return {.headers_json = R"({"endpoint":")" + endpoint + "\"}"};
  }
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
  EXPECT_EQ(waiting(), AbandonedLookups::kMost);
  const auto more = deliver({to("b.hang.test"), to("127.0.0.1:" + std::to_string(server_.port()))});
  EXPECT_EQ(told(*more[0]), "deferred webhook.local_resources");
  EXPECT_THAT(more[0]->error->message, testing::HasSubstr("name server"));
  EXPECT_EQ(told(*more[1]), "delivered") << "an address needs no lookup";
  EXPECT_EQ(waiting(), AbandonedLookups::kMost);
}

}  // namespace
}  // namespace outfall::test
