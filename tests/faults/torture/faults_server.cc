// Faults of the database server: it crashes, moves, refuses to write, is full; and swizzle.
#include <algorithm>
#include <csignal>

#include "tests/faults/torture/faults.h"
#include "tests/support/wait_until.h"

namespace outfall::torture {

namespace {

class ServerFault : public Fault {
 public:
  ServerFault(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    touch_database();
  }
};

// F7
class RestartFault final : public ServerFault {
  using ServerFault::ServerFault;
  void strike() override {
    undo_commits();
    scene_.servers.primary().stop(test::StopMode::immediate);
  }
  void mend() override { scene_.servers.primary().start(); }
};

// F8
class FailoverFault final : public ServerFault {
  using ServerFault::ServerFault;
  void strike() override {
    undo_commits();
    scene_.servers.primary().stop(test::StopMode::immediate);
  }
  void mend() override { scene_.servers.promote(true); }
};

// F9: what is committed from the moment when the standby falls behind is lost to the database. That
// comes first, so that the crash finds something to forget; the crash itself is at the step.
class ForgetfulFailoverFault final : public ForgetfulFault {
 public:
  using ForgetfulFault::ForgetfulFault;
  bool inject() override {
    fall_behind();
    if (!Fault::inject()) return false;
    // Settles of that time are undone, too.
    begun(behind_since_us());
    return true;
  }

 private:
  bool ready() override {
    constexpr std::int64_t kForgetsUs = 1'000'000;
    return is_behind_for(kForgetsUs);
  }
  void strike() override {
    undo_commits();
    scene_.servers.primary().stop(test::StopMode::immediate);
  }
  void mend() override { scene_.servers.promote(false); }
};

// F10
class ReadOnlyFault final : public RefusedFault {
 public:
  ReadOnlyFault(Scene& scene, Injection injection)
      : RefusedFault(scene, std::move(injection), "read_only", "read-only") {}

 private:
  void set(const char* value) {
    test::PgClient admin = scene_.servers.primary().connect();
    admin.exec("SET default_transaction_read_only = off");
    admin.exec("ALTER DATABASE " + scene_.database +
               " SET default_transaction_read_only = " + value);
    // It holds for sessions that begin from now on.
    (void)admin.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
                      {scene_.database});
  }
  void refuse() override { set("on"); }
  void mend() override { set("off"); }
};

// F21. A server whose disk is full goes on for as long as there is room in the pages that it has.
class DiskFault final : public WitnessedFault {
 public:
  DiskFault(Scene& scene, Injection injection) : WitnessedFault(scene, std::move(injection)) {
    touch_database();
  }

 private:
  void strike() override {
    logged_before_ = scene_.servers.primary().log().size();
    scene_.disk->fill();
  }
  void mend() override { scene_.disk->empty(); }
  // SQLSTATE 53100, to a worker or a producer.
  [[nodiscard]] bool happened() override {
    if (now_us() < next_look_us_) return false;
    next_look_us_ = now_us() + 50'000;
    return scene_.servers.primary().log().find("No space left on device", logged_before_) !=
           std::string::npos;
  }

  std::size_t logged_before_ = 0;
  std::int64_t next_look_us_ = 0;
};

// Everything is stopped one by one and returns in another order, within the time of the fault.
class Swizzle final : public Fault {
 public:
  Swizzle(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    touch_database();
    undo_commits();
    touch_sink();
    touch_all_workers();
    more_["copies"] = 3;
    for (int i = 0; i < static_cast<int>(scene.workers.size()); ++i) parts_.push_back(i);
    parts_.push_back(kServer);
    parts_.push_back(kSink);
    std::shuffle(parts_.begin(), parts_.end(), engine_);
  }

  void strike() override { next_us_ = now_us(); }

  void tick() override {
    if (now_us() < next_us_ || stopped_ == parts_.size()) return;
    stop(parts_[stopped_++]);
    next_us_ = now_us() + 1000 * injection_.lasts_ms / static_cast<int>(parts_.size() + 1);
    if (stopped_ == parts_.size()) std::shuffle(parts_.begin(), parts_.end(), engine_);
  }

  void mend() override {
    while (stopped_ < parts_.size()) stop(parts_[stopped_++]);
    for (const int part : parts_) start(part);
  }

 private:
  static constexpr int kServer = -1;
  static constexpr int kSink = -2;

