#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "core/mutex.h"
#include "core/retry.h"
#include "store/outbox_store.h"

namespace outfall {

// A few threads with a session each that run the worker's database calls, the most urgent first.
// Connections are opened when there is work for them and re-opened with back-off, for as long as it
// takes; jobs wait meanwhile, so that an outage loses nothing. Threads without a session are woken
// only when those with one are busy: one connection that cannot be had delays nothing that another
// can do. A session that is lost on its first job counts as one that could not be opened.
//
// submit() may be called from any thread and never blocks. Jobs run on the pool's threads.
class DatabasePool {
 public:
  enum class Urgency : std::uint8_t { settle, renew, claim, poll };

  struct Job {
    Urgency urgency = Urgency::poll;
    std::function<void(StoreSession&)> run;
    // Called on the same thread when `run` threw. After session_lost() it is not known whether the
    // call took effect.
    std::function<void(const StoreError&)> failed;
  };

  struct Observer {
    // A session was opened; `again`: in place of one that was lost.
    std::function<void(bool again)> connected;
    // One could not be opened, or was lost.
    std::function<void(const StoreError&)> unavailable;
    // Every error, these included; `connecting`: there was no session yet.
    std::function<void(const StoreError&, bool connecting)> failed;
  };

  // `open` is called on the pool's threads and throws StoreError. Both outlive the pool.
  DatabasePool(int connections, Milliseconds reconnect_max,
               std::function<std::unique_ptr<StoreSession>()> open, Observer observer,
               Random& random);
  ~DatabasePool();
  DatabasePool(const DatabasePool&) = delete;
  DatabasePool& operator=(const DatabasePool&) = delete;

  void submit(Job job);
  // Ends the threads after the jobs they run now; what waits is dropped. Idempotent.
  void stop();

 private:
  void work();
  void run(Job& job, std::unique_ptr<StoreSession>& session);
  [[nodiscard]] std::size_t waiting_jobs() const OUTFALL_REQUIRES(mutex_);
  // Waits until there is a job, which those with a session are told of first; false when the pool
  // stops.
  bool wait_for_job(bool with_session);
  std::optional<Job> take_job();
  bool reconnect(std::unique_ptr<StoreSession>& session, Milliseconds& pause, bool again);
  bool back_off(Milliseconds& pause);

  const Milliseconds reconnect_max_;
  const std::function<std::unique_ptr<StoreSession>()> open_;
  const Observer observer_;
  Random& random_;
  Mutex mutex_;
  Condition wake_;         // threads that have a session and no job
  Condition wake_bare_;    // threads that have neither
  Condition wake_paused_;  // threads that wait before the next try to open a session
  std::array<std::deque<Job>, 4> jobs_ OUTFALL_GUARDED_BY(mutex_);
  std::size_t idle_ OUTFALL_GUARDED_BY(mutex_) = 0;  // those that wait at wake_
  bool stopping_ OUTFALL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace outfall
