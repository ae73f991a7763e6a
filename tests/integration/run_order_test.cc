// Goal: the order per key survives failures, dead letters and the death of workers. Method: a real
// application commits under a row lock per key while workers fail, are killed and take over; then
// what the workers wrote is compared with what was committed.

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "tests/integration/worker_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

// Sessions that count up a row per key and commit an entry with the new number, some rolling back;
// all together so many in a second, or as many as they can.
class Producers {
 public:
  static constexpr int kUnbounded = 0;

  explicit Producers(const TestDatabase& database, int per_second = kUnbounded) {
    for (int producer = 0; producer < kSessions; ++producer) {
      threads_.emplace_back([this, &database, producer, per_second](const std::stop_token& stop) {
        PgClient client = database.connect();
        std::mt19937 random(static_cast<unsigned>(producer));
        const auto begun = std::chrono::steady_clock::now();
        for (std::int64_t done = 1; !stop.stop_requested(); ++done) {
          produce(client, random);
          if (per_second == kUnbounded) continue;
          const std::chrono::duration<double> due(static_cast<double>(done * kSessions) /
                                                  per_second);
          std::mutex mutex;
          std::unique_lock lock(mutex);
          std::condition_variable_any().wait_until(
              lock, stop,
              begun + std::chrono::duration_cast<std::chrono::steady_clock::duration>(due),
              [] { return false; });
        }
      });
    }
  }

  // How many were committed.
  std::int64_t stop() {
    threads_.clear();
    return committed_;
  }

 private:
  static constexpr int kSessions = 3;

  void produce(PgClient& client, std::mt19937& random) {
    const std::string key = "key-" + std::to_string(random() % 40);
    client.exec("BEGIN");
    client.query(
        "WITH c AS (UPDATE outbox.counters SET n = n + 1 WHERE key = $1 RETURNING n) "
        "INSERT INTO outbox.entries (stream, type, key, payload) "
        "SELECT 'orders', 't', $1, json_build_object('n', n) FROM c",
        {key});
    const bool roll_back = random() % 10 == 0;
    client.exec(roll_back ? "ROLLBACK" : "COMMIT");
    if (!roll_back) ++committed_;
  }

  std::atomic<std::int64_t> committed_ = 0;
  std::vector<std::jthread> threads_;
};

// How often the entry with this envelope id was, or may be, delivered besides the first time.
using Copies = std::map<std::string, int>;

class RunOrder : public WorkerTest {
 protected:
  // Per key the sequence numbers in the order in which the events first appear in `events`.
  static std::map<std::string, std::vector<std::int64_t>> firsts(
      const std::vector<boost::json::object>& events) {
    std::map<std::string, std::vector<std::int64_t>> by_key;
    std::set<std::string> seen;
    for (const auto& event : events) {
      if (!seen.emplace(event.at("id").as_string()).second) continue;
      by_key[std::string(event.at("partitionkey").as_string())].push_back(
          event.at("data").as_object().at("n").to_number<std::int64_t>());
    }
    return by_key;
  }

  // Workers that append to one file, so that its lines are in the order of delivery.
  [[nodiscard]] WorkerProcess::Options into(const std::string& path, const std::string& drain,
                                            const std::string& instance = "worker") const {
    return {.dsn = database_.dsn(),
            .streams =
                "[streams.orders]\nemitter = \"out\"\n[emitters.out]\nkind = \"stdout\"\n"
                "path = \"" +
                path + "\"\n",
            .drain = drain,
            .instance = instance};
  }

  static void wait_until_it_works(WorkerProcess& worker, int entries = 20) {
    const auto settled = [&] {
      return worker.metric("outfall_entries_settled_total{stream=\"orders\"}");
    };
    const double before = settled();
    wait_until([&] { return settled() > before + entries; }, "the worker works",
               std::chrono::seconds{60});
  }

