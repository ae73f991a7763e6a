// Every role tries every kind of statement on every table, column, function and sequence of the
// schema. What is not on its list below must be denied, also what later migrations add: a grant
// that nobody meant fails here. That the roles can do their work is the business of
// sql_roles_test.cc.

#include <map>
#include <set>

#include <fmt/format.h>

#include "tests/integration/sql_fixture.h"

namespace outfall::test {
namespace {

using Names = std::set<std::string>;

struct Allowed {
  std::map<std::string, Names>
      statements;  // by table: "SELECT", "INSERT", "DELETE", "UPDATE column"
  Names functions;
  Names sequences;  // may be read
};

const Names kSelect = {"SELECT"};
const Names kKeeper = {"SELECT", "INSERT", "DELETE", "UPDATE *"};

// What reads the state without changing it.
const Names kLooking = {
    "status_code",         "utc_text",      "envelope_time",   "search_delivered",
    "find_delivered",      "explain_entry", "sample_streams",  "unbound_streams",
    "explain_live_entry",  "status",        "sample_database", "list_dead_letters",
    "receipts_partitions", "envelope_of",   "served_streams",  "may_work",
    "count_dead_letters",  "list_jobs",     "show_job",        "job_document",
    "filter_names"};
// What changes the state on a person's behalf, and leaves a trace.
const Names kActing = {"pause_stream",       "resume_stream",       "pause_destination",
                       "resume_destination", "retry_entry",         "dead_letter_entry",
                       "discard_entry",      "replay_dead_letters", "discard_dead_letters",
                       "mend_dead_letter",   "create_job",          "run_job",
                       "pause_job",          "resume_job",          "abort_job"};
// What acts for a worker; internal ones among them, which do nothing that its tables do not allow.
const Names kWorking = {"lane_of",
                        "xid_visible_in",
                        "payload_bytes",
                        "move_to_dead_letters",
                        "take_over",
                        "waiting_keys",
                        "pick_fresh",
                        "many_ranges",
                        "scan_start",
                        "pass_over",
                        "pick_disturbed",
                        "park",
                        "empty_parkings",
                        "tend_holds",
                        "claim",
                        "leased_entries",
                        "settle",
                        "settle_delivered",
                        "renew",
                        "release",
                        "forgive",
                        "register_streams",
                        "due_streams",
                        "hold_presence",
                        "present_workers",
                        "server_since",
                        "pause_destination",
                        "maintain_receipts",
                        "serve_streams",
                        "become_sampler",
                        "show_dead_letter",
                        "export_dead_letters"};

Names both(Names a, const Names& b) {
  a.insert(b.begin(), b.end());
  return a;
}

std::map<std::string, Names> readable(const Names& tables) {
  std::map<std::string, Names> result;
  for (const std::string& table : tables) result[table] = kSelect;
  return result;
}

const Names kState = {"streams",   "leases",      "holds",    "parkings",         "destinations",
                      "replays",   "operations",  "receipts", "receipts_default", "schema_version",
                      "delivered", "all_entries", "jobs",     "job_changes"};

std::map<std::string, Allowed> allowed_by_role() {
  std::map<std::string, Allowed> roles;
  roles["stranger"] = {};
  roles["producer"] = {.statements = {{"entries", {"INSERT"}}},
                       .functions = {"enqueue", "new_envelope_id"},
                       .sequences = {}};
  Allowed& worker = roles["worker"];
  worker.statements = readable(kState);
  for (const char* table : {"leases", "holds", "parkings"}) worker.statements[table] = kKeeper;
  worker.statements["streams"] = {"SELECT", "INSERT", "UPDATE floor_epoch"};
  worker.statements["receipts"] = {"SELECT", "INSERT"};
  worker.statements["dead_letters"] = {"SELECT", "INSERT"};
  worker.statements["entries"] = {"SELECT", "DELETE"};
  for (const char* column : {"status", "available_at", "deferred_since", "limits_from", "hold_id",
                             "attempts", "abandoned", "last_error_code", "last_error_message"}) {
    worker.statements["entries"].insert(std::string("UPDATE ") + column);
  }
  worker.functions = both(kLooking, kWorking);
  worker.sequences = {"entries_id_seq", "holds_hold_id_seq", "lease_numbers"};
  roles["operator"] = {
      .statements = readable(both(kState, {"entries", "dead_letters"})),
      .functions = both(both(kLooking, kActing), {"show_dead_letter", "export_dead_letters"}),
      .sequences = {"entries_id_seq"}};
  roles["reader"] = {
      .statements = readable(kState), .functions = kLooking, .sequences = {"entries_id_seq"}};
  return roles;
}

void create_logins() {
  static const bool done = [] {
    PgClient postgres = shared_postgres().connect();
    postgres.exec("CREATE ROLE t_stranger LOGIN");
    for (const std::string role : {"producer", "worker", "operator", "reader"}) {
      postgres.exec("CREATE ROLE t_" + role + " LOGIN IN ROLE outbox_" + role);
    }
    return true;
  }();
  static_cast<void>(done);
}

class SecurityRoles : public SqlTest, public testing::WithParamInterface<const char*> {
 protected:
  SecurityRoles() { create_logins(); }

