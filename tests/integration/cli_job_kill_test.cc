// A replay at a rate that is killed twice and resumed, beside a worker that holds keys and live
// traffic: each dead letter comes back once, in the order of its key and before what waits behind
// it, and the record says who, why and when.
//
// Faster than people would, to save time; `ops/test --all` repeats it at 500 a second.

#include <array>
#include <csignal>
#include <cstdlib>
#include <map>

#include <fmt/format.h>

#include "tests/integration/operate_fixture.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

constexpr int kDeadLetters = 50'000;
constexpr int kKeys = 5'000;
// Of ten keys, three have dead letters of the reason that is replayed, six of the other two, and
// one has five of it before five of another.
constexpr int kWholeKeys = kKeys * 3 / 10;
constexpr int kMixedKeys = kKeys / 10;
constexpr int kReplayed = kWholeKeys * 10 + kMixedKeys * 5;
constexpr std::chrono::minutes kDeadline{4};

int replay_rate() {
  const char* value = std::getenv("OUTFALL_TEST_REPLAY_RATE");
  return value == nullptr ? 4000 : std::stoi(value);
}

class CliJobKill : public OperateTest {
 protected:
  void dead_letters() {
    sql_.query(
        "INSERT INTO dead_letters (id, envelope_id, created_at, attempts, replays, holds_key, "
        "stream, type, key, subject, reason_code, payload) SELECT n, new_envelope_id(), "
        "clock_timestamp(), 1, 0, true, 'orders', 't', 'k' || n % $2::int, n::text, "
        "CASE WHEN n % 10 < 3 OR (n % 10 = 3 AND n <= $1::int / 2) THEN 'http.422' "
        "WHEN n % 10 < 7 THEN 'http.500' ELSE 'outbox.max_retry_attempts_exceeded' END, '{}' "
        "FROM generate_series(1, $1::int) n",
        {std::to_string(kDeadLetters), std::to_string(kKeys)});
    sql_.query("SELECT setval('entries_id_seq', $1::int)", {std::to_string(kDeadLetters)});
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
    ASSERT_EQ(process->kill().signal, SIGKILL);
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

  // Who began and resumed the job, why, when, and how many were done by then, as an operator is
  // told.
  void expect_changes(const std::string& began) {
    const auto job = done({"dead-letters", "jobs", "show", "1"});
    const auto& changes = job.at("changes").as_array();
    ASSERT_EQ(changes.size(), 3U);
    const std::array<std::array<std::string, 3>, 3> expected = {
        {{"create", "anna", "consumer mended"},
         {"resume", "bob", "it was killed"},
         {"resume", "carl", "once more"}}};
    std::string before = began;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto& change = changes[i];
      EXPECT_EQ((std::array{text_of(change, "action"), text_of(change, "actor"),
                            text_of(change, "reason")}),
                expected[i]);
      EXPECT_EQ(sql_.value("SELECT $1::timestamptz > $2 AND $1::timestamptz < clock_timestamp()",
                           {text_of(change, "at"), before}),
                "t")
          << text_of(change, "at") << " after " << before;
      before = text_of(change, "at");
      const auto by_then = change.at("done").as_int64();
      EXPECT_GE(by_then, static_cast<std::int64_t>(i) * kReplayed / 4);
      EXPECT_LT(by_then, i == 0 ? 1 : kReplayed);
    }
  }

 private:
  int live_ = 0;
};

TEST_F(CliJobKill, KilledTwiceAndResumedEachIsReplayedOnceInOrder) {
  configure(one_stream("on_dead_letter = \"hold-key\""));
  dead_letters();
  ASSERT_EQ(sql_.query("SELECT count(*), count(DISTINCT reason_code), count(*) FILTER (WHERE "
                       "reason_code = 'http.422') FROM dead_letters"),
            (PgRows{{std::to_string(kDeadLetters), "3", std::to_string(kReplayed)}}));
  const auto worker = run_worker();
  live_traffic();
  wait_until(
      [&] { return sql_.number("SELECT count(*) FROM entries WHERE status = 'held'") == kKeys; },
      "all that is new waits for the dead letters of its key", kDeadline);
  const std::string began = sql_.value("SELECT clock_timestamp()");
  kill_at({"dead-letters", "replay", "--stream", "orders", "--reason-code", "http.422", "--rate",
           fmt::format("{}/s", replay_rate()), "--actor", "anna", "--reason", "consumer mended"},
          kReplayed / 4);
  live_traffic();
  kill_at({"dead-letters", "jobs", "resume", "1", "--actor", "bob", "--reason", "it was killed"},
          kReplayed / 2);
  live_traffic();
  const auto last = start({"dead-letters", "jobs", "resume", "1", "--actor", "carl", "--reason",
                           "once more", "--json"});
  EXPECT_EQ(last->wait(kDeadline).code, 0) << last->error_output();
  EXPECT_EQ(boost::json::parse(last->output()).at("replayed"), kReplayed);

  EXPECT_EQ(sql_.query("SELECT count(*), count(DISTINCT entry_id), min(actor), max(actor), "
                       "min(reason), max(reason), count(*) FILTER (WHERE job_id = 1), "
                       "min(reason_code), max(reason_code) FROM replays"),
            (PgRows{{std::to_string(kReplayed), std::to_string(kReplayed), "anna", "anna",
                     "consumer mended", "consumer mended", std::to_string(kReplayed), "http.422",
                     "http.422"}}));
  EXPECT_EQ(sql_.query("SELECT min(replayed_at) > $1::timestamptz, max(replayed_at) <= "
                       "max(j.ended_at), bool_and(database_user = session_user) FROM replays, "
                       "(SELECT ended_at FROM jobs) j",
                       {began}),
            (PgRows{{"t", "t", "t"}}));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM (SELECT replayed_at < lag(replayed_at) OVER (ORDER "
                        "BY entry_id) AS earlier FROM replays) r WHERE r.earlier"),
            0);
  expect_changes(began);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), kDeadLetters - kReplayed);
  // A chunk is a quarter of a second's. One that is late by less than that is made up for, one lies
  // on the edge of the second, and the clock of a record is read a little after that of the pace.
  EXPECT_LE(sql_.number("SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY replayed_at RANGE "
                        "BETWEEN CURRENT ROW AND interval '1 second' FOLLOWING) AS n FROM replays) "
                        "w"),
            replay_rate() * 2);
  // Nor is what a second may have too much made up for by the whole: the three that ran it began at
  // once, each with a chunk.
  EXPECT_GE(sql_.number("SELECT (extract(epoch FROM max(replayed_at) - min(replayed_at)) * "
                        "1000)::bigint FROM replays"),
            1000LL * kReplayed / replay_rate() - 1000);

  wait_until(
      [&] { return sql_.number("SELECT count(*) FROM entries") == 3 * (kKeys - kWholeKeys); },
      "all are delivered but those behind the other dead letters", kDeadline);
  worker->signal(SIGTERM);
  EXPECT_EQ(worker->wait().code, 0) << worker->error_output();
  const auto ids = delivered_ids();
  EXPECT_EQ(ids.size(), kWholeKeys + kMixedKeys);
  std::size_t whole = 0;
  for (const auto& [key, sequence] : ids) {
    EXPECT_TRUE(std::ranges::is_sorted(sequence)) << key;
    EXPECT_EQ(std::ranges::adjacent_find(sequence), sequence.end()) << key << " has one twice";
    if (sequence.size() == 10 + 3)
      ++whole;
    else
      EXPECT_EQ(sequence.size(), 5) << key;
  }
  EXPECT_EQ(whole, kWholeKeys);
}

}  // namespace
}  // namespace outfall::test
