// Goal: the receiver of the docs takes what a worker signs, refuses what it does not, and is the
// one that the page shows. Method: it runs as a process, and a real worker sends to it.

#include <gmock/gmock.h>

#include "tests/integration/admin_client.h"
#include "tests/integration/worker_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kSample = OUTFALL_SOURCE_FOLDER "/samples/webhook/receive.py";
constexpr const char* kSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
constexpr const char* kOtherSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

class WebhookSample : public WorkerTest {
 protected:
  WebhookSample()
      : receiver_({"python3", kSample,
                   folder_.write("partner", kSecret + std::string("\n")).string(),
                   std::to_string(port_)}) {
    // It takes nothing but POST, which shows that it is there.
    wait_until(
        [&] {
          try {
            return http_get(url()).status == 501;
          } catch (const std::runtime_error&) {
            return false;
          }
        },
        "the receiver listens");
  }

  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  [[nodiscard]] WorkerProcess::Options options(const std::string& secret) const {
    return {.dsn = database_.dsn(),
            .streams =
                "[streams.orders]\nemitter = \"partners\"\n[emitters.partners]\nkind = "
                "\"webhook\"\ntimeout = \"5s\"\nurl = \"" +
                url() + "/hooks\"\n" + secret + "\n"};
  }

  TempFolder folder_;
  int port_ = free_port();
  ChildProcess receiver_;
};

TEST_F(WebhookSample, PrintsWhatIsSignedWithItsSecret) {
  // Two keys, as while they are rotated.
  WorkerProcess worker(
      options("secret = [\"" + std::string(kOtherSecret) + "\", \"" + kSecret + "\"]"));
  const std::int64_t id = enqueue("orders", "ana", R"({"order": 42})");
  const std::string envelope = sql_.value(
      "SELECT envelope_id FROM entries WHERE id = $1 UNION ALL SELECT envelope_id FROM "
      "delivered WHERE entry_id = $1",
      {std::to_string(id)});
  receiver_.wait_for_output("order.placed " + envelope + R"( {"order": 42})");
  wait_until([&] { return delivered() == 1; }, "it is delivered");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(WebhookSample, RefusesWhatIsSignedWithAnotherSecretOrNot) {
  for (const std::string& secret :
       {std::string("secret = [\"") + kOtherSecret + "\"]", std::string()}) {
    enqueue("orders", "ana");
    WorkerProcess worker(options(secret));
    wait_until(
        [&] {
          return worker.metric(
                     "outfall_attempts_total{outcome=\"destination_unavailable\",stream="
                     "\"orders\"}") > 0;
        },
        "the worker is refused");
    EXPECT_EQ(worker.stop(), 0);
  }
  EXPECT_EQ(live("orders"), 2);
  EXPECT_EQ(delivered(), 0);
  EXPECT_THAT(receiver_.output(), Not(HasSubstr("order.placed")));
  EXPECT_EQ(http_call({.method = "POST", .url = url(), .body = "{}"}).status, 401);
}

TEST(WebhookDocs, TheReceiverOnThePageIsTheFile) {
  EXPECT_THAT(read_file(OUTFALL_SOURCE_FOLDER "/docs/start/webhooks.md"),
              HasSubstr("```python\n" + read_file(kSample) + "```\n"));
}

}  // namespace
}  // namespace outfall::test
