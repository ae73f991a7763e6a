#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"

namespace outfall {

// What one look at the database found: filled by the sampler, exported by Metrics::publish(). Plain
// data. An optional that is empty was not measured and is not exported. Ages are by the database's
// clock.
struct DatabaseSample {
  struct Stream {
    std::string name;
    bool paused = false;
    std::int64_t paused_destinations = 0;
    // Live entries by status, each counted up to entries_count_limit.
    std::int64_t pending = 0;
    std::int64_t deferred = 0;
    std::int64_t retryable_failure = 0;
    std::int64_t held = 0;
    std::int64_t dead_letters = 0;
    std::chrono::microseconds oldest_due_age{0};
    std::chrono::microseconds oldest_blocked_age{0};
    std::chrono::microseconds oldest_retried_age{0};
    std::chrono::microseconds oldest_deferred_age{0};
    std::chrono::microseconds oldest_created_age{0};
  };

  WallTime taken_at;
  std::int64_t entries_count_limit = 0;
  std::vector<Stream> streams;                          // those of the configuration
  std::map<std::string, std::int64_t> unbound_entries;  // stream that nobody serves -> entries
  std::int64_t leases_active = 0;
  std::int64_t leases_expired = 0;
  std::optional<std::int64_t> oldest_xmin_age_transactions;
  std::optional<std::chrono::microseconds> oldest_transaction_age;
  std::map<std::string, std::int64_t> dead_tuples;  // table -> rows
  std::optional<std::int64_t> receipts_partitions;
};

}  // namespace outfall
