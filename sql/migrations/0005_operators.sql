-- 0005_operators: what an operator may do, as one path for psql, the command line and HTTP. Every function
-- takes who and why, locks the stream's row first (so no claim runs meanwhile and no lease can begin),
-- leaves alone what is in a lease, and writes an audit row in the same transaction.
--
-- They run with the owner's rights: an operator needs no right on the tables, and so cannot act without a
-- trace. What they refuse has an SQLSTATE of class OF:
--   OF001  the entry is in a lease: a worker is delivering it; or an open transaction has it, a dead letter or its
--          envelope; try again
--   OF002  no such entry, dead letter or stream
--   OF003  the envelope id is in several streams: name one
--   OF004  the state of the entry forbids it
--   OF005  the request lacks something: actor, reason, a filter, whether it is a dry run
\if :{?schema}
\else
\set schema outbox
\endif
SET search_path = :"schema", pg_temp;

-- p_actor is what the caller says; this is what the server knows.
ALTER TABLE operations ADD COLUMN database_user text NOT NULL DEFAULT session_user;
ALTER TABLE replays    ADD COLUMN database_user text NOT NULL DEFAULT session_user;
CREATE INDEX operations_envelope ON operations (envelope_id) WHERE envelope_id IS NOT NULL;

CREATE FUNCTION utc_text(p_time timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT to_char(p_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
END;

-- The start of every operator function.
CREATE FUNCTION begin_operation(p_actor text, p_reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
BEGIN
  IF coalesce(btrim(p_actor), '') = '' THEN
    RAISE EXCEPTION 'the actor is missing' USING ERRCODE = 'OF005',
      HINT = 'p_actor says who does this: the name of a person or of a job.';
  END IF;
  IF coalesce(btrim(p_reason), '') = '' THEN
    RAISE EXCEPTION 'the reason is missing' USING ERRCODE = 'OF005',
      HINT = 'p_reason says why this is done; it is kept with the change.';
  END IF;
  -- With an older snapshot it would overlook leases that were taken before the stream was locked.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'operator functions must run in READ COMMITTED, not %',
        upper(current_setting('transaction_isolation'))
      USING ERRCODE = 'invalid_transaction_state',
            HINT = 'Begin with BEGIN ISOLATION LEVEL READ COMMITTED.';
  END IF;
  -- What somebody decided must not be lost in a crash.
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
END;
$$;

-- Locks a stream's row, waiting for the claim that has it. A stream that only producers know gets one.
CREATE FUNCTION lock_stream(p_stream text) RETURNS streams
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
DECLARE
  v_stream streams;
BEGIN
  SELECT * INTO v_stream FROM streams s WHERE s.name = p_stream FOR NO KEY UPDATE;
  IF FOUND THEN
    RETURN v_stream;
  END IF;
  IF p_stream IS NULL OR NOT (
       EXISTS (SELECT FROM entries e WHERE e.stream = p_stream AND e.status = 'pending' AND e.available_at IS NULL)
       OR EXISTS (SELECT FROM entries e WHERE e.stream = p_stream AND e.status <> 'held' AND e.available_at IS NOT NULL)
       OR EXISTS (SELECT FROM dead_letters d WHERE d.stream = p_stream)) THEN
    RAISE EXCEPTION 'no stream is named %', coalesce(quote_literal(p_stream), 'null') USING ERRCODE = 'OF002',
      HINT = coalesce('There are: ' || (SELECT string_agg(n.name, ', ' ORDER BY n.name)
                                          FROM (SELECT s.name FROM streams s ORDER BY s.name LIMIT 20) n) || '.',
                      'No worker has registered a stream yet.');
  END IF;
  INSERT INTO streams (name) VALUES (p_stream) ON CONFLICT (name) DO NOTHING;
  SELECT * INTO v_stream FROM streams s WHERE s.name = p_stream FOR NO KEY UPDATE;
  RETURN v_stream;
END;
$$;

CREATE FUNCTION record_operation(
  p_action text, p_actor text, p_reason text, p_stream text, p_entry_id bigint, p_envelope_id uuid, p_detail jsonb)
RETURNS operations LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
  v_operation operations;
BEGIN
  INSERT INTO operations (actor, reason, action, stream, entry_id, envelope_id, detail)
  VALUES (p_actor, p_reason, p_action, p_stream, p_entry_id, p_envelope_id, p_detail)
  RETURNING * INTO v_operation;
  RETURN v_operation;
END;
$$;

-- Finds one live entry by its envelope id or its entry id, locks its stream and the entry, and refuses it
-- when it is in a lease. A lease counts as long as its row exists, also when it has expired: its worker may
-- still settle it. After the look at the leases none can begin, so the entry stays free until the commit.
CREATE FUNCTION take_entry(
  p_envelope_id uuid, p_entry_id bigint, p_stream text,
  OUT id bigint, OUT envelope_id uuid, OUT stream text, OUT key text, OUT status entry_status,
  OUT available_at timestamptz, OUT hold_id bigint, OUT detail jsonb)
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
DECLARE
  v_what    text := coalesce('envelope ' || p_envelope_id, 'entry ' || p_entry_id);
  v_ids     bigint[];
  v_streams text[];
  v_lease   record;
BEGIN
  IF (p_envelope_id IS NULL) = (p_entry_id IS NULL) THEN
    RAISE EXCEPTION 'either the envelope id or the entry id is needed' USING ERRCODE = 'OF005',
      HINT = 'Pass p_envelope_id, or p_entry_id, and not both.';
  END IF;
  IF p_entry_id IS NOT NULL THEN
    SELECT array_agg(e.id), array_agg(e.stream) INTO v_ids, v_streams
      FROM entries e WHERE e.id = p_entry_id AND (p_stream IS NULL OR e.stream = p_stream);
  ELSE
    SELECT array_agg(e.id), array_agg(e.stream ORDER BY e.stream) INTO v_ids, v_streams
      FROM entries e WHERE e.envelope_id = p_envelope_id AND (p_stream IS NULL OR e.stream = p_stream);
  END IF;
  IF v_ids IS NULL THEN
    IF EXISTS (SELECT FROM dead_letters d WHERE (d.id = p_entry_id OR d.envelope_id = p_envelope_id)
                  AND (p_stream IS NULL OR d.stream = p_stream)) THEN
      RAISE EXCEPTION '% is a dead letter', v_what USING ERRCODE = 'OF004',
        HINT = 'replay_dead_letters() returns it to its stream, discard_dead_letters() removes it.';
    END IF;
    RAISE EXCEPTION '% is not waiting in %', v_what, coalesce('stream ' || quote_literal(p_stream), 'any stream')
      USING ERRCODE = 'OF002', HINT = 'explain_entry() says what became of it.';
  END IF;
  IF cardinality(v_ids) > 1 THEN
    RAISE EXCEPTION '% is in % streams: %', v_what, cardinality(v_ids), array_to_string(v_streams, ', ')
      USING ERRCODE = 'OF003', HINT = 'Name one with p_stream.';
  END IF;

  PERFORM lock_stream(v_streams[1]);
  SELECT l.instance, l.worker, l.expires_at, l.released INTO v_lease
    FROM leases l WHERE l.stream = v_streams[1] AND v_ids[1] <@ l.ids;
  IF FOUND THEN
    RAISE EXCEPTION '% is leased by %', v_what,
        v_lease.instance || CASE WHEN v_lease.released THEN ', which has stopped'
                                 WHEN v_lease.expires_at <= clock_timestamp() THEN ' until ' || utc_text(v_lease.expires_at) || ', which has passed'
                                 ELSE ' until ' || utc_text(v_lease.expires_at) END
      USING ERRCODE = 'OF001', DETAIL = format('Worker %s.', v_lease.worker),
            HINT = CASE WHEN v_lease.released OR v_lease.expires_at <= clock_timestamp()
                        THEN 'A running worker of the stream takes it over; try again then.'
                        ELSE 'Its outcome is under way; try again.' END;
  END IF;
  BEGIN
    -- Whoever has locked it is no worker, since it is in no lease, and may be open for long: claims wait for this.
    SELECT e.id, e.envelope_id, e.stream, e.key, e.status, e.available_at, e.hold_id,
           jsonb_strip_nulls(jsonb_build_object(
             'type', e.type, 'key', e.key, 'status', e.status, 'attempts', e.attempts,
             'created_at', e.created_at, 'available_at', e.available_at,
             'last_error_code', e.last_error_code, 'last_error_message', e.last_error_message))
      INTO id, envelope_id, stream, key, status, available_at, hold_id, detail
      FROM entries e WHERE e.id = v_ids[1] FOR UPDATE NOWAIT;
  EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION '% is locked by another transaction', v_what
      USING ERRCODE = 'OF001', HINT = 'Try again when that transaction has ended.';
  END;
  IF NOT FOUND THEN
    RAISE EXCEPTION '% left its stream at this moment', v_what
      USING ERRCODE = 'OF002', HINT = 'explain_entry() says what became of it.';
  END IF;
END;
$$;

-- Has the next claim look at what waits behind a key: under the stream lock only.
CREATE FUNCTION wake_holds(p_stream text, p_keys text[], p_hold_id bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
BEGIN
  UPDATE holds h SET due_at = v_now
   WHERE h.stream = p_stream AND h.scope = 'key' AND h.value = ANY (p_keys) AND h.due_at > v_now;
  UPDATE holds h SET due_at = v_now WHERE h.hold_id = p_hold_id AND h.due_at > v_now;
END;
$$;

-- Stops claims of a stream. What is leased already is still delivered. Pausing a paused stream keeps who
-- paused it first and why.
CREATE FUNCTION pause_stream(p_stream text, p_actor text, p_reason text) RETURNS operations
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_stream streams;
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  v_stream := lock_stream(p_stream);
  UPDATE streams s SET paused = true, paused_at = clock_timestamp(), paused_by = p_actor, paused_reason = p_reason
   WHERE s.name = p_stream AND NOT s.paused;
  RETURN record_operation('pause_stream', p_actor, p_reason, p_stream, NULL, NULL,
                          jsonb_build_object('was_paused', v_stream.paused));
END;
$$;

CREATE FUNCTION resume_stream(p_stream text, p_actor text, p_reason text) RETURNS operations
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_stream streams;
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  v_stream := lock_stream(p_stream);
  UPDATE streams s SET paused = false, paused_at = NULL, paused_by = NULL, paused_reason = NULL
   WHERE s.name = p_stream AND s.paused;
  RETURN record_operation('resume_stream', p_actor, p_reason, p_stream, NULL, NULL,
    jsonb_strip_nulls(jsonb_build_object('was_paused', v_stream.paused, 'paused_at', v_stream.paused_at,
                                         'paused_by', v_stream.paused_by, 'paused_reason', v_stream.paused_reason)));
END;
$$;

-- Parks one lane of a stream: its entries are held until resume_destination(), the other lanes go on.
-- Workers call it too, when a destination says that it is gone.
CREATE FUNCTION pause_destination(p_stream text, p_lane text, p_actor text, p_reason text) RETURNS operations
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_new boolean;
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  IF p_lane IS NULL THEN
    RAISE EXCEPTION 'the lane is missing' USING ERRCODE = 'OF005',
      HINT = 'p_lane is what the stream''s `lane` setting selects, such as an endpoint or a topic.';
  END IF;
  p_lane := left(p_lane, 200);  -- as lane_of() does
  PERFORM lock_stream(p_stream);
  INSERT INTO destinations (stream, lane, parked_by, reason) VALUES (p_stream, p_lane, p_actor, p_reason)
  ON CONFLICT (stream, lane) DO NOTHING;
  v_new := FOUND;
  RETURN record_operation('pause_destination', p_actor, p_reason, p_stream, NULL, NULL,
                          jsonb_build_object('lane', p_lane, 'was_paused', NOT v_new));
END;
$$;

CREATE FUNCTION resume_destination(p_stream text, p_lane text, p_actor text, p_reason text) RETURNS operations
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_destination destinations;
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  IF p_lane IS NULL THEN
    RAISE EXCEPTION 'the lane is missing' USING ERRCODE = 'OF005', HINT = 'p_lane is what was given to pause it.';
  END IF;
  p_lane := left(p_lane, 200);
  PERFORM lock_stream(p_stream);
  DELETE FROM destinations d WHERE d.stream = p_stream AND d.lane = p_lane RETURNING * INTO v_destination;
  UPDATE holds h SET due_at = clock_timestamp()
   WHERE h.stream = p_stream AND h.scope = 'lane' AND h.value = p_lane AND h.due_at > clock_timestamp();
  RETURN record_operation('resume_destination', p_actor, p_reason, p_stream, NULL, NULL,
    jsonb_strip_nulls(jsonb_build_object('lane', p_lane, 'was_paused', v_destination.stream IS NOT NULL,
      'paused_at', v_destination.parked_since, 'paused_by', v_destination.parked_by,
      'paused_reason', v_destination.reason)));
END;
$$;

-- Makes an entry due now that waits for its retry or for a time. Its attempts stay, its age counts from here.
-- One that is held stays so while what it waits for is unfinished: `held` in the detail says so.
CREATE FUNCTION retry_entry(
  p_envelope_id uuid DEFAULT NULL, p_entry_id bigint DEFAULT NULL, p_stream text DEFAULT NULL,
  p_actor text DEFAULT NULL, p_reason text DEFAULT NULL)
RETURNS operations LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_now   timestamptz := clock_timestamp();
  v_entry record;
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  SELECT * INTO v_entry FROM take_entry(p_envelope_id, p_entry_id, p_stream);
  IF v_entry.status <> 'held' AND coalesce(v_entry.available_at, '-infinity') <= v_now THEN
    RAISE EXCEPTION 'entry % is due already', v_entry.id USING ERRCODE = 'OF004',
      HINT = 'explain_entry() says whether its stream is paused, or served by no worker.';
  END IF;
  UPDATE entries e
     SET limits_from = v_now,
         -- Never null: at and above the floors of claims, now that they wait for this.
         available_at = CASE WHEN e.status <> 'held' THEN clock_timestamp() ELSE e.available_at END
   WHERE e.id = v_entry.id;
  PERFORM wake_holds(v_entry.stream, ARRAY[v_entry.key], v_entry.hold_id);
  RETURN record_operation('retry_entry', p_actor, p_reason, v_entry.stream, v_entry.id, v_entry.envelope_id,
                          v_entry.detail || CASE WHEN v_entry.status = 'held' THEN '{"held": true}' ELSE '{}' END::jsonb);
END;
$$;

-- Takes a live entry out of its stream. With p_hold_key the later entries of its key wait until it is
-- replayed or discarded; else they go on.
CREATE FUNCTION dead_letter_entry(
  p_envelope_id uuid DEFAULT NULL, p_entry_id bigint DEFAULT NULL, p_stream text DEFAULT NULL,
  p_hold_key boolean DEFAULT false, p_actor text DEFAULT NULL, p_reason text DEFAULT NULL)
RETURNS operations LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_entry record;
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  p_hold_key := coalesce(p_hold_key, false);
  SELECT * INTO v_entry FROM take_entry(p_envelope_id, p_entry_id, p_stream);
  PERFORM move_to_dead_letters(ARRAY[v_entry.id], ARRAY['operator.dead_lettered'], ARRAY[p_reason],
                               ARRAY[false], p_hold_key);
  PERFORM wake_holds(v_entry.stream, ARRAY[v_entry.key], v_entry.hold_id);
  RETURN record_operation('dead_letter_entry', p_actor, p_reason, v_entry.stream, v_entry.id, v_entry.envelope_id,
                          v_entry.detail || jsonb_build_object('hold_key', p_hold_key));
END;
$$;

-- Deletes a live entry for good. Its payload is not kept anywhere.
CREATE FUNCTION discard_entry(
  p_envelope_id uuid DEFAULT NULL, p_entry_id bigint DEFAULT NULL, p_stream text DEFAULT NULL,
  p_actor text DEFAULT NULL, p_reason text DEFAULT NULL)
RETURNS operations LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_entry record;
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  SELECT * INTO v_entry FROM take_entry(p_envelope_id, p_entry_id, p_stream);
  DELETE FROM entries e WHERE e.id = v_entry.id;
  PERFORM wake_holds(v_entry.stream, ARRAY[v_entry.key], v_entry.hold_id);
  RETURN record_operation('discard_entry', p_actor, p_reason, v_entry.stream, v_entry.id, v_entry.envelope_id,
                          v_entry.detail);
END;
$$;

-- Whether a filter names a dead letter: what is null does not narrow. Inlined where it is called, and with a custom
-- plan what is null is gone before the plan is made. Columns and not the row, since readers may not read all of it.
CREATE FUNCTION filter_names(
  p_entry_id bigint, p_envelope_id uuid, p_its_stream text, p_its_type text, p_its_key text, p_its_reason_code text,
  p_dead_lettered_at timestamptz,
  p_ids bigint[], p_envelope_ids uuid[], p_stream text, p_type text, p_key text, p_reason_code text,
  p_from timestamptz, p_to timestamptz, p_after bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT (p_ids IS NULL OR p_entry_id = ANY (p_ids))
     AND (p_envelope_ids IS NULL OR p_envelope_id = ANY (p_envelope_ids))
     AND (p_stream IS NULL OR p_its_stream = p_stream)
     AND (p_type IS NULL OR p_its_type = p_type)
     AND (p_key IS NULL OR p_its_key = p_key)
     AND (p_reason_code IS NULL OR p_its_reason_code = p_reason_code)
     AND (p_from IS NULL OR p_dead_lettered_at >= p_from)
     AND (p_to IS NULL OR p_dead_lettered_at < p_to)
     AND (p_after IS NULL OR p_entry_id > p_after);
END;

-- The dead letters that a filter names, in ascending id order, at most p_limit of them and p_max_bytes of
-- payload beyond the first. `conflicts` are those whose envelope is in the stream again already.
CREATE FUNCTION choose_dead_letters(
  p_ids bigint[], p_envelope_ids uuid[], p_stream text, p_type text, p_key text, p_reason_code text,
  p_from timestamptz, p_to timestamptz, p_after bigint, p_limit int, p_max_bytes bigint,
  OUT ids bigint[], OUT streams text[], OUT conflicts bigint[], OUT more boolean)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
  IF p_ids IS NULL AND p_envelope_ids IS NULL AND p_stream IS NULL THEN
    RAISE EXCEPTION 'the filter names no stream and no dead letter' USING ERRCODE = 'OF005',
      HINT = 'Pass p_stream, p_ids or p_envelope_ids; the other filters narrow them.';
  END IF;
  IF p_limit IS NULL OR p_limit < 1 THEN
    RAISE EXCEPTION 'the limit must be at least 1' USING ERRCODE = 'OF005', HINT = 'Leave p_limit out for 1,000.';
  END IF;
  WITH found AS (
    SELECT d.id, d.stream, d.envelope_id, row_number() OVER w AS n,
           sum(payload_bytes(d.payload, d.payload_binary, d.headers)) OVER w
             - first_value(payload_bytes(d.payload, d.payload_binary, d.headers)) OVER w AS bytes
      FROM (SELECT * FROM dead_letters f
             WHERE filter_names(f.id, f.envelope_id, f.stream, f.type, f.key, f.reason_code, f.dead_lettered_at,
                                p_ids, p_envelope_ids, p_stream, p_type, p_key, p_reason_code, p_from, p_to, p_after)
             ORDER BY f.id LIMIT p_limit::bigint + 1) d
    WINDOW w AS (ORDER BY d.id)
  ), chosen AS (
    SELECT c.id, c.stream,
           EXISTS (SELECT FROM entries e WHERE e.envelope_id = c.envelope_id AND e.stream = c.stream)
           OR row_number() OVER (PARTITION BY c.envelope_id, c.stream ORDER BY c.id) > 1 AS conflict
      FROM found c WHERE c.n <= p_limit AND c.bytes <= p_max_bytes
  )
  SELECT coalesce(array_agg(c.id ORDER BY c.id), '{}'), coalesce(array_agg(DISTINCT c.stream ORDER BY c.stream), '{}'),
         coalesce(array_agg(c.id ORDER BY c.id) FILTER (WHERE c.conflict), '{}'),
         count(*) < (SELECT count(*) FROM found)
    INTO ids, streams, conflicts, more
    FROM chosen c;
END;
$$;

-- Refuses a chunk for now that met a transaction which is still open. p_where is the context of the lock that was
-- not had, whose first line names the table of the row in every language.
CREATE FUNCTION refuse_for_now(p_ids bigint[], p_where text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
  v_envelope text := (SELECT 'envelope ' || d.envelope_id FROM dead_letters d
                       WHERE cardinality(p_ids) = 1 AND d.id = p_ids[1]);
BEGIN
  IF split_part(p_where, E'\n', 1) LIKE '%entries%' THEN
    RAISE EXCEPTION '% is being enqueued again', coalesce(v_envelope, 'an envelope of these dead letters')
      USING ERRCODE = 'OF001', HINT = 'A producer''s transaction is still open; try again when it has ended.';
  END IF;
  RAISE EXCEPTION '% is locked by another transaction', coalesce('the dead letter of ' || v_envelope, 'one of these dead letters')
    USING ERRCODE = 'OF001', HINT = 'Try again when that transaction has ended.';
END;
$$;

-- Returns these dead letters to their streams, which it locks, in ascending order, and records it. They come
-- back with their old ids as deferred and due now, so that no claim floor hides them, each a
-- microsecond after the one before. Returns those that it moved: somebody else may have been faster, and what
-- has been enqueued again since it was chosen stays.
--
-- Nobody can claim from the streams meanwhile: it waits 300 ms at the most for what others have locked.
CREATE FUNCTION return_dead_letters(p_ids bigint[], p_streams text[], p_actor text, p_reason text, p_job_id bigint)
RETURNS bigint[] LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
  v_stream     text;
  v_now        timestamptz;
  v_moved      bigint[];
  v_before     text := current_setting('lock_timeout');
  v_tries      int := 0;
  v_where      text;
  v_constraint text;
BEGIN
  FOREACH v_stream IN ARRAY p_streams LOOP
    PERFORM lock_stream(v_stream);
  END LOOP;
  v_now := clock_timestamp();
  PERFORM set_config('lock_timeout', '300ms', true);
  LOOP
    BEGIN
      WITH gone AS (
        DELETE FROM dead_letters d WHERE d.id = ANY (p_ids) RETURNING d.*
      ), back AS (
        INSERT INTO entries (id, envelope_id, created_at, occurred_at, available_at, deferred_since, limits_from, attempts,
            attempts_base, replays, abandoned, status, stream, type, key, source, subject, content_type, data_schema,
            headers, last_error_code, last_error_message, payload, payload_binary)
        OVERRIDING SYSTEM VALUE
        SELECT g.id, g.envelope_id, g.created_at, g.occurred_at,
               v_now - (count(*) OVER () - row_number() OVER (ORDER BY g.id)) * interval '1 microsecond', v_now, v_now, g.attempts,
               g.attempts, g.replays + 1, g.abandoned, 'deferred', g.stream, g.type, g.key, g.source, g.subject,
               g.content_type, g.data_schema, g.headers, coalesce(g.last_error_code, g.reason_code),
               CASE WHEN g.last_error_code IS NULL THEN g.reason ELSE g.last_error_message END, g.payload, g.payload_binary
          FROM gone g ORDER BY g.id
        RETURNING id
      ), audit AS (
        INSERT INTO replays (actor, reason, entry_id, envelope_id, stream, dead_lettered_at, reason_code, job_id)
        SELECT p_actor, p_reason, g.id, g.envelope_id, g.stream, g.dead_lettered_at, g.reason_code, p_job_id
          FROM gone g ORDER BY g.id
      ), woken AS (
        UPDATE holds h SET due_at = v_now
          FROM (SELECT DISTINCT g.stream, g.key FROM gone g WHERE g.key IS NOT NULL) k
         WHERE h.stream = k.stream AND h.scope = 'key' AND h.value = k.key AND h.due_at > v_now
      )
      SELECT coalesce(array_agg(b.id ORDER BY b.id), '{}') INTO v_moved FROM back b;
      EXIT;
    EXCEPTION
      WHEN lock_not_available THEN
        GET STACKED DIAGNOSTICS v_where = PG_EXCEPTION_CONTEXT;
        PERFORM refuse_for_now(p_ids, v_where);
      WHEN unique_violation THEN
        GET STACKED DIAGNOSTICS v_constraint = CONSTRAINT_NAME;
        v_tries := v_tries + 1;
        IF v_constraint IS DISTINCT FROM 'entries_envelope' THEN
          RAISE;
        ELSIF v_tries >= 3 THEN
          PERFORM refuse_for_now(p_ids, 'entries');
        END IF;
        -- It was committed after the choice, and can be seen now.
        p_ids := ARRAY(SELECT d.id FROM dead_letters d
                        WHERE d.id = ANY (p_ids) AND (SELECT e.id FROM entries e WHERE e.envelope_id = d.envelope_id
                                                         AND e.stream = d.stream) IS NULL);
    END;
  END LOOP;
  PERFORM set_config('lock_timeout', v_before, true);
  RETURN v_moved;
END;
$$;

-- Deletes these dead letters for good under the locks of their streams, and records each in `operations`.
-- Returns those that it deleted. It waits for what others have locked as return_dead_letters() does.
CREATE FUNCTION remove_dead_letters(p_ids bigint[], p_streams text[], p_actor text, p_reason text, p_job_id bigint)
RETURNS bigint[] LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
  v_stream text;
  v_now    timestamptz;
  v_gone   bigint[];
  v_before text := current_setting('lock_timeout');
  v_where  text;
BEGIN
  FOREACH v_stream IN ARRAY p_streams LOOP
    PERFORM lock_stream(v_stream);
  END LOOP;
  v_now := clock_timestamp();
  PERFORM set_config('lock_timeout', '300ms', true);
  BEGIN
    WITH gone AS (
      DELETE FROM dead_letters d WHERE d.id = ANY (p_ids)
      RETURNING d.id, d.envelope_id, d.stream, d.type, d.key, d.attempts, d.created_at, d.dead_lettered_at, d.reason_code
    ), audit AS (
      INSERT INTO operations (actor, reason, action, stream, entry_id, envelope_id, detail, job_id)
      SELECT p_actor, p_reason, 'discard_dead_letter', g.stream, g.id, g.envelope_id,
             jsonb_strip_nulls(jsonb_build_object('type', g.type, 'key', g.key, 'attempts', g.attempts,
               'created_at', g.created_at, 'dead_lettered_at', g.dead_lettered_at, 'reason_code', g.reason_code)), p_job_id
        FROM gone g ORDER BY g.id
      RETURNING entry_id
    ), woken AS (
      UPDATE holds h SET due_at = v_now
        FROM (SELECT DISTINCT g.stream, g.key FROM gone g WHERE g.key IS NOT NULL) k
       WHERE h.stream = k.stream AND h.scope = 'key' AND h.value = k.key AND h.due_at > v_now
    )
    SELECT coalesce(array_agg(a.entry_id ORDER BY a.entry_id), '{}') INTO v_gone FROM audit a;
  EXCEPTION WHEN lock_not_available THEN
    GET STACKED DIAGNOSTICS v_where = PG_EXCEPTION_CONTEXT;
    PERFORM refuse_for_now(p_ids, v_where);
  END;
  PERFORM set_config('lock_timeout', v_before, true);
  RETURN v_gone;
END;
$$;

-- Returns dead letters to their streams, with their old ids, in ascending order. One call is one chunk, at
-- most 10,000 of them and 64 MiB; p_after = the last_id of the call before continues. Attempts stay; limits
-- count from here. A dead letter whose envelope is in the stream again is skipped.
CREATE FUNCTION replay_dead_letters(
  p_ids bigint[] DEFAULT NULL, p_envelope_ids uuid[] DEFAULT NULL, p_stream text DEFAULT NULL,
  p_type text DEFAULT NULL, p_key text DEFAULT NULL, p_reason_code text DEFAULT NULL,
  p_from timestamptz DEFAULT NULL, p_to timestamptz DEFAULT NULL, p_after bigint DEFAULT NULL,
  p_limit int DEFAULT 1000, p_dry_run boolean DEFAULT false, p_actor text DEFAULT NULL, p_reason text DEFAULT NULL,
  OUT replayed int, OUT skipped int, OUT last_id bigint, OUT more boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_chosen    record;
  v_max_bytes bigint := 67108864;
BEGIN
  IF p_dry_run IS NULL THEN
    RAISE EXCEPTION 'p_dry_run is null' USING ERRCODE = 'OF005', HINT = 'Pass true or false, or leave it out for false.';
  ELSIF p_dry_run THEN
    v_max_bytes := 9223372036854775807;
  ELSE
    PERFORM begin_operation(p_actor, p_reason);
    p_limit := least(p_limit, 10000);
  END IF;
  SELECT * INTO v_chosen FROM choose_dead_letters(p_ids, p_envelope_ids, p_stream, p_type, p_key, p_reason_code,
                                                  p_from, p_to, p_after, p_limit, v_max_bytes);
  replayed := cardinality(v_chosen.ids) - cardinality(v_chosen.conflicts);
  skipped := cardinality(v_chosen.conflicts);
  last_id := coalesce(v_chosen.ids[cardinality(v_chosen.ids)], p_after);
  more := v_chosen.more;
  IF p_dry_run OR replayed = 0 THEN
    RETURN;
  END IF;

  replayed := cardinality(return_dead_letters(
    ARRAY(SELECT c FROM unnest(v_chosen.ids) c WHERE c <> ALL (v_chosen.conflicts)), v_chosen.streams, p_actor, p_reason,
    NULL));
  skipped := cardinality(v_chosen.ids) - replayed;
END;
$$;

-- Deletes dead letters for good, with one row of `operations` each; chunks as replay_dead_letters().
CREATE FUNCTION discard_dead_letters(
  p_ids bigint[] DEFAULT NULL, p_envelope_ids uuid[] DEFAULT NULL, p_stream text DEFAULT NULL,
  p_type text DEFAULT NULL, p_key text DEFAULT NULL, p_reason_code text DEFAULT NULL,
  p_from timestamptz DEFAULT NULL, p_to timestamptz DEFAULT NULL, p_after bigint DEFAULT NULL,
  p_limit int DEFAULT 1000, p_dry_run boolean DEFAULT false, p_actor text DEFAULT NULL, p_reason text DEFAULT NULL,
  OUT discarded int, OUT last_id bigint, OUT more boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_chosen    record;
  v_max_bytes bigint := 67108864;
BEGIN
  IF p_dry_run IS NULL THEN
    RAISE EXCEPTION 'p_dry_run is null' USING ERRCODE = 'OF005', HINT = 'Pass true or false, or leave it out for false.';
  ELSIF p_dry_run THEN
    v_max_bytes := 9223372036854775807;
  ELSE
    PERFORM begin_operation(p_actor, p_reason);
    p_limit := least(p_limit, 10000);
  END IF;
  SELECT * INTO v_chosen FROM choose_dead_letters(p_ids, p_envelope_ids, p_stream, p_type, p_key, p_reason_code,
                                                  p_from, p_to, p_after, p_limit, v_max_bytes);
  discarded := cardinality(v_chosen.ids);
  last_id := coalesce(v_chosen.ids[discarded], p_after);
  more := v_chosen.more;
  IF p_dry_run OR discarded = 0 THEN
    RETURN;
  END IF;

  discarded := cardinality(remove_dead_letters(v_chosen.ids, v_chosen.streams, p_actor, p_reason, NULL));
END;
$$;

INSERT INTO schema_version (version, name) VALUES (5, '0005_operators');
