// Faults between a worker and the database, or the sink; and those of the sink itself.
#include <algorithm>
#include <csignal>
#include <fstream>

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

// F11: one worker and the database.
class DatabasePartition final : public Fault {
 public:
  DatabasePartition(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    // A slow database alone is no reason to send twice. Where deliveries take longer than a lease
    // as well, it is: a renewal that comes too late ends those that are on their way.
    if (injection_.mode != "delay" || plays(scene.plan, "F4-slow")) touch(worker());
  }
  void strike() override {
    for (const auto& gate : worker().gates()) cut(*gate, injection_.mode);
  }
  void mend() override {
    for (const auto& gate : worker().gates()) reopen(*gate, injection_.mode);
  }
};

// F12 and F13: all workers and the sink.
class SinkPartition final : public Fault {
 public:
  SinkPartition(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
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
  void strike() override {
    for (TcpGate* gate : scene_.sink.gates()) cut(*gate, injection_.mode);
  }
  void mend() override {
    for (TcpGate* gate : scene_.sink.gates()) reopen(*gate, injection_.mode);
  }
};

// F14: the sink is killed or hangs.
class SinkAway final : public Fault {
 public:
  SinkAway(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) { touch_sink(); }
  void strike() override { scene_.sink.go_away(injection_.mode == "freeze"); }
  void mend() override { scene_.sink.come_back(); }
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

// F14 of a program, and F4: one that answers later than the lease lasts has touched nothing.
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
class LateAnswers final : public Fault {
 public:
  LateAnswers(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    slow_sink();
  }

 private:
  void strike() override {
    delay(scene_.plan.of.emitter == "kafka" ? milliseconds{2500} : milliseconds{700});
  }
  void mend() override { delay(milliseconds{0}); }
  void delay(milliseconds by) {
    for (TcpGate* gate : scene_.sink.gates()) gate->delay(Direction::to_client, by);
  }
};

// F15: an endpoint that answers as it must not, to about half of the requests.
class HttpFault final : public Fault {
 public:
  HttpFault(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    if (refuses_with_a_status(injection_)) {
      slow_sink();
    } else {
      touch_sink();
    }
    // Half of the requests are answered meanwhile.
    if (injection_.mode == "hang") may_cost_attempts();
  }
  void strike() override { scene_.sink.answer(injection_.mode); }
  void tick() override { scene_.sink.answer(engine_() % 2 == 0 ? injection_.mode : "200"); }
  void mend() override { scene_.sink.answer("200"); }
};

}  // namespace

std::unique_ptr<Fault> make_network_fault(Scene& scene, const Injection& injection) {
  const std::string& kind = injection.kind;
  if (kind == "F11-partition") return std::make_unique<DatabasePartition>(scene, injection);
  const bool program = scene.plan.of.emitter == "exec";
  if (program && kind == "F13-slow-sink") return std::make_unique<SlowProgram>(scene, injection);
  if (kind == "F12-sink" || kind == "F13-slow-sink")
    return std::make_unique<SinkPartition>(scene, injection);
  if (program && (kind == "F4-slow" || kind == "F14-away"))
    return std::make_unique<ProgramFault>(scene, injection);
  if (kind == "F4-slow" && scene.plan.of.emitter != "noop")
    return std::make_unique<LateAnswers>(scene, injection);
  if (kind == "F14-away") return std::make_unique<SinkAway>(scene, injection);
  if (kind == "F15-http") return std::make_unique<HttpFault>(scene, injection);
  return nullptr;
}

}  // namespace outfall::torture
