// Goal: receipts are found again, fast, by entry id, envelope id and time; their partitions are
// made ahead and dropped in time, whatever the default partition holds.

#include <libpq-fe.h>

#include "tests/integration/sql_fixture.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// A partition of receipts from so many days before today (UTC) to so many.
void make_day(PgClient& sql, const std::string& name, int from, int to) {
  const std::string today = "date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'";
  sql.exec("DO $$ BEGIN EXECUTE format('CREATE TABLE " + name +
           " PARTITION OF receipts FOR VALUES FROM (%L) TO (%L)', " + today + " - interval '" +
           std::to_string(from) + " days', " + today + " - interval '" + std::to_string(to) +
           " days'); END; $$");
}

class SqlReceipts : public SqlTest {
 protected:
  explicit SqlReceipts(const std::string& from = migrated_template()) : SqlTest(from) {}

  // A receipt of one entry, delivered `age` ago.
  void receipt(const std::string& age, EntryId id = 1) {
    receipt_of("clock_timestamp() - interval '" + age + "'", id);
  }
  // At noon of a day in UTC: in its partition at whatever time of the day the test runs.
  void receipt_at_noon(int days_ago) {
    receipt_of("date_trunc('day', now(), 'UTC') - interval '" + std::to_string(days_ago) +
                   " days' + interval '12 hours'",
               1);
  }
  void receipt_of(const std::string& time, EntryId id) {
    sql_.exec("INSERT INTO receipts SELECT t, " + std::to_string(id) + ", " + std::to_string(id) +
              ", t, t, 1, 'orders', 'noop', '{0}', ARRAY[new_envelope_id()], '{0}', '{1}', '{a}' "
              "FROM (SELECT " +
              time + ") AS x (t)");
  }
  PgRow maintain(const std::string& retention = "7 days", int ahead = 2) {
    return sql_
        .query(
            "SELECT ran, cardinality(created), cardinality(dropped), deleted, "
            "cardinality(postponed), more "
            "FROM maintain_receipts($1, $2)",
            {retention, std::to_string(ahead)})
        .at(0);
  }
  std::int64_t count(const std::string& table) {
    return sql_.number("SELECT count(*) FROM " + table);
  }
};

TEST_F(SqlReceipts, DeliveredShowsEachEntryOfABatch) {
  Worker worker(database_.dsn());
  const EntryId first = enqueue("orders", "k", "a");
  const EntryId second = enqueue("orders", {}, "b");
  const std::string envelope = envelope_of(second);
  worker.deliver(worker.claim("orders"), {"0@17", "0@18"});
  EXPECT_EQ(
      sql_.query("SELECT entry_id, stream, key, type, attempts, provider, record_id, created_at < "
                 "delivered_at "
                 "FROM delivered ORDER BY entry_id"),
      (PgRows{{std::to_string(first), "orders", "k", "a", "1", "noop", "0@17", "t"},
              {std::to_string(second), "orders", std::nullopt, "b", "1", "noop", "0@18", "t"}}));
  EXPECT_EQ(sql_.query("SELECT entry_id FROM find_delivered($1)", {envelope}),
            (PgRows{{std::to_string(second)}}));
  EXPECT_EQ(sql_.query("SELECT envelope_id, record_id FROM find_delivered(p_entry_id => $1)",
                       {std::to_string(second)}),
            (PgRows{{envelope, "0@18"}}));
  EXPECT_EQ(sql_.query("SELECT * FROM find_delivered(p_entry_id => 3)"), PgRows{});
}

// An offset is an int: a batch with an entry that was replayed after billions of others has two
// receipts.
TEST_F(SqlReceipts, IdsFarApartInOneBatch) {
  Worker worker(database_.dsn());
  const EntryId old = enqueue("orders");
  worker.settle_all(worker.claim("orders"), EntryStatus::retryable_failure, Milliseconds{0},
                    "http.503");
  sql_.exec("SELECT setval('entries_id_seq', 5000000000)");
  const EntryId young = enqueue("orders");
  worker.deliver(worker.claim("orders"), {"0@1", "0@2"});
  EXPECT_EQ(sql_.query("SELECT entry_id, record_id FROM delivered ORDER BY entry_id"),
            (PgRows{{std::to_string(old), "0@1"}, {std::to_string(young), "0@2"}}));
  EXPECT_EQ(
      sql_.value("SELECT record_id FROM find_delivered(p_entry_id => $1)", {std::to_string(young)}),
      "0@2");
}