  // That everything committed is in the file, in order per key. The events that are there more than
  // once, and how many copies there are of each besides the first.
  static Copies copies_in(const std::string& path, std::int64_t committed) {
    std::vector<boost::json::object> events;
    std::istringstream lines(read_file(path));
    std::string torn_lines;  // so that one that swallowed the next worker's first line is seen
    for (std::string line; std::getline(lines, line);) {
      // A killed worker may leave one torn line behind; its entry is delivered again.
      boost::system::error_code torn;
      const auto value = boost::json::parse(line, torn);
      if (!torn) events.push_back(value.as_object());
      if (torn) torn_lines += "\ntorn: " + line;
    }
    std::int64_t distinct = 0;
    for (const auto& [key, numbers] : firsts(events)) {
      distinct += static_cast<std::int64_t>(numbers.size());
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        if (numbers[i] == static_cast<std::int64_t>(i) + 1) continue;
        ADD_FAILURE() << key << " has " << numbers[i] << " at place " << i;
        break;
      }
    }
    EXPECT_EQ(distinct, committed) << torn_lines;
    Copies times;
    for (const auto& event : events) ++times[std::string(event.at("id").as_string())];
    std::erase_if(times, [](const auto& of_event) { return of_event.second == 1; });
    for (auto& [id, copies] : times) --copies;
    return times;
  }

  // Kills a worker and counts what it may have delivered without a word of it in the database: the
  // entries of its leases at a moment after which it did nothing more. Its sessions may still
  // settle some of them.
  void kill_and_note(WorkerProcess& victim, const std::string& instance, Copies& in_doubt) {
    victim.freeze();
    const auto held = sql_.query(
        "SELECT l.lease_id, e.envelope_id FROM leases l, leased_entries(l.lease_id) e "
        "WHERE l.instance = $1",
        {instance});
    victim.kill();
    for (const auto& row : held) {
      // What nobody has taken over since its last death is not in doubt once more.
      if (noted_.emplace(*row[0], *row[1]).second) ++in_doubt[*row[1]];
    }
  }

  void make_counters() {
    sql_.exec("CREATE TABLE counters (key text PRIMARY KEY, n bigint NOT NULL DEFAULT 0)");
    sql_.exec("INSERT INTO counters SELECT 'key-' || i FROM generate_series(0, 39) i");
  }

  static Finished migrate(const std::string& program, const std::string& dsn) {
    return run({program, "migrate"}, {.environment = {{"OUTFALL_DATABASE__URL", dsn}}});
  }

 private:
  std::set<std::pair<std::string, std::string>> noted_;  // leases and entries of killed workers
};

// Two claims of a stream are under way, and the second one's entries are there first.
TEST_F(RunOrder, EntriesThatAreReadBeforeThoseOfTheClaimBeforeWaitForThem) {
  sql_.exec(R"(
      ALTER FUNCTION leased_entries(uuid) RENAME TO leased_entries_at_once;
      CREATE FUNCTION leased_entries(p_lease_id uuid)
      RETURNS TABLE (id bigint, envelope_id uuid, key text, key_hash int, type text, source text,
                     subject text, content_type text, data_schema text, headers jsonb, payload json,
                     payload_binary bytea, occurred_at timestamptz, created_at timestamptz,
                     attempts int, attempts_base int, limits_from timestamptz)
      LANGUAGE plpgsql AS $$
      BEGIN
        IF (SELECT lease_no = (SELECT min(lease_no) FROM outbox.leases) FROM outbox.leases
             WHERE lease_id = p_lease_id) THEN
          PERFORM pg_advisory_xact_lock(4711);
        END IF;
        RETURN QUERY SELECT * FROM outbox.leased_entries_at_once(p_lease_id);
      END;
      $$)");
  PgClient reader = database_.connect();
  reader.exec("SELECT pg_advisory_lock(4711)");
  enqueue_many("orders", 500, 5);
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = to_file(),
                        .drain = "batch_entries = 100\nmax_in_flight = 1000"});
  const auto leases = [&] { return sql_.number("SELECT count(*) FROM leases"); };
  wait_until([&] { return leases() == 2; }, "the next claim does not wait for the first");
  EXPECT_FALSE(holds_within([&] { return leases() > 2 || !worker.events("events").empty(); },
                            std::chrono::milliseconds{500}))
      << leases() << " leases, " << worker.events("events").size() << " entries delivered";
  reader.exec("SELECT pg_advisory_unlock(4711)");
  wait_until_empty("orders");
  for (const auto& [key, numbers] : firsts(worker.events("events"))) {
    EXPECT_EQ(numbers.size(), 100U) << key;
    EXPECT_TRUE(std::is_sorted(numbers.begin(), numbers.end())) << key;
  }
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunOrder, AFailingHeadHoldsItsKeyAndNobodyElse) {
  enqueue("orders", "bad", R"({"n": 0})", "poison");
  for (int n = 1; n <= 50; ++n) {
    enqueue("orders", "bad", R"({"n": )" + std::to_string(n) + "}");
    enqueue("orders", "good", R"({"n": )" + std::to_string(n) + "}");
  }
  WorkerProcess worker(
      {.dsn = database_.dsn(),
       .streams =
           "[streams.orders]\nemitter = \"out\"\nretry.initial = \"1h\"\nretry.max = \"1h\"\n"
           "[emitters.out]\nkind = \"noop\"\nfail_types = { poison = \"retryable_failure\" }\n"});
  wait_until([&] { return delivered() == 50; }, "the good key is through");
  EXPECT_EQ(live("orders"), 51);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  // The head gives way: the rest follows.
  sql_.exec(
      "SELECT discard_entry(p_envelope_id => (SELECT envelope_id FROM entries WHERE type = "
      "'poison'), "
      "p_actor => 'test', p_reason => 'it never ends')");
  wait_until_empty("orders");
  EXPECT_EQ(delivered(), 100);
}

