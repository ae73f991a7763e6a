#pragma once

#include <string>

#include "core/clock.h"
#include "store/outbox_store.h"
#include "store/postgres/connection.h"
#include "store/postgres/postgres_store.h"

namespace outfall::postgres {

// One connection of a worker; see StoreSession. Holds no state of its own beyond the connection, so
// that losing it loses nothing.
class PostgresSession final : public StoreSession {
 public:
  PostgresSession(const ConnectOptions& options, const Uuid& worker, const std::string& instance,
                  const Clock& clock, ClaimFloors& floors);

  void register_streams(std::span<const std::string> streams) override;
  std::vector<std::string> due_streams(std::span<const std::string> streams) override;
  using StoreSession::claim;
  ClaimResult claim(const ClaimRequest& request,
                    const std::function<void(const LeasedSoon&)>& leased) override;
  SettleResult settle(const SettleRequest& request) override;
  std::vector<Uuid> renew(std::span<const Uuid> leases, Milliseconds lease) override;
  void release() override;
  void forgive(std::span<const EntryId> entries) override;
  bool park_destination(const std::string& stream, const std::string& lane,
                        const std::string& reason) override;

 private:
  void refuse_leases_in_doubt() const;
  [[nodiscard]] Params claim_params(const ClaimRequest& request,
                                    const ClaimFloors::Input& input) const;
  void take_answer(const Result& answer, const std::string& stream, std::uint64_t generation,
                   MonotonicTime asked_at, ClaimResult& result);
  static void take_takeover(const Result& answer, ClaimResult& result);
  static void fill_lease(const ClaimRequest& request, const Result& answer, const Result& rows,
                         LeasedBatch& batch);
  void take_report(const Result& answer, const std::string& stream, std::uint64_t generation,
                   MonotonicTime asked_at, ClaimResult& result);

  Connection connection_;
  const Uuid worker_;
  const std::string instance_;
  const Clock& clock_;
  ClaimFloors& floors_;
  // The calls of the SQL API, with the schema's name filled in once.
  struct Calls {
    std::string claim, leased_entries, settle, renew, release, forgive, park_destination,
        register_streams, due_streams;
  } calls_;
};

// Presence by a session-level advisory lock on a connection of its own.
class PostgresPresence final : public Presence {
 public:
  PostgresPresence(const ConnectOptions& options, const Uuid& worker, const Clock& clock);
  std::vector<Uuid> absent(std::span<const Uuid> workers) override;
  [[nodiscard]] bool held() const noexcept override { return held_; }

 private:
  void hold();

  // After a server restart every lock is free at first: a worker counts as absent only after this
  // long in one session of the observer.
  static constexpr Milliseconds kAbsentLongEnough{1500};
  Connection connection_;
  const Uuid worker_;
  const Clock& clock_;
  const std::string hold_call_;
  const std::string present_call_;
  bool held_ = false;
  std::map<Uuid, MonotonicTime> absent_since_;
};

}  // namespace outfall::postgres
