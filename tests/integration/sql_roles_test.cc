// Goal: each role can do its work with exactly its grants, and a try of everything it may not do is
// denied.

#include "tests/integration/sql_fixture.h"

namespace outfall::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kRolesWho = ", p_actor => 'ana', p_reason => 'x')";

// Logins of the shared server with one role each; `stranger` has none.
void create_logins() {
  static const bool done = [] {
    PgClient postgres = shared_postgres().connect();
    for (const std::string role : {"producer", "worker", "operator", "reader"}) {
      postgres.exec("CREATE ROLE a_" + role + " LOGIN IN ROLE outbox_" + role);
    }
    postgres.exec("CREATE ROLE a_stranger LOGIN");
    return true;
  }();
  static_cast<void>(done);
}

class SqlRoles : public SqlTest {
 protected:
  SqlRoles() { create_logins(); }

  std::string dsn(const std::string& role) {
    return shared_postgres().dsn(database_.name(), "a_" + role);
  }
  PgClient as(const std::string& role) {
    PgClient client(dsn(role));
    client.exec("SET search_path = outbox");
    return client;
  }
  void denied(const std::string& role, const std::vector<std::string>& statements) {
    PgClient client = as(role);
    for (const std::string& statement : statements) {
      EXPECT_EQ(refusal(client, statement).sqlstate, "42501") << role << ": " << statement;
    }
  }
  // The functions of the schema that a role may call.
  std::vector<std::string> callable(const std::string& role) {
    std::vector<std::string> names;
    for (const PgRow& row :
         sql_.query("SELECT proname FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace AND "
                    "has_function_privilege($1, oid, 'EXECUTE') ORDER BY proname",
                    {role})) {
      names.push_back(*row[0]);
    }
    return names;
  }
};

TEST_F(SqlRoles, PublicHasNothing) {
  EXPECT_EQ(sql_.query("SELECT p.proname FROM pg_proc p CROSS JOIN LATERAL "
                       "aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a "
                       "WHERE p.pronamespace = 'outbox'::regnamespace AND a.grantee = 0"),
            PgRows{});
  EXPECT_EQ(sql_.query("SELECT c.relname FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a "
                       "WHERE c.relnamespace = 'outbox'::regnamespace AND a.grantee = 0"),
            PgRows{});
  denied("stranger", {"SELECT * FROM outbox.entries", "SELECT outbox.enqueue('s', 'a', '1')",
                      "SELECT outbox.status()", "SELECT * FROM outbox.delivered"});
}

TEST_F(SqlRoles, ProducerAddsEntriesInBothWays) {
  PgClient producer = as("producer");
  producer.exec("INSERT INTO entries (stream, type, payload) VALUES ('orders', 'a', '{}')");
  producer.exec(
      "INSERT INTO entries (stream, type, key, source, subject, content_type, data_schema, "
      "headers, payload_binary, "
      "occurred_at, available_at, envelope_id) VALUES ('orders', 'a', 'k', 's', 's', 'c', 'd', "
      "'{}', '\\x00', now(), now(), "
      "new_envelope_id())");
  EXPECT_EQ(producer.value("SELECT length(enqueue('orders', 'a', '1', p_key => 'k')::text)"), "36");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries"), 3);
}

TEST_F(SqlRoles, ProducerMayNothingElse) {
  EXPECT_THAT(callable("outbox_producer"), ElementsAre("enqueue", "new_envelope_id"));
  std::vector<std::string> statements = {
      "SELECT * FROM entries",
      "SELECT id FROM entries",
      "SELECT envelope_id FROM entries",
      "DELETE FROM entries",
      "UPDATE entries SET status = 'pending'",
      "TRUNCATE entries",
      "SELECT * FROM all_entries",
      "SELECT * FROM delivered",
      "SELECT * FROM dead_letters",
      "SELECT * FROM streams",
      "SELECT nextval('entries_id_seq')",
      "SELECT pause_stream('orders', 'a', 'b')",
      "SELECT status()",
      "CREATE TABLE mine (i int)",
      "INSERT INTO entries (stream, type) VALUES ('orders', 'a') RETURNING id"};
  for (const char* column :
       {"status", "attempts", "attempts_base", "replays", "abandoned", "hold_id", "deferred_since",
        "limits_from", "created_at", "last_error_code", "last_error_message"}) {
    statements.push_back(std::string("INSERT INTO entries (stream, type, ") + column +
                         ") VALUES ('orders', 'a', DEFAULT)");
  }
  denied("producer", statements);
  PgClient producer = as("producer");
  EXPECT_EQ(refusal(producer,
                    "INSERT INTO entries (id, stream, type) OVERRIDING SYSTEM VALUE VALUES (1, "
                    "'orders', 'a')")
                .sqlstate,
            "42501");
}

