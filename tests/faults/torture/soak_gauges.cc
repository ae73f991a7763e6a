#include "tests/faults/torture/soak_gauges.h"

#include <algorithm>
#include <array>

namespace outfall::torture {

namespace {

constexpr double kMebibyte = 1 << 20;

constexpr auto kMemory = "memory of a worker";
constexpr auto kFiles = "descriptors of a worker";

// By the columns of the query below.
constexpr std::array kOfDatabase{"connections of the workers",
                                 "dead rows of entries",
                                 "dead rows of the other tables",
                                 "table entries",
                                 "indexes of entries",
                                 "the other tables, without receipts",
                                 "oldest snapshot, transactions",
                                 "oldest snapshot, time",
                                 "age of the oldest entry"};

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

std::vector<Bound> soak_bounds(double rate, int workers) {
  // Autovacuum looks once a minute and needs about as long again; a fault can make it miss a turn.
  const double vacuumed_rows = rate * 180;
  // 450 bytes of payload and the row around them; six indexes take about half as much.
  const double table_mebibytes = vacuumed_rows * 1000 / kMebibyte;
  // Of connections, each worker has its pool of four and those that watch; one fault adds a worker.
  const double connections = 6.0 * (workers + 1);
  // No fault lasts longer than five seconds, and a transaction of a producer no longer than one.
  const double snapshot_seconds = 10;
  const double room = 0.1;
  return {
      {kMemory, "MiB", 64, 1.2, 2},
      {kFiles, "", 64, 1, 2},
      {kOfDatabase[0], "", connections, 1, 1},
      {kOfDatabase[1], "rows", vacuumed_rows, 1.5, vacuumed_rows * room},
      {kOfDatabase[2], "rows", vacuumed_rows * room, 1.5, vacuumed_rows * room * room},
      // Files do not get smaller under load.
      {kOfDatabase[3], "MiB", table_mebibytes, 0},
      {kOfDatabase[4], "MiB", table_mebibytes, 0},
      {kOfDatabase[5], "MiB", table_mebibytes * room, 0},
      {kOfDatabase[6], "transactions", rate * snapshot_seconds, 1.5, rate},
      {kOfDatabase[7], "s", snapshot_seconds, 1.5, 1},
      {kOfDatabase[8], "s", 60, 1.5, 1},
  };
}

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
  gauges.add(kMemory, share, static_cast<double>(memory) / kMebibyte);
  gauges.add(kFiles, share, static_cast<double>(files));
  try {
    const test::PgRows rows = servers.connect(database).query(kLook);
    for (std::size_t i = 0; i < kOfDatabase.size(); ++i)
      gauges.add(kOfDatabase[i], share, std::stod(rows.at(0).at(i).value_or("0")));
  } catch (const test::PgError&) {
    // It is away just now, which is what some faults are about.
  }
}

}  // namespace outfall::torture