TEST_F(RunOrder, WithoutOrderAFailingEntryHoldsNothingOfItsKey) {
  enqueue("orders", "k", "{}", "poison");
  for (int n = 0; n < 20; ++n) enqueue("orders", "k");
  WorkerProcess worker(
      {.dsn = database_.dsn(),
       .streams = "[streams.orders]\nemitter = \"out\"\nordering = \"none\"\n"
                  "retry.initial = \"1h\"\nretry.max = \"1h\"\n[emitters.out]\nkind = \"noop\"\n"
                  "fail_types = { poison = \"retryable_failure\" }\n"});
  wait_until([&] { return delivered() == 20; }, "what comes after it is delivered");
  EXPECT_EQ(sql_.value("SELECT type || ' ' || status FROM entries"), "poison retryable_failure");
  enqueue("orders", "k");
  wait_until([&] { return delivered() == 21; }, "and what comes later");
  EXPECT_EQ(worker.stop(), 0);
}

TEST_F(RunOrder, HoldKeyWaitsForTheDeadLetterAndContinueDoesNot) {
  for (const std::string policy : {"hold-key", "continue"}) {
    sql_.exec("TRUNCATE entries, dead_letters, receipts, holds, leases");
    enqueue("orders", "k", "{}", "poison");
    for (int n = 0; n < 10; ++n) enqueue("orders", "k");
    WorkerProcess worker(
        {.dsn = database_.dsn(),
         .streams = "[streams.orders]\nemitter = \"out\"\non_dead_letter = \"" + policy +
                    "\"\n[emitters.out]\nkind = \"noop\"\nfail_types = { poison = \"failed\" }\n"});
    wait_until([&] { return sql_.number("SELECT count(*) FROM dead_letters") == 1; },
               "the poison is a dead letter");
    if (policy == "continue") {
      wait_until_empty("orders");
      EXPECT_EQ(delivered(), 10);
      continue;
    }
    enqueue("orders", "other");
    wait_until([&] { return delivered() == 1; }, "another key goes on");
    EXPECT_EQ(live("orders"), 10);
    sql_.exec(
        "SELECT discard_dead_letters(p_stream => 'orders', p_actor => 'test', p_reason => "
        "'poison')");
    wait_until_empty("orders");
    EXPECT_EQ(delivered(), 11);
    // A worker that was killed leaves a session that may still hold locks.
    EXPECT_EQ(worker.stop(), 0);
  }
}

TEST_F(RunOrder, FailuresOfEveryKindKeepTheOrderPerKey) {
  enqueue_many("orders", 3000, 30);
  WorkerProcess worker(
      {.dsn = database_.dsn(),
       .streams = "[streams.orders]\nemitter = \"out\"\nretry.initial = \"10ms\"\nretry.max = "
                  "\"40ms\"\nretry.max_attempts = 0\n"
                  "[emitters.out]\nkind = \"noop\"\nlatency = \"2ms\"\nfail = { retryable_failure "
                  "= \"0.05\", "
                  "possibly_delivered = \"0.02\", exception = \"0.02\" }\n"});
  wait_until_empty("orders", std::chrono::seconds{120});
  EXPECT_EQ(delivered(), 3000);
  // Entry ids of a key must rise with the time of their delivery; within one receipt they do.
  EXPECT_EQ(sql_.number("SELECT count(*) FROM (SELECT entry_id < lag(entry_id) OVER (PARTITION BY "
                        "key ORDER BY delivered_at, entry_id) "
                        "AS overtaken FROM delivered) d WHERE overtaken"),
            0);
}

