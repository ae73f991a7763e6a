// How long a committed entry waits until the broker has appended its record, at a steady 1,000
// transactions a second: as shipped, and with the settings for the lowest latency. The yardstick is
// a bare producer of librdkafka's that is handed the same number of records a second.
#include <array>
#include <optional>
#include <stdexcept>
#include <vector>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/kafka_floor.h"
#include "tests/bench/kafka_stream.h"
#include "tests/bench/producers.h"
#include "tests/bench/server.h"
#include "tests/bench/usage.h"
#include "tests/bench/webhook_stream.h"
#include "tests/bench/worker.h"
#include "tests/support/temp_kafka.h"

namespace outfall::bench {

namespace {

constexpr double kRate = 1000;
constexpr std::chrono::seconds kIdleStart{1};
constexpr std::array kShares{std::pair{"p50", 0.5}, std::pair{"p95", 0.95}, std::pair{"p99", 0.99},
                             std::pair{"maximum", 1.0}};

struct Case {
  std::string_view name;
  std::string_view drain_settings;
  std::optional<Milliseconds> linger;  // none: as shipped
};
constexpr std::array kCases{
    Case{"as shipped", "", std::nullopt},
    Case{"poll_active 1 ms, linger 0 ms", "[drain]\npoll_active = \"1ms\"\n", Milliseconds{0}}};

class KafkaLatencyBenchmark {
 public:
  explicit KafkaLatencyBenchmark(const Options& options)
      : options_(options),
        seconds_(options.pick(31.0, 11.0, 2.0)),
        server_(options),
        kafka_(broker_options()) {}

  void run(Report& report) {
    // The first requests would measure Java's compiler.
    static_cast<void>(deliver(kCases[0], options_.pick(20.0, 10.0, 2.0), {}));
    Rounds rounds;
    for (int round = 0; round < options_.rounds(); ++round) {
      for (const Case& which : kCases) {
        const Waits floor = hand_over(which);
        for (Measurement& one : deliver(which, seconds_, floor)) {
          rounds.add(std::move(one));
        }
      }
    }
    rounds.report(report, median_by_value);
  }

 private:
  std::string new_topic() {
    std::string topic = fmt::format("shop-{}", ++topics_);
    kafka_.create_topic(topic, 4, append_time());
    return topic;
  }

  Waits waits_for(const std::string& who, const std::vector<Commit>& commits,
                  const std::string& topic) {
    const std::vector<Receipt> receipts = receipts_of(kafka_, topic);
    Waits waits = waits_of(commits, receipts, kIdleStart);
    kafka_.delete_topic(topic);
    if (waits.missing == 0) return waits;
    throw std::runtime_error(fmt::format("{}: {} of {} did not arrive; the topic has {}, {} twice",
                                         who, waits.missing, commits.size(), receipts.size(),
                                         waits.duplicates));
  }

  Waits hand_over(const Case& which) {
    const std::string topic = new_topic();
    return waits_for("bare producer",
                     produce_on_schedule(kafka_.brokers(), topic, which.linger, kRate, seconds_),
                     topic);
  }

  std::vector<Measurement> deliver(const Case& which, double seconds, const Waits& floor) {
    const std::string topic = new_topic();
    const auto database = server_.create();
    Worker worker(options_, *database,
                  fmt::format("{}{}", which.drain_settings,
                              kafka_stream(kafka_.brokers(), topic,
                                           which.linger ? fmt::format("linger = \"{}ms\"",
                                                                      which.linger->count())
                                                        : "")));
    // One entry ahead: when it is through, the worker is connected to both sides.
    database->connect().exec(
        "INSERT INTO outbox.entries (stream, type, payload) VALUES ('orders', 'first', '{}')");
    worker.wait_for([](const Metrics& m) { return delivered_of(m) >= 1; }, "the first entry");
    const double worker_before = worker.cpu_seconds();
    const double server_before = server_.cpu_seconds();
    const double broker_before = process_cpu_seconds(kafka_.pid());
    const auto commits =
        produce(database->dsn(), {.transactions_per_second = kRate, .seconds = seconds});
    const auto entries = static_cast<double>(commits.size());
    worker.wait_for([&](const Metrics& m) { return delivered_of(m) > entries; }, "the last entry");
    const auto per_entry = [&](double cpu) { return cpu / entries * 1e6; };
    Measurement common{
        .benchmark = "kafka-latency",
        .unit = "ms",
        .worker_cpu_us = per_entry(worker.cpu_seconds() - worker_before),
        .server_cpu_us = per_entry(server_.cpu_seconds() - server_before),
        .rss_bytes = worker.peak_rss_bytes(),
        .note = fmt::format("broker {:.1f} us",
                            per_entry(process_cpu_seconds(kafka_.pid()) - broker_before))};
    worker.stop();
    return measurements(which, waits_for("outfall", commits, topic), floor, common);
  }

  static std::vector<Measurement> measurements(const Case& which, const Waits& waits,
                                               const Waits& floor, const Measurement& common) {
    std::vector<Measurement> all;
    for (const auto& [label, share] : kShares) {
      Measurement one = common;
      one.name = fmt::format("commit to append, {}, {}", which.name, label);
      one.value = percentile(waits.milliseconds, share);
      if (!floor.milliseconds.empty()) one.floor = percentile(floor.milliseconds, share);
      all.push_back(std::move(one));
    }
    all.back().note += fmt::format("; from idle at most {:.1f} ms", waits.skipped_longest);
    if (waits.duplicates > 0) all.back().note += fmt::format("; {} came twice", waits.duplicates);
    Report::progress(fmt::format("{}: p50 {:.2f} ms, p95 {:.2f} ms, p99 {:.2f} ms", which.name,
                                 all[0].value, all[1].value, all[2].value));
    return all;
  }

  const Options& options_;
  const double seconds_;
  Server server_;
  test::TempKafka kafka_;
  int topics_ = 0;
};

}  // namespace

void run_kafka_latency(const Options& options, Report& report) {
  KafkaLatencyBenchmark(options).run(report);
}

}  // namespace outfall::bench