  PgClient as(const std::string& role) const {
    return PgClient(shared_postgres().dsn(database_.name(), "t_" + role));
  }

  // Tries a statement and takes it back, whatever became of it.
  static std::string tried(PgClient& client, const std::string& statement) {
    client.exec("BEGIN");
    std::string state = refusal(client, statement).sqlstate;
    client.exec("ROLLBACK");
    return state.empty() ? "done" : state;
  }

  PgRows tables() {
    return sql_.query(
        "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'outbox'::regnamespace AND "
        "relkind IN ('r', 'p', 'v') ORDER BY 1");
  }

  // What all that has rights in the schema allows to whom.
  std::string grants() {
    return sql_.value(
        "SELECT md5(string_agg(x, ' ' ORDER BY x)) FROM ("
        "SELECT relname || coalesce(relacl::text, '') x FROM pg_class WHERE relnamespace = "
        "'outbox'::regnamespace UNION ALL SELECT proname || coalesce(proacl::text, '') FROM "
        "pg_proc "
        "WHERE pronamespace = 'outbox'::regnamespace UNION ALL SELECT nspacl::text FROM "
        "pg_namespace WHERE nspname = 'outbox') y");
  }

  void try_table(PgClient& client, const std::string& table, bool is_view, const Names& allowed) {
    const std::string name = "outbox." + table;
    std::map<std::string, std::string> statements = {
        {"SELECT", "SELECT * FROM " + name},
        {"INSERT", "INSERT INTO " + name + " DEFAULT VALUES"},
        {"DELETE", "DELETE FROM " + name},
        {"TRUNCATE", "TRUNCATE " + name},
        {"ALTER", "ALTER TABLE " + name + " ADD COLUMN mine int"},
        {"OWNER", "ALTER TABLE " + name + " OWNER TO CURRENT_USER"},
        {"DROP", "DROP TABLE " + name},
        {"POLICY", "CREATE POLICY mine ON " + name},
        {"INDEX", "CREATE INDEX ON " + name + " ((1))"},
        {"RULE", "CREATE RULE mine AS ON INSERT TO " + name + " DO INSTEAD NOTHING"},
        {"TRIGGER", "CREATE TRIGGER mine BEFORE INSERT ON " + name +
                        " FOR EACH ROW EXECUTE FUNCTION "
                        "pg_catalog.suppress_redundant_updates_trigger()"}};
    for (const PgRow& row : sql_.query("SELECT attname FROM pg_attribute WHERE attrelid = "
                                       "$1::regclass AND attnum > 0 AND NOT "
                                       "attisdropped",
                                       {name})) {
      statements["UPDATE " + *row[0]] = "UPDATE " + name + " SET " + *row[0] + " = DEFAULT";
    }
    for (const auto& [kind, statement] : statements) {
      if (allowed.contains(kind)) continue;
      if (kind.starts_with("UPDATE ") && allowed.contains("UPDATE *")) continue;
      const std::string state = tried(client, statement);
      // Some views cannot be written to by anybody, and no view has indexes or is dropped as a
      // table.
      if (is_view && kind != "SELECT") {
        EXPECT_NE(state, "done") << statement;
      } else {
        EXPECT_EQ(state, "42501") << statement;
      }
    }
  }

  // Each argument is a query of its own: of nulls alone, the planner would take the result of a
  // strict function to be null, and never ask for the right to call it.
  void try_functions(PgClient& client, const Names& allowed) {
    PgClient catalog = database_.connect();  // which names types with their schema
    for (const PgRow& row : catalog.query(
             "SELECT proname, format('SELECT outbox.%I(%s)', proname, (SELECT string_agg('(SELECT "
             "NULL::' || format_type(t, NULL) || ')', ', ') FROM unnest(proargtypes) t)) FROM "
             "pg_proc "
             "WHERE pronamespace = 'outbox'::regnamespace")) {
      if (allowed.contains(*row[0])) continue;
      EXPECT_EQ(tried(client, *row[1]), "42501") << *row[1];
    }
  }

