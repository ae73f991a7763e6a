#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "core/clock.h"
#include "core/ids.h"
#include "core/mutex.h"
#include "store/operator_store.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace outfall {

// In whose name, and why, a job is paused when the worker that runs it stops.
[[nodiscard]] Requester interrupted(const Requester& by);

// Runs the jobs that were begun or resumed over HTTP at this worker, chunk by chunk, each in its
// turn, as `outfall dead-letters replay` runs its one. A thread of its own, and a connection while
// there are jobs. Where the database goes away it goes on when that is back: a chunk repeats
// nothing. A clean stop pauses them; those of a worker that dies show as interrupted. Either may be
// resumed at any worker or by the command line; nobody goes on unasked.
//
// start() and stop() belong to its owner, the others may be called from any thread. None blocks but
// stop(). What is passed in outlives it.
class JobKeeper {
 public:
  using Open = std::function<std::unique_ptr<OperatorStore>()>;  // throws StoreError

  JobKeeper(Open open, Metrics& metrics, Logger& log);
  ~JobKeeper();
  JobKeeper(const JobKeeper&) = delete;
  JobKeeper& operator=(const JobKeeper&) = delete;

  void start();
  // Takes no more and begins no more chunks; does not wait.
  void ask_to_stop();
  // Also waits for the chunk at hand, and pauses its jobs. Idempotent.
  void stop();

  // Whether another job would be run: there are not too many, and the worker does not stop.
  [[nodiscard]] bool has_room() const;
  // Runs a job of the database from now on, as the runner that it was created or resumed with, in
  // the name of `by`. False: the worker stops, and nothing is run.
  [[nodiscard]] bool keep(JobId job, const Uuid& runner, const Requester& by);
  // Has a job that was paused or ended give its room free now, and not when its rate next lets it
  // be looked at. Of one that is not run here: nothing.
  void look_at(JobId job);

 private:
  struct Kept {
    Uuid runner;
    Requester by;
    MonotonicTime due;
    Milliseconds pause{0};  // after the last failure
    bool changed = false;   // somebody has changed it since it was last looked at
  };

  void work();
  [[nodiscard]] bool wait_for_due(std::map<JobId, Kept>& due);  // false: stop
  void run_one(JobId job, Kept& kept);
  void chunk(JobId job, Kept& kept);
  void failed(JobId job, Kept& kept, const StoreError& error);
  void give_back(JobId job, const Kept& kept);
  void drop(JobId job, const Uuid& runner);
  void pause_all();

  const Open open_;
  Metrics& metrics_;
  Logger& log_;

  mutable Mutex mutex_;
  Condition wake_;
  bool stopping_ OUTFALL_GUARDED_BY(mutex_) = false;
  std::map<JobId, Kept> jobs_ OUTFALL_GUARDED_BY(mutex_);

  std::unique_ptr<OperatorStore> store_;  // the thread's
  std::thread thread_;
};

}  // namespace outfall
