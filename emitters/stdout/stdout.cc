#include "emitters/stdout/stdout.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <deque>
#include <future>
#include <pthread.h>
#include <sys/eventfd.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

#include "core/cloudevents.h"
#include "core/crash_point.h"
#include "core/mutex.h"
#include "emitter/guard.h"
#include "emitters/stdout/output.h"

namespace outfall {
namespace {

constexpr auto kSettings = std::to_array<SettingSpec>({
    {.name = "path",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "The file or FIFO that the lines are appended to; empty is standard output. A file "
                "that was renamed or removed is opened anew."},
    {.name = "fsync",
     .type = SettingType::boolean,
     .default_value = "false",
     .summary = "Whether an entry of a file counts as delivered only when it is on the disk. Safe "
                "against a crash of the machine, and slower."},
});

// A batch is written in pieces of about this size, so that its text need not fit into memory twice.
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

// Signals are for the main thread; SIGPIPE and SIGXFSZ, which a write raises in its own thread,
// stay pending in this one without an effect.
void block_signals() noexcept {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

class StdoutEmitter final : public Emitter, private Patience {
 public:
  explicit StdoutEmitter(const EmitterContext& context)
      : sink_(context.sink),
        clock_(context.clock),
        path_(context.settings.text("path")),
        output_(path_, context.settings.flag("fsync")),
        wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (wake_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
    capabilities_.key_window = 0;
    capabilities_.max_in_flight = 10'000;
    capabilities_.max_in_flight_bytes = std::size_t{32} << 20;
    try {
      thread_ = std::thread([this] { run(); });
    } catch (...) {
      ::close(wake_);
      throw;
    }
  }

  ~StdoutEmitter() override {
    stop(Milliseconds{0});
    ::close(wake_);
  }

  const Capabilities& capabilities() const noexcept override { return capabilities_; }

  void emit(EmitBatch batch) noexcept override {
    try {
      const MutexLock lock(mutex_);
      queue_.emplace_back();  // The only step that can throw; the batch is whole until then.
      queue_.back() = std::move(batch);
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
    const std::uint64_t one = 1;
    // It fails only when the counter is full, and then the thread wakes up as well.
    [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
    thread_.join();
  }

  // On a thread that is left alone after `timeout`: a file system whose server is gone keeps
  // whoever asks, however that is asked.
  Health check(Milliseconds timeout) noexcept override {
    try {
      std::packaged_task<Health()> look([path = path_] {
        block_signals();
        return Output(path, false).check();
      });
      std::future<Health> answer = look.get_future();
      std::thread(std::move(look)).detach();
      if (answer.wait_for(timeout) == std::future_status::ready) return answer.get();
      return {false, path_ + ": the file system does not answer"};
    } catch (...) {
      return {false, {}};
    }
  }

 private:
  // An item whose line is at [begin, end) of the piece; or that has its outcome already.
  struct Line {
    const EmitItem* item = nullptr;
    std::size_t begin = 0;
    std::size_t end = 0;
    bool in_piece = false;
  };

  int wake_descriptor() const noexcept override { return wake_; }

  MonotonicTime::duration left() noexcept override {
    std::uint64_t wakes = 0;
    [[maybe_unused]] const ssize_t consumed = ::read(wake_, &wakes, sizeof wakes);
    const MutexLock lock(mutex_);
    return std::min(deadline_, stop_at_) - clock_.monotonic();
  }

  void run() noexcept {
    block_signals();
    MutexLock lock(mutex_);
    while (true) {
      while (queue_.empty() && stop_at_ == MonotonicTime::max()) changed_.wait(lock);
      if (queue_.empty()) return;
      EmitBatch batch = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      deliver(batch);
      batch = {};  // What the owner's end does must not happen under our lock.
      lock.lock();
    }
  }

  void deliver(const EmitBatch& batch) noexcept {
    deadline_ = batch.send_until();
    std::size_t done = 0;
    try {
      while (done < batch.items.size()) {
        lines_.clear();
        completions_.clear();
        // Both are made room for before anything is written, so that nothing throws after it.
        lines_.reserve(batch.items.size() - done);
        completions_.reserve(batch.items.size() - done);
        const MonotonicTime begun = clock_.monotonic();
        const bool too_late = left().count() <= 0;
        const std::size_t next = too_late ? take_rest(batch, done) : take_piece(batch, done);
        const Output::Written written =
            too_late || piece_.empty() ? Output::Written{} : output_.write(piece_, *this);
        OUTFALL_CRASH_POINT("stdout", "written");
        complete_piece(written, begun);
        done = next;
      }
    } catch (...) {
      complete_with_current_exception(batch, sink_, done);
    }
    if (piece_.capacity() > 4 * kPieceBytes) std::string().swap(piece_);
  }

  // Every item from `first` on, with no line.
  std::size_t take_rest(const EmitBatch& batch, std::size_t first) {
    piece_.clear();
    for (std::size_t i = first; i < batch.items.size(); ++i) add(batch.items[i]);
    return batch.items.size();
  }

  // Lines of the items from `first` on until the piece is full; returns the item after them.
  std::size_t take_piece(const EmitBatch& batch, std::size_t first) {
    piece_.clear();
    std::size_t next = first;
    while (next < batch.items.size() && piece_.size() < kPieceBytes) {
      const EmitItem& item = batch.items[next++];
      Line& line = add(item);
      if (item.blocked()) continue;
      line.begin = piece_.size();
      Outcome formatted = guarded([&] {
        append_cloudevent_json(piece_, *item.envelope);
        piece_ += '\n';
        return Outcome{};
      });
      if (formatted.kind == OutcomeKind::delivered) {
        line.end = piece_.size();
        line.in_piece = true;
      } else {
        piece_.resize(line.begin);
        item.break_run();
        completions_.back().outcome = std::move(formatted);
      }
    }
    return next;
  }

  Line& add(const EmitItem& item) {
    completions_.emplace_back();
    completions_.back().token = item.token;
    completions_.back().outcome.kind = OutcomeKind::shutdown;
    return lines_.emplace_back(Line{&item});
  }

  // The outcomes of the piece, in the order of its items.
  void complete_piece(const Output::Written& written, MonotonicTime begun) noexcept {
    const auto took =
        std::chrono::duration_cast<std::chrono::microseconds>(clock_.monotonic() - begun);
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      const Line& line = lines_[i];
      completions_[i].duration = took;
      Outcome& outcome = completions_[i].outcome;
      if (outcome.kind == OutcomeKind::exception) continue;
      if (line.in_piece && line.end <= written.whole) {
        outcome.kind = OutcomeKind::delivered;
        if (written.offset >= 0) {
          outcome.record_id =
              std::to_string(written.offset + static_cast<std::int64_t>(line.begin));
        }
        continue;
      }
      if (line.in_piece && line.begin < written.uncertain) {
        outcome = guarded([&] { return in_doubt(written); });
      } else if (line.item->blocked()) {
        outcome.kind = OutcomeKind::blocked;
      } else if (line.in_piece) {
        outcome = guarded([&] { return not_written(written); });
      }
      line.item->break_run();
    }
    sink_.complete(completions_);
  }

  [[nodiscard]] bool is_stopping() {
    const MutexLock lock(mutex_);
    return stop_at_ != MonotonicTime::max();
  }

  [[nodiscard]] static Outcome in_doubt(const Output::Written& written) {
    Outcome outcome = Outcome::of(
        OutcomeKind::possibly_delivered, written.error ? written.error->code : "stdout.stuck",
        written.error ? written.error->message : "the reader took only a part of the line");
    outcome.connection_lost = true;
    return outcome;
  }

  [[nodiscard]] Outcome not_written(const Output::Written& written) {
    if ((!written.error || written.gave_up) && is_stopping()) {
      Outcome outcome;
      outcome.kind = OutcomeKind::shutdown;
      return outcome;
    }
    if (written.error) {
      return Outcome::of(OutcomeKind::destination_unavailable, written.error->code,
                         written.error->message);
    }
    return Outcome::of(OutcomeKind::destination_unavailable, "stdout.stuck",
                       "the reader took nothing until the deadline of the lease");
  }

  CompletionSink& sink_;
  const Clock& clock_;
  const std::string path_;
  Capabilities capabilities_;

  // Used by the thread alone.
  Output output_;
  MonotonicTime deadline_{};  // of the batch under way
  std::string piece_;
  std::vector<Line> lines_;
  std::vector<Completion> completions_;

  const int wake_;  // eventfd: the thread waits for a reader, and stop() was called
  Mutex mutex_;
  Condition changed_;
  std::deque<EmitBatch> queue_ OUTFALL_GUARDED_BY(mutex_);
  // The greatest: not stopping.
  MonotonicTime stop_at_ OUTFALL_GUARDED_BY(mutex_) = MonotonicTime::max();
  std::thread thread_;
};

}  // namespace

EmitterKind stdout_emitter_kind() {
  return {.kind = "stdout",
          .summary = "Writes one CloudEvents 1.0 JSON line per entry to standard output or a file.",
          .settings = kSettings,
          .validate = [](const SettingValues&) { return std::vector<SettingProblem>{}; },
          .create = [](EmitterContext context) -> std::unique_ptr<Emitter> {
            return std::make_unique<StdoutEmitter>(context);
          }};
}

}  // namespace outfall
