// How fast a backlog reaches an HTTP endpoint. The yardstick is a bare loop of libcurl's with the
// same number of requests in flight, against the same endpoint.
#include <map>
#include <stdexcept>

#include <fmt/format.h>

#include "tests/bench/benchmark.h"
#include "tests/bench/curl_floor.h"
#include "tests/bench/http_sink.h"
#include "tests/bench/server.h"
#include "tests/bench/webhook_stream.h"
#include "tests/bench/worker.h"

namespace outfall::bench {

namespace {

constexpr int kPayloadBytes = 450;

struct Case {
  std::string name;
  int in_flight = 0;
  std::chrono::milliseconds answers_after{0};
  std::string_view emitter_settings = {};
};

class WebhookBenchmark {
 public:
  explicit WebhookBenchmark(const Options& options)
      : options_(options),
        entries_(options.entries_or(500'000, 150'000)),
        server_(options),
        loaded_(server_.create()) {
    preload(*loaded_, {.entries = entries_, .payload_bytes = kPayloadBytes});
  }

  void run(Report& report) {
    const Case cases[] = {
        {.name = "64 in flight, answers at once", .in_flight = 64},
        {.name = "64 in flight, at once, signed",
         .in_flight = 64,
         .emitter_settings = "secret = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]"},
        {.name = "1000 in flight, answers after 20 ms",
         .in_flight = 1000,
         .answers_after = std::chrono::milliseconds{20}},
    };
    for (int round = 0; round < options_.rounds(); ++round) {
      for (const Case& which : cases) rounds_[which.name].push_back(measure(which));
    }
    for (const auto& [name, rounds] : rounds_) report.add(median_by_ratio(rounds));
  }

 private:
  Measurement measure(const Case& which) {
    HttpSink sink({.delay_of = [&](const SinkRequest&) { return which.answers_after; }});
    const std::string url = fmt::format("http://{}/hooks", sink.authority());
    const double sink_before_floor = sink.cpu_seconds();
    const CurlFloor floor = post_with_curl(url, which.in_flight, entries_, kPayloadBytes);
    const double sink_before = sink.cpu_seconds();
    const auto answered_before = sink.answered();
    const DrainRun run = deliver(which, url);
    if (sink.answered() - answered_before != static_cast<std::uint64_t>(entries_)) {
      throw std::runtime_error(fmt::format("{} entries were sent {} times", entries_,
                                           sink.answered() - answered_before));
    }
    const auto per_entry = [&](double seconds) {
      return seconds / static_cast<double>(entries_) * 1e6;
    };
    Measurement result{
        .benchmark = "webhook",
        .name = which.name,
        .value = run.rate(),
        .unit = "entries/s",
        .floor = floor.rate(),
        .worker_cpu_us = run.worker_cpu_us(),
        .server_cpu_us = run.server_cpu_us(),
        .rss_bytes = run.peak_rss,
        .note = fmt::format("endpoint {:.1f} us; bare loop {:.1f} us, its endpoint {:.1f} us",
                            per_entry(sink.cpu_seconds() - sink_before), floor.cpu_us(),
                            per_entry(sink_before - sink_before_floor))};
    Report::progress(fmt::format("{}: {:.0f} entries/s, bare loop {:.0f}; worker {:.1f} us, {}",
                                 which.name, result.value, floor.rate(), run.worker_cpu_us(),
                                 result.note));
    return result;
  }

  DrainRun deliver(const Case& which, const std::string& url) {
    const auto database = server_.copy(*loaded_);
    Worker worker(options_, *database,
                  webhook_stream(url, {},
                                 fmt::format("max_in_flight = {}\n{}", which.in_flight,
                                             which.emitter_settings)));
    const DrainRun run = watch_drain(worker, server_, entries_);
    worker.stop();
    const auto kept =
        database->connect().number("SELECT coalesce(sum(entries), 0) FROM outbox.receipts");
    if (kept != entries_) throw std::runtime_error(fmt::format("{} have a receipt", kept));
    return run;
  }

  const Options& options_;
  const std::int64_t entries_;
  Server server_;
  std::unique_ptr<Database> loaded_;
  std::map<std::string, std::vector<Measurement>> rounds_;
};

}  // namespace

void run_webhook(const Options& options, Report& report) {
  WebhookBenchmark(options).run(report);
}

}  // namespace outfall::bench
