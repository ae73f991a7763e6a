#include <algorithm>
#include <csignal>
#include <ctime>
#include <iterator>
#include <optional>
#include <system_error>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "config/check.h"
#include "daemon/admin/server.h"
#include "daemon/admin/standard_routes.h"
#include "daemon/build_info.h"
#include "daemon/commands.h"
#include "daemon/emitter_reporter.h"
#include "daemon/job_keeper.h"
#include "daemon/operator_routes.h"
#include "daemon/sampler.h"
#include "daemon/second_signal.h"
#include "daemon/service_manager.h"
#include "daemon/status_json.h"
#include "daemon/wiring.h"
#include "drain/drain.h"
#include "store/postgres/operator_store.h"
#include "store/postgres/postgres_store.h"
#include "telemetry/heartbeat.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace outfall {
namespace {

// The main loop beats twice a second; a loop that has not turned for this long hangs.
constexpr Milliseconds kDeadAfter{15000};
constexpr Milliseconds kAdminStop{2000};
// How long a stop may take beyond drain.shutdown_timeout: the last settles, and the admin server.
constexpr Milliseconds kStopAllowance{10000};
// How often the service manager hears from a worker: until it is ready, and then.
constexpr Milliseconds kStartingPause{50};
constexpr Milliseconds kReportPause{1000};

sigset_t handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  return set;
}

// The worker with all its parts, from the configuration to the last settle.
class Run {
 public:
  Run(const Context& context, std::shared_ptr<const Config> config, ServiceManager& manager)
      : context_(context),
        manager_(manager),
        config_(std::move(config)),
        log_(system_clock(), *log_level_from(config_->log().text("level")),
             *log_format_from(config_->log().text("format"))),
        metrics_({.version = std::string(build_info().version),
                  .revision = std::string(build_info().commit),
                  .compiler = std::string(build_info().compiler)},
                 system_clock()),
        heartbeat_(system_clock(), metrics_.gauge(Metric::heartbeat_timestamp_seconds)),
        worker_(system_random().uuid()),
        store_(worker_options(), worker_, config_->worker().text("instance"), system_clock()),
        drain_(drain_options(*config_), store_, metrics_, heartbeat_, log_, system_clock(),
               system_random()),
        // Streams come and go with a restart only, so their names stay right over a reload.
        sampler_(
            sampler_options(*config_),
            [this, streams = stream_names(*config_),
             silence = Sampler::longest_silence(sampler_options(*config_))] {
              return store_.open_sampling(streams, silence);
            },
            metrics_, log_),
        job_keeper_([this] { return open_operator_store(); }, metrics_, log_) {
    metrics_.watch(log_);
    configuration_in_force();
  }

  ExitCode run() {
    // Threads inherit the mask, so that signals come to sigwait() here and nowhere else.
    const sigset_t signals = handled_signals();
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    build();
    start_admin();
    drain_.start();
    sampler_.start();
    log_.info("started", {{"version", build_info().version},
                          {"worker", worker_},
                          {"instance", config_->worker().text("instance")},
                          {"streams", config_->streams().size()},
                          {"admin", admin_ ? admin_->address() : std::string("off")}});
    for (const std::string& note : configuration_notes(context_, *config_)) log_.warning(note);
    return stop(wait_for_stop(signals));
  }

 private:
  void build() {
    std::vector<SettingProblem> problems;
    for (const auto& [name, emitter] : config_->emitters()) {
      const EmitterKind& kind = *context_.registry.find(emitter.kind);
      try {
        reporters_.push_back(std::make_unique<DaemonReporter>(name, kind, metrics_, log_));
        drain_.add_emitter(name,
                           kind.create({.name = name,
                                        .settings = emitter.settings,
                                        .sink = drain_.sink(),
                                        .clock = system_clock(),
                                        .random = system_random(),
                                        .reporter = *reporters_.back(),
                                        .max_payload_bytes = max_payload_of(*config_, name)}));
      } catch (const std::system_error& error) {
        throw CommandError(
            ExitCode::temporary, fmt::format("emitters.{}: {}", name, error.what()),
            "does the machine, or the unit's TasksMax or LimitNOFILE, leave room for "
            "its threads and descriptors?");
      } catch (const std::runtime_error& error) {
        problems.push_back(
            emitter_problem(emitter, error.what(), fmt::format("change [emitters.{}]", name)));
      }
    }
    if (!problems.empty()) throw cannot_run(std::move(problems));
    for (const auto& [name, stream] : config_->streams())
      drain_.add_stream(stream_options(*config_, context_.registry, stream));
  }