TEST_F(SqlRoles, WorkerDoesAllThatADaemonDoes) {
  Worker worker(dsn("worker"));
  const EntryId delivered = enqueue("orders", "a");
  worker.deliver(worker.claim("orders"));
  EXPECT_EQ(status_of(delivered), "delivered");
  const EntryId head = enqueue("orders", "k");
  worker.settle_all(worker.claim("orders"), EntryStatus::retryable_failure, std::chrono::hours(1),
                    "http.503");
  const EntryId held = enqueue("orders", "k");
  EXPECT_THAT(worker.drain("orders"), IsEmpty());
  EXPECT_EQ(status_of(held), "held");
  sql_.query("SELECT retry_entry(p_entry_id => " + std::to_string(head) + kRolesWho);
  EXPECT_THAT(worker.drain("orders"), ElementsAre(head, held));
  const EntryId dead = enqueue("orders", "k");
  const LeasedBatch batch = worker.claim("orders");
  EXPECT_THAT(worker.session().renew(std::vector{batch.lease_id}, Milliseconds{1000}),
              ElementsAre(batch.lease_id));
  worker.settle_all(batch, EntryStatus::dead_lettered, Milliseconds{0}, "http.400", true);
  EXPECT_EQ(status_of(dead), "dead_lettered");
  enqueue("orders");
  EXPECT_THAT(worker.session().due_streams(std::vector<std::string>{"orders"}),
              ElementsAre("orders"));
  const EntryId lost = ids_of(worker.claim("orders", 1, Milliseconds{0})).at(0);
  Worker other(dsn("worker"), "worker-2");
  EXPECT_THAT(other.drain("orders"), ElementsAre(lost)) << "taken over";
  worker.session().forgive(std::vector{lost});
  worker.session().release();

  PgClient session = as("worker");
  session.exec(
      "SELECT * FROM sample_streams(ARRAY['orders'], ARRAY[0]); SELECT * FROM "
      "unbound_streams(ARRAY['orders']);"
      "SELECT * FROM sample_database(); SELECT status(); SELECT max(version) FROM schema_version;"
      "SELECT pause_destination('orders', 'lane', 'worker-1', 'HTTP 410')");
  EXPECT_EQ(session.value("SELECT cardinality(created) FROM maintain_receipts('7 days', 4)"), "2");
}

TEST_F(SqlRoles, WorkerMayNotAlterWhatAnEntrySays) {
  enqueue("orders");
  denied("worker",
         {"UPDATE entries SET payload = '{}'",
          "UPDATE entries SET stream = 'x'",
          "UPDATE entries SET key = 'x'",
          "UPDATE entries SET envelope_id = new_envelope_id()",
          "INSERT INTO entries (stream, type) VALUES ('orders', 'a')",
          "SELECT enqueue('s', 'a', '1')",
          "TRUNCATE entries",
          "UPDATE streams SET paused = true",
          "DELETE FROM streams",
          "UPDATE receipts SET provider = 'x'",
          "DELETE FROM receipts",
          "DELETE FROM dead_letters",
          "UPDATE dead_letters SET reason = 'x'",
          "INSERT INTO destinations (stream, lane, parked_by, reason) VALUES ('a', 'b', 'c', 'd')",
          "DELETE FROM destinations",
          "INSERT INTO operations (actor, reason, action, stream) VALUES ('a', 'b', 'c', 'd')",
          "DELETE FROM operations",
          "DELETE FROM replays",
          "UPDATE schema_version SET checksum = ''",
          "DROP TABLE receipts_default",
          "SELECT setval('entries_id_seq', 1)",
          "SELECT nextval('entries_id_seq')",
          "CREATE TABLE mine (i int)",
          std::string("SELECT replay_dead_letters(p_stream => 'orders'") + kRolesWho,
          std::string("SELECT discard_entry(p_entry_id => 1") + kRolesWho,
          std::string("SELECT create_job('replay', p_stream => 'orders'") + kRolesWho,
          "SELECT run_job(1)",
          "UPDATE jobs SET last_id = 0",
          "SELECT pause_stream('orders', 'a', 'b')",
          "SELECT resume_destination('orders', 'l', 'a', 'b')"});
}

