#include "tests/faults/torture/soak_gauges.h"

#include <algorithm>

#include "tests/faults/torture/soak_bounds.h"

namespace outfall::torture {

namespace {

constexpr double kMebibyte = 1 << 20;

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
    "        coalesce((SELECT extract(epoch FROM clock_timestamp() - created_at)"
    "                    FROM outbox.entries ORDER BY id LIMIT 1), 0)";

}  // namespace

void look_at_soak(const Servers& servers, const std::string& database,
                  const std::vector<std::unique_ptr<Worker>>& workers, double share,
                  Gauges& gauges) {
  std::int64_t memory = 0;
  std::int64_t files = 0;
  for (const auto& worker : workers) {
    if (worker->pid() == 0) continue;
    memory = std::max(memory, rss_bytes(worker->pid()));
    files = std::max(files, open_files(worker->pid()));
  }
  gauges.add(kWorkerMemory, share, static_cast<double>(memory) / kMebibyte);
  gauges.add(kWorkerFiles, share, static_cast<double>(files));
  try {
    const test::PgRows rows = servers.connect(database).query(kLook);
    for (std::size_t i = 0; i < kSoakOfDatabase.size(); ++i)
      gauges.add(kSoakOfDatabase[i], share, std::stod(rows.at(0).at(i).value_or("0")));
  } catch (const test::PgError&) {
    // It is away just now, which is what some faults are about.
  }
}

}  // namespace outfall::torture
