#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tests/faults/torture/history.h"
#include "tests/support/tcp_gate.h"
#include "tests/support/temp_kafka.h"

namespace outfall::torture {

// Where the workers of a run deliver to, which writes down what came, in the order in which it
// came. One thread, beside those that it has of its own.
class Sink {
 public:
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;

  // Lines of the table [emitters.sink] of this worker.
  [[nodiscard]] virtual std::string emitter(int worker) const = 0;
  // Between the workers and the sink; none where there is no network.
  [[nodiscard]] virtual std::vector<test::TcpGate*> gates() { return {}; }
  // Answers of an HTTP endpoint until changed: "200", "503" …, "hang", "reset" …; others have none.
  virtual void answer(const std::string& /*how*/) {}
  // Requests that it has answered in another way than "200" because of that.
  [[nodiscard]] virtual std::int64_t odd_answers() const { return 0; }
  // From now on it takes entries of the type kPoison as well, where it refused them.
  virtual void take_poison() {}
  // What the sink itself can suffer: it is killed or frozen, and comes back.
  virtual void go_away(bool /*frozen*/) {}
  virtual void come_back() {}
  // How often so far somebody has met that it was away, by what its gates have seen of that.
  [[nodiscard]] virtual std::uint64_t missed() {
    std::uint64_t sum = 0;
    for (const test::TcpGate* gate : gates()) sum += gate->disturbed();
    return sum;
  }
  // Waits until everything that has come is in the history.
  virtual void finish() = 0;

  static constexpr const char* kName = "sink";
  static constexpr const char* kAside = "aside";  // of a stream that a fault must not reach
  // Entries of this type are refused for good where the sink can do that; the payload is large
  // enough for a broker to refuse it.
  static constexpr const char* kPoison = "order.poisoned";
  static constexpr const char* kKiller = "order.killer";
  static constexpr int kPoisonBytes = 40'000;
};

struct SinkOptions {
  std::string emitter;  // "webhook"
  std::filesystem::path folder;
  int workers = 2;
  std::string source_folder = {};    // of the repository, for samples/exec
  test::TempKafka* kafka = nullptr;  // with a gate; for kafka only
  std::string name = {};             // of the run, in letters, digits and dashes
  // Longer than the lease of two seconds: a noop takes that long, others bear it.
  bool slow = false;
  bool poison = false;             // a program refuses kPoison, and kKiller kills its worker
  bool own_process = false;        // an endpoint that can be killed and stopped, and takes all
  bool forgets = false;            // a file gives back the disk of what has been read of it
  std::string sink = Sink::kName;  // in the history, of a file or a program
  std::string stream = "orders";   // whose entries these get
};
// The noop emitter has no outside: what arrived is what its workers have logged.
[[nodiscard]] std::unique_ptr<Sink> make_sink(const SinkOptions& options, History& history);
[[nodiscard]] std::unique_ptr<Sink> make_kafka_sink(const SinkOptions& options, History& history);

}  // namespace outfall::torture
