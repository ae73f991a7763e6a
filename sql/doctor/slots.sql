-- Replication slots that nobody reads: each keeps the write-ahead log from its place on, until the disk is full,
-- and one with an xmin keeps vacuum from removing rows as well.
SELECT coalesce(json_agg(json_build_object(
         'slot', s.slot_name,
         'type', s.slot_type,
         'lost', s.wal_status = 'lost',
         'keeps_rows', s.xmin IS NOT NULL,
         'retained_bytes', pg_wal_lsn_diff(
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
           s.restart_lsn)::bigint) ORDER BY s.slot_name), '[]')::text
  FROM pg_catalog.pg_replication_slots s
 WHERE NOT s.active AND NOT s.temporary AND (s.restart_lsn IS NOT NULL OR s.wal_status = 'lost')
