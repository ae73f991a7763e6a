#include "tests/faults/torture/plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <random>
#include <stdexcept>

namespace outfall::torture {

namespace {

using Names = std::vector<std::string>;

// The standard library's distributions differ from one implementation to another.
int draw(std::mt19937_64& engine, int from, int to) {
  return from + static_cast<int>(engine() % static_cast<std::uint64_t>(to - from + 1));
}

const std::map<std::string, Names>& points() {
  static const std::map<std::string, Names> kPoints = {
      {"S0", {"claim.begun", "claim.sent"}},
      {"S1", {"claim.committed"}},
      {"S2", {"send.begun"}},
      {"S3", {"send.handed_over"}},
      {"S4", {"outcome.taken"}},
      {"S5", {"settle.begun"}},
      {"S6", {"settle.sent"}},
      {"S7", {"settle.committed"}},
      {"S8", {"release.begun", "release.sent", "release.committed"}},
      {"stdout S3", {"stdout.written"}},
      {"exec S3", {"exec.written"}},
      {"exec S4", {"exec.answered"}},
      {"webhook S3", {"webhook.requested"}},
      {"webhook S4", {"webhook.answered"}},
      {"kafka S3", {"kafka.produced"}},
      {"kafka S4", {"kafka.reported"}},
  };
  return kPoints;
}

void place(Injection& injection, const std::string& emitter, std::mt19937_64& engine) {
  if (injection.step == "any") return;
  Names names = points().at(injection.step);
  const auto own = points().find(emitter + " " + injection.step);
  if (own != points().end()) names.insert(names.end(), own->second.begin(), own->second.end());
  injection.point = names[engine() % names.size()];
  // A worker that ends releases once. Of a slow machine's few claims a second it may get one.
  injection.nth = injection.step == "S8" ? 1 : draw(engine, 5, 25);
}

bool is_for(const Names& emitters, const std::string& emitter) {
  return emitters.empty() || std::find(emitters.begin(), emitters.end(), emitter) != emitters.end();
}

bool applies(const FaultKind& kind, const std::string& emitter) {
  return is_for(kind.emitters, emitter);
}

std::pair<std::string, std::string> split(const std::string& text, char at) {
  const std::size_t found = text.find(at);
  if (found == std::string::npos) return {text, ""};
  return {text.substr(0, found), text.substr(found + 1)};
}

Injection make_injection(const std::string& fault, const std::string& step, const Case& of,
                         int workers, std::mt19937_64& engine) {
  Injection injection;
  std::tie(injection.kind, injection.mode) = split(fault, '.');
  const FaultKind& kind = fault_kind(injection.kind);
  const auto unknown = [&](const Names& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) == names.end();
  };
  if (!applies(kind, of.emitter))
    throw std::invalid_argument(kind.name + " does not apply to " + of.emitter);
  if (injection.mode.empty() && !kind.modes.empty())
    injection.mode = kind.modes[engine() % kind.modes.size()];
  if (!injection.mode.empty() && unknown(kind.modes, injection.mode))
    throw std::invalid_argument(kind.name + " has no mode " + injection.mode);
  if (step != "any" && unknown(kind.steps, step))
    throw std::invalid_argument(kind.name + " cannot be placed at " + step);
  injection.step = step;
  place(injection, of.emitter, engine);
  injection.worker = draw(engine, 0, workers - 1);
  injection.after_ms = draw(engine, 0, 600);
  injection.lasts_ms = draw(engine, kind.lasts_ms, kind.lasts_ms * 3 / 2);
  injection.seed = engine();
  return injection;
}

}  // namespace

const FaultKind& fault_kind(std::string_view name) {
  for (const FaultKind& kind : fault_kinds()) {
    if (kind.name == name) return kind;
  }
  throw std::invalid_argument("there is no fault " + std::string(name));
}

const std::vector<std::string>& emitter_names() {
  static const Names kNames = {"noop", "stdout", "exec", "webhook", "kafka"};
  return kNames;
}

std::string Case::name() const {
  return emitter + (shape.empty() ? "" : ":" + shape) + "/" + fault + "/" + step + "/" +
         std::to_string(seed);
}

