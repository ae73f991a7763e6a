// Plays simulations by seed: see README.md in this folder.
#include <chrono>
#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tests/faults/simulation.h"

int main(int argc, char** argv) {
  using namespace outfall::test::simulation;  // NOLINT(google-build-using-namespace)
  CLI::App app("Plays workers against a model of database and sink, by seed.",
               "outfall_simulation");
  std::uint64_t seed = 0;
  std::uint64_t first = 1;
  std::uint64_t seeds = 10'000;
  std::string flaw_name = "none";
  app.add_option("--seed", seed, "play this one, and print what happens");
  app.add_option("--first", first, "the first seed of many")->capture_default_str();
  app.add_option("--seeds", seeds, "how many")->capture_default_str();
  app.add_option("--flaw", flaw_name, "leave a rule out")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto flaw = flaw_from(flaw_name);
  if (!flaw) {
    std::fprintf(stderr, "outfall_simulation: no such flaw: %s\n", flaw_name.c_str());
    return 64;
  }
  if (seed != 0) {
    const Result result = simulate(seed, *flaw, true);
    fmt::print("seed {}: {}\n{}", seed, result.ok() ? "every invariant holds" : "BROKEN",
               result.text());
    return result.ok() ? 0 : 1;
  }
  const auto begun = std::chrono::steady_clock::now();
  std::uint64_t broken = 0;
  std::uint64_t events = 0;
  std::size_t copies = 0;
  for (std::uint64_t i = first; i < first + seeds; ++i) {
    const Result result = simulate(i, *flaw);
    events += result.events;
    copies += result.verdict.dup_explained;
    if (result.ok()) continue;
    if (++broken <= 10) fmt::print("seed {}: BROKEN\n{}", i, result.text());
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  fmt::print(
      "{} seeds from {}, flaw {}: {} broken; {} copies explained, {} events, {:.1f} s, {:.0f} "
      "seeds/s\n",
      seeds, first, flaw_name, broken, copies, events, took.count(),
      static_cast<double>(seeds) / took.count());
  return broken == 0 ? 0 : 1;
}
