// Goal: a worker that is killed at any step of a delivery loses nothing, keeps the order per key
// and repeats only what it had sent and not written down. Method: the real worker and real sinks. A
// run without a kill tells which points a delivery reaches (lib/core/crash_point.h); they must be
// all that are known here. Then for each of them the worker is killed at the 1st, 2nd, … nth time
// that it gets there, each in a run of its own in which another one takes over, until a run ends
// without a kill.
#include <csignal>
#include <map>
#include <memory>
#include <set>

#include "tests/integration/plain_kafka.h"
#include "tests/integration/worker_fixture.h"
#include "tests/support/http_recorder.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

constexpr int kEntries = 4;
constexpr int kKeys = 2;
// Far more often than so few entries let a worker come by any point.
constexpr int kMostTimes = 40;

struct Arrival {
  std::string envelope_id;
  std::string key;
  int number = 0;  // within the key, from 1
};

int number_in(const std::string& payload) {
  return boost::json::parse(payload).at("n").to_number<int>();
}

// Where deliveries go, and what came there.
class Sink {
 public:
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;
  [[nodiscard]] virtual std::string emitter() const = 0;  // the lines of its table
  // In the order in which it came, at least within a key. Nothing where it keeps no record.
  [[nodiscard]] virtual std::optional<std::vector<Arrival>> arrivals() const = 0;
};

class NoopSink : public Sink {
 public:
  std::string emitter() const override { return "kind = \"noop\"\nlatency = \"5ms\""; }
  std::optional<std::vector<Arrival>> arrivals() const override { return std::nullopt; }
};

// CloudEvents as lines of a file.
class FileSink : public Sink {
 public:
  explicit FileSink(bool by_program) : by_program_(by_program) {}
  std::string emitter() const override {
    const std::string file = (folder_ / "events").string();
    if (!by_program_) return "kind = \"stdout\"\npath = \"" + file + "\"";
    return "kind = \"exec\"\ncommand = [\"python3\", \"" OUTFALL_SOURCE_FOLDER
           "/samples/exec/deliver.py\", \"" +
           file + "\"]";
  }
  std::optional<std::vector<Arrival>> arrivals() const override {
    std::vector<Arrival> result;
    const std::filesystem::path file = folder_ / "events";
    if (!std::filesystem::exists(file)) return result;
    std::istringstream lines(read_file(file));
    for (std::string line; std::getline(lines, line);) {
      const boost::json::value event = boost::json::parse(line);
      result.push_back({std::string(event.at("id").as_string()),
                        std::string(event.at("partitionkey").as_string()),
                        event.at("data").at("n").to_number<int>()});
    }
    return result;
  }

 private:
  const bool by_program_;
  TempFolder folder_;
};

class HttpSink : public Sink {
 public:
  std::string emitter() const override {
    return "kind = \"webhook\"\nurl = \"" + server_.url("/hooks") + "\"";
  }
  std::optional<std::vector<Arrival>> arrivals() const override {
    std::vector<Arrival> result;
    for (const HttpRequest& request : server_.requests()) {
      result.push_back({request.header("webhook-id").value_or(""),
                        request.header("ce-partitionkey").value_or(""), number_in(request.body)});
    }
    return result;
  }

 private:
  HttpRecorder server_;
};

// A topic of its own on the broker of all.
class KafkaSink : public Sink {
 public:
  KafkaSink() {
    static int topics = 0;
    topic_ = "crash-" + std::to_string(++topics);
    plain_kafka().create_topic(topic_, 2);
  }
  std::string emitter() const override {
    return "kind = \"kafka\"\nbrokers = \"" + plain_kafka().brokers() + "\"\ntopic = \"" + topic_ +
           "\"";
  }
  std::optional<std::vector<Arrival>> arrivals() const override {
    std::vector<Arrival> result;
    for (const KafkaRecord& record : plain_kafka().records(topic_))
      result.push_back(
          {record.header("ce_id"), record.key.value_or(""), number_in(record.value.value_or(""))});
    return result;
  }

 private:
  std::string topic_;
};

struct Case {
  const char* name;
  std::function<std::unique_ptr<Sink>()> make;
  std::set<std::string> points;  // beside those of every emitter
};

std::ostream& operator<<(std::ostream& out, const Case& one) {
  return out << one.name;
}

const std::set<std::string> kEverywhere = {
    "claim.begun",      "claim.sent",    "claim.committed", "send.begun",
    "send.handed_over", "outcome.taken", "settle.begun",    "settle.sent",
    "settle.committed", "release.begun", "release.sent",    "release.committed"};

// A database, a sink, a worker that is killed at a point, and one that takes over.
class CrashRun {
 public:
  // `kill_at`: NAME:N, or empty.
  CrashRun(const Case& one, const std::string& kill_at)
      : sink_(one.make()), database_(migrated_database()), sql_(database_.connect()) {
    sql_.exec("SET search_path = outbox");
    (void)sql_.query(
        "INSERT INTO entries (stream, type, key, payload) SELECT 'orders', 'order.placed', "
        "'key-' || i % $2::int, json_build_object('n', (i - 1) / $2::int + 1) "
        "FROM generate_series(1, $1::int) i",
        {std::to_string(kEntries), std::to_string(kKeys)});
    play(kill_at);
  }

  [[nodiscard]] bool killed() const { return killed_; }
  // What the first worker reached, in order.
  [[nodiscard]] const std::vector<std::string>& reached() const { return reached_; }

