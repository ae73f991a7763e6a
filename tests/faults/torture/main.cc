// outfall_torture: breaks what outfall depends on, run after run, and judges what came of it. See
// docs/internals/faults.md.
#include <exception>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tests/faults/torture/report.h"
#include "tests/faults/torture/soak.h"

namespace outfall::torture {

namespace {

#ifdef OUTFALL_CRASH_POINTS
constexpr bool kCrashPoints = true;
#else
constexpr bool kCrashPoints = false;
#endif

struct Choice {
  bool quick = false;
  SoakOptions soak;
  std::uint64_t seed = 1;
  std::string kind;
  std::string emitter;
  std::string broken;
  std::vector<std::string> runs;
  bool list = false;
};

std::vector<Case> broken_cases(const Broken& broken, std::uint64_t seed) {
  constexpr int kTries = 4;
  std::vector<Case> cases;
  for (int i = 0; i < kTries; ++i) {
    for (const std::string& run : broken.runs)
      cases.push_back(parse_case(run + "/" + std::to_string(seed++)));
  }
  return cases;
}

std::vector<Case> choose(const Choice& choice) {
  std::vector<Case> cases;
  for (const std::string& run : choice.runs) cases.push_back(parse_case(run));
  if (!cases.empty()) return cases;
  if (!choice.broken.empty()) return broken_cases(broken_build(choice.broken), choice.seed);
  for (Case& each : choice.quick ? quick_cases(choice.seed, kCrashPoints)
                                 : full_cases(choice.seed, kCrashPoints)) {
    if (!choice.kind.empty() && each.fault.find(choice.kind) == std::string::npos) continue;
    if (!choice.emitter.empty() && each.emitter != choice.emitter) continue;
    cases.push_back(std::move(each));
  }
  return cases;
}

void list(const std::vector<Case>& cases) {
  for (const FaultKind& kind : fault_kinds()) fmt::print("{:<18} {}\n", kind.name, kind.what);
  fmt::print("\n");
  for (const Broken& broken : broken_builds())
    fmt::print("--broken {:<22} {}\n", broken.name, broken.what);
  fmt::print("\n");
  for (const Case& each : cases) fmt::print("{}\n", each.name());
}

// A broken build must be noticed as what it breaks.
int torture_broken(Runner& runner, const std::vector<Case>& cases, const Broken& broken) {
  Report report;
  for (const Case& each : cases) {
    report.add(runner.play(each));
    const std::size_t found = report.results().back().verdict.count(broken.anomaly);
    if (found == 0) continue;
    fmt::print("{} is noticed: {} {}, in run {} of {}\n", broken.name, found,
               to_string(broken.anomaly), report.results().size(), cases.size());
    return 0;
  }
  fmt::print("{} is NOT noticed as {} in {} runs\n", broken.name, to_string(broken.anomaly),
             cases.size());
  return 1;
}

int soak(const Choice& choice, const Settings& settings, const std::string& json) {
  SoakOptions options = choice.soak;
  options.seed = choice.seed;
  options.kind = choice.kind;
  if (!choice.emitter.empty() && choice.emitter != "stdout")
    throw std::invalid_argument("a soak delivers by stdout, not by " + choice.emitter);
  // A file takes everything at once: no lease gets old there, and no answer is refused.
  if (settings.broken != nullptr && !settings.broken->shows_in_soak)
    throw std::invalid_argument("a soak does not show " + settings.broken->name +
                                "; run: ops/torture --broken " + settings.broken->name);
  const SoakResult result = play_soak(settings, options);
  fmt::print("{}", soak_table(options, result));
  if (!json.empty()) write_soak_json(options, result, json);
  if (settings.broken == nullptr) return result.ok() ? 0 : 1;
  const bool noticed = !result.findings.ok();
  fmt::print("{} is {}noticed\n", settings.broken->name, noticed ? "" : "NOT ");
  return noticed ? 0 : 1;
}

int run(const Choice& choice, const Settings& settings, const std::string& json) {
  const std::vector<Case> cases = choose(choice);
  if (choice.list) {
    list(cases);
    return 0;
  }
  Runner runner(settings);
  if (settings.broken != nullptr) return torture_broken(runner, cases, *settings.broken);
  Report report;
  for (const Case& each : cases) report.add(runner.play(each));
  fmt::print("{}", report.table());
  if (!json.empty()) report.write_json(json, choice.seed);
  return report.ok() ? 0 : 1;
}

}  // namespace

}  // namespace outfall::torture

int main(int argc, char** argv) {
  using namespace outfall::torture;
  CLI::App app("Breaks what outfall depends on, and judges what came of it.", "outfall_torture");
  Choice choice;
  Settings settings{.outfall = OUTFALL_BINARY,
                    .source_folder = OUTFALL_SOURCE_FOLDER,
                    .keep = std::filesystem::temp_directory_path() / "outfall-torture"};
  std::string json;
  app.add_flag("--quick", choice.quick, "A selection that has every fault and every emitter");
  int soak_seconds = 0;
  app.add_option("--soak", soak_seconds, "Load and a fault now and then, for so long: 30m, 90s")
      ->transform(
          CLI::AsNumberWithUnit(std::map<std::string, int>{{"s", 1}, {"m", 60}, {"h", 3600}}))
      ->check(CLI::Range(5, 24 * 3600))
      ->excludes("--quick");
  app.add_option("--rate", choice.soak.rate, "Entries a second of a soak")
      ->check(CLI::Range(10, 100'000));
  app.add_option("--workers", choice.soak.workers, "Workers of a soak")->check(CLI::Range(1, 8));
  app.add_option("--seed", choice.seed, "Of the first run; each further one has the next");
  app.add_option("--kind", choice.kind, "Only faults with this in their name");
  app.add_option("--emitter", choice.emitter, "Only this emitter");
  app.add_option("--run", choice.runs, "Exactly this run: emitter/fault/step/seed");
  app.add_option("--broken", choice.broken, "Leaves a rule out, and expects that it is noticed");
  app.add_option("--json", json, "Writes the figures to this file, too");
  app.add_option("--keep", settings.keep, "Where runs with an anomaly are kept");
  app.add_option("--outfall", settings.outfall, "The binary under test")->check(CLI::ExistingFile);
  app.add_flag("--list", choice.list, "Says what there is, and ends");
  CLI11_PARSE(app, argc, argv);
  settings.judge_times = !choice.quick && choice.broken.empty();
  try {
    if (!choice.broken.empty()) {
      settings.broken = &broken_build(choice.broken);
      if (settings.broken->patches.empty() && !kCrashPoints)
        throw std::invalid_argument(choice.broken + " needs a build with OUTFALL_CRASH_POINTS");
    }
    choice.soak.lasts = std::chrono::seconds(soak_seconds);
    return soak_seconds > 0 ? soak(choice, settings, json) : run(choice, settings, json);
  } catch (const std::exception& error) {
    fmt::print(stderr, "outfall_torture: {}\n", error.what());
    return 64;
  }
}