  void try_sequences(PgClient& client, const std::string& role, const Names& readable) {
    for (const PgRow& row : sql_.query(
             "SELECT relname FROM pg_class WHERE relnamespace = 'outbox'::regnamespace AND relkind "
             "= 'S'")) {
      const std::string name = "outbox." + *row[0];
      // The numbers of leases are the worker's to take; nobody sets any sequence.
      const bool takes = role == "worker" && *row[0] == "lease_numbers";
      if (!takes) {
        EXPECT_EQ(tried(client, "SELECT nextval('" + name + "')"), "42501") << name;
      }
      EXPECT_EQ(tried(client, "SELECT setval('" + name + "', 1)"), "42501") << name;
      EXPECT_EQ(tried(client, "ALTER SEQUENCE " + name + " RESTART"), "42501") << name;
      if (!readable.contains(*row[0])) {
        EXPECT_EQ(tried(client, "SELECT last_value FROM " + name), "42501") << name;
      }
    }
  }
};

TEST_P(SecurityRoles, MayNothingButWhatIsOnItsList) {
  const std::string role = GetParam();
  const Allowed allowed = allowed_by_role()[role];
  PgClient client = as(role);
  enqueue("orders", "k");
  const std::string grants_before = grants();
  for (const PgRow& table : tables()) {
    const auto found = allowed.statements.find(*table[0]);
    try_table(client, *table[0], table[1] == "v",
              found == allowed.statements.end() ? Names{} : found->second);
  }
  try_functions(client, allowed.functions);
  try_sequences(client, role, allowed.sequences);
  EXPECT_EQ(grants(), grants_before);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries"), 1);
}

TEST_P(SecurityRoles, CannotBecomeMoreThanItIs) {
  const std::string role = GetParam();
  PgClient client = as(role);
  const std::string grants_before = grants();
  for (const std::string other : {"producer", "worker", "operator", "reader"}) {
    const std::string statement = "SET ROLE outbox_" + other;
    EXPECT_EQ(tried(client, statement), other == role ? "done" : "42501") << statement;
    EXPECT_EQ(tried(client, "GRANT outbox_" + other + " TO CURRENT_USER"), "42501") << other;
  }
  for (const char* statement :
       {"SET SESSION AUTHORIZATION postgres", "ALTER ROLE CURRENT_USER SUPERUSER",
        "CREATE ROLE mine", "CREATE TABLE outbox.mine (i int)",
        "CREATE VIEW outbox.mine AS SELECT 1",
        "CREATE FUNCTION outbox.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION outbox.status_code(outbox.entry_status) RETURNS int LANGUAGE "
        "sql "
        "AS 'SELECT 1'",
        "ALTER FUNCTION outbox.enqueue SECURITY DEFINER", "DROP FUNCTION outbox.enqueue",
        "DROP SCHEMA outbox CASCADE", "ALTER SCHEMA outbox RENAME TO mine", "CREATE SCHEMA mine",
        "CREATE EXTENSION dblink", "COPY pg_class TO PROGRAM 'true'",
        "COPY pg_class TO '/dev/null'", "SELECT pg_read_file('postgresql.conf')",
        "SET session_replication_role = replica", "ALTER SYSTEM SET log_statement = 'all'"}) {
    EXPECT_NE(tried(client, statement), "done") << statement;
  }
  // A grant of what one has not been given to pass on is refused, or changes nothing.
  for (const char* object : {"TABLE outbox.entries", "SCHEMA outbox", "FUNCTION outbox.enqueue"}) {
    static_cast<void>(refusal(client, std::string("GRANT ALL ON ") + object + " TO PUBLIC"));
  }
  EXPECT_EQ(grants(), grants_before);
}

INSTANTIATE_TEST_SUITE_P(Roles, SecurityRoles,
                         testing::Values("stranger", "producer", "worker", "operator", "reader"),
                         [](const auto& role) { return std::string(role.param); });

class SecurityDefiner : public SecurityRoles {};

// Functions with the owner's rights look nothing up where their caller can put something.
TEST_F(SecurityDefiner, LooksNothingUpOutsideOfTheSchema) {
  const PgRows functions = sql_.query(
      "SELECT proname, (SELECT c FROM unnest(proconfig) c WHERE c LIKE 'search_path=%') FROM "
      "pg_proc "
      "WHERE pronamespace = 'outbox'::regnamespace AND prosecdef");
  EXPECT_GE(functions.size(), 9U);
  for (const PgRow& row : functions) {
    EXPECT_EQ(row[1], "search_path=outbox, pg_temp") << *row[0];
  }
}

TEST_F(SecurityDefiner, IsNotTurnedAsideByWhatItsCallerMakes) {
  Worker worker(database_.dsn());
  worker.session().register_streams(std::vector<std::string>{"orders"});
  PgClient person = as("operator");
  person.exec(
      "CREATE TEMP TABLE streams (LIKE outbox.streams); CREATE TEMP TABLE operations (LIKE "
      "outbox.operations);"
      "CREATE FUNCTION pg_temp.lock_stream(text) RETURNS void LANGUAGE plpgsql AS "
      "'BEGIN RAISE ''caught''; END';"
      "CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE plpgsql AS "
      "'BEGIN RAISE ''caught''; END';"
      "SET search_path = pg_temp, outbox");
  person.query("SELECT outbox.pause_stream('orders', 'ana', 'x')");
  EXPECT_EQ(sql_.value("SELECT paused FROM streams WHERE name = 'orders'"), "t");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM operations WHERE actor = 'ana'"), 1);

  PgClient producer = as("producer");
  producer.exec(
      "CREATE TEMP TABLE entries (stream text, type text, payload json); "
      "SET search_path = pg_temp, outbox");
  producer.query("SELECT outbox.enqueue('orders', 'a', '1')");
  EXPECT_EQ(producer.number("SELECT count(*) FROM pg_temp.entries"), 0);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries"), 1);
}

}  // namespace
}  // namespace outfall::test
