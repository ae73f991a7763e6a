// Faults between a worker and the database, or the sink; and those of the sink itself.
#include <algorithm>
#include <csignal>
#include <fstream>
#include <set>

#include "tests/faults/torture/faults.h"

namespace outfall::torture {

namespace {

using std::chrono::milliseconds;
using test::Admission;
using test::Direction;
using test::Ending;
using test::TcpGate;
using test::Traffic;

void cut(TcpGate& gate, const std::string& mode) {
  if (mode == "drop") gate.traffic(Traffic::drop);
  if (mode == "stall") gate.traffic(Traffic::stall);
  if (mode == "reset") gate.end_connections(Ending::reset);
  if (mode == "close") gate.end_connections(Ending::close);
  if (mode == "refuse") {
    gate.admit(Admission::refuse);
    gate.end_connections(Ending::reset);
  }
  if (mode == "hang") {
    gate.admit(Admission::hang);
    gate.end_connections(Ending::reset);
  }
  if (mode == "one-way-out") gate.traffic(Direction::to_client, Traffic::drop);
  if (mode == "one-way-in") gate.traffic(Direction::to_server, Traffic::drop);
  if (mode == "half-close-out") gate.half_close(Direction::to_server);
  if (mode == "half-close-in") gate.half_close(Direction::to_client);
  if (mode == "delay") {
    gate.delay(Direction::to_server, milliseconds{200});
    gate.delay(Direction::to_client, milliseconds{200});
  }
  if (mode == "throttle") {
    gate.throttle(Direction::to_server, 20'000);
    gate.throttle(Direction::to_client, 20'000);
  }
  if (mode == "ack-lost") gate.cut_after(Direction::to_client, 1);
}

// What was dropped is gone: the connections of that time are of no use any more, and end as those
// of a real network do when their packets come through again.
void reopen(TcpGate& gate, const std::string& mode) {
  gate.admit(Admission::accept);
  gate.traffic(Traffic::pass);
  for (const Direction direction : {Direction::to_server, Direction::to_client}) {
    gate.delay(direction, milliseconds{0});
    gate.throttle(direction, 0);
    gate.cut_after(direction, std::nullopt);
  }
  if (mode == "drop" || mode.starts_with("one-way")) gate.end_connections(Ending::reset);
}

// Of gates: it strikes while somebody is connected, and has met somebody when the gates have ended
// a connection, or have lost or held up bytes, unless what it does is done behind them.
class GateFault : public WitnessedFault {
 public:
  using WitnessedFault::WitnessedFault;

 protected:
  [[nodiscard]] virtual std::vector<TcpGate*> gates() = 0;
  virtual void close_gates() = 0;
  // A worker at S8 may have said all that it had to say.
  [[nodiscard]] bool happened() override {
    return injection_.step == "S8" || (may_look() && disturbed() > before_);
  }
  [[nodiscard]] virtual std::uint64_t disturbed() {
    std::uint64_t sum = 0;
    for (const TcpGate* gate : gates()) sum += gate->disturbed();
    return sum;
  }

 private:
  bool ready() final {
    const auto all = gates();
    return std::any_of(all.begin(), all.end(),
                       [](const TcpGate* gate) { return gate->open_connections() > 0; });
  }
  void strike() final {
    before_ = disturbed();
    close_gates();
  }

  std::uint64_t before_ = 0;
};

// F11: one worker and the database.
class DatabasePartition final : public GateFault {
 public:
  DatabasePartition(Scene& scene, Injection injection) : GateFault(scene, std::move(injection)) {
    // A slow database alone is no reason to send twice. Where deliveries take longer than a lease
    // as well, it is: a renewal that comes too late ends those that are on their way.
    if (injection_.mode != "delay" || plays(scene.plan, "F4-slow")) touch(worker());
  }

 private:
  std::vector<TcpGate*> gates() override {
    std::vector<TcpGate*> all;
    for (const auto& gate : worker().gates()) all.push_back(gate.get());
    return all;
  }
  void close_gates() override {
    for (TcpGate* gate : gates()) cut(*gate, injection_.mode);
  }
  void mend() override {
    for (TcpGate* gate : gates()) reopen(*gate, injection_.mode);
  }
};

// F22: one worker and the pooler, or the pooler and the database, which is all workers at once.
class PoolerPartition final : public Fault {
 public:
  PoolerPartition(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    if (of_server()) {
      touch_database();
    } else {
      touch(worker());
    }
  }
  void strike() override { cut(gate(), how()); }
  void mend() override { reopen(gate(), how()); }

 private:
  [[nodiscard]] bool of_server() const { return injection_.mode.starts_with("server-"); }
  [[nodiscard]] std::string how() const {
    return injection_.mode.substr(injection_.mode.find('-') + 1);
  }
  [[nodiscard]] TcpGate& gate() {
    return of_server() ? scene_.servers.pooler_gate() : *worker().gates().front();
  }
};

// F12 and F13: all workers and the sink.
class SinkPartition final : public GateFault {
 public:
  SinkPartition(Scene& scene, Injection injection) : GateFault(scene, std::move(injection)) {
    // Late answers are no reason to send twice, except where a broker's are later than a delivery
    // may take.
    if (injection_.mode != "delay" || scene.plan.of.emitter == "kafka") {
      touch_sink();
    } else {
      slow_sink();
    }
    // A slow endpoint answers some in time; one that is cut off answers nobody. What Kafka is slow
    // with is never put down to an entry.
    const bool slow = injection_.mode == "throttle" || injection_.mode == "delay";
    if (slow && scene.plan.of.emitter == "webhook") may_cost_attempts();
  }

 private:
  std::vector<TcpGate*> gates() override { return scene_.sink.gates(); }
  void close_gates() override {
    for (TcpGate* gate : gates()) cut(*gate, injection_.mode);
  }
  void mend() override {
    for (TcpGate* gate : gates()) reopen(*gate, injection_.mode);
  }
};

// F14: the sink is killed or hangs. What a broker suffers its gate does not see: that there is none
// needs no witness.
class SinkAway final : public GateFault {
 public:
  SinkAway(Scene& scene, Injection injection) : GateFault(scene, std::move(injection)) {
    touch_sink();
  }

 private:
  std::vector<TcpGate*> gates() override { return scene_.sink.gates(); }
  void close_gates() override { scene_.sink.go_away(injection_.mode == "freeze"); }
  void mend() override { scene_.sink.come_back(); }
  [[nodiscard]] std::uint64_t disturbed() override { return scene_.sink.missed(); }
  [[nodiscard]] bool happened() override {
    return scene_.plan.of.emitter == "kafka" || GateFault::happened();
  }
};

// The programs that a worker has started.
std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> all;
  std::error_code error;
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks, error)) {
    std::ifstream children(task.path() / "children");
    for (pid_t child = 0; children >> child;) all.push_back(child);
  }
  return all;
}

// F14 of a program.
class ProgramFault final : public Fault {
 public:
  ProgramFault(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    slow_sink();
    if (injection_.mode == "kill") more_.erase("copies");
  }
  bool ready() override {
    for (const auto& worker : scene_.workers) {
      for (const pid_t child : children_of(worker->pid())) programs_.push_back(child);
    }
    return !programs_.empty();
  }
  void strike() override {
    for (const pid_t program : programs_)
      ::kill(program, injection_.mode == "kill" ? SIGKILL : SIGSTOP);
  }
  void mend() override {
    if (injection_.mode != "kill") {
      for (const pid_t program : programs_) ::kill(program, SIGCONT);
    }
  }

