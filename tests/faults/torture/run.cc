#include "tests/faults/torture/run.h"

#include <algorithm>
#include <fstream>
#include <map>

#include <fmt/format.h>

#include "tests/faults/history_reader.h"
#include "tests/faults/torture/counters.h"
#include "tests/faults/torture/faults.h"
#include "tests/faults/torture/gauges.h"
#include "tests/faults/torture/operator.h"
#include "tests/faults/torture/play.h"
#include "tests/support/temp_folder.h"
#include "tests/support/wait_until.h"

namespace outfall::torture {

namespace json = boost::json;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kWarmUpDeadline{60'000};
constexpr std::int64_t kWarm = 50;        // deliveries
constexpr milliseconds kLoadGoesOn{500};  // after the last fault is healed
constexpr milliseconds kDrainDeadline{45'000};
constexpr milliseconds kDrainDeadlineOfBroken{10'000};
constexpr std::int64_t kSendTimeoutUs = 5'000'000;
constexpr std::int64_t kGaugeEveryUs = 500'000;
// Four times of what a worker takes.
constexpr std::int64_t kMostRssBytes = 96LL << 20U;
constexpr std::size_t kListed = 1000;  // items on one line

std::string file_name(const Case& of) {
  std::string name = of.name();
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-') c = '-';
  }
  return name;
}

// As which error each emitter tells that its sink never takes an entry.
std::map<std::string, std::string> poison_reasons(const std::string& emitter) {
  static const std::map<std::string, std::string> kRefused = {
      {"noop", "noop.failed"},
      {"exec", "exec.failed"},
      {"webhook", "webhook.status_400"},
      {"kafka", "kafka.msg_size_too_large"},
  };
  std::map<std::string, std::string> reasons = {{Sink::kKiller, "worker.abandoned"}};
  const auto refused = kRefused.find(emitter);
  if (refused != kRefused.end()) reasons[Sink::kPoison] = refused->second;
  return reasons;
}

}  // namespace

class Runner::Run {
 public:
  Run(const Settings& settings, Plan plan, Servers& servers, test::TempKafka* kafka, int number)
      : settings_(settings),
        plan_(std::move(plan)),
        servers_(servers),
        kafka_(kafka),
        database_("run_" + std::to_string(number)) {
    std::filesystem::permissions(folder_.path(), std::filesystem::perms::all);
  }
  ~Run() {
    try {
      faults_.clear();
      load_.reset();
      load_aside_.reset();
      workers_.clear();
      servers_.drop_database(database_);
    } catch (const std::exception&) {
      // The server may be gone for good with this run.
    }
  }

  void play(Result& result) {
    if (plan_.disk) {
      disk_ = std::make_unique<SmallDisk>(64);
      if (!disk_->available()) {
        result.skipped = "no file system can be mounted";
        return;
      }
    }
    set_up();
    warm_up();
    inject();
    wind_down();
    write_down(result);
  }

  void write_history() const { history_.write(folder_ / "history.jsonl"); }

  void judge(Result& result) const {
    write_history();
    const std::filesystem::path file = folder_ / "history.jsonl";
    test::history::History read;
    std::ifstream in(file);
    test::history::read_records(in, file.string(), read);
    result.verdict = test::history::judge(read);
  }

  void keep(Result& result, const std::string& command) const {
    result.kept = settings_.keep / file_name(plan_.of);
    std::filesystem::create_directories(settings_.keep);
    std::filesystem::remove_all(result.kept);
    std::filesystem::copy(folder_.path(), result.kept, std::filesystem::copy_options::recursive);
    std::ofstream(result.kept / "again") << command << "\n";
  }

