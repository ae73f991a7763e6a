// Faults between a worker and the database, or the sink; and those of the sink itself.
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
void mend(TcpGate& gate, const std::string& mode) {
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
    if (injection_.mode != "delay") touch(worker());
  }
  bool inject() override {
    begun();
    for (const auto& gate : worker().gates()) cut(*gate, injection_.mode);
    return true;
  }
  void heal() override {
    for (const auto& gate : worker().gates()) mend(*gate, injection_.mode);
    ended();
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
  }
  bool inject() override {
    begun();
    for (TcpGate* gate : scene_.sink.gates()) cut(*gate, injection_.mode);
    return true;
  }
  void heal() override {
    for (TcpGate* gate : scene_.sink.gates()) mend(*gate, injection_.mode);
    ended();
  }
};

// F14: the sink is killed or hangs.
class SinkAway final : public Fault {
 public:
  SinkAway(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) { touch_sink(); }
  bool inject() override {
    begun();
    scene_.sink.go_away(injection_.mode == "freeze");
    return true;
  }
  void heal() override {
    scene_.sink.come_back();
    ended();
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

// F14 of a program, and F4: one that answers later than the lease lasts has touched nothing.
class ProgramFault final : public Fault {
 public:
  ProgramFault(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    slow_sink();
    if (injection_.mode == "kill") more_.erase("copies");
  }
  bool inject() override {
    begun();
    for (const auto& worker : scene_.workers) {
      for (const pid_t child : children_of(worker->pid())) {
        programs_.push_back(child);
        ::kill(child, injection_.mode == "kill" ? SIGKILL : SIGSTOP);
      }
    }
    return true;
  }
  void heal() override {
    if (injection_.mode != "kill") {
      for (const pid_t program : programs_) ::kill(program, SIGCONT);
    }
    ended();
  }

 private:
  std::vector<pid_t> programs_;
};

// F15: an endpoint that answers as it must not, to about half of the requests.
class HttpFault final : public Fault {
 public:
  HttpFault(Scene& scene, Injection injection) : Fault(scene, std::move(injection)) {
    touch_sink();
  }
  bool inject() override {
    begun();
    return true;
  }
  void tick() override { scene_.sink.answer(engine_() % 2 == 0 ? injection_.mode : "200"); }
  void heal() override {
    scene_.sink.answer("200");
    ended();
  }
};

}  // namespace

std::unique_ptr<Fault> make_network_fault(Scene& scene, const Injection& injection) {
  const std::string& kind = injection.kind;
  if (kind == "F11-partition") return std::make_unique<DatabasePartition>(scene, injection);
  if (kind == "F12-sink" || kind == "F13-slow-sink")
    return std::make_unique<SinkPartition>(scene, injection);
  const bool program = scene.plan.of.emitter == "exec";
  if (program && (kind == "F4-slow" || kind == "F14-away"))
    return std::make_unique<ProgramFault>(scene, injection);
  if (kind == "F14-away") return std::make_unique<SinkAway>(scene, injection);
  if (kind == "F15-http") return std::make_unique<HttpFault>(scene, injection);
  return nullptr;
}

}  // namespace outfall::torture