 private:
  std::vector<pid_t> programs_;
};

// F4 of a program, which answers later than the lease lasts. Until a lease has been outlasted those
// are stopped as well that a worker has started since, or that another fault has let go on.
class LateProgram final : public WitnessedFault {
 public:
  LateProgram(Scene& scene, Injection injection) : WitnessedFault(scene, std::move(injection)) {
    slow_sink();
  }
  void tick() override {
    if (!met() && now_us() >= next_us_) stop_all();
  }

 private:
  bool ready() override {
    return std::any_of(scene_.workers.begin(), scene_.workers.end(),
                       [](const auto& worker) { return !children_of(worker->pid()).empty(); });
  }
  void strike() override { stop_all(); }
  void mend() override {
    for (const pid_t program : programs_) ::kill(program, SIGCONT);
  }
  [[nodiscard]] bool happened() override { return may_look() && a_lease_was_outlasted(); }
  void stop_all() {
    constexpr std::int64_t kEveryUs = 200'000;
    for (const auto& worker : scene_.workers) {
      for (const pid_t program : children_of(worker->pid())) {
        ::kill(program, SIGSTOP);
        programs_.insert(program);
      }
    }
    next_us_ = now_us() + kEveryUs;
  }

  std::set<pid_t> programs_;
  std::int64_t next_us_ = 0;
};

// F13 of a program: it is stopped for most of the time, for a moment each as one that gets little
// of the CPU, or for so long that each answer is late.
class SlowProgram final : public Fault {
 public:
  SlowProgram(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    slow_sink();
  }
  void tick() override {
    if (now_us() < next_us_) return;
    const bool late = injection_.mode == "delay";
    if (stopped_.empty()) {
      stop();
      next_us_ = now_us() + (late ? 700'000 : 90'000);
    } else {
      go_on();
      next_us_ = now_us() + (late ? 100'000 : 10'000);
    }
  }