 private:
  void set_up() {
    servers_.create_database(database_, settings_.outfall, disk_.get());
    test::PgClient client = servers_.connect(database_);
    client.exec("SET search_path = outbox");
    if (settings_.broken != nullptr) break_schema(client, *settings_.broken);
    history_.add({{"f", "setting"}, {"send_timeout_us", kSendTimeoutUs}});
    history_.add({{"f", "bounds"},
                  {"rss_bytes", kMostRssBytes},
                  {kInFlightEntries, in_flight()},
                  {kInFlightBytes, in_flight_bytes()}});
    tell_stream(plan_.of.shape, history_);
    sink_ = make_sink({.emitter = plan_.of.emitter,
                       .folder = folder_.path(),
                       .workers = plan_.workers,
                       .source_folder = settings_.source_folder,
                       .kafka = kafka_,
                       .name = database_ + "-" + std::to_string(plan_.of.seed),
                       .slow = plays(plan_, "F4-slow"),
                       .poison = plays(plan_, "F16-poison") || plays(plan_, "F16-killer"),
                       .own_process = has_own_process(plan_)},
                      history_);
    if (plan_.bystander)
      aside_ = make_sink(
          {.emitter = "stdout", .folder = folder_.path(), .sink = Sink::kAside, .stream = "audit"},
          history_);
    for (int i = 0; i < plan_.workers; ++i) hire("worker-" + std::to_string(i)).start();
    make_loads();
    scene_ = std::make_unique<Scene>(
        Scene{.plan = plan_,
              .history = history_,
              .servers = servers_,
              .database = database_,
              .sink = *sink_,
              .load = *load_,
              .workers = workers_,
              .disk = disk_.get(),
              .judge_times = settings_.judge_times,
              .hire = [this](const std::string& instance) -> Worker& { return hire(instance); },
              .complain = [this](const std::string& what) { complain(what); }});
  }

  void make_loads() {
    load_ =
        std::make_unique<Load>(Load::Options{.dsn = servers_.dsn(database_),
                                             .stream = "orders",
                                             .tenants = plan_.of.shape == "lanes",
                                             .seed = plan_.of.seed,
                                             .poison_reasons = poison_reasons(plan_.of.emitter)},
                               history_);
    if (plan_.bystander)
      load_aside_ = std::make_unique<Load>(Load::Options{.dsn = servers_.dsn(database_),
                                                         .stream = "audit",
                                                         .producers = 1,
                                                         .pause = milliseconds{40},
                                                         .seed = plan_.of.seed + 1},
                                           history_);
  }

  // The noop emitter is slow all the time here, so that it needs room for much at once.
  [[nodiscard]] bool slow() const { return plan_.of.emitter == "noop" && plays(plan_, "F4-slow"); }

  // So few that a sink which is slow or gone for a moment lets workers come to the bound.
  [[nodiscard]] int in_flight() const { return slow() ? 4000 : 200; }
  // In every other run the least that can be configured; so many entries take about 55 KiB.
  [[nodiscard]] std::int64_t in_flight_bytes() const {
    constexpr std::int64_t kKibibyte = 1024;
    const bool needs_room = slow() || plays(plan_, "F16-poison");
    return (needs_room || plan_.of.seed % 2 == 0 ? 16 * kKibibyte : 64) * kKibibyte;
  }

  Worker& hire(const std::string& instance) {
    const int number = static_cast<int>(workers_.size());
    Worker::Options options{.outfall = settings_.outfall,
                            .name = "worker-" + std::to_string(number),
                            .instance = instance,
                            .folder = folder_.path(),
                            .server_ports = plan_.pooler
                                                ? std::vector<int>{servers_.pooler().port()}
                                                : servers_.ports(),
                            .database = database_,
                            .settings = settings(number),
                            .pooler = plan_.pooler};
    if (settings_.broken != nullptr) options.environment["OUTFALL_BROKEN"] = settings_.broken->name;
    return *workers_.emplace_back(std::make_unique<Worker>(std::move(options), history_));
  }

