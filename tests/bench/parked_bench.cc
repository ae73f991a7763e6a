// Entries that wait behind a failed one of their key must cost the others nothing, and go in order
// once the failed ones are through. The yardstick is the same worker without anything that waits.
#include <algorithm>
#include <fstream>
#include <map>
#include <stdexcept>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/server.h"
#include "tests/bench/worker.h"
#include "tests/support/wait_until.h"

namespace outfall::bench {

namespace {

using std::chrono::steady_clock;

// Few keys as the design has it, and as many as an hour of trouble leaves.
constexpr int kFewKeys = 2;
constexpr int kManyKeys = 400;
constexpr std::chrono::minutes kDeadline{3};

// Entries of a wave are visible all at once; its rate is that between the first and the last
// settle, by the receipts, so that neither the insert nor the idle pause before it counts.
double wave(const Database& database, Worker& worker, std::int64_t entries) {
  test::PgClient client = database.connect();
  const double before = delivered_of(worker.metrics());
  const std::int64_t last = client.number("SELECT last_value FROM outbox.entries_id_seq");
  client.change(
      "INSERT INTO outbox.entries (stream, type, key, payload) "
      "SELECT 'orders', 'order.created', 'customer-' || abs(hashint8(i)::bigint) % 10000, "
      "       (left('{\"lines\":\"' || repeat(md5(i::text), 15), 448) || '\"}')::json "
      "  FROM generate_series(1, $1::bigint) i",
      {std::to_string(entries)});
  worker.wait_for(
      [&](const Metrics& m) { return delivered_of(m) >= before + static_cast<double>(entries); },
      "the wave");
  const test::PgRows rows = client.query(
      "SELECT sum(entries) - (array_agg(entries ORDER BY delivered_at))[1], "
      "       extract(epoch FROM max(delivered_at) - min(delivered_at)) "
      "  FROM outbox.receipts WHERE first_id > $1",
      {std::to_string(last)});
  return std::stod(*rows[0][0]) / std::stod(*rows[0][1]);
}

class ParkedBenchmark {
 public:
  ParkedBenchmark(const Options& options, Report& report, int keys)
      : options_(options),
        report_(report),
        keys_(keys),
        held_(options.pick<std::int64_t>(100'000, 100'000, 3000)),
        others_(options.pick<std::int64_t>(50'000, 50'000, 3000)),
        server_(options),
        free_(server_.create()),
        parked_(server_.create()) {}

  void run_others() {
    Worker free_worker(options_, *free_, failing());
    Worker parked_worker(options_, *parked_, failing());
    park(parked_worker);
    static_cast<void>(wave(*free_, free_worker, others_));  // both have run once before it counts
    std::vector<Measurement> waves;
    for (int i = 0; i < options_.pick(7, 3, 1); ++i) {
      const double floor = wave(*free_, free_worker, others_);
      const double rate = wave(*parked_, parked_worker, others_);
      Report::progress(fmt::format("{:.0f} entries/s, {:.0f} with nothing parked", rate, floor));
      waves.push_back({.benchmark = "parked",
                       .name = fmt::format("{} others beside {} held", others_, held_),
                       .value = rate,
                       .unit = "entries/s",
                       .floor = floor,
                       .rss_bytes = parked_worker.peak_rss_bytes()});
    }
    report_.add(median_by_ratio(std::move(waves)));
    parked_worker.stop();
    free_worker.stop();
    release();
  }

  void run_release() {
    Worker worker(options_, *parked_, failing());
    park(worker);
    worker.stop();
    release();
  }

 private:
  static std::string failing() {
    return noop_stream("key", "on", "",
                       "retry_after = \"1h\"\nfail_types = { head = \"retryable_failure\" }");
  }

