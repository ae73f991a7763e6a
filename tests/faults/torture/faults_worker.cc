// Faults that hit one worker: death, an orderly end, a standstill, its clock, its descriptors.
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sys/resource.h>

#include "tests/faults/torture/faults.h"

namespace outfall::torture {

namespace {

// F1, F2 and F3: a signal, at once or at a point of a delivery. In the latter case the worker is
// started anew with the point armed; whatever else runs goes on.
class SignalFault : public Fault {
 public:
  SignalFault(Scene& scene, Injection injection, std::string signal)
      : Fault(scene, std::move(injection)), signal_(std::move(signal)) {
    if (signal_ != "TERM") touch(worker());
    if (signal_ == "STOP") more_["late"] = true;
    // Its second signal ends the process without waiting for what is on its way, and the first
    // waits only so long.
    if (signal_ == "TERM" && (injection_.step == "S8" || outlasts_a_stop(scene.plan)))
      touch(worker());
    ends_at_once_ = signal_ == "KILL";
  }

  bool inject() override {
    if (!injection_.point.empty()) return hit_at_point(worker());
    if (signal_ == "KILL") return kill_while_it_holds(worker());
    begun();
    if (signal_ == "TERM") worker().terminate();
    if (signal_ == "STOP") worker().freeze();
    return true;
  }

  void heal() override {
    Worker& victim = worker();
    ended();
    if (signal_ == "STOP") {
      victim.thaw();
      return;
    }
    (void)victim.await_end();
    // The second signal of S8 ends a worker in its own way.
    if (signal_ == "TERM" && injection_.step != "S8" && victim.last_end() != kOrderly)
      scene_.complain(victim.name() + " ended by " + victim.last_end()->to_string());
    victim.tolerate(std::nullopt);
    victim.start();
  }

  void give_up() override {
    scene_.load.hurry = false;
    worker().resume();
    worker().tolerate(std::nullopt);
    Fault::give_up();
  }

 private:
  static constexpr test::ExitStatus kOrderly{.code = 0, .signal = std::nullopt};
  [[nodiscard]] bool its_point_strikes() const override { return true; }
  static constexpr test::ExitStatus kKilled{.code = std::nullopt, .signal = SIGKILL};
  static constexpr test::ExitStatus kAskedTwice{.code = 130, .signal = std::nullopt};

  // How a worker ends that has got the signal.
  [[nodiscard]] test::ExitStatus end() const {
    if (signal_ == "KILL") return kKilled;
    return injection_.step == "S8" ? kAskedTwice : kOrderly;
  }

  bool hit_at_point(Worker& victim) {
    if (signal_ != "STOP") victim.tolerate(end());
    if (!under_way(signal_) || !struck(victim)) return false;
    begun();
    if (signal_ == "STOP") scene_.history.worker(victim.name(), "frozen");
    if (!must_hold() || leases_of(victim) != 0) {
      scene_.load.hurry = false;
      return true;
    }
    // It died all the same, and left nothing behind that had to be taken over. The more there is to
    // do, the more leases it has next time.
    record();
    arm_again();
    scene_.load.hurry = true;
    return false;
  }

  bool struck(Worker& victim) {
    if (signal_ == "STOP") return victim.frozen();
    // A worker that has got SIGTERM says so in its log; it may take a while to end.
    const bool asked_once = signal_ == "TERM" && injection_.step != "S8";
    if (asked_once && !victim.gone()) return victim.logged("stopping");
    if (!victim.gone()) return false;
    if (victim.last_end() == end()) return true;
    arm_again();  // it has ended without coming by
    return false;
  }

  // At these steps a dead worker leaves leases behind, behind a pooler until they expire.
  [[nodiscard]] bool must_hold() const {
    const std::string last = injection_.kind == "F22-pooler" ? "S6" : "S5";
    return signal_ == "KILL" && injection_.step >= "S1" && injection_.step <= last;
  }