// Also of one whose creation lies in a far future or past: latencies have 32 bits of milliseconds.
TEST_F(SqlReceipts, AnEntryFromAnotherMonthIsSettledWithItsReceipt) {
  Worker worker(database_.dsn());
  for (const char* off : {"30 days", "-30 days"}) {
    const EntryId id = enqueue("orders");
    sql_.exec("UPDATE entries SET created_at = now() + interval '" + std::string(off) + "'");
    worker.deliver(worker.claim("orders"));
    EXPECT_EQ(sql_.number("SELECT count(*) FROM delivered WHERE entry_id = " + std::to_string(id)),
              1)
        << off;
    EXPECT_EQ(count("entries"), 0) << off;
  }
}

// 300,000 entries of a week in 3,000 receipts, some that hold a retry among fresh entries, and one
// whose envelope id is no UUIDv7.
constexpr const char* kWeek = R"(
      CREATE FUNCTION envelope_at(p_time timestamptz, p_n bigint) RETURNS uuid LANGUAGE sql AS $$
        SELECT (substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-7' || substr(m, 1, 3) || '-8' || substr(m, 4, 3) || '-' || substr(m, 7, 12))::uuid
          FROM (SELECT lpad(to_hex((extract(epoch FROM p_time) * 1000)::bigint), 12, '0') AS h, md5(p_n::text) AS m) x $$;
      INSERT INTO receipts
      SELECT c.t + interval '150 milliseconds', c.first_id, c.first_id + 99, c.t, c.t + interval '99 milliseconds', 100, 'orders', 'noop',
             ARRAY(SELECT generate_series(0, 99)),
             ARRAY(SELECT envelope_at(c.t + i * interval '1 millisecond', c.first_id + i) FROM generate_series(0, 99) i),
             ARRAY(SELECT 150 - i FROM generate_series(0, 99) i), array_fill(1, ARRAY[100]), array_fill('a'::text, ARRAY[100])
        FROM (SELECT now() - interval '6 days' + n * interval '170 seconds' AS t, n * 100 + 1 AS first_id
                FROM generate_series(0, 2999) n) c;
      -- Every hundredth batch also has an entry of two hours before.
      INSERT INTO receipts
      SELECT c.t + interval '2 hours', c.first_id, c.first_id + 400000, c.t, c.t + interval '2 hours', 2, 'orders', 'noop',
             '{0,400000}', ARRAY[envelope_at(c.t, c.first_id), envelope_at(c.t + interval '2 hours', c.first_id + 400000)],
             '{7200000,0}', '{4,1}', '{a,a}'
        FROM (SELECT now() - interval '6 days' + n * interval '4 hours' AS t, 10000000 + n * 400000 AS first_id
                FROM generate_series(0, 29) n) c;
      INSERT INTO receipts
      SELECT now() - interval '3 days', 90000000, 90000000, now() - interval '3 days', now() - interval '3 days', 1, 'orders', 'noop', '{0}',
             ARRAY['6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid], '{0}', '{1}', '{a}';
      ANALYZE receipts)";

const std::string& week_template() {
  static const std::string name = [] {
    PgClient sql(shared_postgres().create_database("sql_week", migrated_template()));
    sql.exec("SET search_path = outbox");
    for (int day = 1; day <= 6; ++day) make_day(sql, "day_" + std::to_string(day), day, day - 1);
    sql.exec(kWeek);
    return std::string("sql_week");
  }();
  return name;
}

class SqlReceiptsOfAWeek : public SqlReceipts {
 protected:
  SqlReceiptsOfAWeek() : SqlReceipts(week_template()) {}
  // The plans of all statements that a query runs, those inside functions too.
  std::string plans_of(const std::string& query) {
    std::string plans;
    PgClient session = connect();
    session.exec(
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; "
        "SET auto_explain.log_nested_statements = on; SET client_min_messages = log");
    PQsetNoticeProcessor(
        session.raw(),
        [](void* text, const char* message) { *static_cast<std::string*>(text) += message; },
        &plans);
    session.query(query);
    return plans;
  }
  std::int64_t buffers_of(const std::string& query) {
    sql_.query(query);
    const std::string plan = sql_.value("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + query);
    return sql_.number(
        "SELECT ($1::json #>> '{0,Plan,Shared Hit Blocks}')::bigint + "
        "($1::json #>> '{0,Plan,Shared Read Blocks}')::bigint",
        {plan});
  }
};

TEST_F(SqlReceiptsOfAWeek, AnEntryIdLeadsToItsReceiptByIndex) {
  for (const char* id : {"1", "150042", "299999", "300000"}) {
    EXPECT_EQ(sql_.value("SELECT count(*) FROM find_delivered(p_entry_id => $1)", {id}), "1") << id;
  }
  EXPECT_EQ(sql_.query("SELECT attempts FROM find_delivered(p_entry_id => 10800000)"),
            (PgRows{{"1"}, {"4"}}))
      << "the second of one wide receipt and the first of the next share this id";
  EXPECT_EQ(sql_.number("SELECT count(*) FROM find_delivered(p_entry_id => 10000001)"), 0);
  EXPECT_THAT(plans_of("SELECT * FROM find_delivered(p_entry_id => 150042)"),
              testing::AllOf(HasSubstr("Index Cond: ((last_id >= '150042'::bigint) AND (last_id <= "
                                       "'250042'::bigint) AND (first_id <= '150042'::bigint))"),
                             HasSubstr("last_id_first_id_idx1"), Not(HasSubstr("Seq Scan"))));
}

TEST_F(SqlReceiptsOfAWeek, ATimeOrderedEnvelopeIdLeadsToItsReceiptByIndex) {
  for (const char* id : {"1", "150042", "300000", "12000000"}) {
    const std::string envelope = sql_.value(
        "SELECT envelope_id FROM find_delivered(p_entry_id => $1) ORDER BY delivered_at DESC LIMIT "
        "1",
        {id});
    EXPECT_EQ(sql_.query("SELECT entry_id FROM find_delivered($1)", {envelope}), (PgRows{{id}}))
        << id;
    EXPECT_THAT(
        plans_of("SELECT * FROM find_delivered('" + envelope + "')"),
        testing::AllOf(HasSubstr("last_created_first_created_idx on"),
                       HasSubstr("last_created_first_created_idx1 on"), Not(HasSubstr("Seq Scan"))))
        << id;
  }
}

TEST_F(SqlReceiptsOfAWeek, AClockThatWasOffIsAllowedFor) {
  sql_.exec(
      "UPDATE receipts SET envelope_ids[1] = envelope_at(first_created - interval '9 minutes', 7) "
      "WHERE first_id = 150001");
  EXPECT_EQ(sql_.value("SELECT entry_id FROM find_delivered((SELECT envelope_ids[1] FROM receipts "
                       "WHERE first_id = 150001))"),
            "150001");
}

TEST_F(SqlReceiptsOfAWeek, AForeignEnvelopeIdIsFoundByScan) {
  EXPECT_EQ(
      sql_.query("SELECT entry_id FROM find_delivered('6ba7b810-9dad-11d1-80b4-00c04fd430c8')"),
      (PgRows{{"90000000"}}));
  EXPECT_EQ(
      sql_.query("SELECT entry_id FROM find_delivered('6ba7b810-9dad-11d1-80b4-00c04fd430c8', "
                 "p_from => now() - interval '1 day')"),
      PgRows{});
  EXPECT_EQ(
      sql_.query("SELECT entry_id FROM find_delivered('00000000-0000-4000-8000-000000000000')"),
      PgRows{});
}

TEST_F(SqlReceiptsOfAWeek, ASearchThatDidNotGetThroughSaysSo) {
  EXPECT_EQ(sql_.query("SELECT hits, complete FROM "
                       "search_delivered('00000000-0000-4000-8000-000000000000', NULL, NULL, NULL, "
                       "true, clock_timestamp() - interval '1 second')"),
            (PgRows{{std::nullopt, "f"}}));
}

TEST_F(SqlReceiptsOfAWeek, AnHourOfDeliveriesReadsItsPartitionByTime) {
  const std::string hour =
      "SELECT count(*) FROM delivered WHERE delivered_at >= now() - interval '50 hours' AND "
      "delivered_at < now() - interval '49 hours'";
  EXPECT_NEAR(static_cast<double>(sql_.number(hour)), 2100, 200);
  EXPECT_LT(buffers_of(hour), 500);
}

TEST_F(SqlReceipts, MigrationMadeTodayAndTheNextTwoDays) {
  EXPECT_EQ(count("receipts_partitions() WHERE from_time >= date_trunc('day', now() AT TIME ZONE "
                  "'UTC') AT TIME ZONE 'UTC'"),
            3);
  receipt("0");
  EXPECT_EQ(count("receipts_default"), 0);
  EXPECT_EQ(maintain(), (PgRow{"t", "0", "0", "0", "0", "f"}));
}

TEST_F(SqlReceipts, MaintenanceMakesPartitionsAheadInAnyTimeZone) {
  sql_.exec("SET timezone = 'Pacific/Kiritimati'");
  EXPECT_EQ(maintain("7 days", 5), (PgRow{"t", "3", "0", "0", "0", "f"}));
  sql_.exec("SET timezone = 'America/Los_Angeles'");
  EXPECT_EQ(maintain("7 days", 5), (PgRow{"t", "0", "0", "0", "0", "f"}));
  EXPECT_EQ(sql_.value("SELECT count(*) = count(DISTINCT from_time) AND bool_and(to_time - "
                       "from_time = interval '1 day') "
                       "FROM receipts_partitions() WHERE from_time IS NOT NULL"),
            "t");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM pg_indexes WHERE tablename = 'receipts_' || "
                        "to_char(now() AT TIME ZONE 'UTC' + interval '5 days', 'YYYYMMDD')"),
            sql_.number("SELECT count(*) FROM pg_indexes WHERE tablename = 'receipts'"));
}

