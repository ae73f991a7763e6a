#include "emitters/noop/noop.h"

#include <array>
#include <csignal>
#include <deque>
#include <stdexcept>
#include <thread>
#include <utility>

#include "core/mutex.h"
#include "emitter/guard.h"
#include "emitters/noop/plan.h"

namespace outfall {
namespace {

constexpr auto kSettings = std::to_array<SettingSpec>({
    {.name = "latency",
     .type = SettingType::duration,
     .default_value = "\"0ms\"",
     .summary = "How long every entry takes. 0ms answers at once.",
     .max = 3'600'000},
    {.name = "fail",
     .type = SettingType::string_map,
     .summary =
         "Which share of the attempts gets which answer instead of `delivered`, as in "
         "`{ retryable_failure = \"0.1\" }`. The shares add up to 1 at most. The answers are "
         "`retryable_failure`, `possibly_delivered`, `connection_lost` (the same, with its "
         "connection), `failed`, `dead_lettered`, `deferred`, `destination_unavailable`, "
         "`blocked`, `pending`, `shutdown` and `exception`, which is thrown."},
    {.name = "fail_types",
     .type = SettingType::string_map,
     .summary = "Which answer every entry of a type gets, as in `{ \"order.poisoned\" = "
                "\"failed\" }`. Goes before `fail`."},
    {.name = "retry_after",
     .type = SettingType::duration,
     .summary =
         "The pause that retryable failures and deferrals ask for. Not set: they do not ask.",
     .max = 86'400'000},
    {.name = "crash_type",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "An entry of this type kills the worker by SIGKILL. For tests only."},
});

// What `exception` throws: a type of its own, whose name is what gets stored.
class NoopException : public std::runtime_error {
 public:
  NoopException() : std::runtime_error("this text is never stored") {}
};

// Without latency everything happens in emit(). With it, a thread answers the batches one after the
// other when their time has come, so the order of each key is the order of the queue.
class NoopEmitter final : public Emitter {
 public:
  explicit NoopEmitter(const EmitterContext& context)
      : sink_(context.sink),
        clock_(context.clock),
        plan_(context.settings),
        latency_(context.settings.duration("latency")),
        retry_after_(context.settings.has("retry_after") ? context.settings.duration("retry_after")
                                                         : Milliseconds{-1}) {
    capabilities_.key_window = 0;
    capabilities_.dry_run = true;
    capabilities_.max_in_flight = 100'000;
    capabilities_.max_in_flight_bytes = std::size_t{256} << 20;
    if (latency_.count() > 0) thread_ = std::thread([this] { run(); });
  }

  ~NoopEmitter() override { stop(Milliseconds{0}); }

  const Capabilities& capabilities() const noexcept override { return capabilities_; }

  void emit(EmitBatch batch) noexcept override {
    const MonotonicTime now = clock_.monotonic();
    const bool too_late = now >= batch.send_until();
    if (!thread_.joinable()) return answer(batch, too_late);
    try {
      const MutexLock lock(mutex_);
      queue_.emplace_back();  // The only step that can throw; the batch is whole until then.
      queue_.back() = {too_late ? now : now + latency_, too_late, std::move(batch)};
    } catch (...) {
      return complete_with_current_exception(batch, sink_);
    }
    changed_.notify_one();
  }

  void stop(Milliseconds timeout) noexcept override {
    if (!thread_.joinable()) return;
    {
      const MutexLock lock(mutex_);
      stop_at_ = clock_.monotonic() + timeout;
    }
    changed_.notify_one();
    thread_.join();
  }

  Health check(Milliseconds) noexcept override { return {true, {}}; }

 private:
  struct Waiting {
    MonotonicTime due;
    bool too_late = false;
    EmitBatch batch;
  };

