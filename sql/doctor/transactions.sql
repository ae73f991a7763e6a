-- The oldest transactions that are open in this database, and those that were prepared and left: vacuum removes
-- nothing that was deleted since one of them began. A walsender has a transaction while it copies for a standby.
-- What a session does is left out, since its statement may hold data.
SELECT json_build_object(
         'sees_all', pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
         'open', (SELECT coalesce(json_agg(a), '[]')
                    FROM (SELECT s.pid, s.usename AS role, s.application_name AS application, s.state,
                                 extract(epoch FROM clock_timestamp() - s.xact_start)::float8 AS seconds
                            FROM pg_catalog.pg_stat_activity s
                           WHERE (s.datname = current_database() OR s.backend_type = 'walsender')
                             AND s.pid <> pg_backend_pid() AND s.xact_start IS NOT NULL
                             AND s.backend_type <> 'autovacuum worker'
                           ORDER BY s.xact_start LIMIT 10) a),
         'prepared', (SELECT coalesce(json_agg(p), '[]')
                        FROM (SELECT x.gid, x.owner AS role,
                                     extract(epoch FROM clock_timestamp() - x.prepared)::float8 AS seconds
                                FROM pg_catalog.pg_prepared_xacts x
                               WHERE x.database = current_database()
                               ORDER BY x.prepared LIMIT 10) p))::text
