#pragma once

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/faults/claim_torture_history.h"
#include "tests/faults/claim_torture_schema.h"
#include "tests/faults/claim_torture_worker.h"
#include "tests/support/random.h"

namespace outfall::test::torture {

// What is left out in one play of a scene.
struct LeftOut {
  std::vector<Patch> patches = {};
  WorkerFlaw worker_flaw = WorkerFlaw::none;
  FloorFlaw floor_flaw = FloorFlaw::none;
  [[nodiscard]] bool nothing() const {
    return patches.empty() && worker_flaw == WorkerFlaw::none && floor_flaw == FloorFlaw::none;
  }
};

class Scene;

// A producer's transaction under the scene's control; its entries are entered in the history when
// it has committed.
class Producing {
 public:
  explicit Producing(Scene& scene);
  EntryId insert(const std::string& key, const std::string& lane = "");
  void commit();
  void prepare();
  void commit_prepared();
  [[nodiscard]] PgClient& session() { return session_; }
  void note_committed();

 private:
  Scene& scene_;
  PgClient session_;
  std::vector<std::pair<EntryId, std::string>> entries_;
};

// A step-by-step play of producers and workers on a database of its own. Workers get the flaws of
// the play; all entries of a key are inserted one after the other.
class Scene {
 public:
  explicit Scene(const LeftOut& left_out);

  [[nodiscard]] TortureDatabase& database() { return database_; }
  [[nodiscard]] History& history() { return history_; }
  [[nodiscard]] PgClient& sql() { return sql_; }

  TortureWorker& worker(WorkerOptions options = {});
  EntryId insert(const std::string& key, const std::string& lane = "");
  void wait_until_expired(const TortureWorker& worker);
  // Settles on a thread of its own until it is through, or waits for a lock that this thread holds.
  std::future<void> settle_beside(TortureWorker& worker);
  // A healthy worker drains what is left, and everything is looked at.
  void finish(WorkerOptions options = {});
  [[nodiscard]] std::vector<Anomaly> verdict() const { return check(history_.events(), final_); }

 private:
  const LeftOut left_out_;
  TortureDatabase database_;
  History history_;
  SeededRandom random_{1};
  PgClient sql_;
  std::vector<std::unique_ptr<TortureWorker>> workers_;
  std::optional<FinalState> final_;
};

}  // namespace outfall::test::torture
