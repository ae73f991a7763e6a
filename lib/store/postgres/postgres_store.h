#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/clock.h"
#include "core/mutex.h"
#include "store/outbox_store.h"
#include "store/postgres/claim_floor.h"
#include "store/postgres/connection.h"
#include "store/postgres/due_floor.h"
#include "store/sampling.h"

namespace outfall::postgres {

// What a worker knows of the server, shared by its sessions: the claim floors, one per stream (a
// claim of a stream may run on any session, one at a time), and whether the server has restarted.
// Safe to use from several threads.
class ClaimFloors {
 public:
  // The server of a session or an answer, by server_since(). Another one than before means that the
  // server was restarted, has crashed or is another one: floors are forgotten, and leases are in
  // doubt.
  void saw_server(WallTime since);
  [[nodiscard]] std::optional<WallTime> server();
  [[nodiscard]] bool leases_in_doubt();
  void leases_released();

  // What a claim takes, and under which server and generation that was learned.
  struct Input {
    ClaimFloor::Input floor;
    std::optional<WallTime> due_floor;
    std::optional<WallTime> server;
    std::uint64_t generation = 0;
  };
  [[nodiscard]] Input input(const std::string& stream, MonotonicTime now);
  // What sample_streams() takes, one each a stream.
  struct Sample {
    std::vector<std::int64_t> starts;
    std::vector<std::int64_t> lease_floors;
  };
  [[nodiscard]] Sample sample(std::span<const std::string> streams);
  // What due_streams() takes: the starts, the tracked transactions below them with their streams,
  // and the server.
  struct Poll {
    std::vector<std::int64_t> starts;
    std::vector<std::optional<WallTime>> due_floors;
    std::vector<std::string> tracking;
    std::vector<std::string> transactions;
    std::vector<std::int64_t> bounds;
    std::optional<WallTime> server;
  };
  [[nodiscard]] Poll poll(std::span<const std::string> streams, MonotonicTime now);
  // What a completed claim tells: the report of its pick, the due floor if it looked at all that is
  // due, when it was asked, and the server.
  struct Completed {
    ClaimFloor::Report report;
    std::optional<WallTime> due_floor;
    MonotonicTime asked_at;
    WallTime server;
  };
  // Takes in a completed claim and returns the floor's lag. Ignored when the floors were forgotten
  // after input() was taken, or when the server is another one than before (then all are
  // forgotten).
  std::int64_t completed(const std::string& stream, std::uint64_t generation,
                         const Completed& claim);
  // At every reconnect: a promoted standby may hand out ids again.
  void forget();

 private:
  struct Floors {
    ClaimFloor fresh;
    DueFloor due;
  };
  Mutex mutex_;
  std::map<std::string, Floors> floors_ OUTFALL_GUARDED_BY(mutex_);
  std::optional<WallTime> server_ OUTFALL_GUARDED_BY(mutex_);
  std::uint64_t generation_ OUTFALL_GUARDED_BY(mutex_) = 0;
  bool leases_in_doubt_ OUTFALL_GUARDED_BY(mutex_) = false;
};

// The outbox in PostgreSQL. Safe to use from several threads. Holds no connection itself: each
// session and presence has its own.
class PostgresStore final : public OutboxStore {
 public:
  PostgresStore(ConnectOptions options, Uuid worker, std::string instance, const Clock& clock);

  [[nodiscard]] std::unique_ptr<StoreSession> open_session() override;
  [[nodiscard]] std::unique_ptr<Presence> open_presence() override;
  [[nodiscard]] SchemaState schema_state() override;
  [[nodiscard]] bool leases_in_doubt() override { return floors_.leases_in_doubt(); }
  // For the sampler of a worker that serves `streams`; it reads from the claim floors of this
  // store. The server ends it after `longest_silence` without a question: a worker that hangs, or
  // whose machine is gone, must neither keep others from sampling nor have its streams seen as
  // served.
  [[nodiscard]] std::unique_ptr<SamplingSession> open_sampling(std::vector<std::string> streams,
                                                               Milliseconds longest_silence);
  [[nodiscard]] const Uuid& worker() const noexcept override { return worker_; }

 private:
  const ConnectOptions options_;
  const Uuid worker_;
  const std::string instance_;
  const Clock& clock_;
  ClaimFloors floors_;
};

}  // namespace outfall::postgres