TEST_F(SqlReceipts, OldPartitionsAreDroppedAndYoungOnesKept) {
  make_day(sql_, "old_day", 9, 8);
  make_day(sql_, "kept_day", 7, 6);
  receipt_at_noon(9);
  receipt("1 hour");
  EXPECT_EQ(maintain(), (PgRow{"t", "0", "1", "0", "0", "f"}));
  EXPECT_EQ(count("receipts_partitions() WHERE name = 'old_day'"), 0);
  EXPECT_EQ(count("receipts_partitions() WHERE name = 'kept_day'"), 1);
}

TEST_F(SqlReceipts, OldRowsOfTheDefaultPartitionAreDeleted) {
  receipt("30 days");
  receipt("8 days");
  receipt("3 days");
  ASSERT_EQ(count("receipts_default"), 3);
  EXPECT_EQ(maintain(), (PgRow{"t", "0", "0", "2", "0", "f"}));
  EXPECT_EQ(count("receipts"), 1);
}

TEST_F(SqlReceipts, APublicationOfAllTablesForbidsNoMaintenance) {
  sql_.exec("CREATE PUBLICATION everything FOR ALL TABLES");
  receipt("30 days");
  receipt("1 hour");
  EXPECT_EQ(maintain("7 days", 5), (PgRow{"t", "3", "0", "1", "0", "f"}));
  sql_.exec("DELETE FROM receipts");
  EXPECT_EQ(count("receipts"), 0);
}

