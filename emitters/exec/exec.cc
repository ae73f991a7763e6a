#include "emitters/exec/exec.h"

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

#include "core/mutex.h"
#include "emitter/guard.h"
#include "emitters/exec/conversation.h"

namespace outfall {
namespace {

// Signals are for the main thread; SIGPIPE, which a write raises in its own thread, stays pending
// in this one without an effect.
void block_signals() noexcept {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

// The thread owns the conversation with the program; the others only hand batches over.
class ExecEmitter final : public Emitter {
 public:
  explicit ExecEmitter(const EmitterContext& context)
      : sink_(context.sink),
        clock_(context.clock),
        settings_(ExecSettings::from(context.settings)),
        wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
        conversation_(settings_, context.sink, context.clock, context.reporter) {
    if (!wake_.is_open()) throw std::system_error(errno, std::generic_category(), "eventfd");
    capabilities_.key_window = 1;
    capabilities_.max_in_flight = settings_.max_in_flight;
    thread_ = std::thread([this] { run(); });
  }

  ~ExecEmitter() override { stop(Milliseconds{0}); }

  const Capabilities& capabilities() const noexcept override { return capabilities_; }

  void emit(EmitBatch batch) noexcept override {
    try {
      const MutexLock lock(mutex_);
      incoming_.emplace_back();  // The only step that can throw; the batch is whole until then.
      incoming_.back() = std::move(batch);
    } catch (...) {
      return complete_with_current_exception(batch, sink_);
    }
    wake();
  }

  void stop(Milliseconds timeout) noexcept override {
    if (!thread_.joinable()) return;
    {
      const MutexLock lock(mutex_);
      stop_at_ = clock_.monotonic() + timeout;
    }
    wake();
    thread_.join();
  }

  Health check(Milliseconds) noexcept override {
    try {
      const ProgramFile file = find_program(settings_);
      return {file.problem.empty(), file.problem.empty() ? file.path : file.problem};
    } catch (...) {
      return {false, {}};
    }
  }

 private:
  void wake() const noexcept {
    const std::uint64_t one = 1;
    // It fails only when the counter is full, and then the thread wakes up as well.
    [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
  }

  void run() noexcept {
    block_signals();
    bool is_stopping = false;
    while (!is_stopping || !conversation_.is_over()) {
      std::uint64_t wakes = 0;
      [[maybe_unused]] const ssize_t consumed = ::read(wake_.get(), &wakes, sizeof wakes);
      const std::optional<MonotonicTime> stop_at = take_over();
      try {
        take_incoming();
        if (stop_at && !is_stopping) {
          conversation_.stop(*stop_at);
          is_stopping = true;
        }
        conversation_.work();
        if (!is_stopping || !conversation_.is_over()) conversation_.wait(wake_.get());
      } catch (...) {
        conversation_.give_up();
      }
    }
  }

  // Moves what was handed over out from under the lock.
  [[nodiscard]] std::optional<MonotonicTime> take_over() noexcept {
    const MutexLock lock(mutex_);
    taken_.swap(incoming_);
    return stop_at_;
  }

  void take_incoming() {
    for (EmitBatch& batch : taken_) {
      try {
        conversation_.take(std::move(batch));
      } catch (...) {
        complete_with_current_exception(batch, sink_);
      }
    }
    taken_.clear();
  }

  CompletionSink& sink_;
  const Clock& clock_;
  const ExecSettings settings_;
  Capabilities capabilities_;
  const OwnedDescriptor wake_;  // eventfd

  Conversation conversation_;     // used by the thread alone
  std::vector<EmitBatch> taken_;  // likewise

  Mutex mutex_;
  std::vector<EmitBatch> incoming_ OUTFALL_GUARDED_BY(mutex_);
  std::optional<MonotonicTime> stop_at_ OUTFALL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace

EmitterKind exec_emitter_kind() {
  return {.kind = "exec",
          .summary =
              "Hands each entry to a program of yours, as a CloudEvents JSON line on its "
              "standard input, and reads the outcome from its standard output.",
          .settings = ExecSettings::specs(),
          .validate = &ExecSettings::problems,
          .notes = &ExecSettings::notes,
          .metrics = Conversation::metrics(),
          .create = [](EmitterContext context) -> std::unique_ptr<Emitter> {
            return std::make_unique<ExecEmitter>(context);
          }};
}

}  // namespace outfall
