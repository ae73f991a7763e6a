#include "tests/faults/torture/soak.h"

#include <algorithm>
#include <csignal>
#include <fstream>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tests/faults/torture/faults.h"
#include "tests/faults/torture/load.h"
#include "tests/faults/torture/play.h"
#include "tests/faults/torture/sink.h"
#include "tests/faults/torture/soak_bounds.h"
#include "tests/faults/torture/soak_gauges.h"
#include "tests/support/wait_until.h"

namespace outfall::torture {

namespace json = boost::json;
using std::chrono::milliseconds;

namespace {

constexpr auto kDatabase = "soak";
constexpr auto kEmitter = "stdout";
constexpr int kLeaseMs = 3000;
constexpr int kProducers = 16;
constexpr int kKeysOfProducer = 250;
constexpr int kPayloadBytes = 430;
constexpr int kSeldom = 100;  // at so many transactions a second the odd ones would stop the load
constexpr std::int64_t kFirstDeliveries = 1000;
constexpr milliseconds kFirstDeadline{60'000};
constexpr milliseconds kEndDeadline{120'000};
constexpr std::int64_t kSentBeforeUs = 5'000'000;
// All must have recovered from the last fault when the load ends.
constexpr double kNoFaultBehind = 0.9;
constexpr std::chrono::minutes kGrowthShowsIn{10};
// Of the rate that was asked for; faults that take the database away cost some of it.
constexpr double kEnoughLoad = 0.75;

class Soak {
 public:
  Soak(const Settings& settings, const SoakOptions& options, SoakResult& result)
      : settings_(settings),
        options_(options),
        result_(result),
        // Before any server: what names no fault is a mistake of whoever asked.
        injections_(
            soak_injections(kEmitter, options.workers, options.lasts, options.seed, options.kind)),
        // A crashed server is back after reading half a minute of its log, not half an hour.
        servers_(false, {{"checkpoint_timeout", "30s"}}),
        gauges_(soak_bounds(options.rate, options.workers)) {
    std::filesystem::permissions(folder_.path(), std::filesystem::perms::all);
    plan_.of = {.emitter = kEmitter, .fault = "soak", .seed = options.seed};
    plan_.workers = options.workers;
    plan_.lease_ms = kLeaseMs;
  }
  ~Soak() {
    play_.reset();
    load_.reset();
  }

  void run() {
    set_up();
    test::wait_until([&] { return servers_.delivered(kDatabase) >= kFirstDeliveries; },
                     "the first deliveries", kFirstDeadline);
    go_on();
    wind_down();
    judge();
  }

  void keep() {
    tally_.write(folder_ / "history.jsonl");
    result_.kept = settings_.keep / fmt::format("soak-{}", options_.seed);
    std::filesystem::create_directories(settings_.keep);
    std::filesystem::remove_all(result_.kept);
    std::filesystem::remove(folder_ / (std::string(Sink::kName) + ".events"));
    std::filesystem::copy(folder_.path(), result_.kept, std::filesystem::copy_options::recursive);
  }

 private:
  void set_up() {
    servers_.create_database(kDatabase, settings_.outfall);
    test::PgClient client = servers_.connect(kDatabase);
    client.exec("SET search_path = outbox");
    if (settings_.broken != nullptr) break_schema(client, *settings_.broken);
    sink_ = make_sink({.emitter = kEmitter,
                       .folder = folder_.path(),
                       .source_folder = settings_.source_folder,
                       .name = kDatabase,
                       .forgets = true},
                      tally_);
    for (int i = 0; i < options_.workers; ++i) hire("worker-" + std::to_string(i)).start();
    oldest_ = workers_.front()->pid();
    load_ = std::make_unique<Load>(Load::Options{.dsn = servers_.dsn(kDatabase),
                                                 .stream = "orders",
                                                 .producers = kProducers,
                                                 .keys = kKeysOfProducer,
                                                 .rate = options_.rate,
                                                 .payload_bytes = kPayloadBytes,
                                                 .unkeyed = false,
                                                 .seldom = kSeldom,
                                                 .seed = options_.seed},
                                   tally_);
    scene_ = std::make_unique<Scene>(Scene{
        .plan = plan_,
        .history = tally_,
        .servers = servers_,
        .database = kDatabase,
        .sink = *sink_,
        .load = *load_,
        .workers = workers_,
        // Faults wait for what a worker that they have added logs of its deliveries; all
        // workers would log too much in half an hour of this load.
        .hire = [this](const std::string& instance) -> Worker& { return hire(instance, "debug"); },
        .complain = [this](const std::string& what) { complain(what); }});
  }

  // Batches and limits as shipped, unlike those of the short runs.
  Worker& hire(const std::string& instance, const std::string& log_level = "info") {
    const std::string settings = fmt::format(
        "[drain]\nlease = \"{}ms\"\nshutdown_timeout = \"10s\"\n"
        "[streams.orders]\nemitter = \"sink\"\n[emitters.sink]\n{}",
        kLeaseMs, sink_->emitter(0));
    return *workers_.emplace_back(
        std::make_unique<Worker>(Worker::Options{.outfall = settings_.outfall,
                                                 .name = "worker-" + std::to_string(hired_++),
                                                 .instance = instance,
                                                 .folder = folder_.path(),
                                                 .server_ports = servers_.ports(),
                                                 .database = kDatabase,
                                                 .settings = settings,
                                                 .log_level = log_level},
                                 tally_));
  }

  void complain(const std::string& what) {
    constexpr std::size_t kEnough = 20;
    if (result_.problems.size() < kEnough) result_.problems.push_back(what);
  }

  void go_on() {
    const std::int64_t begun_us = now_us();
    const std::int64_t lasts_us = std::chrono::microseconds(options_.lasts).count();
    const std::int64_t look_every_us = std::clamp<std::int64_t>(lasts_us / 60, 500'000, 5'000'000);
    std::int64_t next_look_us = begun_us;
    quiet_since_us_ = begun_us;
    const auto over = [&] {
      const std::int64_t elapsed_us = now_us() - begun_us;
      const double share = static_cast<double>(elapsed_us) / static_cast<double>(lasts_us);
      disturb(share < kNoFaultBehind);
      if (now_us() >= next_look_us) {
        look_at_soak(servers_, kDatabase, workers_, std::min(share, 1.0), gauges_);
        next_look_us = now_us() + look_every_us;
      }
      return elapsed_us >= lasts_us && !play_;
    };
    constexpr std::chrono::minutes kOneFault{2};
    if (!test::holds_within(over, options_.lasts + kOneFault)) complain("a fault did not end");
    result_.seconds = static_cast<double>(now_us() - begun_us) / 1e6;
  }

  // The next fault, or a step of the one that is on.
  void disturb(bool more) {
    if (!play_) {
      if (!more || next_ == injections_.size()) return;
      auto fault = make_fault(*scene_, injections_[next_++]);
      fault_ = fault.get();
      play_ = std::make_unique<Play>(std::move(fault));
    }
    // One that has not begun when no more are wanted is dropped.
    if (!more && play_->state() == Play::State::waiting) {
      play_.reset();
      return;
    }
    play_->advance(now_us() - quiet_since_us_);
    if (!play_->ended()) return;
    const Fault& fault = *fault_;
    const Injection injection = fault.injection();
    if (play_->state() == Play::State::over) {
      result_.faults.struck(injection);
    } else {
      result_.faults.missed(injection);
    }
    // One that met nobody may have had consequences all the same.
    if (fault.from_us() != 0)
      disturbances_.push_back({.from_us = fault.from_us(),
                               .until_us = fault.until_us(),
                               .copies = fault.copies(),
                               .late = fault.may_be_late()});
    play_.reset();
    look_after_workers(injection.kind);
    quiet_since_us_ = now_us();
  }

  // Those that a fault has added go with it; nobody else may be gone.
  void look_after_workers(const std::string& fault) {
    for (; workers_.size() > static_cast<std::size_t>(options_.workers); workers_.pop_back())
      dismiss(*workers_.back(), fault);
    for (const auto& worker : workers_) {
      if (worker->gone()) {
        complain(worker->name() + " was gone after " + fault);
        worker->start();
      }
    }
  }

  // It is asked to end, and so settles what it has sent: a worker that is just taken away leaves
  // copies that no fault explains. The signal itself ends one that has not come to handle it yet,
  // and has sent nothing.
  void dismiss(Worker& worker, const std::string& fault) {
    const bool by_itself = worker.gone() && !worker.crash().empty();
    worker.stop();
    const auto& end = worker.last_end();
    if (by_itself || (end && end->code != 0 && end->signal != SIGTERM))
      complain(fmt::format("{}, added by {}, ended by {}", worker.name(), fault, end->to_string()));
  }

  void wind_down() {
    load_->stop();
    const std::int64_t stopped_us = now_us();
    if (!test::holds_within([&] { return servers_.left(kDatabase) == 0; }, kEndDeadline))
      complain(
          fmt::format("stuck: {} entries, leases and holds are left", servers_.left(kDatabase)));
    result_.drained_after_s = static_cast<double>(now_us() - stopped_us) / 1e6;
    look_at_soak(servers_, kDatabase, workers_, 1, gauges_);
    if (workers_.size() > 1 && workers_.front()->pid() != oldest_)
      complain("the worker that no fault ends was restarted: its memory is that of a young one");
    for (const auto& worker : workers_) {
      (void)worker->gone();
      if (!worker->crash().empty()) complain(worker->name() + " ended by " + worker->crash());
      const int code = worker->stop();
      if (code != 0) complain(fmt::format("{} ended with code {}", worker->name(), code));
    }
    sink_->finish();
  }

  void judge() {
    result_.findings = tally_.judge(disturbances_, kSentBeforeUs);
    result_.growth_judged = options_.lasts >= kGrowthShowsIn;
    result_.gauges = gauges_.lines(result_.growth_judged);
    const double last_due_ms =
        kNoFaultBehind * static_cast<double>(std::chrono::milliseconds(options_.lasts).count());
    for (const std::string& problem :
         result_.faults.problems(injections_.front().after_ms < last_due_ms))
      complain(problem);
    const double rate = result_.committed_per_second();
    if (result_.growth_judged && rate < kEnoughLoad * options_.rate)
      complain(fmt::format("the machine is too slow: {:.0f} entries a second instead of {:.0f}",
                           rate, options_.rate));
    if (load_->accepted_duplicates() > 0) complain("an envelope id was accepted twice");
    test::PgClient client = servers_.connect(kDatabase);
    const std::int64_t receipts = servers_.delivered(kDatabase);
    if (receipts != result_.findings.delivered)
      complain(fmt::format("{} entries have a receipt and {} have arrived", receipts,
                           result_.findings.delivered));
    const std::int64_t dead = client.number("SELECT count(*) FROM outbox.dead_letters");
    if (dead != 0) complain(fmt::format("{} dead letters", dead));
    // In doubt and not arrived: such an entry must not be there.
    std::string ids;
    for (const std::string& id : tally_.in_doubt()) ids += (ids.empty() ? "" : ",") + id;
    const std::int64_t lost =
        client.number("SELECT count(*) FROM outbox.delivered WHERE envelope_id = ANY ($1::uuid[])",
                      {"{" + ids + "}"});
    if (lost != 0) complain(fmt::format("lost: {} entries have a receipt and no arrival", lost));
  }

  const Settings& settings_;
  const SoakOptions options_;
  SoakResult& result_;
  const std::vector<Injection> injections_;
  Servers servers_;
  test::TempFolder folder_;
  Plan plan_;
  Tally tally_;
  Gauges gauges_;
  std::unique_ptr<Sink> sink_;
  std::vector<std::unique_ptr<Worker>> workers_;
  int hired_ = 0;
  pid_t oldest_ = 0;
  std::unique_ptr<Load> load_;
  std::unique_ptr<Scene> scene_;
  std::size_t next_ = 0;
  std::unique_ptr<Play> play_;
  const Fault* fault_ = nullptr;  // the same
  std::int64_t quiet_since_us_ = 0;
  std::vector<Tally::Disturbance> disturbances_;
};

}  // namespace

bool SoakResult::ok() const {
  return problems.empty() && findings.ok() && !gauges.empty() &&
         std::all_of(gauges.begin(), gauges.end(), [](const auto& line) { return line.ok(); });
}

double SoakResult::committed_per_second() const {
  return seconds > 0 ? static_cast<double>(findings.committed) / seconds : 0;
}

SoakResult play_soak(const Settings& settings, const SoakOptions& options) {
  SoakResult result;
  Soak soak(settings, options, result);
  try {
    soak.run();
  } catch (const std::exception& error) {
    result.problems.emplace_back(error.what());
  }
  if (!result.ok()) soak.keep();
  return result;
}

std::string soak_table(const SoakOptions& options, const SoakResult& result) {
  const Tally::Findings& found = result.findings;
  std::string text = Gauges::table(result.gauges) + Gauges::tenths(result.gauges);
  if (!result.growth_judged) text += "growth is not judged: the soak was too short for that\n";
  text += fmt::format(
      "{:.0f} s of load by {} workers, seed {}: {} entries committed ({:.0f}/s), {} rolled back, "
      "{} "
      "in doubt\n",
      result.seconds, options.workers, options.seed, found.committed, result.committed_per_second(),
      found.rolled_back, found.in_doubt);
  text += result.faults.told() + "\n";
  text += fmt::format(
      "{} delivered, the last {:.1f} s after the end of the load: {} lost, {} phantom, {} copies "
      "explained, {} unexplained, {} reorder, {} gap\n",
      found.delivered, result.drained_after_s, found.lost, found.phantom, found.explained,
      found.unexplained, found.reorder, found.gap);
  for (const std::string& sample : found.samples) text += "WRONG: " + sample + "\n";
  for (const std::string& problem : result.problems) text += "WRONG: " + problem + "\n";
  if (!result.kept.empty()) text += "kept in " + result.kept.string() + "\n";
  return text;
}

void write_soak_json(const SoakOptions& options, const SoakResult& result,
                     const std::filesystem::path& file) {
  json::array gauges;
  for (const Gauges::Line& line : result.gauges)
    gauges.push_back({{"gauge", line.bound.name},
                      {"unit", line.bound.unit},
                      {"first_quarter", line.first},
                      {"last_quarter", line.last},
                      {"most", line.most},
                      {"tenths", json::value_from(line.tenths)},
                      {"bound", line.bound.most},
                      {"ok", line.ok()}});
  const Tally::Findings& found = result.findings;
  std::ofstream out(file);
  out << json::serialize(json::object{{"seed", options.seed},
                                      {"ok", result.ok()},
                                      {"rate", options.rate},
                                      {"workers", options.workers},
                                      {"seconds", result.seconds},
                                      {"injected", json::value_from(result.faults.struck())},
                                      {"missed", json::value_from(result.faults.missed())},
                                      {"committed", found.committed},
                                      {"rolled_back", found.rolled_back},
                                      {"in_doubt", found.in_doubt},
                                      {"arrivals", found.arrivals},
                                      {"delivered", found.delivered},
                                      {"lost", found.lost},
                                      {"phantom", found.phantom},
                                      {"reorder", found.reorder},
                                      {"gap", found.gap},
                                      {"dup_explained", found.explained},
                                      {"dup_unexplained", found.unexplained},
                                      {"growth_judged", result.growth_judged},
                                      {"problems", json::value_from(result.problems)},
                                      {"gauges", gauges}})
      << "\n";
  if (!out.flush()) throw std::runtime_error("cannot write " + file.string());
}

}  // namespace outfall::torture