  void stop(int part) {
    if (part == kServer) {
      scene_.servers.primary().stop(test::StopMode::immediate);
    } else if (part == kSink) {
      scene_.sink.go_away(false);
    } else {
      Worker& worker = *scene_.workers[static_cast<std::size_t>(part)];
      worker.kill();
    }
  }
  void start(int part) {
    if (part == kServer) {
      scene_.servers.primary().start();
    } else if (part == kSink) {
      scene_.sink.come_back();
    } else {
      scene_.workers[static_cast<std::size_t>(part)]->start();
    }
  }

  std::vector<int> parts_;
  std::size_t stopped_ = 0;
  std::int64_t next_us_ = 0;
};

// F6: the workers' sessions end, again and again. They have met it when there is a new one to end.
class TerminateFault final : public Witnessed<ServerFault> {
 public:
  using Witnessed::Witnessed;
  void tick() override {
    if (now_us() > next_us_) strike();
  }

 private:
  void strike() override {
    const std::vector<std::int64_t> pids = worker_sessions();
    if (sessions_.made_anew(pids)) made_anew_ = true;
    sessions_.ended(pids);
    (void)scene_.servers.primary().connect().query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = $1 AND usename = 'torture_worker'",
        {scene_.database});
    next_us_ = now_us() + 150'000;
  }
  [[nodiscard]] bool happened() override { return made_anew_; }

  EndedSessions sessions_;
  bool made_anew_ = false;
  std::int64_t next_us_ = 0;
};

// F6: one session's process dies by SIGKILL. The server cannot know what it left behind in the
// shared memory, so it ends every session and recovers from its log, all by itself.
class BackendKilledFault final : public Witnessed<ServerFault> {
 public:
  using Witnessed::Witnessed;
  void tick() override {
    if (returned_ || now_us() < next_look_us_) return;
    returned_ = answers();
    next_look_us_ = now_us() + 50'000;
    if (returned_) ended();
  }
  void heal() override {
    if (returned_) return;
    test::wait_until([this] { return answers(); }, "the server to recover from a killed session");
    ended();
  }

 private:
  // There must be a worker to meet it.
  [[nodiscard]] bool ready() override { return !worker_sessions().empty(); }
  // It has, when it has another session afterwards.
  [[nodiscard]] bool happened() override {
    return returned_ && may_look() && sessions_.made_anew(worker_sessions());
  }
  // Rather one that has just worked for a worker; where they have none, that of the query itself.
  void strike() override {
    undo_commits();
    sessions_.ended(worker_sessions());
    const std::int64_t backend = scene_.servers.primary().connect().number(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        " ORDER BY usename = 'torture_worker' DESC, query_start DESC NULLS LAST LIMIT 1");
    if (::kill(static_cast<pid_t>(backend), SIGKILL) != 0)
      throw std::runtime_error("no session can be killed");
    next_look_us_ = now_us() + 50'000;
  }

  // A session that was there before the crash would tell of it, a new one tells of the return.
  bool answers() {
    try {
      return scene_.servers.primary().connect().number("SELECT 1") == 1;
    } catch (const test::PgError&) {
      return false;
    }
  }

  EndedSessions sessions_;
  bool returned_ = false;
  std::int64_t next_look_us_ = 0;
};

}  // namespace

std::unique_ptr<Fault> make_server_fault(Scene& scene, const Injection& injection) {
  const std::string& kind = injection.kind;
  if (kind == "F6-terminate" || kind == "F22-pooler-terminate")
    return std::make_unique<TerminateFault>(scene, injection);
  if (kind == "F6-backend-killed") return std::make_unique<BackendKilledFault>(scene, injection);
  if (kind == "F7-restart" || kind == "F22-pooler-restart")
    return std::make_unique<RestartFault>(scene, injection);
  if (kind == "F8-failover" || kind == "F22-pooler-failover")
    return std::make_unique<FailoverFault>(scene, injection);
  if (kind == "F9-failover-async")
    return std::make_unique<ForgetfulFailoverFault>(scene, injection);
  if (kind == "F10-read-only") return std::make_unique<ReadOnlyFault>(scene, injection);
  if (kind == "F21-disk-full") return std::make_unique<DiskFault>(scene, injection);
  if (kind == "swizzle") return std::make_unique<Swizzle>(scene, injection);
  return nullptr;
}

}  // namespace outfall::torture
