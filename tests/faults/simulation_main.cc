// Plays simulations by seed: see README.md in this folder.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "core/mutex.h"
#include "tests/faults/simulation.h"

namespace outfall::test::simulation {
namespace {

struct Many {
  std::uint64_t first = 1;
  std::uint64_t seeds = 10'000;
  unsigned jobs = std::max(1U, std::thread::hardware_concurrency());
  std::string flaw_name = "none";
  Flaw flaw = Flaw::none;
};

// A run shares nothing with another, so that each thread takes the next seed that nobody has.
class Tally {
 public:
  explicit Tally(const Many& many) : many_(many) {}

  void play() {
    for (std::uint64_t i = taken_++; i < many_.seeds; i = taken_++) {
      add(many_.first + i, simulate(many_.first + i, many_.flaw));
    }
  }

  [[nodiscard]] int report(std::chrono::duration<double> took) {
    const MutexLock lock(mutex_);
    for (const auto& [seed, text] : first_broken_) fmt::print("seed {}: BROKEN\n{}", seed, text);
    fmt::print(
        "{} seeds from {}, flaw {}: {} broken; {} copies explained, {} events, digest {:016x}; "
        "{:.1f} s, {:.0f} seeds/s on {} threads\n",
        many_.seeds, many_.first, many_.flaw_name, broken_, copies_, events_, digest_, took.count(),
        static_cast<double>(many_.seeds) / took.count(), many_.jobs);
    return broken_ == 0 ? 0 : 1;
  }

 private:
  void add(std::uint64_t seed, const Result& result) {
    const MutexLock lock(mutex_);
    events_ += result.events;
    copies_ += result.verdict.dup_explained;
    digest_ += result.digest * (2 * seed + 1);  // in any order
    if (result.ok()) return;
    ++broken_;
    first_broken_[seed] = result.text();
    if (first_broken_.size() > kShown) first_broken_.erase(std::prev(first_broken_.end()));
  }

  const Many& many_;
  std::atomic<std::uint64_t> taken_ = 0;
  Mutex mutex_;
  std::uint64_t broken_ OUTFALL_GUARDED_BY(mutex_) = 0;
  // The lowest ones, whatever thread was the first.
  static constexpr std::size_t kShown = 10;
  std::map<std::uint64_t, std::string> first_broken_ OUTFALL_GUARDED_BY(mutex_);
  std::uint64_t events_ OUTFALL_GUARDED_BY(mutex_) = 0;
  std::size_t copies_ OUTFALL_GUARDED_BY(mutex_) = 0;
  std::uint64_t digest_ OUTFALL_GUARDED_BY(mutex_) = 0;
};

int play(const Many& many) {
  const auto begun = std::chrono::steady_clock::now();
  Tally tally(many);
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < many.jobs; ++i) threads.emplace_back([&tally] { tally.play(); });
  tally.play();
  for (std::thread& thread : threads) thread.join();
  return tally.report(std::chrono::steady_clock::now() - begun);
}

}  // namespace
}  // namespace outfall::test::simulation

int main(int argc, char** argv) {
  using namespace outfall::test::simulation;  // NOLINT(google-build-using-namespace)
  CLI::App app("Plays workers against a model of database and sink, by seed.",
               "outfall_simulation");
  std::uint64_t seed = 0;
  Many many;
  app.add_option("--seed", seed, "play this one, and print what happens");
  app.add_option("--first", many.first, "the first seed of many")->capture_default_str();
  app.add_option("--seeds", many.seeds, "how many")->capture_default_str();
  app.add_option("--jobs", many.jobs, "how many at a time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--flaw", many.flaw_name, "leave a rule out")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto flaw = flaw_from(many.flaw_name);
  if (!flaw) {
    std::fprintf(stderr, "outfall_simulation: no such flaw: %s\n", many.flaw_name.c_str());
    return 64;
  }
  many.flaw = *flaw;
  if (seed == 0) return play(many);
  const Result result = simulate(seed, many.flaw, true);
  fmt::print("seed {}: {}\n{}", seed, result.ok() ? "every invariant holds" : "BROKEN",
             result.text());
  return result.ok() ? 0 : 1;
}
