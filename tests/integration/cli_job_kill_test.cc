// A replay at a rate that is killed twice and resumed beside a running worker and live traffic:
// each dead letter comes back once, in the order of its key and before what waits behind it, and
// the record says who, why and when.
//
// OUTFALL_TEST_REPLAY_RATE sets another rate; 500 takes some 40 seconds.

#include <cstdlib>
#include <map>

#include <fmt/format.h>

#include "tests/integration/operate_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;

constexpr int kDeadLetters = 50'000;
constexpr int kKeys = 300;
constexpr int kReplayed = 20'000;  // those with http.422, of two keys in five
constexpr std::chrono::minutes kDeadline{4};

int replay_rate() {
  const char* value = std::getenv("OUTFALL_TEST_REPLAY_RATE");
  return value == nullptr ? 4000 : std::stoi(value);
}

class CliJobKill : public OperateTest {
 protected:
  // All dead letters of a key have the same reason, and hold it.
  void dead_letters() {
    sql_.query(
        "INSERT INTO dead_letters (id, envelope_id, created_at, attempts, replays, holds_key, "
        "stream, type, key, subject, reason_code, payload) SELECT n, new_envelope_id(), "
        "clock_timestamp(), 1, 0, true, 'orders', 't', 'k' || n % $2::int, n::text, "
        "(ARRAY['http.422', 'http.422', 'http.500', 'http.500', "
        "'outbox.max_retry_attempts_exceeded'])[1 + n % 5], '{}' FROM generate_series(1, $1::int) "
        "n",
        {std::to_string(kDeadLetters), std::to_string(kKeys)});
    sql_.query("SELECT setval('entries_id_seq', $1::int)", {std::to_string(kDeadLetters)});
    sql_.exec("ANALYZE dead_letters");
  }
  // One more of each key, after all that are there.
  void live_traffic() {
    sql_.query(
        "INSERT INTO entries (stream, type, key, subject, payload) SELECT 'orders', 't', 'k' || n, "
        "$2::text, '{}' FROM generate_series(0, $1::int - 1) n",
        {std::to_string(kKeys), std::to_string(kDeadLetters + ++live_)});
  }
  [[nodiscard]] std::int64_t replayed() { return sql_.number("SELECT count(*) FROM replays"); }
  // Runs the command until so many are replayed, and kills it there.
  void kill_at(std::vector<std::string> command, std::int64_t count) {
    const auto process = start(std::move(command));
    wait_until([&] { return replayed() >= count || !process->running(); },
               fmt::format("{} are replayed", count), kDeadline);
    ASSERT_TRUE(process->running()) << process->error_output();
    process->kill();
    ASSERT_LT(replayed(), kReplayed) << "it was killed too late";
  }
  // The entry ids of each key as the sink has them.
  [[nodiscard]] std::map<std::string, std::vector<std::int64_t>> delivered_ids() {
    std::map<std::string, std::vector<std::int64_t>> ids;
    const auto keys = delivered("partitionkey");
    const auto subjects = delivered("subject");
    for (std::size_t i = 0; i < keys.size(); ++i) ids[keys[i]].push_back(std::stoll(subjects[i]));
    return ids;
  }

 private:
  int live_ = 0;
};

TEST_F(CliJobKill, KilledTwiceAndResumedEachIsReplayedOnceInOrder) {
  configure(one_stream("on_dead_letter = \"hold-key\""));
  dead_letters();
  live_traffic();
  const auto worker = run_worker();
  kill_at({"dead-letters", "replay", "--stream", "orders", "--reason-code", "http.422", "--rate",
           fmt::format("{}/s", replay_rate()), "--actor", "anna", "--reason", "consumer mended"},
          kReplayed / 5);
  live_traffic();
  kill_at({"dead-letters", "jobs", "resume", "1", "--actor", "bob", "--reason", "it was killed"},
          kReplayed / 2);
  live_traffic();
  const auto last =
      start({"dead-letters", "jobs", "resume", "1", "--reason", "once more", "--json"});
  EXPECT_EQ(last->wait(kDeadline).code, 0) << last->error_output();
  EXPECT_EQ(boost::json::parse(last->output()).at("replayed"), kReplayed);

  EXPECT_EQ(sql_.query("SELECT count(*), count(DISTINCT entry_id), min(actor), max(actor), "
                       "min(reason), max(reason), min(job_id), max(job_id), min(reason_code), "
                       "max(reason_code) FROM replays"),
            (PgRows{{std::to_string(kReplayed), std::to_string(kReplayed), "anna", "anna",
                     "consumer mended", "consumer mended", "1", "1", "http.422", "http.422"}}));
  EXPECT_EQ(sql_.value("SELECT string_agg(action || ' ' || reason, ', ' ORDER BY change_id) FROM "
                       "job_changes"),
            "create consumer mended, resume it was killed, resume once more");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), kDeadLetters - kReplayed);
  // No second, wherever it begins, has more than the rate and one chunk.
  EXPECT_LE(sql_.number("SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY replayed_at RANGE "
                        "BETWEEN CURRENT ROW AND interval '1 second' FOLLOWING) AS n FROM replays) "
                        "w"),
            replay_rate() * 1.3);

  constexpr int kMendedKeys = kKeys * 2 / 5;
  constexpr std::size_t kAll = kReplayed + 3 * kMendedKeys;
  wait_until(
      [&] { return sql_.number("SELECT count(*) FROM entries") == 3 * (kKeys - kMendedKeys); },
      "all are delivered but those behind the other dead letters", kDeadline);
  worker->signal(SIGTERM);
  EXPECT_EQ(worker->wait().code, 0) << worker->error_output();
  const auto ids = delivered_ids();
  EXPECT_EQ(ids.size(), kMendedKeys);
  std::size_t all = 0;
  for (const auto& [key, sequence] : ids) {
    all += sequence.size();
    EXPECT_TRUE(std::ranges::is_sorted(sequence)) << key;
    EXPECT_EQ(std::ranges::adjacent_find(sequence), sequence.end()) << key << " has one twice";
  }
  EXPECT_EQ(all, kAll);
}

}  // namespace
}  // namespace outfall::test