// Three workers on one stream, one of them killed again and again under load: as fast as it works
// again and under as much as producers can, so that entries wait in heaps for the keys of the dead;
// or, with `OUTFALL_KILLS=15`, every few seconds for a minute under 500 inserts a second.
TEST_F(RunOrder, WorkersKilledUnderLoadLoseNothingAndKeepTheOrder) {
  const char* const asked = std::getenv("OUTFALL_KILLS");
  const int kills = asked == nullptr ? 5 : std::atoi(asked);
  make_counters();
  Producers producers(database_, asked == nullptr ? Producers::kUnbounded : 500);
  TempFolder folder;
  const std::string path = (folder / "events").string();
  constexpr std::array<const char*, 3> kInstances{"one", "two", "three"};
  std::vector<std::unique_ptr<WorkerProcess>> workers;
  for (const char* const instance : kInstances) {
    workers.push_back(std::make_unique<WorkerProcess>(
        into(path, "lease = \"30s\"\nbatch_entries = 50\nmax_in_flight = 200", instance)));
  }
  Copies in_doubt;
  for (int kill = 0; kill < kills; ++kill) {
    const auto nth = static_cast<std::size_t>(kill % 3);
    wait_until_it_works(*workers[nth], asked == nullptr ? 100 : 600);
    kill_and_note(*workers[nth], kInstances[nth], in_doubt);
    workers[nth]->start();
  }
  const std::int64_t committed = producers.stop();
  wait_until_empty("orders");
  for (const auto& [id, copies] : copies_in(path, committed)) {
    EXPECT_LE(copies, in_doubt[id]) << id << " came twice though no killed worker had it";
  }
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
}

// An upgrade as docs/operating/upgrading.md has it, and its rollback: the schema moves forward
// under the workers of this release, those of the next one work beside them and replace them one by
// one, and then this release comes back to the newer schema.
TEST_F(RunOrder, AnUpgradeAndItsRollbackUnderLoadLoseAndRepeatNothing) {
  make_counters();
  Producers producers(database_);
  TempFolder folder;
  const std::string path = (folder / "events").string();
  const WorkerProcess::Options present = into(path, "batch_entries = 50");
  WorkerProcess::Options next = present;
  next.program = OUTFALL_NEXT_BINARY;

  WorkerProcess old_one(present);
  WorkerProcess old_other(present);
  WorkerProcess new_one(next);
  new_one.process().wait_for_output("run `outfall migrate --config ");
  EXPECT_TRUE(new_one.alive());
  EXPECT_FALSE(new_one.ready());
  wait_until_it_works(old_one);

  const Finished forward = migrate(OUTFALL_NEXT_BINARY, database_.dsn());
  EXPECT_EQ(forward.status.code, 0) << forward.error_output;
  EXPECT_THAT(forward.output, testing::HasSubstr("_next\n"));
  for (WorkerProcess* worker : {&new_one, &old_one, &old_other}) wait_until_it_works(*worker);
  EXPECT_TRUE(new_one.ready());
  EXPECT_EQ(old_one.stop(), 0);
  WorkerProcess new_other(next);
  EXPECT_EQ(old_other.stop(), 0);
  for (WorkerProcess* worker : {&new_one, &new_other}) wait_until_it_works(*worker);

  const Finished backward = migrate(OUTFALL_BINARY, database_.dsn());
  EXPECT_EQ(backward.status.code, 78);
  EXPECT_THAT(backward.error_output, testing::HasSubstr("nothing was changed"));
  WorkerProcess back(present);
  wait_until_it_works(back);
  EXPECT_EQ(new_one.stop(), 0);
  EXPECT_EQ(new_other.stop(), 0);
  wait_until_it_works(back);

  const std::int64_t committed = producers.stop();
  wait_until_empty("orders");
  EXPECT_EQ(back.stop(), 0);
  EXPECT_THAT(copies_in(path, committed), testing::IsEmpty());
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
}

}  // namespace
}  // namespace outfall::test
