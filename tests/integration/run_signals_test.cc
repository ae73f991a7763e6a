// Goal: what a worker does with the signals that come while it stops. Method: real processes whose
// deliveries take longer than the test, so that the stop lasts.

#include <array>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/integration/admin_client.h"
#include "tests/integration/worker_fixture.h"
#include "tests/support/sanitizers.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;

constexpr const char* kSlow =
    "[streams.orders]\nemitter = \"out\"\n[emitters.out]\nkind = \"noop\"\nlatency = \"60s\"\n";
constexpr const char* kLongStop = "shutdown_timeout = \"50s\"";

class RunSignals : public WorkerTest {
 protected:
  RunSignals() { enqueue_many("orders", 10, 10); }

  // A stop lasts only where something is at the emitter.
  static void wait_for_delivery(int port) {
    wait_until(
        [&] {
          const std::string metrics =
              http_get("http://127.0.0.1:" + std::to_string(port) + "/metrics").body;
          return metrics.find("outfall_in_flight_entries{stream=\"orders\"} 10\n") !=
                 std::string::npos;
        },
        "all is in flight");
  }
  static void begin_stop(WorkerProcess& worker) {
    wait_until([&] { return worker.metric("outfall_in_flight_entries{stream=\"orders\"}") == 10; },
               "all is in flight");
    worker.process().signal(SIGTERM);
    worker.process().wait_for_output("stopping");
    let_echo_pass();
  }
  // What comes sooner is taken for the first signal once more.
  static void let_echo_pass() {
    const auto after = std::chrono::steady_clock::now() + std::chrono::milliseconds{100};
    wait_until([&] { return std::chrono::steady_clock::now() > after; }, "the echo is over");
  }
};

// A log that the test reads until it no longer does.
class Fifo {
 public:
  explicit Fifo(const std::filesystem::path& path) {
    if (::mkfifo(path.c_str(), 0600) != 0) throw std::runtime_error("mkfifo");
    // Both ends, so that nobody waits for the other.
    descriptor_ = ::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  }
  ~Fifo() { ::close(descriptor_); }
  Fifo(const Fifo&) = delete;
  Fifo& operator=(const Fifo&) = delete;

  void read_until(const std::string& text) {
    wait_until(
        [&] {
          std::array<char, 4096> part{};
          const ssize_t size = ::read(descriptor_, part.data(), part.size());
          if (size > 0) read_.append(part.data(), static_cast<std::size_t>(size));
          return read_.find(text) != std::string::npos;
        },
        "the log says " + text);
  }
  void fill() const {
    while (::write(descriptor_, "x", 1) == 1) {
    }
  }

 private:
  int descriptor_ = -1;
  std::string read_;
};

TEST_F(RunSignals, ASecondOneEndsTheProcessAtOnce) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = kSlow, .drain = kLongStop});
  begin_stop(worker);
  worker.process().signal(SIGINT);
  EXPECT_EQ(worker.process().wait().code, 130);
  EXPECT_THAT(worker.log(), HasSubstr("warning second signal: ending at once; what is in flight"));
  EXPECT_THAT(worker.log(), HasSubstr(" signal=SIGINT"));
}

// timeout(1) sends its signal to its child and then to its process group, which has the child: that
// ended one worker in four without a stop.
TEST_F(RunSignals, TheFirstOneTwiceIsNoSecondOne) {
  WorkerProcess worker({.dsn = database_.dsn(),
                        .streams = "[streams.orders]\nemitter = \"out\"\n[emitters.out]\nkind = "
                                   "\"noop\"\nlatency = \"700ms\"\n",
                        .drain = kLongStop});
  wait_until([&] { return worker.metric("outfall_in_flight_entries{stream=\"orders\"}") == 10; },
             "all is in flight");
  for (int i = 0; i < 2; ++i) worker.process().signal(SIGTERM);
  EXPECT_EQ(worker.process().wait().code, 0);
  EXPECT_EQ(delivered(), 10);
}

TEST_F(RunSignals, AReloadDuringAStopIsSaidNotToHappen) {
  WorkerProcess worker({.dsn = database_.dsn(), .streams = kSlow, .drain = kLongStop});
  begin_stop(worker);
  worker.process().signal(SIGHUP);
  worker.process().wait_for_output("stopping; the configuration is not read again");
  worker.process().signal(SIGTERM);
  EXPECT_EQ(worker.process().wait().code, 130);
  EXPECT_THAT(worker.log(), HasSubstr(" signal=SIGTERM"));
}

TEST_F(RunSignals, ASecondOneEndsAProcessWhoseLogNobodyReads) {
  if (kThreadSanitizer) GTEST_SKIP() << "its runtime does not end a process that writes to a pipe";
  const TempFolder folder;
  Fifo log(folder / "log");
  const int port = free_port();
  const std::string config =
      folder.write("outfall.toml", "[database]\nurl = \"" + database_.dsn() +
                                       "\"\n[admin]\nlisten = \"127.0.0.1:" + std::to_string(port) +
                                       "\"\n[drain]\n" + kLongStop + "\n" + kSlow);
  ChildProcess worker({"sh", "-c", "exec \"$@\" 2>\"$0\"", folder / "log", OUTFALL_BINARY, "run",
                       "--config", config});
  log.read_until("started");
  wait_for_delivery(port);
  worker.signal(SIGTERM);
  log.read_until("stopping");
  let_echo_pass();
  log.fill();
  worker.signal(SIGHUP);
  worker.signal(SIGTERM);
  EXPECT_EQ(worker.wait().code, 130);
}

}  // namespace
}  // namespace outfall::test