 private:
  bool ready() override {
    return std::any_of(scene_.workers.begin(), scene_.workers.end(),
                       [](const auto& worker) { return !children_of(worker->pid()).empty(); });
  }
  void strike() override { tick(); }
  void mend() override { go_on(); }
  void stop() {
    for (const auto& worker : scene_.workers) {
      for (const pid_t program : children_of(worker->pid())) stopped_.push_back(program);
    }
    for (const pid_t program : stopped_) ::kill(program, SIGSTOP);
  }
  void go_on() {
    for (const pid_t program : stopped_) ::kill(program, SIGCONT);
    stopped_.clear();
  }

  std::vector<pid_t> stopped_;
  std::int64_t next_us_ = 0;
};

// F4 of a sink behind a network: a broker's answers come later than a lease lasts, an endpoint's so
// late that a batch takes longer over its few connections. Neither is a reason to send twice, since
// a delivery may take that long in these runs.
class LateAnswers final : public WitnessedFault {
 public:
  LateAnswers(Scene& scene, Injection injection) : WitnessedFault(scene, std::move(injection)) {
    slow_sink();
  }
  // Until a lease has been outlasted, another fault of the gates may have taken it back.
  void tick() override {
    if (!met() && now_us() >= next_us_) strike();
  }

 private:
  void strike() override {
    constexpr std::int64_t kEveryUs = 200'000;
    delay(scene_.plan.of.emitter == "kafka" ? milliseconds{2500} : milliseconds{700});
    next_us_ = now_us() + kEveryUs;
  }
  [[nodiscard]] bool happened() override { return may_look() && a_lease_was_outlasted(); }
  void mend() override { delay(milliseconds{0}); }
  void delay(milliseconds by) {
    for (TcpGate* gate : scene_.sink.gates()) gate->delay(Direction::to_client, by);
  }

  std::int64_t next_us_ = 0;
};

// F15: an endpoint that answers as it must not, to about half of the requests.
class HttpFault final : public WitnessedFault {
 public:
  HttpFault(Scene& scene, Injection injection) : WitnessedFault(scene, std::move(injection)) {
    if (refuses_with_a_status(injection_)) {
      slow_sink();
    } else {
      touch_sink();
    }
    // Half of the requests are answered meanwhile.
    if (injection_.mode == "hang") may_cost_attempts();
  }
  void strike() override {
    answered_before_ = scene_.sink.odd_answers();
    scene_.sink.answer(injection_.mode);
  }
  void tick() override { scene_.sink.answer(engine_() % 2 == 0 ? injection_.mode : "200"); }
  void mend() override { scene_.sink.answer("200"); }
  [[nodiscard]] bool happened() override { return scene_.sink.odd_answers() > answered_before_; }

 private:
  std::int64_t answered_before_ = 0;
};

}  // namespace

std::unique_ptr<Fault> make_network_fault(Scene& scene, const Injection& injection) {
  const std::string& kind = injection.kind;
  if (kind == "F11-partition") return std::make_unique<DatabasePartition>(scene, injection);
  if (kind == "F22-pooler-partition") return std::make_unique<PoolerPartition>(scene, injection);
  const bool program = scene.plan.of.emitter == "exec";
  if (program && kind == "F13-slow-sink") return std::make_unique<SlowProgram>(scene, injection);
  if (kind == "F12-sink" || kind == "F13-slow-sink")
    return std::make_unique<SinkPartition>(scene, injection);
  if (program && kind == "F4-slow") return std::make_unique<LateProgram>(scene, injection);
  if (program && kind == "F14-away") return std::make_unique<ProgramFault>(scene, injection);
  if (kind == "F4-slow" && scene.plan.of.emitter != "noop")
    return std::make_unique<LateAnswers>(scene, injection);
  if (kind == "F14-away") return std::make_unique<SinkAway>(scene, injection);
  if (kind == "F15-http") return std::make_unique<HttpFault>(scene, injection);
  return nullptr;
}

}  // namespace outfall::torture
