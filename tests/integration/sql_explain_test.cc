// Goal: explain_entry() answers "where is my event?" in every situation an entry can be in.

#include "tests/integration/sql_fixture.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class SqlExplain : public SqlTest {
 protected:
  std::string summary(const std::string& envelope) { return explained(envelope, "summary"); }
  std::string whole_summary(const std::string& envelope) {
    return sql_.value("SELECT explain_entry($1) ->> 'summary'", {envelope});
  }
  Worker worker_{database_.dsn(), "shop-7"};
};

TEST_F(SqlExplain, StreamThatNobodyServes) {
  const std::string id = envelope_of(enqueue("orders"));
  EXPECT_EQ(summary(id), "waits: no worker has ever served stream orders");
  EXPECT_EQ(explained(id, "stream_state.served"), "false");
  worker_.session().register_streams(std::vector<std::string>{"orders"});
  EXPECT_THAT(summary(id), StartsWith("due since "));
  EXPECT_EQ(sql_.value("SELECT explain_entry($1, ARRAY['other']) #>> '{entries,0,summary}'", {id}),
            "waits: the configuration has no stream orders");
  EXPECT_THAT(
      sql_.value("SELECT explain_entry($1, ARRAY['orders']) #>> '{entries,0,summary}'", {id}),
      StartsWith("due since "));
}

TEST_F(SqlExplain, PausedStream) {
  const std::string id = envelope_of(enqueue("orders"));
  sql_.exec("SELECT pause_stream('orders', 'ana', 'sink moves')");
  EXPECT_THAT(summary(id), HasSubstr("stream orders is paused since 20"));
  EXPECT_THAT(summary(id), HasSubstr("by ana (sink moves)"));
}

TEST_F(SqlExplain, Scheduled) {
  worker_.session().register_streams(std::vector<std::string>{"orders"});
  const std::string id =
      sql_.value("SELECT enqueue('orders', 'a', p_available_at => '2101-02-03 04:05:06+00')");
  EXPECT_EQ(summary(id), "scheduled for 2101-02-03T04:05:06.000Z");
  EXPECT_EQ(explained(id, "due_at"), "2101-02-03T04:05:06+00:00");
  EXPECT_EQ(explained(id, "code"), "100");
}

TEST_F(SqlExplain, InALeaseAnExpiredLeaseAndAReleasedOne) {
  const std::string id = envelope_of(enqueue("orders"));
  worker_.claim("orders");
  EXPECT_THAT(summary(id), StartsWith("in delivery: leased by shop-7 until 20"));
  EXPECT_EQ(explained(id, "lease.instance"), "shop-7");
  EXPECT_EQ(explained(id, "lease.expired"), "false");
  sql_.exec("UPDATE leases SET expires_at = now() - interval '1 second'");
  EXPECT_THAT(summary(id), HasSubstr("whose lease expired at 20"));
  worker_.session().release();
  EXPECT_THAT(summary(id), StartsWith("was in delivery at shop-7, which has stopped"));
}

TEST_F(SqlExplain, FailedAttemptAndDeferral) {
  const std::string id = envelope_of(enqueue("orders"));
  worker_.settle_all(worker_.claim("orders"), EntryStatus::retryable_failure, std::chrono::hours(1),
                     "http.503");
  EXPECT_THAT(summary(id), StartsWith("failed with http.503 after 1 attempt; next attempt at 20"));
  sql_.exec("UPDATE entries SET attempts = 2");
  EXPECT_THAT(summary(id), StartsWith("failed with http.503 after 2 attempts; next attempt at 20"));
  EXPECT_EQ(explained(id, "last_error.message"), "it said no");
  EXPECT_EQ(explained(id, "code"), "410");
  sql_.exec("UPDATE entries SET status = 'deferred'");
  EXPECT_THAT(summary(id), StartsWith("deferred until 20"));
}

TEST_F(SqlExplain, HeldBehindAnEntryOfItsKey) {
  const EntryId head = enqueue("orders", "k");
  worker_.settle_all(worker_.claim("orders"), EntryStatus::retryable_failure, std::chrono::hours(1),
                     "http.503");
  const std::string id = envelope_of(enqueue("orders", "k"));
  EXPECT_THAT(worker_.drain("orders"), IsEmpty());
  EXPECT_THAT(summary(id), StartsWith("held behind entry " + std::to_string(head) +
                                      " of its key, which is retryable_failure until 20"));
  EXPECT_EQ(explained(id, "behind.envelope_id"), envelope_of(head));
  EXPECT_EQ(explained(id, "behind.error_code"), "http.503");
  EXPECT_EQ(explained(id, "hold.scope"), "key");
  EXPECT_EQ(explained(id, "hold.value"), "k");
  EXPECT_EQ(explained(id, "status"), "held");
}

TEST_F(SqlExplain, HeldBehindADeadLetter) {
  const EntryId head = enqueue("orders", "k");
  worker_.settle_all(worker_.claim("orders"), EntryStatus::dead_lettered, Milliseconds{0},
                     "http.400", true);
  const std::string id = envelope_of(enqueue("orders", "k"));
  EXPECT_THAT(worker_.drain("orders", true), IsEmpty());
  EXPECT_EQ(summary(id), "held: dead letter " + std::to_string(head) +
                             " of its key must be replayed or discarded first");
  EXPECT_EQ(explained(id, "behind.status"), "dead_lettered");
}

