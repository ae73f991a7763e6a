-- For which sessions others wait at a lock on a table of the outbox: those that wait for nobody themselves, so that
-- the one to end is named and not the queue behind it. A prepared transaction has no session, and the process id 0.
WITH waiting AS MATERIALIZED (
  SELECT l.pid, c.relname, pg_blocking_pids(l.pid) AS blockers
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_class c ON c.oid = l.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
   WHERE NOT l.granted AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
)
SELECT coalesce(json_agg(json_build_object(
         'pid', h.pid,
         'role', s.usename,
         'application', s.application_name,
         'state', s.state,
         'tables', h.tables,
         'waiting', h.waiting,
         'seconds', extract(epoch FROM clock_timestamp() - s.xact_start)::float8) ORDER BY h.waiting DESC, h.pid), '[]')::text
  FROM (SELECT b.pid, count(DISTINCT w.pid) AS waiting, string_agg(DISTINCT w.relname, ', ') AS tables
          FROM waiting w CROSS JOIN LATERAL unnest(w.blockers) AS b (pid)
         WHERE NOT EXISTS (SELECT FROM waiting o WHERE o.pid = b.pid)
         GROUP BY b.pid) h
  LEFT JOIN pg_catalog.pg_stat_activity s ON s.pid = h.pid AND h.pid <> 0
