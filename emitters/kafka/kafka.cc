#include "emitters/kafka/kafka.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <climits>

#include "core/mutex.h"
#include "emitter/guard.h"
#include "emitters/kafka/check.h"
#include "emitters/kafka/pipeline.h"
#include "emitters/kafka/settings.h"
#include "emitters/kafka/statistics.h"

namespace outfall {
namespace {

constexpr std::size_t kMaxInFlight = 50'000;
constexpr std::size_t kMaxInFlightBytes = std::size_t{256} << 20;

// Signals are for the main thread.
void block_signals() noexcept {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

// An eventfd, through which emit(), stop() and librdkafka wake the thread.
class WakeUp {
 public:
  WakeUp() : descriptor_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  }
  ~WakeUp() { ::close(descriptor_); }
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;

  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  void wake() const noexcept {
    const std::uint64_t one = 1;
    // It fails only when the counter is full, and then the thread wakes up as well.
    [[maybe_unused]] const ssize_t written = ::write(descriptor_, &one, sizeof one);
  }
  // Negative: until woken.
  void wait(Milliseconds timeout) const noexcept {
    pollfd polled{descriptor_, POLLIN, 0};
    const auto count = std::clamp<std::int64_t>(timeout.count(), -1, INT_MAX);
    if (::poll(&polled, 1, static_cast<int>(count)) <= 0) return;
    std::uint64_t wakes = 0;
    [[maybe_unused]] const ssize_t consumed = ::read(descriptor_, &wakes, sizeof wakes);
  }

 private:
  const int descriptor_;
};

class KafkaEmitter final : public Emitter {
 public:
  explicit KafkaEmitter(const EmitterContext& context)
      : sink_(context.sink),
        clock_(context.clock),
        max_payload_bytes_(context.max_payload_bytes),
        settings_(kafka::read_settings(context.settings)),
        pipeline_(context, settings_, wake_.descriptor()) {
    capabilities_.key_window = settings_.key_window;
    capabilities_.max_in_flight = kMaxInFlight;
    capabilities_.max_in_flight_bytes = kMaxInFlightBytes;
    pipeline_.warm_up();
    thread_ = std::thread([this] { run(); });
  }

  ~KafkaEmitter() override { stop(Milliseconds{0}); }

  const Capabilities& capabilities() const noexcept override { return capabilities_; }

  void emit(EmitBatch batch) noexcept override {
    try {
      const MutexLock lock(mutex_);
      queue_.emplace_back();  // The only step that can throw; the batch is whole until then.
      queue_.back() = std::move(batch);
    } catch (...) {
      return complete_with_current_exception(batch, sink_);
    }
    wake_.wake();
  }

  void stop(Milliseconds timeout) noexcept override {
    if (!thread_.joinable()) return;
    stop_at_ = clock_.monotonic() + timeout;
    wake_.wake();
    thread_.join();
  }

  Health check(Milliseconds timeout) noexcept override {
    return kafka::check_cluster(settings_, max_payload_bytes_, timeout);
  }

 private:
  void run() noexcept {
    block_signals();
    std::vector<EmitBatch> batches;
    bool stopping = false;
    while (true) {
      const MonotonicTime stop_at = stop_at_;
      if (!stopping && stop_at != MonotonicTime::max()) {
        stopping = true;
        pipeline_.stop();
      }
      {
        const MutexLock lock(mutex_);
        batches.swap(queue_);
      }
      for (EmitBatch& batch : batches) pipeline_.take(std::move(batch));
      batches.clear();
      pipeline_.serve();
      Milliseconds patience = pipeline_.patience();
      if (stopping) {
        if (pipeline_.idle()) return;
        const MonotonicTime now = clock_.monotonic();
        if (now >= stop_at) return pipeline_.abandon();
        patience = std::min(patience, std::chrono::ceil<Milliseconds>(stop_at - now));
      }
      wake_.wait(patience);
    }
  }

  CompletionSink& sink_;
  const Clock& clock_;
  const std::int64_t max_payload_bytes_;
  const kafka::Settings settings_;
  Capabilities capabilities_;
  const WakeUp wake_;
  kafka::Pipeline pipeline_;  // used by the thread alone once it runs

  std::atomic<MonotonicTime> stop_at_ = MonotonicTime::max();  // max: not stopping
  Mutex mutex_;
  std::vector<EmitBatch> queue_ OUTFALL_GUARDED_BY(mutex_);
  std::thread thread_;
};

std::string lane_of(const SettingValues& values) {
  const auto topic = kafka::TopicTemplate::parse(values.text("topic"));
  const auto* parsed = std::get_if<kafka::TopicTemplate>(&topic);
  return parsed == nullptr ? std::string() : parsed->lane();
}

}  // namespace

EmitterKind kafka_emitter_kind() {
  return {.kind = "kafka",
          .summary = "Writes one record per entry to a Kafka cluster.",
          .settings = kafka::setting_specs(),
          .validate = &kafka::setting_problems,
          .lane = lane_of,
          .metrics = kafka::metric_specs(),
          .create = [](EmitterContext context) -> std::unique_ptr<Emitter> {
            return std::make_unique<KafkaEmitter>(context);
          }};
}

}  // namespace outfall