TEST_F(SqlExplain, HeldWithItsPausedDestination) {
  worker_.lane = "type";
  const std::string id = envelope_of(enqueue("orders", {}, "a"));
  sql_.exec("SELECT pause_destination('orders', 'a', 'ana', 'HTTP 410')");
  EXPECT_THAT(worker_.drain("orders"), IsEmpty());
  EXPECT_THAT(summary(id), StartsWith("held: destination a is paused since 20"));
  EXPECT_THAT(summary(id), HasSubstr("by ana (HTTP 410)"));
  EXPECT_EQ(explained(id, "destination.paused_by"), "ana");
}

TEST_F(SqlExplain, DeadLetteredThenReplayedThenDelivered) {
  const std::string id = envelope_of(enqueue("orders", "k"));
  worker_.settle_all(worker_.claim("orders"), EntryStatus::dead_lettered, Milliseconds{0},
                     "http.400");
  EXPECT_THAT(summary(id), HasSubstr("http.400 (it said no)"));
  EXPECT_EQ(explained(id, "code"), "500");
  sql_.query(
      "SELECT replay_dead_letters(p_envelope_ids => ARRAY[$1::uuid], p_actor => 'ana', p_reason => "
      "'fixed')",
      {id});
  EXPECT_EQ(explained(id, "status"), "deferred");
  EXPECT_EQ(explained(id, "replays.0.actor"), "ana");
  EXPECT_EQ(explained(id, "replays.0.reason_code"), "http.400");
  worker_.deliver(worker_.claim("orders"), {"partition-3@42"});
  EXPECT_THAT(summary(id), StartsWith("delivered at 20"));
  EXPECT_THAT(summary(id), HasSubstr("by noop as partition-3@42, attempt 2"));
  EXPECT_EQ(explained(id, "where"), "receipts");
  EXPECT_EQ(explained(id, "code"), "200");
  EXPECT_EQ(explained(id, "replays.0.reason"), "fixed");
}

TEST_F(SqlExplain, OperationsOnItAreShownAlsoWhenItIsGone) {
  const std::string id = envelope_of(enqueue("orders"));
  sql_.query("SELECT discard_entry($1, p_actor => 'ana', p_reason => 'test data')", {id});
  EXPECT_EQ(whole_summary(id), "discarded by ana (test data)");
  EXPECT_EQ(sql_.value("SELECT explain_entry($1) #>> '{operations,0,action}'", {id}),
            "discard_entry");
  EXPECT_EQ(sql_.value("SELECT explain_entry($1) ->> 'found'", {id}), "false");
}

TEST_F(SqlExplain, AnEnvelopeInSeveralStreamsIsShownInEach) {
  const std::string id = envelope_of(enqueue("orders"));
  sql_.query("SELECT enqueue('audit', 'a', p_envelope_id => $1)", {id});
  worker_.deliver(worker_.claim("orders"));
  EXPECT_EQ(
      sql_.value("SELECT jsonb_path_query_array(explain_entry($1), '$.entries[*].stream')", {id}),
      R"(["audit", "orders"])");
  EXPECT_THAT(whole_summary(id), HasSubstr("audit: waits"));
  EXPECT_THAT(whole_summary(id), HasSubstr("orders: delivered"));
}

TEST_F(SqlExplain, UnknownEnvelope) {
  const std::string id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
  EXPECT_THAT(whole_summary(id), StartsWith("unknown: never committed, or delivered"));
  EXPECT_EQ(sql_.value("SELECT explain_entry($1) ->> 'found'", {id}), "false");
}

// all_entries and the status vocabulary: the same entry in each place it can be.
TEST_F(SqlExplain, AllEntriesHasOneRowPerEnvelopeWithStatusAndCode) {
  enqueue("delivered");
  worker_.drain("delivered");
  enqueue("dead");
  worker_.settle_all(worker_.claim("dead"), EntryStatus::dead_lettered, Milliseconds{0},
                     "http.400");
  enqueue("retry");
  worker_.settle_all(worker_.claim("retry"), EntryStatus::retryable_failure, std::chrono::hours(1),
                     "http.503");
  enqueue("deferred");
  worker_.settle_all(worker_.claim("deferred"), EntryStatus::deferred, std::chrono::hours(1), "");
  enqueue("pending");
  EXPECT_EQ(sql_.query("SELECT stream, status, code, attempts, error_code, record_id = "
                       "envelope_id::text FROM all_entries "
                       "ORDER BY entry_id"),
            (PgRows{{"delivered", "delivered", "200", "1", std::nullopt, "t"},
                    {"dead", "dead_lettered", "500", "1", "http.400", std::nullopt},
                    {"retry", "retryable_failure", "410", "1", "http.503", std::nullopt},
                    {"deferred", "deferred", "300", "0", std::nullopt, std::nullopt},
                    {"pending", "pending", "100", "0", std::nullopt, std::nullopt}}));
}

}  // namespace
}  // namespace outfall::test
