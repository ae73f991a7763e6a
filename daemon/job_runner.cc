#include "daemon/job_runner.h"

#include <algorithm>
#include <cerrno>

namespace outfall {
namespace {

// A chunk that the database cancelled, for a lock or a deadlock, took no effect.
constexpr int kTries = 5;
constexpr Milliseconds kBeforeNextTry{1000};
// So soon a pause, an abort or another runner is noticed while the rate has this one wait.
constexpr Milliseconds kLongestWait{1000};

JobStep next_chunk(OperatorStore& store, JobId job, const Uuid& runner,
                   const Interruption& interruption) {
  for (int tried = 1;; ++tried) {
    try {
      return store.run_job(job, runner);
    } catch (const StoreError& error) {
      const bool cancelled =
          error.kind() == StoreErrorKind::timeout || error.kind() == StoreErrorKind::conflict;
      if (!cancelled || tried == kTries || interruption.wait(kBeforeNextTry)) throw;
    }
  }
}

}  // namespace

Interruption::Interruption() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
}

Interruption::~Interruption() {
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

bool Interruption::wait(Milliseconds time) const {
  const MonotonicTime end = system_clock().monotonic() + time;
  while (true) {
    const auto left = std::max(std::chrono::nanoseconds(0),
                               std::chrono::nanoseconds(end - system_clock().monotonic()));
    const timespec span{.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000),
                        .tv_nsec = static_cast<long>(left.count() % 1'000'000'000)};
    if (sigtimedwait(&signals_, nullptr, &span) > 0) return true;
    if (errno != EINTR) return false;
  }
}

void run_job(OperatorStore& store, const Uuid& runner, const Requester& by,
             const Interruption& interruption, JobProgress& progress, JobRun& run) {
  const MonotonicTime started = system_clock().monotonic();
  while (true) {
    run.step = next_chunk(store, run.job, runner, interruption);
    run.moved += run.step.moved;
    run.seconds = std::chrono::duration<double>(system_clock().monotonic() - started).count();
    progress.show(run.step);
    if (run.step.state != "running") break;
    if (interruption.wait(std::min(run.step.wait, kLongestWait))) {
      store.pause_job(run.job, {.actor = by.actor, .reason = "interrupted: " + by.reason});
      run.step.state = "paused";
      run.interrupted = true;
      break;
    }
  }
  progress.clear();
}

}  // namespace outfall
