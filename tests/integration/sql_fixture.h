#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/clock.h"
#include "store/postgres/postgres_store.h"
#include "store/store_error.h"
#include "tests/support/pg_client.h"
#include "tests/support/temp_postgres.h"

namespace outfall::test {

// A database with all migrations applied to the schema outbox, to copy; made with the first use.
[[nodiscard]] const std::string& migrated_template();

// A worker as the daemon has it: the PostgreSQL store with one session.
class Worker {
 public:
  explicit Worker(const std::string& dsn, const std::string& instance = "worker-1",
                  const Clock& clock = system_clock());

  // Claims up to `limit` entries of a stream, in order per key; an empty batch when there are none.
  LeasedBatch claim(const std::string& stream, int limit = 100,
                    Milliseconds lease = Milliseconds{30000});
  // The same, and what else the claim says.
  ClaimResult try_claim(const std::string& stream, int limit = 100,
                        Milliseconds lease = Milliseconds{30000});
  // What try_claim() asks, with a lease id of its own; registers the stream.
  ClaimRequest request(const std::string& stream, int limit = 100,
                       Milliseconds lease = Milliseconds{30000});
  void deliver(const LeasedBatch& batch, std::vector<std::string> record_ids = {});
  // Every entry of the batch ends as `status`, due after `delay`.
  void settle_all(const LeasedBatch& batch, EntryStatus status, Milliseconds delay,
                  const std::string& code, bool hold_key = false);
  // Claims until nothing is left to claim now and delivers all; the entry ids in the order of
  // claims.
  std::vector<EntryId> drain(const std::string& stream, bool hold_key = false);
  void give_back(const LeasedBatch& batch);
  [[nodiscard]] StoreSession& session() { return *session_; }
  // For what happens beside a call of session().
  [[nodiscard]] std::unique_ptr<StoreSession> another_session() { return store_.open_session(); }

  // What claims say about lanes; none by default.
  std::string lane;

 private:
  postgres::PostgresStore store_;
  std::unique_ptr<StoreSession> session_;
};

[[nodiscard]] std::vector<EntryId> ids_of(const LeasedBatch& batch);

// What a statement raises: its SQLSTATE, then the whole message.
struct Refusal {
  std::string sqlstate;
  std::string message;
};
[[nodiscard]] Refusal refusal(PgClient& client, const std::string& sql,
                              const std::vector<PgValue>& parameters = {});

// A database of its own, and one superuser session in it whose search_path is the outbox.
class SqlTest : public testing::Test {
 protected:
  explicit SqlTest(const std::string& from = migrated_template());

  // Adds an entry and returns its id.
  EntryId enqueue(const std::string& stream, const PgValue& key = {},
                  const std::string& type = "order.placed");
  [[nodiscard]] std::string envelope_of(EntryId id);
  [[nodiscard]] std::string status_of(EntryId id);  // in all_entries
  // One value of what explain_entry() says of the only entry with this envelope id:
  // `lease.instance`.
  [[nodiscard]] std::string explained(const std::string& envelope_id, const std::string& path);
  [[nodiscard]] PgClient connect() const;

  TestDatabase database_;
  PgClient sql_;
};

}  // namespace outfall::test
