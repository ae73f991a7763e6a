// An outage of the endpoint or the broker under a load that goes on meanwhile: how soon delivery is
// at full speed again, and that it cost nothing. The yardstick of the rate after the return is the
// one before the outage, which is all that is committed.
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/clock.h"
#include "tests/bench/outage_destinations.h"
#include "tests/bench/outage_figures.h"
#include "tests/bench/producers.h"
#include "tests/bench/server.h"
#include "tests/bench/worker.h"
#include "tests/support/wait_until.h"

namespace outfall::bench {

namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;

constexpr double kRate = 1000;
constexpr int kKeys = 400;
// What has not been delivered by then after the last commit does not come any more.
constexpr std::chrono::minutes kDeadline{2};

double seconds(milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

std::string microseconds_since_1970(system_clock::time_point time) {
  return std::to_string(
      std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count());
}

// What outfall's own tables say of an outage.
struct Books {
  double first_delivery = 0;  // milliseconds since the return
  std::int64_t attempts = 0;  // beyond one for each entry
};

class OutageBenchmark {
 public:
  explicit OutageBenchmark(const Options& options)
      : options_(options),
        before_(options.pick(6000, 5000, 1000)),
        away_(options.pick(30'000, 20'000, 1000)),
        after_(options.pick(12'000, 10'000, 1000)),
        server_(options) {}

  void run(Report& report) {
    std::string failures;
    for (int round = 0; round < options_.rounds(); ++round) {
      for (const OutageCase& which : outage_cases()) {
        if (options_.scale == Scale::smoke && !which.in_smoke) continue;
        try {
          measure(which);
        } catch (const std::exception& error) {
          Report::progress(fmt::format("{}: {}", which.name, error.what()));
          failures += fmt::format("\n  {}: {}", which.name, error.what());
        }
      }
    }
    rounds_.report(report, median_by_value);
    if (!failures.empty()) throw std::runtime_error("what may not happen:" + failures);
  }

 private:
  void measure(const OutageCase& which) {
    const auto database = server_.create();
    const auto destination = which.make();
    Worker worker(options_, *database, destination->settings());
    const double worker_before = worker.cpu_seconds();
    const double server_before = server_.cpu_seconds();
    Outage outage;
    const auto commits = produce(database->dsn(),
                                 {.transactions_per_second = kRate,
                                  .seconds = seconds(before_ + away_ + after_),
                                  .keys = kKeys},
                                 [&](const auto&) { outage = take_away(*destination); });
    wait_for_delivery(*database);
    const auto per_entry = [&](double cpu) {
      return cpu / static_cast<double>(commits.size()) * 1e6;
    };
    const Measurement common{.benchmark = "outage",
                             .worker_cpu_us = per_entry(worker.cpu_seconds() - worker_before),
                             .server_cpu_us = per_entry(server_.cpu_seconds() - server_before),
                             .rss_bytes = worker.peak_rss_bytes()};
    const double in_doubt =
        worker.metrics().sum("outfall_attempts_total", "outcome=\"possibly_delivered\"");
    worker.stop();
    const Recovery recovery = recovery_of(commits, destination->take_receipts(), outage);
    add(which, common, recovery, books_of(*database, which, outage, commits.size()), in_doubt);
  }

  [[nodiscard]] Outage take_away(Destination& destination) const {
    const auto begun = std::chrono::steady_clock::now();
    wait_until_time(begun + before_);
    Outage outage{.away = system_clock::now()};
    destination.go_away();
    wait_until_time(begun + before_ + away_);
    outage.returning = system_clock::now();
    destination.come_back();
    outage.back = system_clock::now();
    return outage;
  }

  static void wait_for_delivery(const Database& database) {
    test::PgClient client = database.connect();
    const auto nothing_left = [&] {
      return client.value("SELECT EXISTS (SELECT FROM outbox.entries)") == "f";
    };
    if (test::holds_within(nothing_left, kDeadline)) return;
    throw std::runtime_error(
        fmt::format("{} entries are not delivered; the most attempts of one are {}",
                    client.number("SELECT count(*) FROM outbox.entries"),
                    client.number("SELECT coalesce(max(attempts), 0) FROM outbox.entries")));
  }

  static Books books_of(const Database& database, const OutageCase& which, const Outage& outage,
                        std::size_t entries) {
    test::PgClient client = database.connect();
    const std::int64_t dead = client.number("SELECT count(*) FROM outbox.dead_letters");
    if (dead > 0) throw std::runtime_error(fmt::format("{} are dead letters", dead));
    const std::int64_t delivered = client.number("SELECT count(*) FROM outbox.delivered");
    if (delivered != static_cast<std::int64_t>(entries)) {
      throw std::runtime_error(fmt::format("{} of {} have a receipt", delivered, entries));
    }
    const Books books{
        .first_delivery =
            static_cast<double>(client.number(
                "SELECT (extract(epoch FROM min(delivered_at)) * 1e6)::bigint - $1::bigint "
                "  FROM outbox.receipts WHERE delivered_at > to_timestamp($2::numeric / 1e6)",
                {microseconds_since_1970(outage.back),
                 microseconds_since_1970(outage.returning)})) /
            1000,
        .attempts = client.number("SELECT sum(attempts - 1) FROM outbox.delivered")};
    if (books.attempts > which.attempts) {
      throw std::runtime_error(fmt::format("the outage cost {} attempts", books.attempts));
    }
    return books;
  }

  void add(const OutageCase& which, const Measurement& common, const Recovery& recovery,
           const Books& books, double in_doubt) {
    const auto figure = [&](std::string_view what, double value, std::string_view unit) {
      Measurement one = common;
      one.name = fmt::format("{}, {}", which.name, what);
      one.value = value;
      one.unit = unit;
      return one;
    };
    rounds_.add(figure("first delivery", std::max(0.0, books.first_delivery), "ms"));
    rounds_.add(figure("backlog delivered", recovery.backlog, "ms"));
    rounds_.add(figure("within 100 ms again", recovery.prompt, "ms"));
    Measurement rate = figure("first 5 s", recovery.rate, "deliveries/s");
    rate.floor = recovery.rate_before;
    rounds_.add(std::move(rate));
    Measurement twice = figure("twice", static_cast<double>(recovery.duplicates), "entries");
    twice.note = fmt::format("{} attempts in doubt, {} spent", in_doubt, books.attempts);
    rounds_.add(std::move(twice));
    Report::progress(fmt::format(
        "{}: first after {:.0f} ms, backlog after {:.0f} ms, within 100 ms after {:.0f} ms, "
        "{:.0f} deliveries/s; {} came twice, {} attempts in doubt, {} spent",
        which.name, books.first_delivery, recovery.backlog, recovery.prompt, recovery.rate,
        recovery.duplicates, in_doubt, books.attempts));
  }

  const Options& options_;
  const milliseconds before_;
  const milliseconds away_;
  const milliseconds after_;
  Server server_;
  Rounds rounds_;
};

}  // namespace

void run_outage(const Options& options, Report& report) {
  OutageBenchmark(options).run(report);
}

}  // namespace outfall::bench
