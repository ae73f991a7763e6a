#pragma once

#include <csignal>
#include <cstdint>

#include "core/clock.h"
#include "daemon/job_progress.h"
#include "store/operator_store.h"

// Runs a job of the database to its end, chunk by chunk. One thread, as every command.

namespace outfall {

// Blocks SIGINT and SIGTERM while it lives and says whether one has come. Begin it before the job:
// then no signal can end the process between a job's begin and its pause.
class Interruption {
 public:
  Interruption();
  ~Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  // Waits so long, or until a signal has come; true for the latter.
  [[nodiscard]] bool wait(Milliseconds time) const;

 private:
  sigset_t signals_{};
  sigset_t before_{};
};

struct JobRun {
  JobId job = 0;
  JobStep step;              // after the last chunk
  std::int64_t moved = 0;    // by this run
  double seconds = 0;        // that this run took
  bool interrupted = false;  // by a signal; the job is paused
};

// Asks for chunk after chunk, until the job has ended or somebody else has paused, aborted or taken
// it over; a signal pauses it after the chunk at hand, in the name of `by`. `run` is kept up to
// date, so that it is right also when a StoreError comes out. What the database cancelled is tried
// again some times.
void run_job(OperatorStore& store, const Uuid& runner, const Requester& by,
             const Interruption& interruption, JobProgress& progress, JobRun& run);

}  // namespace outfall