  [[nodiscard]] std::string settings(int worker) const {
    // Small batches, so that each worker has several at a time; a slow sink needs room instead.
    return fmt::format(
        "[drain]\nlease = \"{}ms\"\nshutdown_timeout = \"10s\"\npoll_idle = \"50ms\"\n"
        "max_in_flight = {}\nbatch_entries = {}\nmax_in_flight_bytes = {}\nbatch_bytes = {}\n"
        "[streams.orders]\nemitter = \"sink\"\nretry.initial = \"20ms\"\nretry.max = \"300ms\"\n"
        "breaker.probe_max = \"1s\"\n{}{}[emitters.sink]\n{}{}",
        plan_.lease_ms, in_flight(), in_flight() / 4, in_flight_bytes(), in_flight_bytes() / 4,
        stream_settings(plan_.of.shape),
        // Where so few deaths are enough, all that one death leaves behind is tried entry by entry.
        plays(plan_, "F16-killer") ? "max_abandoned = 3\n" : "", sink_->emitter(worker),
        aside_
            ? "[streams.audit]\nemitter = \"aside\"\n[emitters.aside]\n" + aside_->emitter(worker)
            : "");
  }

  void complain(const std::string& what) {
    if (problem_.empty()) problem_ = what;
  }

  void warm_up() {
    // Of the stream that the fault is for: a program may start long after the file beside it is
    // delivered to, and what had to wait for that is no delay by the fault.
    test::wait_until(
        [&] {
          if (plan_.of.shape == "no-receipts") return history_.arrivals() >= kWarm;
          return servers_.connect(database_).number(
                     "SELECT coalesce(sum(entries), 0) FROM outbox.receipts"
                     " WHERE stream = 'orders'") >= kWarm;
        },
        "the first deliveries", kWarmUpDeadline);
    operator_ = make_operator({.plan = plan_,
                               .history = history_,
                               .servers = servers_,
                               .database = database_,
                               .outfall = settings_.outfall,
                               .sink = *sink_,
                               .load = *load_,
                               .complain = [this](const std::string& what) { complain(what); }});
    if (operator_) operator_->prepare();
  }

  void inject() {
    const std::int64_t begun_us = now_us();
    for (const Injection& injection : plan_.injections)
      faults_.emplace_back(make_fault(*scene_, injection));
    test::wait_until(
        [&] {
          bool over = true;
          for (Play& play : faults_) {
            // Before it, since a fault that has struck may be over at once.
            if (operator_) operator_->tick(play.state() == Play::State::on);
            play.advance(now_us() - begun_us);
            over = over && play.ended();
          }
          watch();
          return over;
        },
        "the faults to be over", std::chrono::minutes(2));
    if (operator_) operator_->finish();
  }

  // What workers take, for the bounds.
  void watch() {
    if (now_us() < gauge_us_) return;
    gauge_us_ = now_us() + kGaugeEveryUs;
    for (const auto& worker : workers_) {
      if (worker->pid() == 0) continue;
      json::object gauge = {
          {"f", "gauge"}, {"worker", worker->name()}, {"rss_bytes", rss_bytes(worker->pid())}};
      if (const auto text = worker->metrics()) add_in_flight(*text, gauge);
      history_.add(std::move(gauge));
    }
  }

  void wind_down() {
    (void)test::holds_within([] { return false; }, kLoadGoesOn);
    load_->stop();
    if (load_aside_) load_aside_->stop();
    // Whether it was in time, the judge sees by what is left.
    const bool drained = test::holds_within(
        [this] {
          watch();
          // Somebody must be there, also where an entry goes on killing them.
          if (workers_.front()->gone()) workers_.front()->start();
          return servers_.left(database_) == 0;
        },
        settings_.broken == nullptr ? kDrainDeadline : kDrainDeadlineOfBroken);
    // What has been counted by then is all that there is to count.
    for (const auto& worker : workers_) {
      if (drained) worker->tell_counters();
    }
    for (const auto& worker : workers_) {
      (void)worker->gone();
      if (!worker->crash().empty()) complain(worker->name() + " ended by " + worker->crash());
      const int code = worker->stop();
      if (code != 0) complain(fmt::format("{} ended with code {}", worker->name(), code));
    }
    sink_->finish();
    if (aside_) aside_->finish();
    for (const auto& worker : workers_) worker->collect_log();
    if (plan_.of.emitter == "noop") history_.arrivals_from_outcomes(Sink::kName);
  }