  void insert_behind(std::int64_t from, std::int64_t to) {
    parked_->connect().change(
        "INSERT INTO outbox.entries (stream, type, key, payload) "
        "SELECT 'orders', CASE WHEN i < $3::int THEN 'head' ELSE 'order.created' END, "
        "       'blocked-' || i % $3::int, json_build_object('number', i) "
        "  FROM generate_series($1::bigint, $2::bigint) i",
        {std::to_string(from), std::to_string(to), std::to_string(keys_)});
  }

  // The failing heads with half of what waits behind them; the other half comes after the failure,
  // together with others, so that all have to be told apart.
  void park(Worker& worker) {
    const std::int64_t half = held_ / 2;
    insert_behind(0, keys_ + half - 1);
    worker.wait_for(
        [this](const Metrics& m) {
          return m.sum("outfall_attempts_total", "outcome=\"retryable_failure\"") >= keys_;
        },
        "the failures");
    insert_behind(keys_ + half, keys_ + held_ - 1);
    const double rate = wave(*parked_, worker, others_);
    test::PgClient client = parked_->connect();
    test::wait_until(
        [&] {
          return client.number("SELECT count(*) FROM outbox.entries WHERE status = 'held'") ==
                 held_;
        },
        "all to be parked", kDeadline);
    report_.add(
        {.benchmark = "parked",
         .name = fmt::format("{} others while {} of {} keys are parked", others_, held_, keys_),
         .value = rate,
         .unit = "entries/s"});
  }

  // The heads succeed, by an operator's retry against a worker that does not fail them; the sink is
  // a file, which shows the order of the deliveries.
  void release() {
    const test::TempFolder folder;
    const auto file = folder / "delivered.jsonl";
    Worker worker(options_, *parked_,
                  fmt::format("[streams.orders]\nemitter = \"file\"\n[emitters.file]\n"
                              "kind = \"stdout\"\npath = \"{}\"\n",
                              file.string()));
    const auto begun = steady_clock::now();
    parked_->connect().exec(
        "SELECT outbox.retry_entry(p_entry_id => id, p_actor => 'bench', p_reason => 'repaired') "
        "  FROM outbox.entries WHERE type = 'head'");
    const auto all = static_cast<double>(held_ + keys_);
    worker.wait_for([&](const Metrics& m) { return delivered_of(m) >= all; }, "the held entries");
    const std::chrono::duration<double> seconds = steady_clock::now() - begun;
    worker.stop();
    check_order(file);
    report_.add({.benchmark = "parked",
                 .name = fmt::format("{} held entries of {} keys released", held_, keys_),
                 .value = all / seconds.count(),
                 .unit = "entries/s",
                 .note = "in order"});
  }

  void check_order(const std::filesystem::path& file) const {
    std::map<std::string, std::vector<std::int64_t>> by_key;
    std::ifstream lines(file);
    for (std::string line; std::getline(lines, line);) {
      const boost::json::value event = boost::json::parse(line);
      by_key[event.at("partitionkey").as_string().c_str()].push_back(
          event.at("data").at("number").as_int64());
    }
    std::size_t delivered = 0;
    for (const auto& [key, numbers] : by_key) {
      delivered += numbers.size();
      if (!std::is_sorted(numbers.begin(), numbers.end(), std::less_equal<>())) {
        throw std::runtime_error(key + " was not delivered in order");
      }
    }
    if (delivered != static_cast<std::size_t>(held_ + keys_)) {
      throw std::runtime_error(
          fmt::format("{} of {} held entries were delivered", delivered, held_));
    }
  }

  const Options& options_;
  Report& report_;
  const int keys_;
  const std::int64_t held_;
  const std::int64_t others_;
  Server server_;
  std::unique_ptr<Database> free_;
  std::unique_ptr<Database> parked_;
};

}  // namespace

void run_parked(const Options& options, Report& report) {
  ParkedBenchmark(options, report, kFewKeys).run_others();
  ParkedBenchmark(options, report, kManyKeys).run_release();
}

}  // namespace outfall::bench