  void start_admin() {
    if (!config_->admin().flag("enabled")) return;
    try {
      admin_.emplace(
          AdminOptions{.listen = config_->admin().text("listen"), .token = admin_token(*config_)},
          routes(), log_);
    } catch (const AdminListenError& error) {
      // Before a restart the old process may still have the port: whoever supervises tries again.
      throw CommandError(error.in_use() ? ExitCode::temporary : ExitCode::configuration,
                         error.what());
    }
    job_keeper_.start();
    admin_->start();
  }

  std::vector<Route> routes() {
    std::vector<Route> all = standard_routes(
        {.metrics = [this] { return metrics_.serialize(); },
         .live = [this] { return live(); },
         .ready = [this] { return ready(); },
         .status =
             [this] { return status_json(drain_.snapshot(), worker_, sampler_.looked().get()); }});
    auto operators = operator_routes({.open = [this] { return open_operator_store(); },
                                      .config = *started_with_,
                                      .jobs = job_keeper_});
    std::ranges::move(operators, std::back_inserter(all));
    all.push_back(openapi_route(all));
    return all;
  }

  static std::string admin_token(const Config& config) {
    return config.admin().has("token") ? config.admin().text("token") : std::string();
  }

  // A change of the database takes effect with a restart only.
  postgres::ConnectOptions worker_options() const {
    postgres::ConnectOptions options = connect_options(*started_with_);
    options.migrate_command = pasteable(context_, options.migrate_command);
    return options;
  }

  std::unique_ptr<OperatorStore> open_operator_store() const {
    postgres::ConnectOptions options = worker_options();
    options.application_name += " admin";
    return std::make_unique<postgres::PostgresOperatorStore>(options);
  }

  HealthReport live() {
    HealthReport report;
    if (heartbeat_.age() > kDeadAfter) {
      report.ok = false;
      report.reasons.push_back(
          fmt::format("the main loop has not turned for {} ms", heartbeat_.age().count()));
    }
    return report;
  }

  // Ready to work: independent of the reach of database and sinks, so that a sidecar does not take
  // its application out of service with them. A schema that this worker cannot use is no outage,
  // and a rollout should not go on to the next one, nor before it is known.
  HealthReport ready() {
    HealthReport report = live();
    if (std::string reason = drain_.why_not_ready(); !reason.empty()) {
      report.ok = false;
      report.reasons.push_back(std::move(reason));
    }
    return report;
  }

  // Returns the signal that asks for it.
  int wait_for_stop(const sigset_t& signals) {
    while (true) {
      int signal = -1;
      if (manager_.listens()) {
        tell_manager();
        const timespec pause = manager_pause();
        signal = sigtimedwait(&signals, nullptr, &pause);
      } else {
        signal = sigwaitinfo(&signals, nullptr);
      }
      if (signal < 0) continue;
      if (signal != SIGHUP) return signal;
      manager_.reloading();
      reload();
      manager_.reloaded(manager_status(drain_.snapshot()));
    }
  }

  [[nodiscard]] timespec manager_pause() const {
    Milliseconds pause = manager_.said_ready() ? kReportPause : kStartingPause;
    if (const auto watchdog = manager_.watchdog()) pause = std::min(pause, *watchdog / 4);
    return {.tv_sec = pause.count() / 1000, .tv_nsec = pause.count() % 1000 * 1'000'000};
  }

  // The watchdog is fed only when the loop of all streams has turned since the last time, by the
  // thread that also takes the signals: a worker in which either hangs is killed. Ready means what
  // /readyz means.
  void tell_manager() {
    const MonotonicTime now = system_clock().monotonic();
    if (manager_.watchdog() && heartbeat_.age() < now - manager_beat_at_) {
      manager_beat_at_ = now;
      manager_.beat();
    }
    const Drain::Snapshot snapshot = drain_.snapshot();
    const std::string status = manager_status(snapshot);
    if (ready().ok) manager_.ready(status);
    manager_.status(status);
  }