std::string described(const Injection& injection) {
  std::string text = injection.kind;
  if (!injection.mode.empty()) text += "." + injection.mode;
  text += " at " + injection.step;
  if (injection.point.empty()) return text;
  return text + " (" + injection.point + ", time " + std::to_string(injection.nth) + ")";
}

std::optional<std::uint64_t> parse_seed(std::string_view text) {
  std::uint64_t seed = 0;
  const char* end = text.data() + text.size();
  const auto [read, error] = std::from_chars(text.data(), end, seed);
  if (error != std::errc() || read != end) return std::nullopt;
  return seed;
}

bool refuses_with_a_status(const Injection& injection) {
  return injection.kind == "F15-http" &&
         injection.mode.find_first_not_of("0123456789") == std::string::npos;
}

Case parse_case(std::string_view name) {
  Names parts;
  for (std::string rest(name); parts.empty() || !rest.empty();) {
    auto [first, more] = split(rest, '/');
    parts.push_back(first);
    rest = more;
  }
  const auto seed = parts.size() == 4 ? parse_seed(parts[3]) : std::nullopt;
  if (!seed)
    throw std::invalid_argument("a run is named emitter/fault/step/seed, not " + std::string(name));
  const auto [emitter, shape] = split(parts[0], ':');
  return {emitter, parts[1], parts[2], *seed, shape};
}

bool plays(const Plan& plan, const std::string& kind) {
  return std::any_of(plan.injections.begin(), plan.injections.end(),
                     [&](const Injection& each) { return each.kind == kind; });
}

bool outlasts_a_stop(const Plan& plan) {
  return plays(plan, "F4-slow") || plays(plan, "F23-deadlock");
}

bool has_own_process(const Plan& plan) {
  return plan.of.emitter == "webhook" && plays(plan, "F14-away") && !plays(plan, "F15-http") &&
         !plays(plan, "F16-poison");
}

Plan make_plan(const Case& of) {
  const Names& emitters = emitter_names();
  if (std::find(emitters.begin(), emitters.end(), of.emitter) == emitters.end())
    throw std::invalid_argument("there is no emitter " + of.emitter);
  const auto shape = std::find_if(shapes().begin(), shapes().end(),
                                  [&](const Shape& each) { return each.name == of.shape; });
  if (!of.shape.empty() && shape == shapes().end())
    throw std::invalid_argument("there is no shape " + of.shape);
  if (shape != shapes().end() && !is_for(shape->emitters, of.emitter))
    throw std::invalid_argument(of.shape + " is no shape for " + of.emitter);
  std::mt19937_64 engine(of.seed);
  Plan plan;
  plan.of = of;
  plan.lease_ms = 0;
  plan.workers = draw(engine, 2, 3);
  std::string step = of.step;
  for (std::string rest = of.fault; !rest.empty();) {
    auto [fault, more] = split(rest, '+');
    plan.injections.push_back(make_injection(fault, step, of, plan.workers, engine));
    const FaultKind& kind = fault_kind(plan.injections.back().kind);
    plan.lease_ms = plan.lease_ms == 0 ? kind.lease_ms : std::min(plan.lease_ms, kind.lease_ms);
    plan.standbys = plan.standbys || kind.standbys;
    plan.pooler = plan.pooler || kind.pooler;
    plan.disk = plan.disk || kind.name == "F21-disk-full";
    plan.bystander = plan.bystander || (kind.of_sink && of.emitter != "noop");
    rest = more;
    step = "any";
  }
  if (plan.injections.empty()) throw std::invalid_argument("a run has a fault");
  return plan;
}

