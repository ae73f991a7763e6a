-- 0008_roles: who may do what. The roles belong to the whole server and have no login: grant them to the
-- roles that your applications, workers and people log in with. A later migration that makes a function or
-- a table grants and revokes for it at its own end.
\if :{?schema}
\else
\set schema outbox
\endif
SET search_path = :"schema", pg_temp;

-- Made where missing; safe while another database of the server migrates.
DO $$
DECLARE
  v_role    text;
  v_missing text[] := '{}';
BEGIN
  FOREACH v_role IN ARRAY ARRAY['outbox_producer', 'outbox_worker', 'outbox_operator', 'outbox_reader'] LOOP
    CONTINUE WHEN EXISTS (SELECT FROM pg_roles r WHERE r.rolname = v_role);
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL;
      WHEN insufficient_privilege THEN v_missing := v_missing || v_role;
    END;
  END LOOP;
  IF v_missing <> '{}' THEN
    RAISE EXCEPTION 'role % may not create the roles %', current_user, array_to_string(v_missing, ', ')
      USING ERRCODE = 'insufficient_privilege',
            HINT = format('Let a role with CREATEROLE run %s and migrate again.',
                          (SELECT string_agg(format('CREATE ROLE %I NOLOGIN;', r), ' ') FROM unnest(v_missing) r));
  END IF;
END;
$$;

-- Functions are everybody's to call unless that is taken away.
REVOKE ALL ON FUNCTION
  status_code, new_envelope_id, lane_of, xid_visible_in, payload_bytes, server_since, move_to_dead_letters, take_over,
  waiting_keys, pick_fresh, many_ranges, scan_start, pass_over, pick_disturbed, park, empty_parkings, tend_holds, claim, leased_entries, settle, settle_delivered, renew, release,
  forgive, register_streams, due_streams, hold_presence, present_workers, enqueue, utc_text, begin_operation, lock_stream, record_operation,
  take_entry, wake_holds, pause_stream, resume_stream, pause_destination, resume_destination, retry_entry,
  dead_letter_entry, discard_entry, filter_names, choose_dead_letters, refuse_for_now, return_dead_letters, remove_dead_letters,
  replay_dead_letters, discard_dead_letters, envelope_time,
  search_delivered, find_delivered, explain_live_entry, explain_entry, list_dead_letters, sample_streams,
  unbound_streams, sample_database, status, receipts_partitions, maintain_receipts
FROM PUBLIC;
REVOKE ALL ON TYPE entry_status FROM PUBLIC;
GRANT USAGE ON SCHEMA :"schema" TO outbox_producer, outbox_worker, outbox_operator, outbox_reader;

-- Producers add entries and see nothing, not even their own: enqueue() returns the envelope id. Id, status,
-- attempts and all that workers keep are not theirs to set.
GRANT INSERT (envelope_id, stream, type, key, source, subject, content_type, data_schema, headers,
              payload, payload_binary, occurred_at, available_at) ON entries TO outbox_producer;
GRANT EXECUTE ON FUNCTION enqueue, new_envelope_id TO outbox_producer;

-- Workers run the claiming and settling functions with their own rights. They can change an entry's
-- delivery state and delete it, and never what it says.
GRANT SELECT, DELETE ON entries TO outbox_worker;
GRANT UPDATE (status, available_at, deferred_since, limits_from, hold_id, attempts, abandoned, last_error_code,
              last_error_message)
  ON entries TO outbox_worker;
GRANT SELECT ON entries_id_seq, holds_hold_id_seq TO outbox_worker;
GRANT USAGE ON lease_numbers TO outbox_worker;
GRANT SELECT, INSERT ON streams TO outbox_worker;
GRANT UPDATE (floor_epoch) ON streams TO outbox_worker;  -- also what locking its row needs
GRANT SELECT, INSERT, UPDATE, DELETE ON leases, holds, parkings TO outbox_worker;
GRANT SELECT, INSERT ON dead_letters, receipts TO outbox_worker;
GRANT SELECT ON receipts_default, destinations, replays, operations, schema_version, delivered, all_entries TO outbox_worker;
GRANT EXECUTE ON FUNCTION
  status_code, lane_of, xid_visible_in, payload_bytes, server_since, move_to_dead_letters, take_over, waiting_keys, pick_fresh, many_ranges, scan_start, pass_over, pick_disturbed,
  park, empty_parkings, tend_holds, claim, leased_entries, settle, settle_delivered, renew, release, forgive, register_streams,
  due_streams, hold_presence, present_workers, pause_destination, utc_text, envelope_time, search_delivered, find_delivered, explain_live_entry,
  explain_entry, filter_names, list_dead_letters, sample_streams, unbound_streams, sample_database, status,
  receipts_partitions, maintain_receipts
TO outbox_worker;

-- Operators read everything, payloads too, and change things through the audited functions only.
GRANT SELECT ON entries, streams, leases, holds, parkings, destinations, dead_letters, replays, operations, receipts,
                receipts_default, schema_version, delivered, all_entries, entries_id_seq TO outbox_operator;
GRANT EXECUTE ON FUNCTION
  pause_stream, resume_stream, pause_destination, resume_destination, retry_entry, dead_letter_entry, discard_entry,
  replay_dead_letters, discard_dead_letters
TO outbox_operator;

-- Readers see where everything is and what happened to it, without payloads and headers.
GRANT SELECT (id, envelope_id, created_at, occurred_at, available_at, deferred_since, limits_from, hold_id, attempts,
              attempts_base, replays, abandoned, status, stream, type, key, source, subject, content_type, data_schema,
              last_error_code, last_error_message) ON entries TO outbox_reader;
GRANT SELECT (id, envelope_id, created_at, occurred_at, dead_lettered_at, attempts, replays, abandoned, holds_key,
              stream, type, key, source, subject, content_type, data_schema, reason_code, reason,
              last_error_code, last_error_message) ON dead_letters TO outbox_reader;
GRANT SELECT ON streams, leases, holds, parkings, destinations, replays, operations, receipts, receipts_default, schema_version,
                delivered, all_entries, entries_id_seq TO outbox_reader;
GRANT EXECUTE ON FUNCTION
  status_code, utc_text, envelope_time, search_delivered, find_delivered, explain_live_entry, explain_entry,
  filter_names, list_dead_letters, sample_streams, unbound_streams, sample_database, status, receipts_partitions
TO outbox_operator, outbox_reader;

INSERT INTO schema_version (version, name) VALUES (8, '0008_roles');
