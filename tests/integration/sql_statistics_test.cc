// Goal: no statistics make a claim walk through all that is stored. Whoever drains a queue leaves a
// table in which a vacuum finds no row at all, and says so: then each index of it looks as if it
// were of one page, and what a backlog needs is planned by whatever is left of the costs. Rows are
// counted, not time.

#include <algorithm>
#include <array>
#include <string>

#include "tests/integration/sql_fixture.h"
#include "tests/integration/watched_plans.h"

namespace outfall::test {
namespace {

// What the planner believes of every table and index of the outbox.
struct Statistics {
  const char* name;
  // Of each. Empty: what ANALYZE says of what is there; null: what it said of rows that all wait.
  const char* pages_and_rows;
};
constexpr std::array kStatistics = {
    Statistics{"never analysed", "relpages = 0, reltuples = -1"},
    Statistics{"vacuumed while it was empty", "relpages = 3000, reltuples = 0"},
    Statistics{"analysed with one row", "relpages = 3000, reltuples = 1"},
    Statistics{"as they are", ""},
    Statistics{"analysed while all waited", nullptr},
};

std::string claim(const std::string& lease_id) {
  return "claim('orders', '10000000-0000-0000-0000-000000000009', 'i', '" + lease_id +
         "', 30000, 100, 10000000, true, true, NULL, 5, 0, 0, 0, 0, '{}', '{}', '{}', '{}', '{}', "
         "100, '{}', '{}', 100)";
}

const std::string kLease = "20000000-0000-0000-0000-000000000001";

// What stands in the tables, and what is done there.
struct Scene {
  const char* name;
  std::string rows;
  std::string statement;
  std::int64_t most;  // rows walked
};

std::string fresh(const std::string& key, int count) {
  return "INSERT INTO entries (stream, type, key) SELECT 'orders', 't', " + key +
         " FROM generate_series(1, " + std::to_string(count) + ") n;";
}

std::string dead_letters(int count) {
  return "INSERT INTO dead_letters (id, envelope_id, created_at, attempts, replays, holds_key, "
         "stream, type, key, reason_code) SELECT -n, new_envelope_id(), now(), 1, 0, true, "
         "'orders', 't', 'd' || n, 'http.400' FROM generate_series(1, " +
         std::to_string(count) + ") n;";
}

std::string held(const std::string& key, int holds, int each) {
  return "INSERT INTO holds (stream, scope, value, due_at, reason) SELECT 'orders', 'key', " + key +
         ", clock_timestamp(), 'r' FROM generate_series(1, " + std::to_string(holds) +
         ") n; INSERT INTO entries (stream, type, key, status, hold_id) SELECT 'orders', 't', "
         "h.value, 'held', h.hold_id FROM generate_series(1, " +
         std::to_string(each) + ") n, holds h;";
}

std::vector<Scene> scenes() {
  const std::string suspects =
      "INSERT INTO entries (stream, type, key, abandoned, status, available_at) SELECT 'orders', "
      "'t', 's' || n, 4, 'deferred', now() FROM generate_series(1, 50) n;";
  const std::string waiting =
      "INSERT INTO entries (stream, type, key, status, available_at) SELECT 'orders', 't', "
      "'d' || n * 3, 'deferred', now() + interval '1 hour' FROM generate_series(1, 900) n;";
  const std::string settled_as_failed =
      "SELECT settle('" + kLease +
      "', '10000000-0000-0000-0000-000000000009', 'noop', true, '{}', '{}', x.ids, "
      "array_fill('retryable_failure'::text, x.n), array_fill(true, x.n), "
      "array_fill(1000::bigint, x.n), array_fill('http.503'::text, x.n), "
      "array_fill('away'::text, x.n), false, '{}', NULL, false) FROM (SELECT array_agg(l.id) AS "
      "ids, ARRAY[count(*)::int] AS n FROM leased_entries('" +
      kLease + "') l) x";
  const std::string claims = "SELECT status FROM " + claim(kLease);
  return {
      {"what is held", held("'h' || n", 300, 40) + fresh("'k' || n % 200", 8000), claims, 100'000},
      {"dead letters hold keys",
       dead_letters(6000) + fresh("'d' || n", 6000) + held("'d' || n * 2", 300, 20) + waiting,
       claims, 100'000},
      {"suspects", fresh("'s' || n % 100", 10000) + suspects + dead_letters(2000), claims, 100'000},
      {"failures are settled",
       fresh("'k' || n % 200", 20000) + "DO $$BEGIN PERFORM " + claim(kLease) + "; END$$;",
       settled_as_failed, 5'000},
      {"some of many are parked", fresh("'k' || n % 200", 20000),
       "SELECT park('orders', clock_timestamp(), array_agg(f.id ORDER BY f.id), "
       "array_agg('key'::text), array_agg(f.key ORDER BY f.id)) FROM (SELECT id, key FROM entries "
       "WHERE stream = 'orders' AND status = 'pending' AND available_at IS NULL ORDER BY stream, "
       "id LIMIT 200) f",
       10'000},
      {"an idle poll", fresh("'k'", 20000) + held("'h' || n", 300, 1),
       "SELECT due_streams('{other,orders,third}', '{0,0,0}', '{}', '{}', '{}')", 1'000},
  };
}

class SqlStatistics : public SqlTest, public testing::WithParamInterface<Statistics> {
 protected:
  SqlStatistics() {
    sql_.exec(
        "SELECT register_streams('{orders}'); INSERT INTO entries (stream, type, key, status, "
        "available_at) SELECT 'orders', 't', 'w' || n, 'deferred', now() + interval '1 hour' FROM "
        "generate_series(1, 5000) n; ANALYZE entries");
    believed_ = sql_.value(
        "SELECT string_agg(format('UPDATE pg_class SET relpages = %s, reltuples = %s WHERE oid = "
        "%s', relpages, reltuples, oid), '; ') FROM pg_class WHERE relnamespace = "
        "'outbox'::regnamespace AND relkind IN ('r', 'i')");
    if (GetParam().pages_and_rows == nullptr) return;
    const std::string said = GetParam().pages_and_rows;
    believed_ = said.empty()
                    ? "ANALYZE entries, holds, dead_letters"
                    : "UPDATE pg_class SET " + said +
                          " WHERE relnamespace = 'outbox'::regnamespace AND relkind IN ('r', 'i'); "
                          "DELETE FROM pg_statistic WHERE starelid = 'entries'::regclass";
  }
  std::string believed_;
};

TEST_P(SqlStatistics, LeadNoPlanThroughAllThatIsStored) {
  for (const Scene& scene : scenes()) {
    sql_.exec("TRUNCATE entries, leases, holds, parkings, dead_letters");
    sql_.exec(scene.rows);
    sql_.exec(believed_);
    WatchedPlans watched;
    PgClient worker = connect();
    worker.exec("SET enable_seqscan = off; SET enable_bitmapscan = off; BEGIN");
    watched.watch(worker);
    EXPECT_LT(watched.rows_walked(worker, scene.statement), scene.most)
        << scene.name << ", " << GetParam().name << watched.text();
  }
}

INSTANTIATE_TEST_SUITE_P(Planned, SqlStatistics, testing::ValuesIn(kStatistics),
                         [](const testing::TestParamInfo<Statistics>& one) {
                           std::string name = one.param.name;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

}  // namespace
}  // namespace outfall::test
