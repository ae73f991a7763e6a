// Faults that hit one worker: death, an orderly end, a standstill, its clock, its descriptors.
#include <algorithm>
#include <csignal>
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
    // Its second signal ends the process without waiting for what is on its way.
    if (signal_ == "TERM" && injection_.step == "S8") touch(worker());
    ends_at_once_ = signal_ == "KILL";
  }

  bool inject() override {
    Worker& victim = worker();
    if (injection_.point.empty()) {
      begun();
      hit(victim);
      return true;
    }
    if (armed_us_ == 0) {
      victim.stop();
      victim.start(armed(signal_));
      armed_us_ = now_us();
      return false;
    }
    // Only a worker that ends releases its leases; before that it works for a while.
    if (injection_.step == "S8" && !asked_ && now_us() > armed_us_ + 400'000) {
      asked_ = true;
      victim.terminate();
    }
    if (signal_ == "STOP" ? !victim.frozen() : !victim.gone() && !ending(victim)) return false;
    begun();
    if (signal_ == "STOP") scene_.history.worker(victim.name(), "frozen");
    return true;
  }

  void heal() override {
    Worker& victim = worker();
    ended();
    if (signal_ == "STOP") {
      victim.thaw();
      return;
    }
    const int code = victim.await_end();
    // The second signal of S8 ends a worker in its own way.
    if (signal_ == "TERM" && code != 0 && injection_.step != "S8")
      scene_.complain(victim.name() + " ended with code " + std::to_string(code));
    victim.start();
  }

 private:
  void hit(Worker& victim) {
    if (signal_ == "KILL") victim.kill();
    if (signal_ == "TERM") victim.terminate();
    if (signal_ == "STOP") victim.freeze();
  }

  // A worker that has got SIGTERM says so in its log; it may take a while to end.
  bool ending(Worker& victim) const { return signal_ == "TERM" && victim.logged("stopping"); }

  const std::string signal_;
  std::int64_t armed_us_ = 0;
  bool asked_ = false;
};

// F5: one more worker, whose clock is off.
class ClockFault final : public Fault {
 public:
  using Fault::Fault;
  bool inject() override {
    begun();
    skewed_ = &scene_.hire("skewed");
    skewed_->start(
        {{"ASAN_OPTIONS", "verify_asan_link_order=0"}},
        {"faketime", "--exclude-monotonic", "-f", injection_.mode == "ahead" ? "+10m" : "-10m"});
    skewed_->set_clock_ahead(std::chrono::minutes(injection_.mode == "ahead" ? 10 : -10));
    return true;
  }
  void heal() override {
    skewed_->stop();
    ended();
  }

 private:
  Worker* skewed_ = nullptr;
};

// F16: one entry kills whoever sends it. Workers are started again until it is given up.
class KillerFault final : public Fault {
 public:
  KillerFault(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    touch_all_workers();
    more_["copies"] = 4;
  }
  bool inject() override {
    begun();
    scene_.load.poison(Sink::kKiller, 0, true);
    return true;
  }
  void tick() override {
    for (const auto& each : scene_.workers) {
      if (each->gone()) each->start();
    }
  }
  void heal() override {
    tick();
    ended();
  }
};

// F25: no descriptor is left while its connections are ended.
class DescriptorFault final : public Fault {
 public:
  DescriptorFault(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    touch(worker());
    touch_sink();
  }
  bool inject() override {
    begun();
    limit(8);
    for (const auto& gate : worker().gates()) gate->end_connections(test::Ending::reset);
    const auto gates = scene_.sink.gates();
    for (test::TcpGate* gate : gates) gate->end_connections(test::Ending::reset);
    return true;
  }
  void heal() override {
    limit(1024);
    ended();
  }

 private:
  void limit(rlim_t files) {
    rlimit limits{};
    if (::prlimit(worker().pid(), RLIMIT_NOFILE, nullptr, &limits) != 0) return;
    limits.rlim_cur = std::min(files, limits.rlim_max);
    ::prlimit(worker().pid(), RLIMIT_NOFILE, &limits, nullptr);
  }
};

// F26: two workers of one instance name, both of which work.
class NamesakeFault final : public Fault {
 public:
  using Fault::Fault;
  bool inject() override {
    begun();
    namesake_ = &scene_.hire(worker().name());
    namesake_->start();
    return true;
  }
  void heal() override {
    namesake_->stop();
    ended();
  }

 private:
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
  if (kind == "F5-clock") return std::make_unique<ClockFault>(scene, injection);
  if (kind == "F16-killer") return std::make_unique<KillerFault>(scene, injection);
  if (kind == "F25-descriptors") return std::make_unique<DescriptorFault>(scene, injection);
  if (kind == "F26-same-name") return std::make_unique<NamesakeFault>(scene, injection);
  return nullptr;
}

}  // namespace outfall::torture
