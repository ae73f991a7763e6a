// Goal: what a worker asks of the database while it delivers by webhooks is in proportion to what
// it delivers. Method: the worker's own counters, against a scripted endpoint.
#include "tests/integration/worker_fixture.h"
#include "tests/support/http_recorder.h"

namespace outfall::test {
namespace {

using WebhookClaims = WorkerTest;

// It claimed after each of its answers, for a few entries, and each claim walked past all that was
// leased.
TEST_F(WebhookClaims, AClaimIsForHalfABatchAndNotForEachAnswer) {
  constexpr int kEntries = 6000;
  constexpr int kHalfABatch = 200;
  HttpRecorder server;
  server.answer_always({.delay = std::chrono::milliseconds{10}});
  enqueue_many("orders", kEntries, kEntries);
  // The whole stream is one lane.
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = "[streams.orders]\nemitter = \"partner\"\n"
                                   "lane_in_flight = 400\n[emitters.partner]\n"
                                   "kind = \"webhook\"\nmax_in_flight = 64\nurl = \"" +
                                   server.url("/") + "\"\n"});
  wait_until_empty("orders");
  const double claims = worker.metric("outfall_claims_total{result=\"entries\",stream=\"orders\"}");
  RecordProperty("claims", std::to_string(claims));
  // And one that finds the worker without any.
  EXPECT_LE(claims, kEntries / kHalfABatch + 1);
  EXPECT_EQ(worker.stop(), 0);
}

}  // namespace
}  // namespace outfall::test