std::vector<Case> quick_cases(std::uint64_t seed, bool crash_points) {
  // Every fault and every emitter at least once, the costly ones where they show most.
  static const std::vector<std::array<const char*, 3>> kCases = {
      {"webhook", "F3-freeze", "S3"},
      {"webhook", "F1-sigkill", "S4"},
      {"stdout", "F1-sigkill", "S6"},
      {"exec", "F1-sigkill", "S3"},
      {"kafka", "F1-sigkill", "S4"},
      {"noop", "F1-sigkill", "S1"},
      {"webhook", "F1-sigkill", "any"},
      {"stdout", "F2-sigterm", "S8"},
      {"kafka", "F2-sigterm", "S3"},
      {"noop", "F4-slow", "any"},
      {"stdout", "F3-freeze", "S5"},
      {"stdout", "F5-clock.jump-behind", "any"},
      {"exec", "F6-terminate", "S6"},
      {"stdout", "F7-restart", "S6"},
      {"kafka", "F7-restart", "S3"},
      {"webhook", "F8-failover", "S6"},
      {"stdout", "F9-failover-async", "any"},
      {"webhook", "F8-split-brain", "any"},
      {"stdout", "F9-split-brain", "any"},
      {"noop", "F10-read-only", "S5"},
      {"webhook", "F11-partition.drop", "S6"},
      {"stdout", "F11-partition.one-way-in", "any"},
      {"exec", "F11-partition.stall", "S3"},
      {"webhook", "F12-sink.ack-lost", "any"},
      {"kafka", "F12-sink.reset", "S3"},
      {"webhook", "F13-slow-sink.delay", "any"},
      {"kafka", "F14-away.kill", "any"},
      {"exec", "F14-away.kill", "any"},
      {"webhook", "F15-http.503", "S3"},
      {"webhook", "F15-http.hang", "any"},
      {"webhook", "F16-poison", "any"},
      {"noop", "F16-killer", "any"},
      {"noop", "F17-duplicate", "any"},
      {"stdout", "F18-late", "any"},
      {"noop", "F19-xmin", "any"},
      {"stdout", "F19-replica", "any"},
      {"stdout", "F20-prepared", "any"},
      {"stdout", "F21-disk-full", "S5"},
      {"noop", "F22-connections", "S7"},
      {"stdout", "F22-pooler", "S4"},
      {"stdout", "F23-deadlock", "S5"},
      {"noop", "F24-schema", "S1"},
      {"webhook", "F25-descriptors", "S3"},
      {"exec", "F26-same-name", "S8"},
      {"webhook", "swizzle", "any"},
      {"webhook", "F7-restart+F1-sigkill", "any"},
      {"webhook", "F6-backend-killed", "S6"},
      {"noop", "F22-pooler-sigterm", "any"},
      {"stdout", "F22-pooler-freeze", "any"},
      {"webhook", "F22-pooler-terminate", "any"},
      {"stdout", "F22-pooler-restart", "S6"},
      {"webhook", "F22-pooler-failover", "any"},
      {"noop", "F22-pooler-partition.server-drop", "any"},
      {"webhook", "F14-away.freeze", "S3"},
  };
  std::vector<Case> cases;
  for (const auto& [emitter, fault, step] : kCases)
    cases.push_back({emitter, fault, crash_points ? step : "any", seed++});
  return cases;
}

namespace {

// Two faults at once. Where one takes the server the other neither takes nor needs it.
bool go_together(const FaultKind& one, const FaultKind& other) {
  if (one.name == other.name) return false;
  return !(one.takes_server && (other.takes_server || other.uses_server)) &&
         !(other.takes_server && one.uses_server);
}

Case random_pair(const std::string& emitter, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<const FaultKind*> fit;
  for (const FaultKind& kind : fault_kinds()) {
    // An old primary comes back to workers that know both servers, and are not behind a pooler.
    const bool alone = kind.name == "F16-killer" || kind.name.ends_with("split-brain");
    if (applies(kind, emitter) && !alone) fit.push_back(&kind);
  }
  const FaultKind* first = fit[engine() % fit.size()];
  const FaultKind* second = first;
  while (!go_together(*first, *second)) second = fit[engine() % fit.size()];
  return {emitter, first->name + "+" + second->name, "any", seed};
}

std::string with_mode(const FaultKind& kind, const std::string& mode) {
  return mode.empty() ? kind.name : kind.name + "." + mode;
}

// Every emitter with every mode.
void add_at_any_moment(const FaultKind& kind, const Names& emitters, const Names& modes,
                       std::vector<Case>& cases) {
  for (const std::string& emitter : emitters) {
    for (const std::string& mode : modes)
      cases.push_back({.emitter = emitter, .fault = with_mode(kind, mode)});
  }
}

// Every step with every emitter. Where its modes are dealt, they go on from one step to the next:
// their number and that of the emitters have no common divisor, so that none meets the same ones
// only.
void add_at_steps(const FaultKind& kind, const Names& emitters, const Names& modes,
                  std::vector<Case>& cases) {
  const bool dealt = kind.modes_at_a_step > 0;
  const std::size_t runs = dealt ? static_cast<std::size_t>(kind.modes_at_a_step) : modes.size();
  std::size_t turn = 0;
  for (const std::string& step : kind.steps) {
    for (std::size_t i = 0; i < runs; ++i) {
      for (const std::string& emitter : emitters) {
        const std::string& mode = dealt ? modes[turn++ % modes.size()] : modes[i];
        cases.push_back({.emitter = emitter, .fault = with_mode(kind, mode), .step = step});
      }
    }
  }
}

// Each shape with each of its faults, and the emitters in turn.
void add_shapes(std::vector<Case>& cases, std::uint64_t seed) {
  std::size_t turn = 0;
  for (const Shape& shape : shapes()) {
    const Names& emitters = shape.emitters.empty() ? emitter_names() : shape.emitters;
    for (const std::string& fault : faults_of_shapes())
      cases.push_back({emitters[turn++ % emitters.size()], fault, "any", seed++, shape.name});
  }
}

}  // namespace