TEST_F(SqlRoles, OperatorReadsEverythingAndActsThroughTheFunctions) {
  Worker worker(database_.dsn());
  const EntryId id = enqueue("orders");
  PgClient person = as("operator");
  const std::string entry = "(p_entry_id => " + std::to_string(id);
  person.exec(
      "SELECT payload, headers FROM entries; SELECT payload FROM dead_letters; SELECT * FROM "
      "delivered; SELECT status()");
  person.exec(
      "SELECT pause_stream('orders', 'a', 'b'); SELECT resume_stream('orders', 'a', 'b');"
      "SELECT pause_destination('orders', 'l', 'a', 'b'); SELECT resume_destination('orders', 'l', "
      "'a', 'b')");
  person.query("SELECT dead_letter_entry" + entry + kRolesWho);
  EXPECT_EQ(
      person.value(std::string("SELECT replayed FROM replay_dead_letters(p_stream => 'orders'") +
                   kRolesWho),
      "1");
  person.query(std::string("SELECT create_job('replay', p_stream => 'orders'") + kRolesWho);
  person.exec(
      "SELECT run_job(1); SELECT show_job(1); SELECT list_jobs(); SELECT "
      "count_dead_letters(p_stream "
      "=> 'orders'); SELECT export_dead_letters(p_stream => 'orders')");
  worker.settle_all(worker.claim("orders"), EntryStatus::retryable_failure, std::chrono::hours(1),
                    "http.503");
  person.query("SELECT retry_entry" + entry + kRolesWho);
  person.query("SELECT discard_entry" + entry + kRolesWho);
  EXPECT_EQ(sql_.query("SELECT DISTINCT database_user FROM operations"), (PgRows{{"a_operator"}}));
  EXPECT_EQ(sql_.query("SELECT DISTINCT database_user FROM replays"), (PgRows{{"a_operator"}}));
  person.query(
      "SELECT explain_entry(new_id) FROM (SELECT envelope_id AS new_id FROM operations WHERE "
      "envelope_id IS NOT NULL LIMIT 1) x");
}

TEST_F(SqlRoles, OperatorCannotActWithoutATrace) {
  enqueue("orders");
  denied("operator", {"DELETE FROM entries",
                      "UPDATE entries SET available_at = now()",
                      "DELETE FROM dead_letters",
                      "UPDATE streams SET paused = true",
                      "DELETE FROM destinations",
                      "DELETE FROM operations",
                      "UPDATE operations SET actor = 'bob'",
                      "DELETE FROM replays",
                      "INSERT INTO entries (stream, type) VALUES ('a', 'b')",
                      "SELECT enqueue('s', 'a', '1')",
                      "SELECT register_streams(ARRAY['x'])",
                      "SELECT release(new_envelope_id())",
                      "SELECT maintain_receipts('1 day')",
                      "SELECT take_entry(NULL, 1, NULL)",
                      "UPDATE jobs SET last_id = 0",
                      "DELETE FROM job_changes",
                      "UPDATE dead_letters SET payload = '1'",
                      "SELECT return_dead_letters('{1}', '{orders}', 'a', 'b', NULL)",
                      "SELECT remove_dead_letters('{1}', '{orders}', 'a', 'b', NULL)",
                      "SELECT lock_stream('orders')",
                      "SELECT record_operation('a', 'b', 'c', 'd', 1, NULL, NULL)",
                      "DELETE FROM receipts",
                      "SELECT move_to_dead_letters('{1}', '{a}', '{b}', '{f}', false)",
                      "DELETE FROM leases"});
}

TEST_F(SqlRoles, ReaderSeesEverythingButPayloadsAndHeaders) {
  Worker worker(database_.dsn());
  const EntryId id = enqueue("orders", "k");
  PgClient reader = as("reader");
  const std::string envelope = envelope_of(id);
  EXPECT_EQ(reader.value("SELECT explain_entry($1) ->> 'found'", {envelope}), "true");
  worker.settle_all(worker.claim("orders"), EntryStatus::dead_lettered, Milliseconds{0}, "http.400",
                    true);
  enqueue("orders", "k");
  worker.drain("orders", true);
  enqueue("orders");
  worker.drain("orders");
  EXPECT_EQ(reader.number("SELECT count(*) FROM all_entries"), 3);
  EXPECT_EQ(reader.number("SELECT count(*) FROM delivered"), 1);
  EXPECT_EQ(reader.number("SELECT count(*) FROM list_dead_letters(p_stream => 'orders')"), 1);
  EXPECT_EQ(reader.number("SELECT count(*) FROM entries WHERE key = 'k'"), 1);
  reader.query("SELECT explain_entry(envelope_id) FROM all_entries");
  reader.exec(
      "SELECT count_dead_letters(p_stream => 'orders'); SELECT list_jobs(); SELECT * FROM jobs, "
      "job_changes; SELECT status(); SELECT * FROM find_delivered(p_entry_id => 3); SELECT * FROM "
      "streams, "
      "leases, holds, destinations, "
      "replays, operations, receipts, schema_version; SELECT * FROM sample_database()");
  denied("reader", {"SELECT * FROM entries", "SELECT payload FROM entries",
                    "SELECT payload_binary FROM entries", "SELECT headers FROM entries",
                    "SELECT payload FROM dead_letters", "SELECT headers FROM dead_letters",
                    "DELETE FROM entries", "UPDATE streams SET paused = true",
                    "SELECT pause_stream('orders', 'a', 'b')", "SELECT enqueue('s', 'a', '1')",
                    "SELECT register_streams(ARRAY['x'])",
                    "INSERT INTO entries (stream, type) VALUES ('a', 'b')",
                    std::string("SELECT replay_dead_letters(p_stream => 'orders'") + kRolesWho,
                    "SELECT * FROM leased_entries(new_envelope_id())"});
}

}  // namespace
}  // namespace outfall::test
