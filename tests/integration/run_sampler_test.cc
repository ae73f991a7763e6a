// The sampler inside `outfall run`: what it publishes, that one worker of those with the same
// streams samples, and that it outlives its connection.

#include <csignal>

#include <fmt/format.h>

#include "tests/integration/admin_client.h"
#include "tests/integration/operate_fixture.h"
#include "tests/support/temp_pgbouncer.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

class RunSampler : public OperateTest {
 protected:
  // What the worker knows of the backlog; null where it does not sample.
  static boost::json::value backlog(const ChildProcess& worker) {
    return boost::json::parse(http_get(admin_url(worker) + "/status").body).at("backlog");
  }
  static bool samples(const ChildProcess& worker) { return !backlog(worker).is_null(); }
  static std::string metrics(const ChildProcess& worker) {
    return http_get(admin_url(worker) + "/metrics").body;
  }
  // Entries wait here: the emitter never answers.
  [[nodiscard]] static std::string stuck_stream(const std::string& name) {
    return fmt::format(
        "[streams.{}]\nemitter = \"slow\"\n[emitters.slow]\nkind = \"noop\"\nlatency = \"1h\"\n",
        name);
  }
};

TEST_F(RunSampler, PublishesTheBacklogAndWhatNobodyServes) {
  enqueue("audit");
  configure(stuck_stream("orders"));
  enqueue("orders");
  sql_.exec(
      "INSERT INTO entries (stream, type, status, attempts, available_at, created_at) VALUES "
      "('orders', 'a', 'retryable_failure', 3, now() + interval '1 hour', now() - interval '7000 "
      "seconds'), ('orders', 'a', 'deferred', 0, now() + interval '1 hour', now() - interval '8000 "
      "seconds')");
  const auto worker = run_worker();
  wait_until([&] { return samples(*worker); }, "the first look");
  const boost::json::value look = backlog(*worker);
  EXPECT_EQ(look.at("streams").at(0).at("stream"), "orders");
  EXPECT_EQ(look.at("streams").at(0).at("pending"), 1);
  EXPECT_NEAR(look.at("streams").at(0).at("oldest_retried_seconds").to_number<double>(), 7400, 400);
  EXPECT_NEAR(look.at("streams").at(0).at("oldest_deferred_seconds").to_number<double>(), 8400,
              400);
  EXPECT_EQ(look.at("unbound").at(0).at("stream"), "audit");
  EXPECT_EQ(look.at("unbound").at(0).at("entries"), 1);
  EXPECT_THAT(metrics(*worker),
              AllOf(HasSubstr("outfall_entries{stream=\"orders\",status=\"pending\"} 1\n"),
                    ContainsRegex("outfall_oldest_retried_age_seconds.stream=\"orders\". 7[0-9]+"),
                    ContainsRegex("outfall_oldest_deferred_age_seconds.stream=\"orders\". 8[0-9]+"),
                    HasSubstr("outfall_unbound_entries{stream=\"audit\"} 1\n"),
                    HasSubstr("outfall_database_connected 1\n"),
                    Not(HasSubstr("outfall_schema_version 0\n"))));
  EXPECT_THAT(worker->error_output(),
              HasSubstr("entries wait in a stream that no worker serves stream=audit"));
}

// They were counted nowhere, with a line in the log as all that told.
TEST_F(RunSampler, LooksThatFailAreCounted) {
  configure(stuck_stream("orders"));
  const auto worker = run_worker();
  wait_until([&] { return samples(*worker); }, "the first look");
  EXPECT_THAT(metrics(*worker), HasSubstr("outfall_database_errors_total{kind=\"schema\"} 0\n"));
  sql_.exec("ALTER FUNCTION sample_streams RENAME TO sample_streams_of_tomorrow");
  worker->wait_for_output("the backlog cannot be sampled");
  wait_until(
      [&] {
        return testing::Value(
            metrics(*worker),
            ContainsRegex("outfall_database_errors_total.kind=\"schema\". ([2-9]|[1-9][0-9]+)\n"));
      },
      "each of them is counted");
  EXPECT_THAT(metrics(*worker), HasSubstr("outfall_database_connected 1\n"));
}

