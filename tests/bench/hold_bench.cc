// A backlog beside a transaction that stays open, so that no dead row can be removed: does the rate
// fall while they pile up? Some deliveries fail and come back, so that batches settle in parts and
// their keys wait; the first entry is scheduled for much later, so that it is never out of the way.
// Five rounds, for a quarter of a drain lasts a few seconds, and two of them differ by a tenth and
// more also where nothing is held.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <vector>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/server.h"
#include "tests/bench/server_use.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

enum class Holder : std::uint8_t { none, reader, writer };

constexpr std::array kHolders{std::pair{Holder::none, "nothing held"},
                              std::pair{Holder::reader, "reader held"},
                              std::pair{Holder::writer, "writer held"}};

// The end of the first quarter of the entries, and the last one: without the last hundredth, in
// which there is nothing but retries to wait for.
constexpr double kFirst = 0.25;
constexpr double kLast = 0.75;
constexpr double kEnd = 0.99;

class HoldBenchmark {
 public:
  HoldBenchmark(const Options& options, Report& report)
      : options_(options),
        report_(report),
        entries_(options.entries_or(2'000'000, 600'000)),
        server_(options),
        loaded_(server_.create()) {
    preload(*loaded_, {.entries = entries_, .scheduled_head = true});
  }

  void run() {
    for (int round = 0; round < options_.pick(5, 1, 1); ++round) {
      for (const std::string_view ordering : {"none", "key"}) {
        std::optional<double> free_rate;
        for (const auto& [holder, label] : kHolders) {
          const std::string name = fmt::format("ordering {}, {}", ordering, label);
          if (name.find(options_.only) == std::string::npos) continue;
          const DrainRun run = measure_evenly(ordering, holder);
          rounds_.add(measurement(name, run, run.rate(), free_rate));
          if (holder == Holder::none) free_rate = run.rate();
          add_quarters(name, run);
        }
      }
    }
    rounds_.report(report_, in_the_middle);
  }

 private:
  // A quarter of a drain lasts a few seconds, and two of them differ on a shared machine whatever
  // is held. What does not depend on it is how many pages an entry takes.
  void add_quarters(const std::string& name, const DrainRun& run) {
    const double first = run.rate_between(0, kFirst);
    const double last = run.rate_between(kLast, kEnd);
    const double first_pages = run.pages_between(0, kFirst);
    const double last_pages = run.pages_between(kLast, kEnd);
    rounds_.add(measurement(name + ", last to first quarter", run, last, first));
    Measurement pages =
        measurement(name + ", pages an entry, last to first", run, last_pages, first_pages);
    pages.unit = "pages";
    rounds_.add(std::move(pages));
    Report::progress(fmt::format(
        "{}: {:.0f} entries/s, first quarter {:.0f} with {:.2f} pages an entry, last {:.0f} with "
        "{:.2f}{}",
        name, run.rate(), first, first_pages, last, last_pages, shared(run)));
  }

  // The round in the middle, with the range of all of them beside it.
  [[nodiscard]] static Measurement in_the_middle(std::vector<Measurement> of_case) {
    const auto ratio = [](const Measurement& m) { return m.ratio().value_or(0); };
    const auto [lowest, highest] = std::ranges::minmax(of_case | std::views::transform(ratio));
    Measurement middle = median_by_ratio(std::move(of_case));
    if (middle.floor) middle.note = fmt::format("{:.2f} to {:.2f}", lowest, highest);
    return middle;
  }

  // What the host of a shared machine keeps from it in one quarter and not in the other is no
  // fault of the drain: such a run is made again, whatever it shows, and the last one counts.
  DrainRun measure_evenly(std::string_view ordering, Holder holder) {
    constexpr int kTries = 4;
    constexpr double kUneven = 0.02;
    for (int run_no = 1;; ++run_no) {
      DrainRun run = measure(ordering, holder);
      const double more = run.stolen_between(kLast, kEnd) - run.stolen_between(0, kFirst);
      if (std::abs(more) <= kUneven || run_no == kTries) return run;
      Report::progress("made again" + shared(run));
    }
  }

  static std::string shared(const DrainRun& run) {
    return fmt::format(
        "; of the CPU the host kept {:.1f} % in the first quarter, {:.1f} % in the last",
        run.stolen_between(0, kFirst) * 100, run.stolen_between(kLast, kEnd) * 100);
  }

  DrainRun measure(std::string_view ordering, Holder holder) {
    const auto database = server_.copy(*loaded_);
    test::PgClient held = database->connect();
    std::int64_t committed = entries_ - 1;  // and due: not the scheduled one
    if (holder == Holder::reader) {
      held.exec("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM outbox.streams");
    } else if (holder == Holder::writer) {
      // The oldest of all but the scheduled one, so that no claim may ever take it for done with.
      database->connect().exec("DELETE FROM outbox.entries WHERE id = 2");
      --committed;
      held.exec(
          "BEGIN; INSERT INTO outbox.entries (id, stream, type, key, payload) "
          "OVERRIDING SYSTEM VALUE VALUES (2, 'orders', 'order.created', 'customer-1', '{}')");
    }
    Worker worker(options_, *database,
                  noop_stream(ordering, "on", "retry.initial = \"200ms\"\nretry.max = \"200ms\"",
                              "fail = { retryable_failure = \"0.002\" }"));
    // As autovacuum does some time: the plans of the second half are made while there are more dead
    // rows than others. With the server's minute between two looks only some runs would see that.
    ServerUse use(server_, *database);
    DrainRun run = watch_drain(worker, server_, committed,
                               {.pages = [&] { return use.pages(); },
                                .at_half = [&] { database->connect().exec("ANALYZE"); }});
    held.exec("COMMIT");
    if (holder == Holder::writer) {
      worker.wait_for(
          [&](const Metrics& m) { return delivered_of(m) > static_cast<double>(committed); },
          "the writer's own entry");
    }
    worker.stop();
    const auto left = database->connect().number("SELECT count(*) FROM outbox.entries");
    if (left != 1) {
      throw std::runtime_error(
          fmt::format("{} entries are left instead of the scheduled one", left));
    }
    return run;
  }

  [[nodiscard]] static Measurement measurement(const std::string& name, const DrainRun& run,
                                               double value, std::optional<double> floor) {
    return {.benchmark = "hold",
            .name = name,
            .value = value,
            .unit = "entries/s",
            .floor = floor,
            .worker_cpu_us = run.worker_cpu_us(),
            .server_cpu_us = run.server_cpu_us(),
            .rss_bytes = run.peak_rss};
  }

  const Options& options_;
  Report& report_;
  const std::int64_t entries_;
  Rounds rounds_;
  Server server_;
  std::unique_ptr<Database> loaded_;
};

}  // namespace

void run_hold(const Options& options, Report& report) {
  HoldBenchmark(options, report).run();
}

}  // namespace outfall::bench
