#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "store/store_error.h"

namespace outfall {

// What one look at the database found, for metrics and status. Counts end at count_limit; ages are
// by the database's clock, 0 where there is nothing. Plain data.

// Of one stream that this worker serves: its entries by status, and its leases.
struct StreamLook {
  std::string name;
  bool paused = false;  // by an operator
  std::int64_t paused_destinations = 0;
  std::int64_t pending = 0, deferred = 0, retryable_failure = 0, held = 0, dead_letters = 0;
  std::chrono::microseconds oldest_due{0}, oldest_blocked{0}, oldest_retried{0}, oldest_deferred{0},
      oldest_created{0};
  std::int64_t leases_active = 0, leases_expired = 0;
};

// A stream with entries that no worker serves.
struct UnboundStream {
  std::string name;
  std::int64_t entries = 0;
  std::chrono::microseconds oldest_created{0};
};

// All of one look.
struct DatabaseLook {
  WallTime taken_at;
  std::int64_t count_limit = 0;
  std::vector<StreamLook> streams;
  std::vector<UnboundStream> unbound;
  std::int64_t oldest_xmin_age_transactions = 0;
  std::optional<std::chrono::microseconds> oldest_transaction;  // empty: the role may not see it
  std::int64_t dead_tuples_entries = 0, dead_tuples_leases = 0;
  std::int32_t receipts_partitions = 0;
  bool receipts_in_default = false;
};

// What one call of maintain_receipts() has done; partitions by name.
struct ReceiptsMaintenance {
  bool ran = false;  // false: another worker is at it
  std::vector<std::string> created, dropped;
  std::int64_t deleted = 0;            // old rows of the default partition
  std::vector<std::string> postponed;  // what did not get its lock, and why
  bool more = false;                   // call again
};

// A connection of the sampler's own. One thread at a time; every call blocks for a few round trips,
// bounded by the configured timeouts, and throws StoreError; after session_lost() it is dead. While
// it lives, other sessions see its streams as served.
class SamplingSession {
 public:
  virtual ~SamplingSession() = default;
  // Of the database that it is connected to.
  [[nodiscard]] virtual std::int32_t schema_version() const noexcept = 0;
  // nullopt when another worker with the same streams samples. Never scans the backlog.
  [[nodiscard]] virtual std::optional<DatabaseLook> look(std::int32_t count_limit) = 0;
  // Makes the next days' partitions of the receipts and drops old ones; see maintain_receipts().
  virtual ReceiptsMaintenance maintain_receipts(Milliseconds retention) = 0;
};

}  // namespace outfall
