-- For which sessions others wait at a lock on a table of the outbox: those that wait for nobody themselves, so that
-- the one to end is named and not the queue behind it. A prepared transaction has no session, and the process id 0.
--
-- Then those that keep rows of streams locked (`rows`), as a pause does that is not committed. Claims pass such a stream
-- over, so that nobody waits. Only a row that somebody waits for shows in pg_locks, but whoever locks one keeps a lock
-- on the table as well. A claim does that, too, in a statement of its own, however long it takes.
WITH waiting AS MATERIALIZED (
  SELECT l.pid, c.relname, pg_blocking_pids(l.pid) AS blockers
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_class c ON c.oid = l.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
   WHERE NOT l.granted AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
), holding AS MATERIALIZED (
  SELECT b.pid, false AS rows, count(DISTINCT w.pid) AS waiting, string_agg(DISTINCT w.relname, ', ') AS tables
    FROM waiting w CROSS JOIN LATERAL unnest(w.blockers) AS b (pid)
   WHERE NOT EXISTS (SELECT FROM waiting o WHERE o.pid = b.pid)
   GROUP BY b.pid
), standing AS (
  SELECT DISTINCT coalesce(l.pid, 0) AS pid, true AS rows, 0::bigint AS waiting, 'streams' AS tables
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_class c ON c.oid = l.relation AND c.relname = 'streams'
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
    LEFT JOIN pg_catalog.pg_stat_activity s ON s.pid = l.pid
   WHERE l.granted AND l.mode IN ('RowShareLock', 'RowExclusiveLock')
     AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
     AND (l.pid IS NULL OR s.state LIKE 'idle in transaction%' OR s.query_start > s.xact_start + interval '1 second')
     AND NOT EXISTS (SELECT FROM holding h WHERE h.pid = coalesce(l.pid, 0))
)
SELECT coalesce(json_agg(json_build_object(
         'pid', h.pid,
         'role', s.usename,
         'application', s.application_name,
         'state', s.state,
         'tables', h.tables,
         'rows', h.rows,
         'waiting', h.waiting,
         'seconds', extract(epoch FROM clock_timestamp() - s.xact_start)::float8) ORDER BY h.waiting DESC, h.pid), '[]')::text
  FROM (SELECT * FROM holding UNION ALL SELECT * FROM standing) h
  LEFT JOIN pg_catalog.pg_stat_activity s ON s.pid = h.pid AND h.pid <> 0
