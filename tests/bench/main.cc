// outfall_bench: measures outfall against yardsticks of its own; see benchmark.h.
#include <array>
#include <exception>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <curl/curl.h>
#include <fmt/format.h>

#include "tests/bench/benchmark.h"

namespace outfall::bench {

namespace {

constexpr auto kBenchmarks = std::to_array<Benchmark>({
    {"drain", "A backlog, against the least that SQL can do", &run_drain},
    {"latency", "From commit to settled and to receipt, at 1,000 transactions a second",
     &run_latency},
    {"idle", "CPU and queries of a worker that has nothing to do", &run_idle},
    {"memory", "The worker's peak memory", &run_memory},
    {"hold", "A backlog beside a transaction that stays open", &run_hold},
    {"parked", "Entries that wait behind a failed one, and those beside them", &run_parked},
    {"receipts", "What receipts cost, and how fast they are found", &run_receipts},
    {"webhook", "A backlog into an HTTP endpoint, against a bare loop of libcurl's", &run_webhook},
    {"neighbours", "Endpoints and keys beside a slow or absent one", &run_neighbours},
    {"outage", "How delivery goes on after the endpoint or the broker was away", &run_outage},
    {"kafka", "A backlog into Kafka, against the no-op emitter and a bare producer", &run_kafka},
    {"kafka-latency", "From commit to the broker's append, at 1,000 transactions a second",
     &run_kafka_latency},
    {"kafka-memory", "The worker's peak memory while its broker is dead", &run_kafka_memory},
    {"backlog", "Ten million entries on disk, against half a million", &run_backlog},
    {"streams", "The same load over 1, 100 and 1,000 streams", &run_streams},
    {"workers", "1, 2, 4 and 8 workers on one database", &run_workers},
});

int run(const std::vector<const Benchmark*>& chosen, const Options& options,
        const std::string& json) {
  Report report;
  int failed = 0;
  for (const Benchmark* benchmark : chosen) {
    try {
      Report::progress(benchmark->name);
      benchmark->run(options, report);
    } catch (const std::exception& error) {
      fmt::print(stderr, "outfall_bench: {}: {}\n", benchmark->name, error.what());
      ++failed;
    }
  }
  report.print_table();
  if (!json.empty()) report.write_json(json);
  return failed == 0 ? 0 : 1;
}

// Endpoints, yardsticks and workers, which inherit the limit, have a thousand connections open.
void allow_many_connections() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

}  // namespace

std::span<const Benchmark> benchmarks() {
  return kBenchmarks;
}

}  // namespace outfall::bench

int main(int argc, char** argv) {
  using namespace outfall::bench;
  CLI::App app("Measures outfall. Figures of a shared machine vary: only ratios count.");
  Options options;
  options.outfall = OUTFALL_BINARY;
  std::string json;
  std::vector<const Benchmark*> chosen;
  bool quick = false;
  bool smoke = false;
  app.add_flag("--quick", quick, "Each case once, with less data");
  app.add_flag("--smoke", smoke, "Only whether every benchmark runs: figures mean nothing")
      ->excludes("--quick");
  app.add_option("--entries", options.entries,
                 "Entries to preload for drain, hold, backlog, streams and workers")
      ->check(CLI::Range(1000, 100'000'000));
  app.add_option("--only", options.only,
                 "The cases of hold whose names contain this, e.g. 'key, reader'");
  app.add_option("--json", json, "Writes the figures to this file, too");
  app.add_option("--outfall", options.outfall, "The binary under test")->check(CLI::ExistingFile);
  app.require_subcommand(1);
  for (const Benchmark& benchmark : benchmarks()) {
    app.add_subcommand(std::string(benchmark.name), std::string(benchmark.summary))
        ->fallthrough()
        ->callback([&chosen, &benchmark] { chosen.push_back(&benchmark); });
  }
  app.add_subcommand("all", "All of them")->fallthrough()->callback([&chosen] {
    for (const Benchmark& benchmark : benchmarks()) chosen.push_back(&benchmark);
  });
  CLI11_PARSE(app, argc, argv);
  options.scale = smoke ? Scale::smoke : quick ? Scale::quick : Scale::full;
  allow_many_connections();
  curl_global_init(CURL_GLOBAL_DEFAULT);
  return run(chosen, options, json);
}
