#include "drain/database_pool.h"

#include <exception>

namespace outfall {

namespace {

constexpr Milliseconds kFirstPause{50};

}  // namespace

DatabasePool::DatabasePool(int connections, Milliseconds reconnect_max,
                           std::function<std::unique_ptr<StoreSession>()> open, Observer observer,
                           Random& random)
    : reconnect_max_(reconnect_max),
      open_(std::move(open)),
      observer_(std::move(observer)),
      random_(random) {
  for (int i = 0; i < connections; ++i) threads_.emplace_back([this] { work(); });
}

DatabasePool::~DatabasePool() {
  stop();
}

void DatabasePool::submit(Job job) {
  bool enough = false;
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
    jobs_[static_cast<std::size_t>(job.urgency)].push_back(std::move(job));
    // Those that were woken and have not taken their job yet still count as idle.
    enough = waiting_jobs() <= idle_;
  }
  (enough ? wake_ : wake_bare_).notify_one();
}

void DatabasePool::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  for (Condition* condition : {&wake_, &wake_bare_, &wake_paused_}) condition->notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

std::size_t DatabasePool::waiting_jobs() const {
  std::size_t count = 0;
  for (const auto& queue : jobs_) count += queue.size();
  return count;
}

bool DatabasePool::wait_for_job(bool with_session) {
  MutexLock lock(mutex_);
  if (with_session) ++idle_;
  while (!stopping_ && waiting_jobs() == 0) (with_session ? wake_ : wake_bare_).wait(lock);
  if (with_session) --idle_;
  return !stopping_;
}

std::optional<DatabasePool::Job> DatabasePool::take_job() {
  const MutexLock lock(mutex_);
  for (auto& queue : jobs_) {
    if (queue.empty()) continue;
    Job job = std::move(queue.front());
    queue.pop_front();
    return job;
  }
  return std::nullopt;
}

// Waits `pause`, which grows; it is kFirstPause again when a session has done a job. False when the
// pool stops.
bool DatabasePool::back_off(Milliseconds& pause) {
  const Milliseconds jittered = between(pause / 2, pause, random_);
  pause = std::min(pause * 2, reconnect_max_);
  MutexLock lock(mutex_);
  const MonotonicTime until = std::chrono::steady_clock::now() + jittered;
  while (!stopping_ && wake_paused_.wait_until(lock, until)) {
  }
  return !stopping_;
}

// One try to open a session, with a pause after a failure. False when the pool stops.
bool DatabasePool::reconnect(std::unique_ptr<StoreSession>& session, Milliseconds& pause,
                             bool again) {
  try {
    session = open_();
    observer_.connected(again);
    return true;
  } catch (const StoreError& error) {
    observer_.failed(error, true);
    observer_.unavailable(error);
  }
  return back_off(pause);
}

void DatabasePool::work() {
  std::unique_ptr<StoreSession> session;
  Milliseconds pause = kFirstPause;
  bool again = false;
  bool fresh = true;  // the session has not done a job yet
  while (wait_for_job(session != nullptr)) {
    if (session == nullptr) {
      if (!reconnect(session, pause, again)) return;
      fresh = true;
    }
    if (session == nullptr) continue;
    again = true;
    std::optional<Job> job = take_job();
    if (!job) continue;
    run(*job, session);
    if (session != nullptr) {
      fresh = false;
      pause = kFirstPause;
    } else if (fresh && !back_off(pause)) {
      // A job that ends its session is asked again, and would be as fast as there are sessions.
      return;
    }
  }
}

void DatabasePool::run(Job& job, std::unique_ptr<StoreSession>& session) {
  try {
    job.run(*session);
  } catch (const StoreError& error) {
    observer_.failed(error, false);
    if (error.session_lost()) {
      session.reset();
      observer_.unavailable(error);
    } else if (error.kind() == StoreErrorKind::schema) {
      // What was migrated under a running worker shows when a session is opened, and only then.
      session.reset();
    }
    job.failed(error);
  } catch (const std::exception& error) {
    // Running out of memory while a result is read: nothing is known of the call.
    session.reset();
    job.failed(StoreError(StoreErrorKind::unavailable, error.what()));
  }
}

}  // namespace outfall