// A pause of its only destination stops a stream as its own pause does, and the metrics tell which.
TEST_F(RunSampler, PublishesWhichPausesAreInForce) {
  configure(stuck_stream("orders"));
  const auto worker = run_worker();
  wait_until([&] { return samples(*worker); }, "the first look");
  EXPECT_THAT(metrics(*worker),
              AllOf(HasSubstr("outfall_pauses{stream=\"orders\",of=\"stream\"} 0\n"),
                    HasSubstr("outfall_pauses{stream=\"orders\",of=\"destination\"} 0\n")));
  sql_.exec("SELECT pause_destination('orders', '', 'worker a', 'webhook.status_410')");
  enqueue("orders");
  const auto shows = [&](const std::string& series) {
    return metrics(*worker).find(series) != std::string::npos;
  };
  wait_until([&] { return shows("outfall_pauses{stream=\"orders\",of=\"destination\"} 1\n"); },
             "the paused destination");
  wait_until([&] { return shows("outfall_paused{stream=\"orders\"} 1\n"); },
             "nothing of the stream is claimed");
  EXPECT_TRUE(shows("outfall_pauses{stream=\"orders\",of=\"stream\"} 0\n"));
  EXPECT_THAT(outfall({"status"}).output, HasSubstr("orders  1 destination paused  "));
  sql_.exec("SELECT pause_stream('orders', 'ana', 'x')");
  wait_until([&] { return shows("outfall_pauses{stream=\"orders\",of=\"stream\"} 1\n"); },
             "the paused stream");
}

TEST_F(RunSampler, OneOfTwoWorkersSamplesAndTheOtherTakesOver) {
  auto first = run_worker();
  wait_until([&] { return samples(*first); }, "the first worker samples");
  const auto second = run_worker();
  wait_until(
      [&] { return metrics(*second).find("outfall_schema_version 0\n") == std::string::npos; },
      "the second worker's sampler is connected");
  EXPECT_FALSE(holds_within([&] { return samples(*second); }, std::chrono::milliseconds(1500)));
  EXPECT_THAT(metrics(*second), Not(HasSubstr("outfall_entries{")));
  first->kill();
  wait_until([&] { return samples(*second); }, "the second worker takes over");
  EXPECT_THAT(metrics(*second), HasSubstr("outfall_entries{"));
}

TEST_F(RunSampler, WorkersWithOtherStreamsSampleForThemselvesAndKnowOfEachOther) {
  configure(stuck_stream("orders"));
  folder_.write("mails.toml", fmt::format("[admin]\nlisten = \"127.0.0.1:0\"\n[drain]\n"
                                          "sampler_interval = \"1s\"\n{}[database]\nurl = \"{}\"\n",
                                          stuck_stream("mails"), database_.dsn()));
  enqueue("orders");
  enqueue("mails");
  const auto orders = run_worker();
  auto mails = run_worker("mails.toml");
  const auto sees_nothing_unbound = [](const ChildProcess& worker) {
    const boost::json::value look = backlog(worker);
    return !look.is_null() && look.at("unbound").as_array().empty();
  };
  wait_until([&] { return sees_nothing_unbound(*orders) && sees_nothing_unbound(*mails); },
             "both sample and see the other's stream served");
  mails->kill();
  wait_until(
      [&] {
        const boost::json::value look = backlog(*orders);
        return !look.is_null() && !look.at("unbound").as_array().empty() &&
               look.at("unbound").at(0).at("stream") == "mails";
      },
      "nobody serves mails any more");
}