  void judge() {
    EXPECT_EQ(sql_.number("SELECT count(*) FROM delivered"), kEntries);
    EXPECT_EQ(sql_.number("SELECT count(DISTINCT envelope_id) FROM delivered"), kEntries);
    EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
    EXPECT_EQ(sql_.number("SELECT count(*) FROM leases"), 0);
    EXPECT_EQ(sql_.number("SELECT max(attempts) FROM delivered"), 1);
    const auto arrivals = sink_->arrivals();
    if (!arrivals) return;
    std::map<std::string, int> copies;
    std::map<std::string, std::vector<int>> keys;
    for (const Arrival& arrival : *arrivals) {
      ++copies[arrival.envelope_id];
      keys[arrival.key].push_back(arrival.number);
    }
    EXPECT_EQ(copies.size(), kEntries);
    const bool sent = std::find(reached_.begin(), reached_.end(), "send.begun") != reached_.end();
    for (const auto& [envelope_id, count] : copies) EXPECT_LE(count, killed_ && sent ? 2 : 1);
    // From an earlier one on again, but then every one after it.
    for (const auto& [key, numbers] : keys) {
      int furthest = 0;
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        EXPECT_LE(numbers[i], furthest + 1) << key << " left one out";
        if (i > 0 && numbers[i] <= furthest && numbers[i] != numbers[i - 1] + 1) ++restarts_;
        furthest = std::max(furthest, numbers[i]);
      }
      EXPECT_EQ(numbers.empty() ? 0 : numbers.back(), furthest) << key << " ends in its middle";
    }
    EXPECT_LE(restarts_, kKeys) << "one worker died, and a key began again more than once";
  }

 private:
  WorkerProcess::Options options() const {
    return {.dsn = database_.dsn(),
            .streams =
                "[streams.orders]\nemitter = \"sink\"\n[emitters.sink]\n" + sink_->emitter() + "\n",
            .drain = "batch_entries = 2"};
  }

  bool drained() { return sql_.number("SELECT count(*) FROM entries") == 0; }

  void play(const std::string& kill_at) {
    const std::filesystem::path log = folder_ / "reached";
    WorkerProcess::Options first_options = options();
    first_options.environment = {{"OUTFALL_CRASH_AT", kill_at},
                                 {"OUTFALL_CRASH_LOG", log.string()}};
    WorkerProcess first(first_options);
    wait_until([&] { return !first.running() || drained(); }, "the end of the worker or its work");
    if (first.running()) first.process().signal(SIGTERM);
    killed_ = first.process().wait().code != 0;
    std::istringstream lines(read_file(log));
    for (std::string line; std::getline(lines, line);) reached_.push_back(line);
    if (!killed_) return;
    WorkerProcess second(options());
    wait_until([&] { return drained(); }, "the work of the second worker");
    // Also what was released by the first one is gone only when somebody has claimed again.
    wait_until([&] { return sql_.number("SELECT count(*) FROM leases") == 0; }, "no lease is left");
    EXPECT_EQ(second.stop(), 0);
  }

  std::unique_ptr<Sink> sink_;
  TestDatabase database_;
  PgClient sql_;
  TempFolder folder_;
  bool killed_ = false;
  int restarts_ = 0;
  std::vector<std::string> reached_;
};

class CrashPoints : public testing::TestWithParam<Case> {
 protected:
  // False where the worker has done its work without getting there so often.
  bool is_killed_at(const std::string& point, int nth) {
    const std::string at = point + ":" + std::to_string(nth);
    SCOPED_TRACE("killed at " + at);
    CrashRun run(GetParam(), at);
    run.judge();
    return run.killed();
  }
};

TEST_P(CrashPoints, AKillAtAnyOfThemLosesNothing) {
  CrashRun whole(GetParam(), {});
  whole.judge();
  ASSERT_FALSE(whole.killed());
  const std::set<std::string> names(whole.reached().begin(), whole.reached().end());
  std::set<std::string> expected = kEverywhere;
  expected.insert(GetParam().points.begin(), GetParam().points.end());
  ASSERT_EQ(names, expected);
  int kills = 0;
  for (const std::string& name : names) {
    int nth = 1;
    // How many claims and settles it takes differs from run to run, the first of each is certain.
    while (nth <= kMostTimes && !HasFailure() && is_killed_at(name, nth)) ++nth;
    EXPECT_GT(nth, 1) << name << ": nobody was killed there";
    EXPECT_LE(nth, kMostTimes) << name << ": no run ended without a kill";
    kills += nth - 1;
  }
  RecordProperty("kills", kills);
  std::cout << kills << " kills at " << names.size() << " points\n";
}

INSTANTIATE_TEST_SUITE_P(
    All, CrashPoints,
    testing::Values(
        Case{"noop", [] { return std::make_unique<NoopSink>(); }, {}},
        Case{"stdout", [] { return std::make_unique<FileSink>(false); }, {"stdout.written"}},
        Case{"exec",
             [] { return std::make_unique<FileSink>(true); },
             {"exec.written", "exec.answered"}},
        Case{"webhook",
             [] { return std::make_unique<HttpSink>(); },
             {"webhook.requested", "webhook.answered"}},
        Case{"kafka",
             [] { return std::make_unique<KafkaSink>(); },
             {"kafka.produced", "kafka.reported"}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace outfall::test