  void write_down(Result& result) {
    list("delivered",
         "SELECT json_build_object('id', envelope_id, 'attempts', attempts) FROM outbox.delivered");
    list("entries", "SELECT to_json(envelope_id) FROM outbox.entries WHERE status <> 'held'");
    list("held", "SELECT to_json(envelope_id) FROM outbox.entries WHERE status = 'held'");
    list("dead_letters",
         "SELECT json_build_object('id', envelope_id, 'reason_code', reason_code, 'reason', reason)"
         " FROM outbox.dead_letters");
    test::PgClient client = servers_.connect(database_);
    const auto count = [&](const char* sql) { return client.number(sql); };
    history_.add(
        {{"f", "final"},
         {"leases", count("SELECT count(*) FROM outbox.leases")},
         {"expired_leases",
          count("SELECT count(*) FROM outbox.leases WHERE expires_at < clock_timestamp()")},
         {"holds", count("SELECT count(*) FROM outbox.holds")}});
    for (const Play& play : faults_) {
      const Injection& injection = play.fault().injection();
      if (play.state() == Play::State::over) {
        result.injected.push_back(injection.kind);
      } else {
        result.missed.push_back(described(injection));
      }
    }
    if (load_->accepted_duplicates() > 0) complain("an envelope id was accepted twice");
    result.problem = problem_;
  }

  void list(const char* name, const std::string& sql) {
    json::array items;
    const auto flush = [&] {
      json::object line = {{"f", "final"}};
      line[name] = std::exchange(items, {});
      history_.add(std::move(line));
    };
    for (const test::PgRow& row : servers_.connect(database_).query(sql)) {
      items.push_back(json::parse(*row[0]));
      if (items.size() == kListed) flush();
    }
    flush();
  }

  const Settings& settings_;
  const Plan plan_;
  Servers& servers_;
  test::TempKafka* kafka_;
  const std::string database_;
  test::TempFolder folder_;
  History history_;
  std::unique_ptr<SmallDisk> disk_;
  std::unique_ptr<Sink> sink_;
  std::unique_ptr<Sink> aside_;  // of the stream beside, where the fault is the sink's
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<Load> load_;
  std::unique_ptr<Load> load_aside_;
  std::unique_ptr<Scene> scene_;
  std::unique_ptr<Operator> operator_;
  std::vector<Play> faults_;
  std::int64_t gauge_us_ = 0;
  std::string problem_;
};

Runner::Runner(Settings settings) : settings_(std::move(settings)) {
}

Runner::~Runner() = default;

Servers& Runner::servers(const Plan& plan) {
  if (plan.standbys) {
    with_standbys_.reset();
    with_standbys_ = std::make_unique<Servers>(true);
    return *with_standbys_;
  }
  if (!plain_) plain_ = std::make_unique<Servers>(false);
  return *plain_;
}

test::TempKafka& Runner::kafka() {
  if (!kafka_) kafka_ = std::make_unique<test::TempKafka>(test::KafkaOptions{.gate = true});
  return *kafka_;
}

Result Runner::play(const Case& of) {
  Result result;
  result.of = of;
  const std::int64_t begun_us = now_us();
  try {
    const Plan plan = make_plan(of);
    Run run(settings_, plan, servers(plan), of.emitter == "kafka" ? &kafka() : nullptr, ++runs_);
    try {
      run.play(result);
      if (result.skipped.empty()) run.judge(result);
    } catch (const std::exception& error) {
      result.problem = error.what();
      run.write_history();
    }
    if (result.skipped.empty() && !result.ok()) run.keep(result, "ops/torture --run " + of.name());
  } catch (const std::exception& error) {
    result.problem = error.what();
  }
  // What a failed run has left behind must not fail the next one.
  if (!result.problem.empty()) {
    plain_.reset();
    kafka_.reset();
  }
  with_standbys_.reset();
  result.seconds = static_cast<double>(now_us() - begun_us) / 1e6;
  return result;
}

}  // namespace outfall::torture
