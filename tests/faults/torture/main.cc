// outfall_torture: breaks what outfall depends on, run after run, and judges what came of it. See
// docs/internals/faults.md.
#include <algorithm>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tests/faults/torture/jobs.h"
#include "tests/faults/torture/report.h"
#include "tests/faults/torture/run.h"
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
  int soak_seconds = 0;
  std::uint64_t seed = 1;
  std::string kind;
  std::string emitter;
  std::string broken;
  std::vector<std::string> runs;
  int jobs = 0;  // 0: as many as suit the form
  bool list = false;
  bool serve = false;
  std::string json;
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

// What cannot be planned is no run, which shows nothing about outfall.
Case named(const std::string& run) {
  Case of = parse_case(run);
  try {
    (void)make_plan(of);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument("--run " + run + ": " + error.what() +
                                "; --list names what there is");
  }
  return of;
}

std::vector<Case> choose(const Choice& choice) {
  std::vector<Case> cases;
  for (const std::string& run : choice.runs) cases.push_back(named(run));
  if (!cases.empty()) return cases;
  if (!choice.broken.empty()) return broken_cases(broken_build(choice.broken), choice.seed);
  for (Case& each : choice.quick ? quick_cases(choice.seed, kCrashPoints)
                                 : full_cases(choice.seed, kCrashPoints)) {
    if (!choice.kind.empty() && each.fault.find(choice.kind) == std::string::npos) continue;
    if (!choice.emitter.empty() && each.emitter != choice.emitter) continue;
    cases.push_back(std::move(each));
  }
  // Nothing played is nothing shown.
  if (cases.empty()) throw std::invalid_argument("no run has this fault and this emitter");
  return cases;
}

void list(const std::vector<Case>& cases) {
  for (const FaultKind& kind : fault_kinds()) fmt::print("{:<18} {}\n", kind.name, kind.what);
  fmt::print("\n");
  for (const Shape& shape : shapes()) fmt::print(":{:<17} {}\n", shape.name, shape.what);
  fmt::print("\n");
  for (const Broken& broken : broken_builds())
    fmt::print("--broken {:<22} {}\n", broken.name, broken.what);
  fmt::print("\n");
  for (const Case& each : cases) fmt::print("{}\n", each.name());
}

