#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/mutex.h"
#include "drain/drain.h"
#include "store/outbox_store.h"
#include "telemetry/log.h"

namespace outfall::test {

inline constexpr const char* kStream = "orders";

// A database of one stream without keys, in memory, that a test can restart: then its sessions end
// with their next call, and with the one that shows the worker alive others see it no longer. From
// any thread.
class ModelStore final : public OutboxStore {
 public:
  void insert(EntryId id);
  void restart();
  // The same behind a pooler, where sessions go on, and the next settle is the first to be told.
  void restart_behind_a_pooler();
  // From here on the looks for other workers, once they have begun, wait to be let go.
  void hold_looks();
  void let_looks_go(bool one = false);

  [[nodiscard]] bool delivered(EntryId id) const;
  // Entries that a settle has put off.
  [[nodiscard]] int deferred() const;
  // Leases that were given while others saw no worker alive, which they take for a dead one's.
  [[nodiscard]] int leased_unseen() const;
  // Calls that met a session from before the last restart.
  [[nodiscard]] int lost_calls() const;
  [[nodiscard]] bool a_look_waits() const;

  [[nodiscard]] std::unique_ptr<StoreSession> open_session() override;
  [[nodiscard]] std::unique_ptr<Presence> open_presence() override;
  [[nodiscard]] SchemaState schema_state() override { return {SchemaFit::fits, 0, {}, {}}; }
  [[nodiscard]] bool leases_in_doubt() override;
  [[nodiscard]] const Uuid& worker() const noexcept override { return worker_; }

 private:
  class Session;
  class Seen;
  struct Row {
    EntryId id = 0;
    Uuid lease;  // none: free
    bool delivered = false;
  };
  void check(int start) OUTFALL_REQUIRES(mutex_);
  void refuse_leases_in_doubt() const OUTFALL_REQUIRES(mutex_);
  ClaimResult claim(const ClaimRequest& request) OUTFALL_REQUIRES(mutex_);
  SettleResult settle(const SettleRequest& request) OUTFALL_REQUIRES(mutex_);

  const Uuid worker_ = system_random().uuid();
  mutable Mutex mutex_;
  Condition looks_;
  std::vector<Row> rows_ OUTFALL_GUARDED_BY(mutex_);
  int start_ OUTFALL_GUARDED_BY(mutex_) = 0;
  int lost_calls_ OUTFALL_GUARDED_BY(mutex_) = 0;
  bool in_doubt_ OUTFALL_GUARDED_BY(mutex_) = false;
  bool restarted_unseen_ OUTFALL_GUARDED_BY(mutex_) = false;
  bool seen_ OUTFALL_GUARDED_BY(mutex_) = false;
  bool looks_held_ OUTFALL_GUARDED_BY(mutex_) = false;
  int looks_waiting_ OUTFALL_GUARDED_BY(mutex_) = 0;
  int looks_to_go_ OUTFALL_GUARDED_BY(mutex_) = 0;
  int leased_unseen_ OUTFALL_GUARDED_BY(mutex_) = 0;
  int deferred_ OUTFALL_GUARDED_BY(mutex_) = 0;
};

// Answers each entry at once, the n-th that it is handed with the n-th of these outcomes, and the
// rest as delivered.
class ScriptedEmitter final : public Emitter {
 public:
  ScriptedEmitter(CompletionSink& sink, std::vector<OutcomeKind> script)
      : sink_(sink), script_(std::move(script)) {}
  [[nodiscard]] const Capabilities& capabilities() const noexcept override { return capabilities_; }
  void emit(EmitBatch batch) noexcept override;
  void stop(Milliseconds) noexcept override {}
  [[nodiscard]] Health check(Milliseconds) noexcept override { return {}; }

 private:
  CompletionSink& sink_;
  const std::vector<OutcomeKind> script_;
  const Capabilities capabilities_;
  std::size_t emitted_ = 0;
};

// A worker with its own loop and threads on a model of the database; started by the test.
class ModelWorker {
 public:
  explicit ModelWorker(ModelStore& store, std::vector<OutcomeKind> script = {});
  ~ModelWorker();
  ModelWorker(const ModelWorker&) = delete;
  ModelWorker& operator=(const ModelWorker&) = delete;

 private:
  ModelStore& store_;
  Metrics metrics_;
  Heartbeat heartbeat_;
  Drain drain_;
};

}  // namespace outfall::test
