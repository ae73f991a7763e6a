#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/mutex.h"
#include "store/sampling.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace outfall {

// Reads the backlog for metrics and /status every `interval`, where no other worker with the same
// streams does, and has the receipts' partitions made and dropped every ten minutes.
//
// A thread and a connection of its own, so that a slow look delays no delivery. Nothing that fails
// here ends or stops the worker: it is logged, the metrics of the database are withdrawn, and the
// next turn tries again with a new connection. start() and stop() belong to its owner; the others
// may be called from any thread. What is passed in outlives it.
class Sampler {
 public:
  struct Options {
    Milliseconds interval{5000};
    Milliseconds retention{0};
  };
  // How long one that works may be silent towards its database: so long its session lives.
  [[nodiscard]] static Milliseconds longest_silence(const Options& options) {
    return std::max(3 * options.interval, Milliseconds(5000));
  }
  using Open = std::function<std::unique_ptr<SamplingSession>()>;  // throws StoreError

  Sampler(Options options, Open open, Metrics& metrics, Logger& log);
  ~Sampler();
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  void start();
  // Begins nothing new from now on; does not wait.
  void ask_to_stop();
  // Also waits until the call in flight has ended. Idempotent.
  void stop();
  void set_retention(Milliseconds retention);  // of the receipts, from the next maintenance on

  // The last look, where this worker is the one that samples.
  [[nodiscard]] std::shared_ptr<const DatabaseLook> looked() const;

 private:
  void work();
  // One turn: a look, and maintenance when it is due. Throws StoreError.
  void turn(SamplingSession& session);
  void publish(std::optional<DatabaseLook> look);
  void log_unbound(const DatabaseLook& look);
  void maintain(SamplingSession& session);
  void log_maintenance(const ReceiptsMaintenance& done);
  void withdraw();

  const Options options_;
  const Open open_;
  Metrics& metrics_;
  Logger& log_;

  mutable Mutex mutex_;
  Condition wake_;
  bool stopping_ OUTFALL_GUARDED_BY(mutex_) = false;
  Milliseconds retention_ OUTFALL_GUARDED_BY(mutex_);
  std::shared_ptr<const DatabaseLook> looked_ OUTFALL_GUARDED_BY(mutex_);

  // Used by the thread only.
  bool failing_ = false;  // the last turn
  MonotonicTime maintenance_due_;
  std::set<std::string> unbound_;       // of the last look, so that only news are logged
  std::vector<std::string> postponed_;  // of the last maintenance, for the same reason
  std::thread thread_;
};

}  // namespace outfall
