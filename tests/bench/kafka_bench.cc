// How fast a backlog gets into Kafka, with broker, PostgreSQL and worker on the same machine. Its
// yardsticks are the same backlog into the emitter noop, a bare producer of librdkafka's with the
// same properties and records, and both in turn.
#include <stdexcept>
#include <vector>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/kafka_floor.h"
#include "tests/bench/kafka_stream.h"
#include "tests/bench/server.h"
#include "tests/bench/usage.h"
#include "tests/bench/worker.h"
#include "tests/support/temp_kafka.h"

namespace outfall::bench {

namespace {

constexpr int kPayloadBytes = 450;

struct Load {
  std::string name;
  int keys = 0;
  std::int64_t entries = 0;
  std::unique_ptr<Database> database;
};

// What both yardsticks reach with a load.
struct Yardsticks {
  DrainRun noop = {};
  KafkaFloor bare = {};
  double bare_broker_cpu = 0;

  // One entry after the other through both: where they fill the same cores, this is what the no-op
  // drain leaves when what producer and broker take is subtracted.
  [[nodiscard]] double in_turn() const { return 1 / (1 / noop.rate() + 1 / bare.rate()); }
};

class KafkaBenchmark {
 public:
  explicit KafkaBenchmark(const Options& options)
      : options_(options), server_(options), kafka_(broker_options()) {
    const std::int64_t entries = options.entries_or(500'000, 150'000);
    many_ = load("10,000 keys", 10'000, entries);
    hot_ = load("one key", 1, entries / 2);
    // Some hundred a second: enough of them to see it.
    few_ = load("one key", 1, options.pick<std::int64_t>(10'000, 5000, 300));
    // The first ones would measure Java's compiler.
    static_cast<void>(run_bare(entries, many_.keys));
    const std::string topic = new_topic();
    static_cast<void>(drain(many_, kafka_stream(kafka_.brokers(), topic)));
    check_and_delete(topic, entries);
  }

  void run(Report& report) {
    for (int round = 0; round < options_.rounds(); ++round) {
      const Yardsticks many = measure_yardsticks(many_);
      measure(many_, 0, many);
      measure(many_, 1, many);
      const Yardsticks hot = measure_yardsticks(hot_);
      measure(hot_, 0, hot);
      measure(few_, 1, hot);
    }
    rounds_.report(report, median_by_ratio);
  }

 private:
  Load load(std::string name, int keys, std::int64_t entries) {
    Load made{std::move(name), keys, entries, server_.create()};
    preload(*made.database, {.entries = entries, .keys = keys, .payload_bytes = kPayloadBytes});
    return made;
  }

  std::string new_topic() {
    std::string topic = fmt::format("shop-{}", ++topics_);
    kafka_.create_topic(topic);
    return topic;
  }

  void check_and_delete(const std::string& topic, std::int64_t entries) {
    const std::int64_t there = kafka_.count(topic);
    kafka_.delete_topic(topic);
    if (there == entries) return;
    throw std::runtime_error(fmt::format("{} entries made {} records", entries, there));
  }

  KafkaFloor run_bare(std::int64_t records, int keys) {
    const std::string topic = new_topic();
    const KafkaFloor floor =
        produce_with_librdkafka(kafka_.brokers(), topic,
                                {.records = records, .payload_bytes = kPayloadBytes, .keys = keys});
    check_and_delete(topic, records);
    return floor;
  }

  DrainRun drain(const Load& load, const std::string& settings) {
    const auto database = server_.copy(*load.database);
    Worker worker(options_, *database, settings);
    DrainRun run = watch_drain(worker, server_, load.entries);
    worker.stop();
    const auto kept =
        database->connect().number("SELECT coalesce(sum(entries), 0) FROM outbox.receipts");
    if (kept != load.entries) throw std::runtime_error(fmt::format("{} have a receipt", kept));
    return run;
  }

  Yardsticks measure_yardsticks(const Load& load) {
    Yardsticks measured{.noop = drain(load, noop_stream("key", "on"))};
    const double before = process_cpu_seconds(kafka_.pid());
    measured.bare = run_bare(load.entries, load.keys);
    measured.bare_broker_cpu = process_cpu_seconds(kafka_.pid()) - before;
    Report::progress(fmt::format(
        "{}: no-op {:.0f} entries/s, worker {:.2f} us, server {:.2f} us; bare producer {:.0f} "
        "records/s, {:.2f} us, broker {:.2f} us",
        load.name, measured.noop.rate(), measured.noop.worker_cpu_us(),
        measured.noop.server_cpu_us(), measured.bare.rate(), measured.bare.cpu_us(),
        measured.bare_broker_cpu / static_cast<double>(load.entries) * 1e6));
    return measured;
  }

  void measure(const Load& load, int key_window, const Yardsticks& yardsticks) {
    const std::string topic = new_topic();
    const double broker_before = process_cpu_seconds(kafka_.pid());
    const DrainRun run = drain(
        load, kafka_stream(kafka_.brokers(), topic, fmt::format("key_window = {}", key_window)));
    const double broker_cpu = process_cpu_seconds(kafka_.pid()) - broker_before;
    check_and_delete(topic, load.entries);
    const std::string name = fmt::format("{}, key_window {}", load.name, key_window);
    Measurement result{
        .benchmark = "kafka",
        .value = run.rate(),
        .unit = "entries/s",
        .worker_cpu_us = run.worker_cpu_us(),
        .server_cpu_us = run.server_cpu_us(),
        .rss_bytes = run.peak_rss,
        .note = fmt::format("{:.1f} s; CPU: worker {:.2f} s, PostgreSQL {:.2f} s, broker {:.2f} s "
                            "({:.1f} us an entry)",
                            run.seconds, run.worker_cpu, run.server_cpu, broker_cpu,
                            broker_cpu / run.delivered * 1e6)};
    Report::progress(fmt::format("{}: {:.0f} entries/s; worker {:.2f} us, server {:.2f} us; {}",
                                 name, run.rate(), run.worker_cpu_us(), run.server_cpu_us(),
                                 result.note));
    keep(result, name + ", to the no-op drain", yardsticks.noop.rate());
    keep(result, name + ", to a bare producer", yardsticks.bare.rate());
    keep(result, name + ", to both in turn", yardsticks.in_turn());
  }

  void keep(Measurement one, std::string name, double floor) {
    one.name = std::move(name);
    one.floor = floor;
    rounds_.add(std::move(one));
  }

  const Options& options_;
  Server server_;
  test::TempKafka kafka_;
  int topics_ = 0;
  Load many_;
  Load hot_;
  Load few_;
  Rounds rounds_;
};

}  // namespace

void run_kafka(const Options& options, Report& report) {
  KafkaBenchmark(options).run(report);
}

}  // namespace outfall::bench
