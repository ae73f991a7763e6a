#include "tests/bench/worker.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <utility>

#include <curl/curl.h>
#include <fmt/format.h>

#include "tests/bench/clock.h"
#include "tests/bench/usage.h"
#include "tests/support/wait_until.h"

namespace outfall::bench {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A look costs the worker about half a millisecond, so it happens seldom, except near the end.
constexpr milliseconds kLookEvery{100};
constexpr milliseconds kLookNearEnd{4};
// Nothing here takes longer than this without any progress.
constexpr milliseconds kStuckAfter{60'000};

std::size_t append_body(char* data, std::size_t size, std::size_t count, void* body) {
  static_cast<std::string*>(body)->append(data, size * count);
  return size * count;
}

}  // namespace

double delivered_of(const Metrics& metrics) {
  // A retryable failure is the only other outcome that the benchmarks let happen.
  return metrics.sum("outfall_entries_settled_total") -
         metrics.sum("outfall_attempts_total", "outcome=\"retryable_failure\"");
}

double Metrics::sum(std::string_view name, std::string_view label) const {
  double total = 0;
  for (std::size_t at = text_.find(name); at != std::string::npos; at = text_.find(name, at + 1)) {
    if (at > 0 && text_[at - 1] != '\n') continue;
    const std::string_view line = std::string_view(text_).substr(at, text_.find('\n', at) - at);
    const std::string_view rest = line.substr(name.size());
    if (rest.empty() || (rest.front() != '{' && rest.front() != ' ')) continue;
    if (!label.empty() && rest.find(label) == std::string_view::npos) continue;
    total += std::strtod(rest.data() + rest.rfind(' '), nullptr);
  }
  return total;
}

// A connection that stays open.
struct Worker::Http {
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl{curl_easy_init(), curl_easy_cleanup};
  std::string body;
};

Worker::Worker(const Options& options, const Database& database, const std::string& settings)
    : http_(std::make_unique<Http>()) {
  const std::string listen = fmt::format("127.0.0.1:{}", test::free_port());
  const auto config = folder_.write(
      "outfall.toml", fmt::format("[database]\nurl = \"{}\"\n[admin]\nlisten = \"{}\"\n{}",
                                  database.dsn(), listen, settings));
  CURL* curl = http_->curl.get();
  curl_easy_setopt(curl, CURLOPT_URL, ("http://" + listen + "/metrics").c_str());
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_PROXY, "");
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(kStuckAfter.count()));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &append_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &http_->body);
  process_ = std::make_unique<test::ChildProcess>(
      std::vector<std::string>{options.outfall, "run", "--config", config});
  process_->wait_for_output("started");
}

Worker::~Worker() = default;

Metrics Worker::metrics() {
  http_->body.clear();
  const CURLcode code = curl_easy_perform(http_->curl.get());
  long status = 0;
  curl_easy_getinfo(http_->curl.get(), CURLINFO_RESPONSE_CODE, &status);
  if (code != CURLE_OK || status != 200) {
    throw std::runtime_error(fmt::format("/metrics: {}, status {}; the worker wrote: {}",
                                         curl_easy_strerror(code), status,
                                         process_->error_output()));
  }
  return Metrics(http_->body);
}

Metrics Worker::wait_for(const std::function<bool(const Metrics&)>& condition,
                         const std::string& what) {
  Metrics seen("");
  const bool held = test::holds_within(
      [&] {
        seen = metrics();
        return condition(seen);
      },
      kStuckAfter);
  if (!held) {
    throw std::runtime_error("waited in vain for " + what +
                             "; the worker wrote: " + process_->error_output());
  }
  return seen;
}

double Worker::cpu_seconds() const {
  return bench::cpu_seconds(process_->pid());
}

std::int64_t Worker::peak_rss_bytes() const {
  return bench::peak_rss_bytes(process_->pid());
}

void Worker::stop() {
  process_->signal(SIGTERM);
  const test::ExitStatus status = process_->wait();
  if (status.code != 0) {
    throw std::runtime_error("the worker ended with " + status.to_string() + ": " +
                             process_->error_output());
  }
}

std::string noop_stream(std::string_view ordering, std::string_view receipts,
                        std::string_view stream_settings, std::string_view emitter_settings) {
  return fmt::format(
      "[streams.orders]\nemitter = \"sink\"\nordering = \"{}\"\nreceipts = \"{}\"\n{}\n"
      "[emitters.sink]\nkind = \"noop\"\n{}\n",
      ordering, receipts, stream_settings, emitter_settings);
}

std::string noop_streams(int count) {
  std::string settings = "[emitters.sink]\nkind = \"noop\"\n";
  for (int i = 0; i < count; ++i) {
    settings += fmt::format("[streams.{}]\nemitter = \"sink\"\n", stream_name(i, count));
  }
  return settings;
}

