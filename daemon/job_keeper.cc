#include "daemon/job_keeper.h"

#include <algorithm>
#include <utility>

#include "drain/database_errors.h"

namespace outfall {
namespace {

// Each holds the locks of its streams for a chunk at a time, so that many together only slow one
// another.
constexpr std::size_t kMostJobs = 8;
// So soon a pause or an abort is noticed while the rate has a job wait.
constexpr Milliseconds kLongestJobWait{1000};
constexpr Milliseconds kFirstPause{1000};
constexpr Milliseconds kLongestPause{10'000};

bool may_pass(const StoreError& error) {
  switch (error.kind()) {
    case StoreErrorKind::unavailable:
    case StoreErrorKind::read_only:
    case StoreErrorKind::timeout:
    case StoreErrorKind::conflict:
      return true;
    case StoreErrorKind::denied:
    case StoreErrorKind::schema:
    case StoreErrorKind::refused:
    case StoreErrorKind::defect:
      return false;
  }
  return false;
}

}  // namespace

Requester interrupted(const Requester& by) {
  return {.actor = by.actor, .reason = "interrupted, the worker stopped: " + by.reason};
}

JobKeeper::JobKeeper(Open open, Metrics& metrics, Logger& log)
    : open_(std::move(open)), metrics_(metrics), log_(log) {
}

JobKeeper::~JobKeeper() {
  stop();
}

void JobKeeper::start() {
  thread_ = std::thread([this] { work(); });
}

void JobKeeper::ask_to_stop() {
  const MutexLock lock(mutex_);
  stopping_ = true;
  wake_.notify_all();
}

void JobKeeper::stop() {
  ask_to_stop();
  if (thread_.joinable()) thread_.join();
}

bool JobKeeper::has_room() const {
  const MutexLock lock(mutex_);
  return !stopping_ && jobs_.size() < kMostJobs;
}

bool JobKeeper::keep(JobId job, const Uuid& runner, const Requester& by) {
  const MutexLock lock(mutex_);
  if (stopping_) return false;
  jobs_[job] = {.runner = runner, .by = by, .due = system_clock().monotonic()};
  wake_.notify_all();
  return true;
}

void JobKeeper::look_at(JobId job) {
  const MutexLock lock(mutex_);
  const auto found = jobs_.find(job);
  if (found == jobs_.end()) return;
  found->second.changed = true;
  found->second.due = system_clock().monotonic();
  wake_.notify_all();
}

void JobKeeper::work() {
  std::map<JobId, Kept> due;
  while (wait_for_due(due)) {
    for (auto& [job, kept] : due) run_one(job, kept);
  }
  pause_all();
}

bool JobKeeper::wait_for_due(std::map<JobId, Kept>& due) {
  due.clear();
  MutexLock lock(mutex_);
  while (!stopping_) {
    const MonotonicTime now = system_clock().monotonic();
    MonotonicTime next = MonotonicTime::max();
    for (auto& [job, kept] : jobs_) {
      if (kept.due <= now) {
        kept.changed = false;
        due.emplace(job, kept);
      }
      next = std::min(next, kept.due);
    }
    if (!due.empty()) return true;
    if (jobs_.empty()) {
      store_.reset();
      wake_.wait(lock);
    } else {
      wake_.wait_until(lock, next);
    }
  }
  return false;
}

void JobKeeper::run_one(JobId job, Kept& kept) {
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
  }
  try {
    chunk(job, kept);
  } catch (const StoreError& error) {
    failed(job, kept, error);
  } catch (const std::exception& error) {
    failed(job, kept, StoreError(StoreErrorKind::defect, error.what()));
  }
}

void JobKeeper::chunk(JobId job, Kept& kept) {
  if (store_ == nullptr) store_ = open_();
  const JobStep step = store_->run_job(job, kept.runner);
  if (step.state == "running") {
    if (!step.waits_for.empty()) {
      log_.limited(LogLevel::warning, "job.locked", "job waits for a lock",
                   {{"job", job}, {"waits_for", step.waits_for}});
    }
    kept.pause = Milliseconds{0};
    kept.due = system_clock().monotonic() + std::min(step.wait, kLongestJobWait);
    return give_back(job, kept);
  }
  log_.info("job ended here", {{"job", job},
                               {"state", step.state},
                               {"done", step.done},
                               {"skipped", step.skipped},
                               {"actor", kept.by.actor}});
  drop(job, kept.runner);
}

void JobKeeper::failed(JobId job, Kept& kept, const StoreError& error) {
  // That somebody else has ended the job, or runs it now, is an answer.
  if (error.kind() != StoreErrorKind::refused) {
    count_database_error(metrics_, error, store_ == nullptr);
  }
  store_.reset();
  if (!may_pass(error)) {
    log_.error("job cannot be run here", {{"job", job},
                                          {"kind", to_string(error.kind())},
                                          {"error", error.what()},
                                          {"hint", error.hint()}});
    return drop(job, kept.runner);
  }
  log_.limited(LogLevel::warning, "job.wait", "job waits for the database",
               {{"job", job}, {"kind", to_string(error.kind())}, {"error", error.what()}});
  kept.pause = std::clamp(2 * kept.pause, kFirstPause, kLongestPause);
  kept.due = system_clock().monotonic() + kept.pause;
  give_back(job, kept);
}

// It may have been resumed here under another runner meanwhile, or changed; then that counts.
void JobKeeper::give_back(JobId job, const Kept& kept) {
  const MutexLock lock(mutex_);
  const auto found = jobs_.find(job);
  if (found == jobs_.end() || found->second.runner != kept.runner || found->second.changed) return;
  found->second = kept;
}

void JobKeeper::drop(JobId job, const Uuid& runner) {
  const MutexLock lock(mutex_);
  const auto found = jobs_.find(job);
  if (found != jobs_.end() && found->second.runner == runner) jobs_.erase(found);
}

// As the command line does when it is interrupted.
void JobKeeper::pause_all() {
  std::map<JobId, Kept> jobs;
  {
    const MutexLock lock(mutex_);
    jobs.swap(jobs_);
  }
  for (const auto& [job, kept] : jobs) {
    try {
      if (store_ == nullptr) store_ = open_();
      // One more step tells whether it is running here still.
      if (store_->run_job(job, kept.runner).state != "running") continue;
      store_->pause_job(job, interrupted(kept.by));
      log_.info("job paused, since this worker stops", {{"job", job}, {"actor", kept.by.actor}});
    } catch (const StoreError& error) {
      log_.warning("job stays as an interrupted one",
                   {{"job", job}, {"kind", to_string(error.kind())}, {"error", error.what()}});
      if (error.session_lost()) break;
    } catch (const std::exception& error) {
      log_.warning("job stays as an interrupted one", {{"job", job}, {"error", error.what()}});
    }
  }
  store_.reset();
}

}  // namespace outfall