  std::string manager_status(const Drain::Snapshot& snapshot) const {
    std::string text;
    if (reload_problems_ > 0) {
      text = fmt::format("configuration not reloaded, {} problem{} in the log; ", reload_problems_,
                         reload_problems_ == 1 ? "" : "s");
    }
    if (snapshot.connected) {
      const std::size_t streams = started_with_->streams().size();
      return text + fmt::format("serving {} stream{}", streams, streams == 1 ? "" : "s");
    }
    if (snapshot.problem.empty()) return text + "connecting to the database";
    return text + "waiting for the database: " + snapshot.problem;
  }

  void configuration_in_force() {
    metrics_.gauge(Metric::config_last_reload_successful).Set(1);
    metrics_.gauge(Metric::config_last_reload_timestamp_seconds)
        .Set(std::chrono::duration<double>(system_clock().wall().time_since_epoch()).count());
  }

  void reload() {
    const auto reloaded = config_loader(context_).reload(*config_);
    if (const auto* problems = std::get_if<ConfigProblems>(&reloaded)) {
      reload_problems_ = problems->size();
      metrics_.gauge(Metric::config_last_reload_successful).Set(0);
      for (const SettingProblem& problem : *problems) {
        log_.error("configuration not reloaded",
                   {{"problem", to_string(problem)}, {"hint", problem.hint}});
      }
      return;
    }
    const auto& next = std::get<ReloadedConfig>(reloaded);
    config_ = next.config;
    log_.set_level(*log_level_from(config_->log().text("level")));
    log_.set_format(*log_format_from(config_->log().text("format")));
    std::vector<StreamOptions> streams;
    for (const auto& [name, stream] : config_->streams())
      streams.push_back(stream_options(*config_, context_.registry, stream));
    drain_.reconfigure(drain_options(*config_), std::move(streams));
    sampler_.set_retention(config_->receipts().duration("retention"));
    if (admin_) admin_->set_token(admin_token(*config_));
    configuration_in_force();
    reload_problems_ = 0;
    for (const SettingChange& change : next.live) {
      log_.info("setting changed",
                {{"setting", change.setting}, {"before", change.before}, {"after", change.after}});
    }
    for (const SettingChange& change : next.needs_restart) {
      log_.warning(
          "setting changes with the next start",
          {{"setting", change.setting}, {"before", change.before}, {"after", change.after}});
    }
    log_.info("configuration reloaded",
              {{"changed", next.live.size()}, {"needs_restart", next.needs_restart.size()}});
  }

  ExitCode stop(int signal) {
    const SecondSignal second_signal(log_);  // first: the log may be stuck
    log_.info("stopping", {{"signal", signal == SIGTERM ? "SIGTERM" : "SIGINT"}});
    manager_.stopping(config_->drain().duration("shutdown_timeout") + kStopAllowance);
    sampler_.ask_to_stop();
    job_keeper_.ask_to_stop();
    const bool clean = drain_.stop();
    sampler_.stop();
    job_keeper_.stop();
    if (admin_) admin_->stop(kAdminStop);
    log_.info(
        clean ? "stopped" : "stopped with entries still held; their leases are released or expire",
        {{"clean", clean}});
    return ExitCode::ok;
  }

  const Context& context_;
  ServiceManager& manager_;
  MonotonicTime manager_beat_at_ = system_clock().monotonic();
  std::size_t reload_problems_ = 0;  // of the last reload; 0: it was carried out
  std::shared_ptr<const Config> config_;
  // What the emitters were built from: they may go on reading it after a reload.
  const std::shared_ptr<const Config> started_with_ = config_;
  Logger log_;
  Metrics metrics_;
  Heartbeat heartbeat_;
  const Uuid worker_;
  postgres::PostgresStore store_;
  std::vector<std::unique_ptr<DaemonReporter>> reporters_;  // one for each emitter
  Drain drain_;
  Sampler sampler_;
  JobKeeper job_keeper_;
  std::optional<AdminServer> admin_;
};

ExitCode run_worker(const Context& context) {
  ServiceManager manager = ServiceManager::from_environment();
  auto config = load_config(context, true);
  if (auto problems = problems_for_run(*config); !problems.empty()) {
    throw cannot_run(std::move(problems));
  }
  return Run(context, std::move(config), manager).run();
}

}  // namespace

void add_run(CLI::App& app, Context& context) {
  add_command(app, context, "run", "Deliver entries until told to stop", [&context] {
    return run_worker(context);
  }).footer(configuration_help() + settings_help());
}

}  // namespace outfall
