#include "tests/faults/torture/soak_look.h"

#include <string>

namespace outfall::torture {

namespace {

// Its columns are kSoakOfDatabase.
constexpr auto kLook =
    "WITH t AS (SELECT relid, relname, n_dead_tup FROM pg_stat_user_tables"
    "            WHERE schemaname = 'outbox' AND relname NOT LIKE 'receipts%'),"
    "     s AS (SELECT * FROM pg_stat_activity WHERE backend_type = 'client backend'"
    "              AND pid <> pg_backend_pid() AND datname = current_database())"
    " SELECT (SELECT count(*) FROM s WHERE usename = 'torture_worker'),"
    "        (SELECT n_dead_tup FROM t WHERE relname = 'entries'),"
    "        (SELECT sum(n_dead_tup) FROM t WHERE relname <> 'entries'),"
    "        pg_table_size('outbox.entries') / 1048576.0,"
    "        pg_indexes_size('outbox.entries') / 1048576.0,"
    "        (SELECT sum(pg_total_relation_size(relid)) / 1048576.0 FROM t"
    "          WHERE relname <> 'entries'),"
    "        greatest((SELECT max(age(backend_xmin)) FROM s),"
    "                 (SELECT max(age(transaction)) FROM pg_prepared_xacts), 0),"
    "        greatest((SELECT extract(epoch FROM max(clock_timestamp() - xact_start)) FROM s"
    "                   WHERE backend_xmin IS NOT NULL OR backend_xid IS NOT NULL),"
    "                 (SELECT extract(epoch FROM max(clock_timestamp() - prepared))"
    "                    FROM pg_prepared_xacts), 0),"
    // Without a snapshot or an id of its own, too. One that has failed has no start any more.
    "        coalesce((SELECT extract(epoch FROM max(clock_timestamp()"
    "                                                - coalesce(xact_start, state_change))) FROM s"
    "                   WHERE state LIKE 'idle in transaction%'), 0),"
    "        coalesce((SELECT extract(epoch FROM clock_timestamp() - created_at)"
    "                    FROM outbox.entries ORDER BY id LIMIT 1), 0)";

}  // namespace

std::vector<double> look_at_database(test::PgClient& client) {
  std::vector<double> values;
  const test::PgRows rows = client.query(kLook);
  for (const auto& value : rows.at(0)) values.push_back(std::stod(value.value_or("0")));
  return values;
}

}  // namespace outfall::torture
