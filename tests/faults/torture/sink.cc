#include "tests/faults/torture/sink.h"

#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>
#include <unistd.h>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tests/support/child_process.h"
#include "tests/support/http_recorder.h"
#include "tests/support/temp_folder.h"
#include "tests/support/wait_until.h"

namespace outfall::torture {

namespace json = boost::json;
using std::chrono::milliseconds;

namespace {

class NoopSink final : public Sink {
 public:
  explicit NoopSink(bool slow) : slow_(slow) {}
  std::string emitter(int) const override {
    return fmt::format(
        "kind = \"noop\"\nlatency = \"{}\"\ncrash_type = \"{}\"\nfail_types = {{ \"{}\" = "
        "\"failed\" }}\n",
        slow_ ? "3s" : "3ms", kKiller, kPoison);
  }
  void finish() override {}

 private:
  const bool slow_;
};

constexpr std::int64_t kForgetsAtOnce = 64 << 20;

// A file of CloudEvents lines to which all workers append, or the programs that they have started.
class FileSink final : public Sink {
 public:
  FileSink(const SinkOptions& options, History& history)
      : history_(history),
        name_(options.sink),
        stream_(options.stream),
        file_(options.folder / (options.sink + ".events")),
        program_(program_of(options)),
        forgets_(options.forgets),
        reader_([this] { follow(); }) {}
  ~FileSink() override {
    ended_ = true;
    reader_.join();
  }

  std::string emitter(int) const override {
    if (program_.empty()) return fmt::format("kind = \"stdout\"\npath = \"{}\"\n", file_.string());
    return fmt::format("kind = \"exec\"\ncommand = [\"python3\", \"{}\", \"{}\"]\n", program_,
                       file_.string());
  }
  void finish() override {
    test::wait_until(
        [this] {
          return !std::filesystem::exists(file_) ||
                 read_ == static_cast<std::int64_t>(std::filesystem::file_size(file_));
        },
        "all lines of the sink's file to be read");
  }

 private:
  // The sample program, but where entries are to be refused or to kill.
  static std::string program_of(const SinkOptions& options) {
    if (options.emitter != "exec") return {};
    return options.source_folder +
           (options.poison ? "/tests/faults/torture/poisoned.py" : "/samples/exec/deliver.py");
  }

  void follow() {
    while (!ended_) {
      (void)test::holds_within([this] { return ended_.load() || more(); }, milliseconds{100});
    }
  }

  // True when there were lines to read.
  bool more() {
    if (!in_.is_open()) {
      in_.open(file_, std::ios::binary);
      if (!in_.is_open()) return false;
    }
    bool any = false;
    in_.clear();
    in_.seekg(read_.load());
    for (std::string line; std::getline(in_, line) && !in_.eof();) {
      any = true;
      take(line);
      read_ += static_cast<std::int64_t>(line.size()) + 1;
    }
    if (forgets_ && read_ - forgotten_ >= kForgetsAtOnce) forget();
    return any;
  }

  // The file keeps its length: its writers and its reader go on where they are.
  void forget() {
    const int file = ::open(file_.c_str(), O_WRONLY | O_CLOEXEC);
    if (file < 0) return;
    // Where the file system cannot, the file grows.
    static_cast<void>(::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, forgotten_,
                                  read_ - forgotten_));
    ::close(file);
    forgotten_ = read_;
  }

  // A line that a killed worker has left half written is no delivery.
  void take(const std::string& line) {
    json::error_code error;
    const json::value value = json::parse(line, error);
    if (error || !value.is_object()) return;
    const json::object& event = value.as_object();
    Place place{.id = std::string(event.at("id").as_string()),
                .stream = stream_,
                .key = {},
                .n = event.at("data").at("n").to_number<std::int64_t>()};
    if (const json::value* key = event.if_contains("partitionkey")) place.key = key->as_string();
    history_.arrived(name_, place);
  }

  History& history_;
  const std::string name_;
  const std::string stream_;
  const std::filesystem::path file_;
  const std::string program_;
  const bool forgets_;
  std::ifstream in_;
  std::int64_t forgotten_ = 0;
  std::atomic<std::int64_t> read_{0};
  std::atomic<bool> ended_{false};
  std::thread reader_;
};

// An HTTP endpoint behind a gate for each worker.
class HttpSink final : public Sink {
 public:
  HttpSink(const SinkOptions& options, History& history) : history_(history), slow_(options.slow) {
    for (int i = 0; i < options.workers; ++i)
      gates_.push_back(std::make_unique<test::TcpGate>(recorder_.port()));
    recorder_.answer_by([this](const test::HttpRequest& request) { return take(request); });
  }

  std::string emitter(int worker) const override {
    const auto& gate = gates_[static_cast<std::size_t>(worker) % gates_.size()];
    return fmt::format(
        "kind = \"webhook\"\nurl = \"http://127.0.0.1:{}/hooks\"\ntimeout = \"1s\"\n"
        "connect_timeout = \"500ms\"\n{}",
        // One answer may take half of a lease at most: what takes longer is a batch, one by one.
        gate->port(), slow_ ? "max_connections = 4\n" : "");
  }
  std::vector<test::TcpGate*> gates() override {
    std::vector<test::TcpGate*> result;
    for (const auto& gate : gates_) result.push_back(gate.get());
    return result;
  }
  void answer(const std::string& how) override {
    const std::lock_guard lock(mutex_);
    how_ = how;
  }
  std::int64_t odd_answers() const override { return odd_answers_; }
  void take_poison() override { takes_poison_ = true; }
  void go_away(bool frozen) override {
    for (const auto& gate : gates_) {
      if (frozen) {
        gate->traffic(test::Traffic::stall);
      } else {
        gate->admit(test::Admission::refuse);
        gate->end_connections(test::Ending::reset);
      }
    }
  }
  void come_back() override {
    for (const auto& gate : gates_) {
      gate->traffic(test::Traffic::pass);
      gate->admit(test::Admission::accept);
    }
  }
  void finish() override {}