  // Who holds nothing leaves nothing to be taken over. It is paused, so that what it holds remains
  // until it is killed; if that is nothing, a later moment is taken.
  bool kill_while_it_holds(Worker& victim) {
    constexpr std::int64_t kAnswersComeInUs = 50'000;
    constexpr std::int64_t kBetweenTriesUs = 100'000;
    if (victim.gone() || now_us() < next_try_us_) {
      paused_us_ = 0;
      return false;
    }
    if (paused_us_ == 0) {
      victim.pause();
      paused_us_ = now_us();
      return false;
    }
    if (leases_of(victim) == 0) {
      victim.resume();
      paused_us_ = 0;
      next_try_us_ = now_us() + kBetweenTriesUs;
      return false;
    }
    // What the server was settling for it when it was paused has ended by then.
    if (now_us() < paused_us_ + kAnswersComeInUs) return false;
    begun();
    victim.kill();
    return true;
  }

  const std::string signal_;
  std::int64_t paused_us_ = 0;  // since when; 0: it works
  std::int64_t next_try_us_ = 0;
};

// F5: one more worker, whose clock is off, or jumps while it works and jumps back in the end.
class ClockFault final : public Fault {
 public:
  using Fault::Fault;
  bool inject() override {
    if (skewed_ == nullptr) {
      skewed_ = &scene_.hire("skewed");
      skewed_->set_clock_ahead(ahead() ? kOff : -kOff);
      set_clock(jumps() || !ahead() ? "+0" : off());
      if (outlasts_a_stop(scene_.plan)) touch(*skewed_);  // it is stopped in the end
      if (injection_.point.empty()) skewed_->start(environment());
    }
    // libfaketime does not know the C11 waits of librdkafka: with a clock that is behind they are
    // over at once, and a producer that is being made gives up.
    if (!jumps() && !turned_ && skewed_->logged("\"settled\"")) {
      set_clock(off());
      turned_ = true;
    }
    // It must have begun to work with the clock that it starts with.
    if (injection_.point.empty() && !skewed_->logged("\"claimed\"")) return false;
    return Fault::inject();
  }

 private:
  static constexpr std::chrono::minutes kOff{10};

  [[nodiscard]] bool jumps() const { return injection_.mode.starts_with("jump"); }
  [[nodiscard]] bool ahead() const { return injection_.mode.ends_with("ahead"); }
  [[nodiscard]] std::string off() const { return ahead() ? "+10m" : "-10m"; }
  [[nodiscard]] std::filesystem::path file() const { return skewed_->folder() / "skewed.clock"; }

  void strike() override { set_clock(off()); }
  void mend() override {
    if (!skewed_->logs_by_wrong_clock())
      scene_.complain("the clock of " + skewed_->name() + " was right");
    if (jumps()) set_clock("+0");
    if (injection_.step != "S8") skewed_->stop();
  }
  Worker& placed() override { return *skewed_; }
  void start_armed(const std::string& signal) override {
    std::map<std::string, std::string> all = environment();
    all.merge(armed(signal));
    skewed_->stop();
    skewed_->start(all);
  }

  // Read at each look at the clock. It is replaced as a whole, so that nobody reads half of it.
  void set_clock(const std::string& offset) const {
    const std::filesystem::path fresh = file().string() + ".fresh";
    std::ofstream(fresh) << offset << "\n";
    std::filesystem::rename(fresh, file());
  }
  [[nodiscard]] std::map<std::string, std::string> environment() const {
    return {{"ASAN_OPTIONS", "verify_asan_link_order=0"},
            {"LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1"},
            {"FAKETIME_TIMESTAMP_FILE", file().string()},
            {"FAKETIME_NO_CACHE", "1"},
            {"FAKETIME_DONT_FAKE_MONOTONIC", "1"}};
  }

  Worker* skewed_ = nullptr;
  bool turned_ = false;
};

// F16: one entry kills whoever sends it. Workers are started again until it is given up.
class KillerFault final : public Fault {
 public:
  KillerFault(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    touch_all_workers();
    more_["copies"] = 4;
  }
  void tick() override {
    for (const auto& each : scene_.workers) {
      if (!each->gone()) continue;
      ++deaths_;
      each->start();
    }
  }

