-- The server and this session: what decides whether entries are kept, can be written and are cleaned up behind.
-- pg_stat_database counts sessions also for a role that may not see them.
SELECT json_build_object(
         'version', current_setting('server_version'),
         'version_number', current_setting('server_version_num')::int,
         'set_for_role', format('ALTER ROLE %I SET', current_user),
         'database', current_database(),
         'encoding', pg_catalog.getdatabaseencoding(),
         'in_recovery', pg_is_in_recovery(),
         'read_only', current_setting('transaction_read_only')::boolean,
         'isolation', current_setting('transaction_isolation'),
         'statement_timeout', current_setting('statement_timeout'),
         'autovacuum', current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean,
         'fsync', current_setting('fsync')::boolean,
         'full_page_writes', current_setting('full_page_writes')::boolean,
         'sessions', (SELECT coalesce(sum(d.numbackends), 0) FROM pg_catalog.pg_stat_database d),
         'sessions_limit', current_setting('max_connections')::int
                             - current_setting('superuser_reserved_connections')::int)::text