// How it stood when the given share was reached, between the two looks around it.
Progress DrainRun::at(double share) const {
  const double wanted = share * delivered;
  for (std::size_t i = 1; i < progress.size(); ++i) {
    const Progress& before = progress[i - 1];
    const Progress& after = progress[i];
    if (after.delivered < wanted || after.delivered == before.delivered) continue;
    const double part = (wanted - before.delivered) / (after.delivered - before.delivered);
    const auto between = [&](double Progress::*figure) {
      return before.*figure + (after.*figure - before.*figure) * part;
    };
    return {.seconds = between(&Progress::seconds),
            .delivered = wanted,
            .stolen = between(&Progress::stolen),
            .pages = between(&Progress::pages),
            .claims = between(&Progress::claims),
            .claim_seconds = between(&Progress::claim_seconds)};
  }
  return progress.back();
}

double DrainRun::rate_between(double from, double to) const {
  return (to - from) * delivered / (at(to).seconds - at(from).seconds);
}

double DrainRun::stolen_between(double from, double to) const {
  const double cpus = std::thread::hardware_concurrency();
  return (at(to).stolen - at(from).stolen) / (at(to).seconds - at(from).seconds) / cpus;
}

double DrainRun::pages_between(double from, double to) const {
  return (at(to).pages - at(from).pages) / ((to - from) * delivered);
}

double DrainRun::claim_ms_between(double from, double to) const {
  return (at(to).claim_seconds - at(from).claim_seconds) / (at(to).claims - at(from).claims) * 1e3;
}

namespace {

// What all workers together say of themselves.
struct Look {
  Progress progress;
  double claimed = 0;
};

Look look_at(const std::vector<Worker*>& workers) {
  Look look;
  for (Worker* worker : workers) {
    const Metrics metrics = worker->metrics();
    look.claimed += metrics.sum("outfall_entries_claimed_total");
    look.progress.delivered += delivered_of(metrics);
    look.progress.claims += metrics.sum("outfall_claim_duration_seconds_count");
    look.progress.claim_seconds += metrics.sum("outfall_claim_duration_seconds_sum");
  }
  look.progress.stolen = stolen_cpu_seconds();
  return look;
}

double cpu_of(const std::vector<Worker*>& workers) {
  double seconds = 0;
  for (const Worker* worker : workers) seconds += worker->cpu_seconds();
  return seconds;
}

DrainRun watch(const std::vector<Worker*>& workers, const Server& server, std::int64_t entries,
               const std::function<Look()>& look_now, std::function<void()> at_half = {}) {
  Look look;
  if (!test::holds_within([&] { return (look = look_now()).claimed > 0; }, kStuckAfter))
    throw std::runtime_error("waited in vain for the first claim");
  DrainRun run;
  const auto begun = steady_clock::now();
  const double worker_cpu = cpu_of(workers);
  const double server_cpu = server.cpu_seconds();
  run.progress.push_back({.stolen = look.progress.stolen, .pages = look.progress.pages});
  auto last_progress = begun;
  while (true) {
    look = look_now();
    const auto now = steady_clock::now();
    if (look.progress.delivered > run.delivered) last_progress = now;
    run.delivered = look.progress.delivered;
    run.seconds = std::chrono::duration<double>(now - begun).count();
    look.progress.seconds = run.seconds;
    run.progress.push_back(look.progress);
    if (run.delivered >= static_cast<double>(entries)) break;
    if (at_half && run.delivered * 2 >= static_cast<double>(entries)) {
      std::exchange(at_half, {})();
    }
    if (now - last_progress > kStuckAfter) throw std::runtime_error("the drain is stuck");
    const double left = (static_cast<double>(entries) - run.delivered) / run.rate();
    const bool near_end = left < 2 * std::chrono::duration<double>(kLookEvery).count();
    wait_until_time(now + (near_end ? kLookNearEnd : kLookEvery));
  }
  run.worker_cpu = cpu_of(workers) - worker_cpu;
  run.server_cpu = server.cpu_seconds() - server_cpu;
  for (const Worker* worker : workers) {
    run.peak_rss = std::max(run.peak_rss, worker->peak_rss_bytes());
  }
  return run;
}

}  // namespace

DrainRun watch_drain(const std::vector<Worker*>& workers, const Server& server,
                     std::int64_t entries, const WatchMore& more) {
  const auto look_now = [&] {
    Look look = look_at(workers);
    if (more.pages) look.progress.pages = more.pages();
    return look;
  };
  return watch(workers, server, entries, look_now, more.at_half);
}

DrainRun watch_drain(Worker& worker, const Server& server, std::int64_t entries,
                     const WatchMore& more) {
  return watch_drain(std::vector<Worker*>{&worker}, server, entries, more);
}

DrainRun watch_receipts(Worker& worker, const Server& server, const Database& database,
                        std::int64_t entries) {
  test::PgClient client = database.connect();
  return watch({&worker}, server, entries, [&] {
    Look look;
    look.progress.stolen = stolen_cpu_seconds();
    look.claimed = look.progress.delivered =
        static_cast<double>(client.number("SELECT coalesce(sum(entries), 0) FROM outbox.receipts"));
    return look;
  });
}

}  // namespace outfall::bench