  void run() noexcept {
    MutexLock lock(mutex_);
    while (true) {
      const bool stopping = stop_at_ != MonotonicTime::max();
      if (queue_.empty()) {
        if (stopping) return;
        changed_.wait(lock);
        continue;
      }
      const MonotonicTime now = clock_.monotonic();
      const MonotonicTime wake = std::min(queue_.front().due, stop_at_);
      if (now < wake) {
        changed_.wait_for(lock, wake - now);
        continue;
      }
      Waiting waiting = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      answer(waiting.batch, waiting.too_late || now < waiting.due);
      waiting = {};  // What the owner's end does must not happen under our lock.
      lock.lock();
    }
  }

  // Completes the whole batch; `unsent`: as shutdown.
  void answer(const EmitBatch& batch, bool unsent) noexcept {
    try {
      completions_.resize(batch.items.size());
    } catch (...) {
      return complete_with_current_exception(batch, sink_);
    }
    const bool delivers_all = plan_.delivers_all() && !unsent;
    for (std::size_t i = 0; i < batch.items.size(); ++i) {
      const EmitItem& item = batch.items[i];
      Completion& completion = completions_[i];
      reset(completion, item.token);
      if (item.blocked()) {
        completion.outcome.kind = OutcomeKind::blocked;
      } else if (!delivers_all) {
        answer(item, unsent, completion.outcome);
      }
    }
    sink_.complete(completions_);
  }

  // The sink has moved from the completions of the batch before, or has not.
  void reset(Completion& completion, std::uint64_t token) const noexcept {
    completion.token = token;
    completion.duration = latency_;
    Outcome& outcome = completion.outcome;
    outcome.kind = OutcomeKind::delivered;
    outcome.connection_lost = false;
    outcome.retry_after = Milliseconds{-1};
    outcome.record_id.clear();
    outcome.error.reset();
  }

  void answer(const EmitItem& item, bool unsent, Outcome& outcome) const noexcept {
    const Envelope& envelope = *item.envelope;
    if (unsent) {
      outcome.kind = OutcomeKind::shutdown;
    } else {
      if (plan_.crashes_on(envelope)) std::raise(SIGKILL);
      const auto planned = plan_.answer(envelope);
      if (!planned) return;
      outcome = guarded([&] { return make(*planned); });
    }
    item.break_run();
  }

  [[nodiscard]] Outcome make(NoopAnswer answer) const {
    if (answer.kind == OutcomeKind::exception) throw NoopException();
    const bool asks =
        answer.kind == OutcomeKind::retryable_failure || answer.kind == OutcomeKind::deferred;
    const std::string name(answer.connection_lost ? "connection_lost" : to_string(answer.kind));
    Outcome outcome = Outcome::of(answer.kind, "noop." + name, "the settings ask for it",
                                  asks ? retry_after_ : Milliseconds{-1});
    outcome.connection_lost = answer.connection_lost;
    return outcome;
  }

  CompletionSink& sink_;
  const Clock& clock_;
  const NoopPlan plan_;
  const Milliseconds latency_;
  const Milliseconds retry_after_;
  Capabilities capabilities_;
  // Used by whoever answers: the caller of emit() without latency, the thread with it.
  std::vector<Completion> completions_;

  Mutex mutex_;
  Condition changed_;
  std::deque<Waiting> queue_ OUTFALL_GUARDED_BY(mutex_);
  // The greatest: not stopping.
  MonotonicTime stop_at_ OUTFALL_GUARDED_BY(mutex_) = MonotonicTime::max();
  std::thread thread_;
};

}  // namespace

EmitterKind noop_emitter_kind() {
  return {.kind = "noop",
          .summary =
              "Acknowledges every entry without delivering it; can be told to be slow and to "
              "fail, for tests and benchmarks.",
          .settings = kSettings,
          .validate = &NoopPlan::problems,
          .create = [](EmitterContext context) -> std::unique_ptr<Emitter> {
            return std::make_unique<NoopEmitter>(context);
          }};
}

}  // namespace outfall
