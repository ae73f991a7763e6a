// Faults that producers cause, or that only the plan of the run sets up.
#include "tests/faults/torture/faults.h"

namespace outfall::torture {

namespace {

// F16: entries that the sink refuses for good.
class PoisonFault final : public Fault {
 public:
  using Fault::Fault;
  bool inject() override {
    begun();
    scene_.load.poison(Sink::kPoison, Sink::kPoisonBytes);
    return true;
  }
  void heal() override {
    scene_.load.poison("");
    ended();
  }
};

// F17, F18 and F20: what producers do while the switch is on.
class SwitchFault final : public Fault {
 public:
  SwitchFault(Scene& scene, Injection injection, std::atomic<bool>& on)
      : Fault(scene, std::move(injection)), on_(on) {}
  bool inject() override {
    begun();
    on_ = true;
    return true;
  }
  void heal() override {
    on_ = false;
    ended();
  }

 private:
  std::atomic<bool>& on_;
};

// F4 of the noop emitter, whose deliveries take longer than the lease in the whole run.
class SlowFault final : public Fault {
 public:
  using Fault::Fault;
  bool inject() override {
    begun();
    return true;
  }
  void heal() override { ended(); }
};

}  // namespace

std::unique_ptr<Fault> make_producer_fault(Scene& scene, const Injection& injection) {
  const std::string& kind = injection.kind;
  if (kind == "F4-slow") return std::make_unique<SlowFault>(scene, injection);
  if (kind == "F16-poison") return std::make_unique<PoisonFault>(scene, injection);
  if (kind == "F17-duplicate")
    return std::make_unique<SwitchFault>(scene, injection, scene.load.duplicates);
  if (kind == "F18-late") return std::make_unique<SwitchFault>(scene, injection, scene.load.late);
  return nullptr;
}

}  // namespace outfall::torture