// A worker that hangs keeps its sessions, and the server does not notice for hours that a machine
// is gone.
TEST_F(RunSampler, AnotherSamplesForAWorkerThatHangs) {
  auto first = run_worker();
  wait_until([&] { return samples(*first); }, "the first worker samples");
  const auto second = run_worker();
  first->signal(SIGSTOP);
  wait_until([&] { return samples(*second); }, "the second worker takes over");
  first->signal(SIGCONT);
  first->wait_for_output("the backlog cannot be sampled");
  EXPECT_FALSE(holds_within([&] { return samples(*first); }, std::chrono::milliseconds(1500)));
}

TEST_F(RunSampler, TheStreamsOfAWorkerThatHangsAreServedByNobody) {
  configure(stuck_stream("orders"));
  folder_.write("mails.toml", fmt::format("[admin]\nlisten = \"127.0.0.1:0\"\n[drain]\n"
                                          "sampler_interval = \"1s\"\n{}[database]\nurl = \"{}\"\n",
                                          stuck_stream("mails"), database_.dsn()));
  const auto orders = run_worker();
  const auto mails = run_worker("mails.toml");
  wait_until([&] { return samples(*orders) && samples(*mails); }, "both sample");
  enqueue("mails");
  const auto unbound = [&] {
    const boost::json::value look = backlog(*orders);
    return !look.is_null() && !look.at("unbound").as_array().empty();
  };
  EXPECT_FALSE(unbound());
  mails->signal(SIGSTOP);
  wait_until(unbound, "nobody serves mails any more");
  mails->signal(SIGCONT);
  wait_until([&] { return !unbound(); }, "its worker is back");
}

TEST_F(RunSampler, ALostConnectionIsReplaced) {
  const auto worker = run_worker();
  wait_until([&] { return samples(*worker); }, "the first look");
  const auto taken_at = [&]() -> double {
    const boost::json::value look = backlog(*worker);
    return look.is_null() ? 0 : look.at("taken_at_timestamp_seconds").to_number<double>();
  };
  sql_.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
      "current_database() AND pid <> pg_backend_pid()");
  const auto lost = std::chrono::duration<double>(system_clock().wall().time_since_epoch()).count();
  wait_until([&] { return taken_at() > lost; }, "a look by a new connection");
  worker->signal(SIGTERM);
  EXPECT_EQ(worker->wait().code, 0);
}

TEST_F(RunSampler, MakesThePartitionsOfTheReceiptsAtItsStart) {
  sql_.exec(
      "DO $$ DECLARE p text; BEGIN FOR p IN SELECT name FROM receipts_partitions() WHERE "
      "from_time IS NOT NULL LOOP EXECUTE format('DROP TABLE %I', p); END LOOP; END $$");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM receipts_partitions()"), 1);
  const auto worker = run_worker();
  wait_until([&] { return sql_.number("SELECT count(*) FROM receipts_partitions()") == 4; },
             "today and the next two days have partitions");
  worker->wait_for_output("receipts maintained created=");
}

TEST_F(RunSampler, SamplesBehindATransactionPooler) {
  const TempPgBouncer pooler(shared_postgres());
  enqueue("audit");
  configure_url(pooler.dsn(database_.name()), one_stream());
  const std::string pooled = read_file(folder_ / "outfall.toml") + "pooler = \"transaction\"\n";
  folder_.write("outfall.toml", pooled);
  const auto first = run_worker();
  const auto second = run_worker();
  // Whose turn it is not has nothing to show, so each is asked until it has looked once.
  const auto sees_audit = [](const ChildProcess& worker) {
    const boost::json::value look = backlog(worker);
    return !look.is_null() && look.at("unbound").at(0).at("stream") == "audit";
  };
  wait_until([&] { return sees_audit(*first); }, "the first has its turn");
  wait_until([&] { return sees_audit(*second); }, "the second has its turn");
  EXPECT_EQ(done({"status"}).at("streams").at(0).at("served"), nullptr);
}

}  // namespace
}  // namespace outfall::test