// A broken build must be noticed as what it breaks.
int torture_broken(Runner& runner, const std::vector<Case>& cases, const Broken& broken) {
  Report report(false);
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

int soak(const Choice& choice, const Settings& settings) {
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
  if (!choice.json.empty()) write_soak_json(options, result, choice.json);
  if (settings.broken == nullptr) return result.ok() ? 0 : 1;
  const bool noticed = !result.findings.ok();
  fmt::print("{} is {}noticed\n", settings.broken->name, noticed ? "" : "NOT ");
  return noticed ? 0 : 1;
}

// Of the long form two runs at a time, where there is a core for each.
int jobs_of(const Choice& choice) {
  if (choice.jobs > 0) return choice.jobs;
  const bool full = !choice.quick && choice.runs.empty();
  return full && std::thread::hardware_concurrency() >= 2 ? 2 : 1;
}

// This program as one of several that play at a time.
Jobs jobs_like_this(const Choice& choice, const Settings& settings, int count) {
  Jobs jobs{.count = count,
            .command = {"/proc/self/exe", "--serve", "--keep", settings.keep.string(), "--outfall",
                        settings.outfall}};
  if (choice.quick) jobs.command.emplace_back("--quick");
  // A child of the tests' gets no OUTFALL_… unless it is told; this one is no worker.
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (!text.starts_with("OUTFALL_")) continue;
    const std::size_t equals = std::min(text.find('='), text.size() - 1);
    jobs.environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return jobs;
}

// The other side of play_in_jobs().
int serve(const Settings& settings) {
  Runner runner(settings);
  for (std::string name; std::getline(std::cin, name);)
    std::cout << to_line(runner.play(parse_case(name))) << std::endl;
  return 0;
}

int run(const Choice& choice, const Settings& settings) {
  const std::vector<Case> cases = choose(choice);
  if (choice.list) {
    list(cases);
    return 0;
  }
  if (settings.broken != nullptr) {
    Runner runner(settings);
    return torture_broken(runner, cases, *settings.broken);
  }
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment
  Report report(std::getenv("CI") != nullptr);
  const int jobs = std::min(jobs_of(choice), static_cast<int>(cases.size()));
  if (jobs > 1) {
    play_in_jobs(jobs_like_this(choice, settings, jobs), cases, report);
  } else {
    Runner runner(settings);
    for (const Case& each : cases) report.add(runner.play(each));
  }
  fmt::print("{}", report.table());
  if (!choice.json.empty()) report.write_json(choice.json, choice.seed);
  return report.ok() ? 0 : 1;
}

// One below zero would be taken for a huge one.
std::string seed_error(const std::string& text) {
  return parse_seed(text) ? "" : text + " is no whole number of 64 bits";
}

void add_options(CLI::App& app, Choice& choice, Settings& settings) {
  app.add_flag("--quick", choice.quick, "A selection that has every fault and every emitter");
  auto* soak = app.add_option("--soak", choice.soak_seconds,
                              "Load and a fault now and then, for so long: 30m, 90s")
                   ->transform(CLI::AsNumberWithUnit(
                       std::map<std::string, int>{{"s", 1}, {"m", 60}, {"h", 3600}}))
                   ->check(CLI::Range(5, 24 * 3600))
                   ->excludes("--quick");
  app.add_option("--rate", choice.soak.rate, "Entries a second of a soak")
      ->check(CLI::Range(10, 100'000));
  app.add_option("--workers", choice.soak.workers, "Workers of a soak")->check(CLI::Range(1, 8));
  app.add_option("--seed", choice.seed, "Of the first run; each further one has the next")
      ->check(CLI::Validator(seed_error, "SEED"));
  app.add_option("--kind", choice.kind, "Only faults with this in their name");
  app.add_option("--emitter", choice.emitter, "Only this emitter");
  app.add_option("--run", choice.runs, "Exactly this run: emitter/fault/step/seed")->excludes(soak);
  auto* broken = app.add_option("--broken", choice.broken,
                                "Leaves a rule out, and expects that it is noticed");
  app.add_option("--jobs", choice.jobs,
                 "Runs at a time; by default 2 of all of them where there are two cores, else 1")
      ->check(CLI::Range(1, 16))
      ->excludes(soak)
      ->excludes(broken);
  app.add_option("--json", choice.json, "Writes the figures to this file, too");
  app.add_option("--keep", settings.keep, "Where runs with an anomaly are kept");
  app.add_option("--outfall", settings.outfall, "The binary under test")->check(CLI::ExistingFile);
  app.add_flag("--list", choice.list, "Says what there is, and ends")->excludes(soak);
  app.add_flag("--serve", choice.serve, "Plays the runs that standard input names")->group("");
}

int play(Choice& choice, Settings& settings) {
  settings.judge_times = !choice.quick && choice.broken.empty();
  if (!choice.broken.empty()) {
    settings.broken = &broken_build(choice.broken);
    if (settings.broken->patches.empty() && !kCrashPoints)
      throw std::invalid_argument(choice.broken + " needs a build with OUTFALL_CRASH_POINTS");
  }
  if (choice.serve) return serve(settings);
  choice.soak.lasts = std::chrono::seconds(choice.soak_seconds);
  return choice.soak_seconds > 0 ? soak(choice, settings) : run(choice, settings);
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
  add_options(app, choice, settings);
  constexpr int kNotShown = 1;
  constexpr int kUsage = 64;
  try {
    app.parse(argc, argv);
    return play(choice, settings);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  } catch (const std::invalid_argument& error) {
    fmt::print(stderr, "outfall_torture: {}\n", error.what());
    return kUsage;
  } catch (const std::exception& error) {
    fmt::print(stderr, "outfall_torture: {}\n", error.what());
    return kNotShown;
  }
}