std::vector<Case> full_cases(std::uint64_t seed, bool crash_points) {
  constexpr int kPairs = 12;  // of each emitter
  std::vector<Case> cases;
  for (const FaultKind& kind : fault_kinds()) {
    const Names modes = kind.modes.empty() ? Names{""} : kind.modes;
    Names emitters;
    for (const std::string& emitter : emitter_names()) {
      if (applies(kind, emitter)) emitters.push_back(emitter);
    }
    add_at_any_moment(kind, emitters, modes, cases);
    if (crash_points) add_at_steps(kind, emitters, modes, cases);
  }
  for (Case& each : cases) each.seed = seed++;
  for (const std::string& emitter : emitter_names()) {
    for (int i = 0; i < kPairs; ++i) cases.push_back(random_pair(emitter, seed++));
  }
  add_shapes(cases, seed);
  return cases;
}

namespace {

std::vector<const FaultKind*> kinds_of_soak(const std::string& emitter, const std::string& kind) {
  std::vector<const FaultKind*> fit;
  std::string all;
  for (const FaultKind& each : fault_kinds()) {
    const bool own_server = each.standbys || each.pooler || each.name == "F21-disk-full";
    // An entry that kills workers until it is given up takes longer the larger the batches are, and
    // swizzle restarts all workers, so that none would get old.
    const bool not_here = each.name == "F16-killer" || each.name == "swizzle";
    if (own_server || not_here || !applies(each, emitter)) continue;
    all += (all.empty() ? "" : ", ") + each.name;
    if (each.name.find(kind) != std::string::npos) fit.push_back(&each);
  }
  if (fit.empty())
    throw std::invalid_argument("no fault of a soak has " + kind + " in its name; it has " + all);
  return fit;
}

bool ends_its_worker(const std::string& kind) {
  return kind == "F1-sigkill" || kind == "F2-sigterm";
}

}  // namespace

std::vector<Injection> soak_injections(const std::string& emitter, int workers,
                                       std::chrono::seconds lasts, std::uint64_t seed,
                                       const std::string& kind) {
  const std::vector<const FaultKind*> kinds = kinds_of_soak(emitter, kind);
  const auto lasts_ms = static_cast<int>(lasts.count() * 1000);
  const int shortest_pause_ms = std::clamp(lasts_ms / 180, 1500, 10'000);
  std::mt19937_64 engine(seed);
  std::vector<const FaultKind*> deck;
  std::vector<Injection> injections;
  for (int at_ms = 0; at_ms < lasts_ms;) {
    if (deck.empty()) deck = kinds;
    const std::size_t drawn = engine() % deck.size();
    Injection injection = make_plan({emitter, deck[drawn]->name, "any", seed++}).injections.front();
    deck.erase(deck.begin() + static_cast<std::ptrdiff_t>(drawn));
    const bool spare_the_first = workers > 1 && ends_its_worker(injection.kind);
    injection.worker = draw(engine, spare_the_first ? 1 : 0, workers - 1);
    injection.after_ms = draw(engine, shortest_pause_ms, 3 * shortest_pause_ms);
    at_ms += injection.after_ms + injection.lasts_ms;
    injections.push_back(std::move(injection));
  }
  return injections;
}

}  // namespace outfall::torture