 private:
  void strike() override {
    // Also later, should it not have been given up by then.
    for (const auto& each : scene_.workers)
      each->tolerate(test::ExitStatus{.code = std::nullopt, .signal = SIGKILL});
    scene_.load.poison(Sink::kKiller, 0, true);
  }
  void mend() override {
    tick();
    if (deaths_ == 0) scene_.complain("the entry that kills workers killed none");
  }
  int deaths_ = 0;
};

// F25: no descriptor is left while its connections are ended.
class DescriptorFault final : public WitnessedFault {
 public:
  DescriptorFault(Scene& scene, Injection injection) : WitnessedFault(scene, std::move(injection)) {
    touch(worker());
    touch_sink();
  }

 private:
  void strike() override {
    process_ = worker().pid();
    limit(8);
    for (const auto& gate : worker().gates()) gate->end_connections(test::Ending::reset);
    const auto gates = scene_.sink.gates();
    for (test::TcpGate* gate : gates) gate->end_connections(test::Ending::reset);
  }
  void mend() override {
    limit(1024);
    const auto& end = worker().last_end();
    if (injection_.step == "S8" && end && end->code != 0)
      scene_.complain(worker().name() + " ended by " + end->to_string());
  }
  // It says so where it needs one. Another fault of the run may have put another process there.
  [[nodiscard]] bool happened() override {
    if (now_us() < next_look_us_) return false;
    next_look_us_ = now_us() + 50'000;
    // At S8 it ends, and may need none any more.
    if (injection_.step == "S8" && worker().gone()) return true;
    if (worker().pid() != 0 && worker().pid() != process_) strike();
    return worker().logged("Too many open files");
  }
  void limit(rlim_t files) {
    rlimit limits{};
    if (worker().pid() == 0 || ::prlimit(worker().pid(), RLIMIT_NOFILE, nullptr, &limits) != 0)
      return;
    limits.rlim_cur = std::min(files, limits.rlim_max);
    ::prlimit(worker().pid(), RLIMIT_NOFILE, &limits, nullptr);
  }

  pid_t process_ = 0;  // that it struck
  std::int64_t next_look_us_ = 0;
};

// F26: two workers of one instance name, both of which work: the second one has claimed.
class NamesakeFault final : public WitnessedFault {
 public:
  using WitnessedFault::WitnessedFault;

 private:
  void strike() override {
    namesake_ = &scene_.hire(worker().name());
    if (outlasts_a_stop(scene_.plan)) touch(*namesake_);  // it is stopped in the end
    namesake_->start();
  }
  void mend() override { namesake_->stop(); }
  [[nodiscard]] bool happened() override { return may_look() && namesake_->logged("\"claimed\""); }
  Worker* namesake_ = nullptr;
};

}  // namespace

std::unique_ptr<Fault> make_worker_fault(Scene& scene, const Injection& injection) {
  const std::string& kind = injection.kind;
  if (kind == "F1-sigkill") return std::make_unique<SignalFault>(scene, injection, "KILL");
  if (kind == "F2-sigterm") return std::make_unique<SignalFault>(scene, injection, "TERM");
  if (kind == "F3-freeze") return std::make_unique<SignalFault>(scene, injection, "STOP");
  // Behind a pooler expiry alone tells others that the worker is gone.
  if (kind == "F22-pooler") return std::make_unique<SignalFault>(scene, injection, "KILL");
  if (kind == "F22-pooler-sigterm") return std::make_unique<SignalFault>(scene, injection, "TERM");
  if (kind == "F22-pooler-freeze") return std::make_unique<SignalFault>(scene, injection, "STOP");
  if (kind == "F5-clock") return std::make_unique<ClockFault>(scene, injection);
  if (kind == "F16-killer") return std::make_unique<KillerFault>(scene, injection);
  if (kind == "F25-descriptors") return std::make_unique<DescriptorFault>(scene, injection);
  if (kind == "F26-same-name") return std::make_unique<NamesakeFault>(scene, injection);
  return nullptr;
}

}  // namespace outfall::torture