TEST_F(SqlReceipts, ADayThatIsInTheDefaultPartitionStaysThereAndIsNamed) {
  sql_.exec(
      "DO $$ DECLARE n text; BEGIN FOR n IN SELECT name FROM receipts_partitions() WHERE from_time "
      "IS NOT NULL LOOP "
      "EXECUTE format('DROP TABLE %I', n); END LOOP; END; $$");
  receipt("0");
  const PgRows rows =
      sql_.query("SELECT cardinality(created), postponed[1] FROM maintain_receipts('7 days')");
  EXPECT_EQ(rows[0][0], "2");
  EXPECT_THAT(*rows[0][1], HasSubstr("the default partition holds receipts of that day"));
  receipt("0", 2);
  EXPECT_EQ(count("receipts_default"), 2);
  EXPECT_EQ(count("delivered"), 2);
}

TEST_F(SqlReceipts, AnyEntryIdCanBeLookedFor) {
  receipt_of("now()", 9223372036854775807);
  EXPECT_EQ(sql_.query("SELECT entry_id FROM find_delivered(p_entry_id => 9223372036854775807)"),
            (PgRows{{"9223372036854775807"}}));
  EXPECT_EQ(
      sql_.number("SELECT count(*) FROM find_delivered(p_entry_id => '-9223372036854775808')"), 0);
}

TEST_F(SqlReceipts, OneWorkerAtATimeMaintains) {
  PgClient other = connect();
  other.exec("BEGIN");
  other.query("SELECT * FROM maintain_receipts('7 days')");
  EXPECT_EQ(maintain()[0], "f");
  other.exec("COMMIT");
  EXPECT_EQ(maintain()[0], "t");
}

// A long reader keeps the partition; the settles must not queue up behind the drop for long.
TEST_F(SqlReceipts, AReaderPostponesTheDrop) {
  make_day(sql_, "old_day", 9, 8);
  PgClient reader = connect();
  reader.exec("BEGIN");
  reader.query("SELECT count(*) FROM receipts");
  EXPECT_EQ(maintain(), (PgRow{"t", "0", "0", "0", "1", "f"}));
  reader.exec("COMMIT");
  EXPECT_EQ(maintain(), (PgRow{"t", "0", "1", "0", "0", "f"}));
}

TEST_F(SqlReceipts, ImpossibleRetentionIsRefused) {
  EXPECT_EQ(refusal(sql_, "SELECT maintain_receipts('-1 day')").sqlstate, "22023");
  EXPECT_EQ(refusal(sql_, "SELECT maintain_receipts('59 minutes')").sqlstate, "22023");
  EXPECT_EQ(refusal(sql_, "SELECT maintain_receipts(NULL)").sqlstate, "22023");
  EXPECT_EQ(refusal(sql_, "SELECT maintain_receipts('1 day', 100)").sqlstate, "22023");
}

}  // namespace
}  // namespace outfall::test
