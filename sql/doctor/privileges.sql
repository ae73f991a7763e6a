-- What the role of this session lacks of all that a worker does: the functions that it calls, those that these
-- call with the caller's rights, and the tables and sequences that they use. What the schema does not have is left
-- out: it is of another version then. A right on some columns counts.
SELECT json_build_object(
         'role', current_user,
         'member', EXISTS (SELECT FROM pg_catalog.pg_roles r
                            WHERE r.rolname = 'outbox_worker' AND pg_has_role(current_user, r.oid, 'USAGE')),
         'operator', (SELECT min(r.rolname) FROM pg_catalog.pg_roles r
                       WHERE r.rolname IN ('outbox_operator', 'outbox_reader')
                         AND pg_has_role(current_user, r.oid, 'USAGE')),
         'schema', coalesce((SELECT has_schema_privilege(n.oid, 'USAGE')
                               FROM pg_catalog.pg_namespace n WHERE n.nspname = $1), true),
         'missing', (SELECT coalesce(json_agg(m.what ORDER BY m.what), '[]') FROM (
           SELECT format('EXECUTE ON FUNCTION %I.%I', $1, p.proname) AS what
             FROM unnest(ARRAY[
                    'become_sampler', 'claim', 'due_streams', 'empty_parkings', 'forgive', 'hold_presence', 'lane_of',
                    'leased_entries', 'maintain_receipts', 'many_ranges', 'may_work', 'move_to_dead_letters', 'park', 'pass_over',
                    'pause_destination', 'payload_bytes', 'pick_disturbed', 'pick_fresh', 'present_workers',
                    'register_streams', 'release', 'renew', 'sample_database', 'sample_streams', 'scan_start',
                    'serve_streams', 'server_since', 'settle', 'settle_delivered', 'status_code', 'take_over', 'tend_holds',
                    'unbound_streams', 'waiting_keys', 'xid_visible_in']) AS f (name)
             JOIN pg_catalog.pg_proc p ON p.proname = f.name
             JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname = $1
            WHERE NOT has_function_privilege(p.oid, 'EXECUTE')
           UNION ALL
           SELECT format('%s ON %I.%I', u.privilege, $1, c.relname)
             FROM (VALUES ('entries', 'SELECT'), ('entries', 'UPDATE'), ('entries', 'DELETE'),
                          ('streams', 'SELECT'), ('streams', 'INSERT'), ('streams', 'UPDATE'),
                          ('leases', 'SELECT'), ('leases', 'INSERT'), ('leases', 'UPDATE'), ('leases', 'DELETE'),
                          ('holds', 'SELECT'), ('holds', 'INSERT'), ('holds', 'UPDATE'), ('holds', 'DELETE'),
                          ('parkings', 'SELECT'), ('parkings', 'INSERT'), ('parkings', 'UPDATE'), ('parkings', 'DELETE'),
                          ('dead_letters', 'SELECT'), ('dead_letters', 'INSERT'),
                          ('receipts', 'SELECT'), ('receipts', 'INSERT'), ('receipts_default', 'SELECT'),
                          ('destinations', 'SELECT'), ('schema_version', 'SELECT')) AS u (name, privilege)
             JOIN pg_catalog.pg_class c ON c.relname = u.name
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
            WHERE NOT CASE WHEN u.privilege = 'DELETE' THEN has_table_privilege(c.oid, 'DELETE')
                           ELSE has_any_column_privilege(c.oid, u.privilege) END
           UNION ALL
           SELECT format('%s ON SEQUENCE %I.%I', u.privilege, $1, c.relname)
             FROM (VALUES ('entries_id_seq', 'SELECT'), ('lease_numbers', 'USAGE')) AS u (name, privilege)
             JOIN pg_catalog.pg_class c ON c.relname = u.name
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
            WHERE NOT has_sequence_privilege(c.oid, u.privilege)) m))::text
