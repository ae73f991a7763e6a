-- The tables of the schema for which somebody has switched autovacuum off, for the table or for its TOAST table.
SELECT coalesce(json_agg(json_build_object(
         'table', c.relname,
         'change', format('ALTER TABLE %I.%I RESET (autovacuum_enabled, toast.autovacuum_enabled);', n.nspname, c.relname),
         'dead_tuples', pg_stat_get_dead_tuples(c.oid)) ORDER BY c.relname), '[]')::text
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
 WHERE n.nspname = $1 AND c.relkind = 'r'
   AND EXISTS (SELECT FROM unnest(coalesce(c.reloptions, '{}') || coalesce(t.reloptions, '{}')) AS o (setting)
                WHERE o.setting LIKE 'autovacuum\_enabled=%' AND NOT split_part(o.setting, '=', 2)::boolean)