 private:
  test::HttpAnswer take(const test::HttpRequest& request) {
    std::string how;
    {
      const std::lock_guard lock(mutex_);
      how = how_;
    }
    const std::string id = request.header("webhook-id").value_or("");
    if (how != "200" && request.header("ce-type") != kPoison) ++odd_answers_;
    test::HttpAnswer answer;
    // As long as a real one takes, so that workers have something on its way.
    answer.delay = milliseconds(5 + static_cast<int>(history_.arrivals() % 20));
    if (!takes_poison_ && request.header("ce-type") == kPoison) {
      answer.status = 400;
    } else if (how == "hang") {
      answer.fault = test::HttpFault::hang;
    } else if (how == "reset") {
      answer.fault = test::HttpFault::reset;
    } else if (how == "close") {
      answer.fault = test::HttpFault::close;
    } else if (how == "cut-body") {
      answer.fault = test::HttpFault::cut_body;
      answer.body = "as much as is needed to be cut";
    } else if (how == "trickle") {
      answer.fault = test::HttpFault::trickle;
      answer.body = std::string(400, 'x');
    } else if (how != "200") {
      answer.status = std::stoi(how);
      if (how == "429") answer.headers = {{"Retry-After", "1"}};
    }
    // An endpoint that says no has not taken it; one that says nothing may have.
    if (answer.status != 200) {
      history_.add({{"f", "refused"}, {"sink", kName}, {"id", id}});
      return answer;
    }
    json::error_code error;
    const json::value body = json::parse(request.body, error);
    history_.arrived(kName, {.id = id,
                             .stream = "orders",
                             .key = request.header("ce-partitionkey").value_or(""),
                             .n = error ? 0 : body.at("n").to_number<std::int64_t>()});
    return answer;
  }

  History& history_;
  const bool slow_;
  std::atomic<bool> takes_poison_{false};
  std::mutex mutex_;
  std::string how_ = "200";  // guarded by mutex_
  std::atomic<std::int64_t> odd_answers_{0};
  std::vector<std::unique_ptr<test::TcpGate>> gates_;
  test::HttpRecorder recorder_;
};

// An HTTP endpoint in a process of its own, behind a gate for each worker.
class ProcessSink final : public Sink {
 public:
  ProcessSink(const SinkOptions& options, History& history)
      : options_(options), port_(test::free_port()), taken_(options, history) {
    for (int i = 0; i < options.workers; ++i)
      gates_.push_back(std::make_unique<test::TcpGate>(port_));
    start();
  }

  std::string emitter(int worker) const override {
    const auto& gate = gates_[static_cast<std::size_t>(worker) % gates_.size()];
    return fmt::format(
        "kind = \"webhook\"\nurl = \"http://127.0.0.1:{}/hooks\"\ntimeout = \"1s\"\n"
        "connect_timeout = \"500ms\"\n",
        gate->port());
  }
  std::vector<test::TcpGate*> gates() override {
    std::vector<test::TcpGate*> result;
    for (const auto& gate : gates_) result.push_back(gate.get());
    return result;
  }
  void go_away(bool frozen) override {
    if (frozen) {
      process_->signal(SIGSTOP);
      sent_before_ = sent();
    } else {
      (void)process_->kill();
      process_.reset();
    }
  }
  void come_back() override {
    if (process_) {
      sent_before_.reset();
      process_->signal(SIGCONT);
    } else {
      start();
    }
  }
  // Its gates do nothing here: they find nobody behind them, or hand on what nobody reads.
  std::uint64_t missed() override {
    std::uint64_t sum = sent_before_ ? sent() - *sent_before_ : 0;
    for (const auto& gate : gates_) sum += gate->unserved();
    return sum;
  }
  void finish() override { taken_.finish(); }

 private:
  [[nodiscard]] std::uint64_t sent() const {
    std::uint64_t bytes = 0;
    for (const auto& gate : gates_) bytes += gate->bytes(test::Direction::to_server);
    return bytes;
  }
  void start() {
    process_ = std::make_unique<test::ChildProcess>(
        std::vector<std::string>{
            "python3", options_.source_folder + "/tests/faults/torture/endpoint.py",
            std::to_string(port_), (options_.folder / (options_.sink + ".events")).string()},
        test::ChildOptions{.error_file = options_.folder / "endpoint.log"});
    test::wait_until([this] { return !process_->output().empty(); }, "the endpoint to listen");
  }

  const SinkOptions options_;
  const int port_;
  FileSink taken_;  // the file that the process appends to
  std::vector<std::unique_ptr<test::TcpGate>> gates_;
  std::unique_ptr<test::ChildProcess> process_;
  std::optional<std::uint64_t> sent_before_;  // it was stopped, which it is
};

}  // namespace

std::unique_ptr<Sink> make_sink(const SinkOptions& options, History& history) {
  if (options.emitter == "noop") return std::make_unique<NoopSink>(options.slow);
  if (options.emitter == "webhook" && options.own_process)
    return std::make_unique<ProcessSink>(options, history);
  if (options.emitter == "webhook") return std::make_unique<HttpSink>(options, history);
  if (options.emitter == "kafka") return make_kafka_sink(options, history);
  return std::make_unique<FileSink>(options, history);
}

}  // namespace outfall::torture
