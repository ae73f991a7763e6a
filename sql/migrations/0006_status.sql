-- 0006_status: where every entry is, for people (explain_entry, status, the views) and for the metrics
-- sampler, which never scans the backlog: counts end at a cap, ages are the minima of an index.
\if :{?schema}
\else
\set schema outbox
\endif
SET search_path = :"schema", pg_temp;

-- Receipts whose ids or times lie far apart, because retries were delivered with fresh entries. All others
-- are found in a short range of receipts_ids or receipts_created; without these two indexes every search
-- would have to read all receipts that are younger than what it looks for.
CREATE INDEX receipts_wide_ids ON receipts (last_id, first_id) WHERE last_id - first_id > 100000;
CREATE INDEX receipts_wide_created ON receipts (last_created, first_created)
  WHERE last_created - first_created > interval '1 minute';

-- One row per delivered entry. Ask it with a range of delivered_at, or use find_delivered().
CREATE VIEW delivered AS
SELECT u.envelope_id, r.first_id + u.id_offset AS entry_id, r.stream, u.key, u.type, u.attempts,
       r.delivered_at - u.created_offset * interval '1 millisecond' AS created_at, r.delivered_at, r.provider,
       coalesce(u.record_id, u.envelope_id::text) AS record_id
  FROM receipts r
 CROSS JOIN LATERAL unnest(r.envelope_ids, r.id_offsets, r.created_offsets, r.attempts, r.types, r.keys, r.record_ids)
         AS u (envelope_id, id_offset, created_offset, attempts, type, key, record_id);

-- One row per envelope and stream, wherever it is, in one vocabulary. A search by envelope id alone reads
-- every receipt: explain_entry() is the way to ask for one entry.
CREATE VIEW all_entries AS
SELECT e.envelope_id, e.id AS entry_id, e.stream, e.key, e.type, e.status, status_code(e.status) AS code,
       e.attempts, e.replays, e.created_at, e.available_at, NULL::timestamptz AS finished_at,
       e.last_error_code AS error_code, e.last_error_message AS error_message,
       NULL::text AS provider, NULL::text AS record_id
  FROM entries e
UNION ALL
SELECT d.envelope_id, d.id, d.stream, d.key, d.type, 'dead_lettered', status_code('dead_lettered'),
       d.attempts, d.replays, d.created_at, NULL, d.dead_lettered_at, d.reason_code, d.reason, NULL, NULL
  FROM dead_letters d
UNION ALL
SELECT r.envelope_id, r.entry_id, r.stream, r.key, r.type, 'delivered', status_code('delivered'),
       r.attempts, NULL, r.created_at, NULL, r.delivered_at, NULL, NULL, r.provider, r.record_id
  FROM delivered r;

-- The milliseconds in a UUIDv7, null for any other id and for a time that is no plausible creation.
CREATE FUNCTION envelope_time(p_envelope_id uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
  SELECT CASE WHEN substr(p_envelope_id::text, 15, 1) = '7' AND substr(p_envelope_id::text, 20, 1) IN ('8', '9', 'a', 'b')
                   AND substr(p_envelope_id::text, 1, 2) < '10'
              THEN to_timestamp(('x' || substr(replace(p_envelope_id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0) END;
END;

-- Deliveries by entry id or envelope id. An entry id, and the time in a UUIDv7 (± 2 s, then ± 10 minutes for
-- a producer whose clock is off), lead to a few receipts. Any other envelope id is looked for in all
-- receipts, newest first, hour by hour, when p_scan allows it: up to the hour in which it is found, or to
-- p_deadline; `complete` says whether the search got through.
--
-- delivered_at + v_zero keeps the planner off receipts_time, which it takes for a good start in a partition
-- that was not analysed yet: it would read everything that was delivered since.
CREATE FUNCTION search_delivered(
  p_envelope_id uuid, p_entry_id bigint, p_from timestamptz, p_to timestamptz, p_scan boolean, p_deadline timestamptz,
  OUT hits delivered[], OUT complete boolean)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off
AS $$
DECLARE
  v_time   timestamptz := envelope_time(p_envelope_id);
  v_from   timestamptz := coalesce(p_from, '-infinity');
  v_to     timestamptz := coalesce(p_to, 'infinity');
  v_slack  interval;
  v_zero   CONSTANT interval := '0';
  v_oldest timestamptz;
  v_upper  timestamptz;
BEGIN
  complete := true;
  IF p_entry_id IS NOT NULL THEN
    SELECT array_agg(d.row) INTO hits
      FROM (SELECT r.* FROM receipts r
             WHERE r.last_id >= p_entry_id AND r.last_id <= least(p_entry_id, 9223372036854675807) + 100000 AND r.first_id <= p_entry_id
               AND r.last_id - r.first_id <= 100000 AND r.delivered_at + v_zero >= v_from AND r.delivered_at + v_zero < v_to
            UNION ALL
            SELECT r.* FROM receipts r
             WHERE r.last_id >= p_entry_id AND r.first_id <= p_entry_id
               AND r.last_id - r.first_id > 100000 AND r.delivered_at + v_zero >= v_from AND r.delivered_at + v_zero < v_to) c
     CROSS JOIN LATERAL (
       SELECT ROW(c.envelope_ids[i], p_entry_id, c.stream, c.keys[i], c.types[i], c.attempts[i],
                  c.delivered_at - c.created_offsets[i] * interval '1 millisecond', c.delivered_at, c.provider,
                  coalesce(c.record_ids[i], c.envelope_ids[i]::text))::delivered AS row
         FROM array_position(c.id_offsets, (p_entry_id - c.first_id)::int) i WHERE i IS NOT NULL) d;
    RETURN;
  END IF;

  FOREACH v_slack IN ARRAY ARRAY[interval '2 seconds', interval '10 minutes'] LOOP
    EXIT WHEN v_time IS NULL OR hits IS NOT NULL;
    SELECT array_agg(d.row) INTO hits
      FROM (SELECT r.* FROM receipts r
             WHERE r.last_created >= v_time - v_slack AND r.last_created <= v_time + v_slack + interval '1 minute'
               AND r.first_created <= v_time + v_slack AND r.last_created - r.first_created <= interval '1 minute'
               AND r.delivered_at + v_zero >= v_from AND r.delivered_at + v_zero < v_to
            UNION ALL
            SELECT r.* FROM receipts r
             WHERE r.last_created >= v_time - v_slack AND r.first_created <= v_time + v_slack
               AND r.last_created - r.first_created > interval '1 minute'
               AND r.delivered_at + v_zero >= v_from AND r.delivered_at + v_zero < v_to) c
     CROSS JOIN LATERAL (
       SELECT ROW(p_envelope_id, c.first_id + c.id_offsets[i], c.stream, c.keys[i], c.types[i], c.attempts[i],
                  c.delivered_at - c.created_offsets[i] * interval '1 millisecond', c.delivered_at, c.provider,
                  coalesce(c.record_ids[i], p_envelope_id::text))::delivered AS row
         FROM array_position(c.envelope_ids, p_envelope_id) i WHERE i IS NOT NULL) d;
  END LOOP;
  IF hits IS NOT NULL THEN
    RETURN;
  END IF;
  IF NOT p_scan THEN
    complete := false;
    RETURN;
  END IF;

  SELECT min(r.delivered_at), max(r.delivered_at) + interval '1 microsecond' INTO v_oldest, v_upper FROM receipts r;
  IF v_oldest IS NULL THEN
    RETURN;
  END IF;
  v_oldest := greatest(v_oldest, v_from);
  v_upper := least(v_upper, v_to);
  WHILE v_upper > v_oldest AND hits IS NULL LOOP
    IF clock_timestamp() > p_deadline THEN
      complete := false;
      RETURN;
    END IF;
    -- The filter by itself takes less time than looking for the place in every receipt.
    SELECT array_agg(d.row) INTO hits
      FROM (SELECT r.* FROM receipts r
             WHERE r.delivered_at >= greatest(v_oldest, v_upper - interval '1 hour') AND r.delivered_at < v_upper
               AND p_envelope_id = ANY (r.envelope_ids)
            OFFSET 0) c
     CROSS JOIN LATERAL (
       SELECT ROW(p_envelope_id, c.first_id + c.id_offsets[i], c.stream, c.keys[i], c.types[i], c.attempts[i],
                  c.delivered_at - c.created_offsets[i] * interval '1 millisecond', c.delivered_at, c.provider,
                  coalesce(c.record_ids[i], p_envelope_id::text))::delivered AS row
         FROM array_position(c.envelope_ids, p_envelope_id) i WHERE i IS NOT NULL) d;
    v_upper := v_upper - interval '1 hour';
  END LOOP;
END;
$$;

-- What became of a delivered entry, by its envelope id or its entry id; p_from and p_to narrow the times of
-- delivery. An id that is no UUIDv7 costs a scan of the receipts of that range, for at most ten seconds.
CREATE FUNCTION find_delivered(
  p_envelope_id uuid DEFAULT NULL, p_entry_id bigint DEFAULT NULL,
  p_from timestamptz DEFAULT NULL, p_to timestamptz DEFAULT NULL)
RETURNS SETOF delivered LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
  v_result record;
BEGIN
  IF (p_envelope_id IS NULL) = (p_entry_id IS NULL) THEN
    RAISE EXCEPTION 'either the envelope id or the entry id is needed' USING ERRCODE = 'OF005',
      HINT = 'Pass p_envelope_id, or p_entry_id, and not both.';
  END IF;
  SELECT * INTO v_result FROM search_delivered(p_envelope_id, p_entry_id, p_from, p_to, true,
                                               clock_timestamp() + interval '9 seconds');
  IF NOT v_result.complete THEN
    RAISE EXCEPTION 'envelope % was not found within 9 seconds, and not all receipts were read', p_envelope_id
      USING ERRCODE = 'OF005', HINT = 'Its id tells no time: narrow the search with p_from and p_to (times of delivery).';
  END IF;
  RETURN QUERY SELECT (d).* FROM unnest(v_result.hits) d;
END;
$$;

-- What one live entry waits for, as one object; explain_entry() shows it.
CREATE FUNCTION explain_live_entry(p_id bigint, p_streams text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET enable_seqscan = off SET timezone = 'UTC'
AS $$
DECLARE
  v_now    timestamptz := clock_timestamp();
  v_entry  record;
  v_stream streams;
  v_lease  record;
  v_hold   record;
  v_lane   record;
  v_behind record;
  v_bound  boolean;
  v_why    text;
BEGIN
  SELECT e.id, e.envelope_id, e.stream, e.key, e.type, e.status, e.attempts, e.attempts_base, e.replays, e.abandoned,
         e.created_at, e.occurred_at, e.available_at, e.deferred_since, e.hold_id, e.last_error_code, e.last_error_message
    INTO v_entry FROM entries e WHERE e.id = p_id;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  SELECT * INTO v_stream FROM streams s WHERE s.name = v_entry.stream;
  v_bound := v_stream.name IS NOT NULL AND (p_streams IS NULL OR v_entry.stream = ANY (p_streams));
  SELECT l.lease_id, l.instance, l.worker, l.claimed_at, l.expires_at, l.remaining, l.released, l.expires_at <= v_now AS expired
    INTO v_lease FROM leases l WHERE l.stream = v_entry.stream AND p_id <@ l.ids;
  SELECT h.scope, h.value, h.since, h.due_at, h.reason INTO v_hold FROM holds h WHERE h.hold_id = v_entry.hold_id;
  SELECT d.parked_since, d.parked_by, d.reason INTO v_lane
    FROM destinations d WHERE v_hold.scope = 'lane' AND d.stream = v_entry.stream AND d.lane = v_hold.value;
  -- The first unfinished entry of its key before it, alive or a dead letter that holds the key.
  SELECT b.* INTO v_behind
    FROM ((SELECT e.id, e.envelope_id, e.status::text, e.available_at, e.attempts, e.last_error_code AS error_code
             FROM entries e
            WHERE e.stream = v_entry.stream AND e.key = v_entry.key AND e.status <> 'pending' AND e.id < p_id
            ORDER BY e.id LIMIT 1)
          UNION ALL
          (SELECT d.id, d.envelope_id, 'dead_lettered', NULL, d.attempts, d.reason_code
             FROM dead_letters d
            WHERE d.stream = v_entry.stream AND d.key = v_entry.key AND d.holds_key AND d.id < p_id
            ORDER BY d.id LIMIT 1)) b
   WHERE v_entry.key IS NOT NULL ORDER BY b.id LIMIT 1;

  v_why := CASE
    WHEN v_lease.lease_id IS NOT NULL AND v_lease.released THEN
      format('was in delivery at %s, which has stopped; a running worker takes it over', v_lease.instance)
    WHEN v_lease.lease_id IS NOT NULL AND v_lease.expired THEN
      format('was in delivery at %s, whose lease expired at %s; a running worker takes it over', v_lease.instance, utc_text(v_lease.expires_at))
    WHEN v_lease.lease_id IS NOT NULL THEN
      format('in delivery: leased by %s until %s', v_lease.instance, utc_text(v_lease.expires_at))
    WHEN v_stream.paused THEN
      format('waits: stream %s is paused since %s by %s (%s)', v_entry.stream, utc_text(v_stream.paused_at), v_stream.paused_by, v_stream.paused_reason)
    WHEN v_stream.name IS NULL THEN
      format('waits: no worker has ever served stream %s', v_entry.stream)
    WHEN NOT v_bound THEN
      format('waits: the configuration has no stream %s', v_entry.stream)
    WHEN v_entry.status = 'held' AND v_hold.scope = 'lane' AND v_lane.parked_by IS NOT NULL THEN
      format('held: destination %s is paused since %s by %s (%s)', v_hold.value, utc_text(v_lane.parked_since), v_lane.parked_by, v_lane.reason)
    WHEN v_entry.status = 'held' AND v_hold.scope = 'lane' THEN
      format('held: destination %s is closed or full', v_hold.value)
    WHEN v_entry.status = 'held' AND v_behind.status = 'dead_lettered' THEN
      format('held: dead letter %s of its key must be replayed or discarded first', v_behind.id)
    WHEN v_entry.status = 'held' AND v_behind.id IS NOT NULL THEN
      format('held behind entry %s of its key, which is %s%s', v_behind.id, v_behind.status,
             CASE WHEN v_behind.status <> 'held' AND v_behind.available_at > v_now THEN ' until ' || utc_text(v_behind.available_at) ELSE '' END)
    WHEN v_entry.status = 'held' THEN 'held, and free to go with the next claim'
    WHEN v_entry.status = 'pending' AND v_entry.available_at IS NULL
         AND EXISTS (SELECT FROM parkings g WHERE g.stream = v_entry.stream AND p_id <@ g.ids) THEN
      'waits: its destination is closed or full, or an earlier entry of its key is unfinished'
    WHEN v_entry.available_at > v_now AND v_entry.status = 'pending' THEN format('scheduled for %s', utc_text(v_entry.available_at))
    WHEN v_entry.available_at > v_now AND v_entry.status = 'deferred' THEN format('deferred until %s', utc_text(v_entry.available_at))
    WHEN v_entry.available_at > v_now THEN
      format('failed with %s after %s attempt%s; next attempt at %s', v_entry.last_error_code, v_entry.attempts,
             CASE WHEN v_entry.attempts = 1 THEN '' ELSE 's' END, utc_text(v_entry.available_at))
    ELSE format('due since %s, waits to be claimed', utc_text(coalesce(v_entry.available_at, v_entry.created_at))) END;

  RETURN jsonb_strip_nulls(jsonb_build_object(
    'summary', v_why, 'where', 'entries', 'entry_id', v_entry.id, 'stream', v_entry.stream, 'key', v_entry.key,
    'type', v_entry.type, 'status', v_entry.status, 'code', status_code(v_entry.status),
    'created_at', v_entry.created_at, 'occurred_at', v_entry.occurred_at,
    'due_at', coalesce(v_entry.available_at, v_entry.created_at), 'deferred_since', v_entry.deferred_since,
    'attempts', v_entry.attempts, 'attempts_since_replay', v_entry.attempts - v_entry.attempts_base,
    'replay_count', v_entry.replays, 'workers_died', v_entry.abandoned,
    'last_error', CASE WHEN v_entry.last_error_code IS NOT NULL THEN
      jsonb_build_object('code', v_entry.last_error_code, 'message', v_entry.last_error_message) END,
    'lease', CASE WHEN v_lease.lease_id IS NOT NULL THEN
      jsonb_build_object('instance', v_lease.instance, 'worker', v_lease.worker, 'lease_id', v_lease.lease_id,
        'claimed_at', v_lease.claimed_at, 'expires_at', v_lease.expires_at, 'expired', v_lease.expired,
        'released', v_lease.released, 'remaining', v_lease.remaining) END,
    'hold', CASE WHEN v_hold.scope IS NOT NULL THEN
      jsonb_build_object('scope', v_hold.scope, 'value', v_hold.value, 'since', v_hold.since,
        'next_look_at', v_hold.due_at, 'reason', v_hold.reason) END,
    'behind', CASE WHEN v_behind.id IS NOT NULL THEN
      jsonb_build_object('entry_id', v_behind.id, 'envelope_id', v_behind.envelope_id, 'status', v_behind.status,
        'due_at', v_behind.available_at, 'attempts', v_behind.attempts, 'error_code', v_behind.error_code) END,
    'destination', CASE WHEN v_lane.parked_by IS NOT NULL THEN
      jsonb_build_object('lane', v_hold.value, 'paused_at', v_lane.parked_since, 'paused_by', v_lane.parked_by,
        'paused_reason', v_lane.reason) END,
    'stream_state', jsonb_build_object('served', v_bound, 'paused', coalesce(v_stream.paused, false),
      'paused_at', v_stream.paused_at, 'paused_by', v_stream.paused_by, 'paused_reason', v_stream.paused_reason)));
END;
$$;

-- Where is my event? Everything that the database knows of one envelope, in every stream it was put into:
-- {envelope_id, asked_at, found, summary, entries: [...], operations: [...]}. p_streams are the streams of
-- the configuration, where it is known: an entry of another stream is served by nobody.
CREATE FUNCTION explain_entry(p_envelope_id uuid, p_streams text[] DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
DECLARE
  v_live       jsonb[];
  v_dead       jsonb[];
  v_delivered  jsonb[];
  v_operations jsonb;
  v_search     record;
  v_all        jsonb;
  v_kept_from  timestamptz;
BEGIN
  SELECT array_agg(explain_live_entry(e.id, p_streams) ORDER BY e.id) INTO v_live
    FROM entries e WHERE e.envelope_id = p_envelope_id;
  SELECT array_agg(jsonb_strip_nulls(jsonb_build_object(
           'summary', format('dead-lettered at %s: %s%s', utc_text(d.dead_lettered_at), d.reason_code, coalesce(' (' || d.reason || ')', '')),
           'where', 'dead_letters', 'entry_id', d.id, 'stream', d.stream, 'key', d.key, 'type', d.type,
           'status', 'dead_lettered', 'code', status_code('dead_lettered'), 'created_at', d.created_at, 'occurred_at', d.occurred_at,
           'dead_lettered_at', d.dead_lettered_at, 'reason_code', d.reason_code, 'reason', d.reason,
           'attempts', d.attempts, 'replay_count', d.replays, 'workers_died', d.abandoned, 'holds_key', d.holds_key,
           'last_error', CASE WHEN d.last_error_code IS NOT NULL THEN
             jsonb_build_object('code', d.last_error_code, 'message', d.last_error_message) END)) ORDER BY d.id)
    INTO v_dead FROM dead_letters d WHERE d.envelope_id = p_envelope_id;
  -- The slow search only where nothing else knows the envelope.
  SELECT * INTO v_search FROM search_delivered(p_envelope_id, NULL, NULL, NULL, v_live IS NULL AND v_dead IS NULL,
                                               clock_timestamp() + interval '9 seconds');
  SELECT array_agg(jsonb_strip_nulls(jsonb_build_object(
           'summary', format('delivered at %s by %s as %s, attempt %s', utc_text(d.delivered_at), d.provider, d.record_id, d.attempts),
           'where', 'receipts', 'entry_id', d.entry_id, 'stream', d.stream, 'key', d.key, 'type', d.type,
           'status', 'delivered', 'code', status_code('delivered'), 'created_at', d.created_at, 'delivered_at', d.delivered_at,
           'attempts', d.attempts, 'provider', d.provider, 'record_id', d.record_id)) ORDER BY d.entry_id)
    INTO v_delivered FROM unnest(v_search.hits) d;

  SELECT coalesce(jsonb_agg(jsonb_strip_nulls(x.entry || jsonb_build_object('replays', (
           SELECT jsonb_agg(jsonb_build_object('at', r.replayed_at, 'actor', r.actor, 'reason', r.reason,
                    'database_user', r.database_user, 'dead_lettered_at', r.dead_lettered_at, 'reason_code', r.reason_code)
                    ORDER BY r.replay_id)
             FROM replays r WHERE r.entry_id = (x.entry ->> 'entry_id')::bigint)))), '[]')
    INTO v_all FROM unnest(v_live || v_dead || v_delivered) AS x (entry);
  SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('at', o.done_at, 'action', o.action, 'actor', o.actor,
           'reason', o.reason, 'database_user', o.database_user, 'stream', o.stream, 'entry_id', o.entry_id,
           'detail', o.detail)) ORDER BY o.operation_id)
    INTO v_operations FROM operations o WHERE o.envelope_id = p_envelope_id;
  SELECT min(r.delivered_at) INTO v_kept_from FROM receipts r;

  RETURN jsonb_strip_nulls(jsonb_build_object(
    'envelope_id', p_envelope_id, 'asked_at', clock_timestamp(), 'found', v_all <> '[]',
    'summary', CASE
      WHEN v_all <> '[]' THEN (SELECT string_agg(format('%s: %s', x ->> 'stream', x ->> 'summary'), '; ') FROM jsonb_array_elements(v_all) x)
      WHEN v_operations -> -1 ->> 'action' LIKE 'discard%' THEN
        format('discarded by %s (%s)', v_operations -> -1 ->> 'actor', v_operations -> -1 ->> 'reason')
      WHEN NOT v_search.complete THEN 'not found within 9 seconds, and not all receipts were read: find_delivered() takes a time range'
      ELSE 'unknown: never committed, or delivered and its receipt '
             || coalesce('dropped (receipts go back to ' || utc_text(v_kept_from) || ') or not kept', 'is not kept') END,
    'entries', v_all, 'operations', v_operations, 'receipts_from', v_kept_from,
    -- Of a discarded entry, whose own place for them is gone.
    'replays', CASE WHEN v_all = '[]' THEN (
      SELECT jsonb_agg(jsonb_build_object('at', r.replayed_at, 'actor', r.actor, 'reason', r.reason,
               'database_user', r.database_user, 'dead_lettered_at', r.dead_lettered_at, 'reason_code', r.reason_code)
               ORDER BY r.replay_id)
        FROM replays r WHERE r.entry_id = ANY (ARRAY(
          SELECT (o ->> 'entry_id')::bigint FROM jsonb_array_elements(v_operations) o))) END));
END;
$$;

-- Dead letters by the filter of replay_dead_letters(), in ascending id order, without their payloads.
CREATE FUNCTION list_dead_letters(
  p_ids bigint[] DEFAULT NULL, p_envelope_ids uuid[] DEFAULT NULL, p_stream text DEFAULT NULL,
  p_type text DEFAULT NULL, p_key text DEFAULT NULL, p_reason_code text DEFAULT NULL,
  p_from timestamptz DEFAULT NULL, p_to timestamptz DEFAULT NULL, p_after bigint DEFAULT NULL, p_limit int DEFAULT 1000)
RETURNS TABLE (entry_id bigint, envelope_id uuid, stream text, key text, type text, reason_code text, reason text,
               attempts int, replays int, holds_key boolean, created_at timestamptz, dead_lettered_at timestamptz,
               last_error_code text, last_error_message text)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
  RETURN QUERY
    SELECT d.id, d.envelope_id, d.stream, d.key, d.type, d.reason_code, d.reason, d.attempts, d.replays, d.holds_key,
           d.created_at, d.dead_lettered_at, d.last_error_code, d.last_error_message
      FROM dead_letters d
     WHERE filter_names(d.id, d.envelope_id, d.stream, d.type, d.key, d.reason_code, d.dead_lettered_at,
                        p_ids, p_envelope_ids, p_stream, p_type, p_key, p_reason_code, p_from, p_to, p_after)
     ORDER BY d.id LIMIT p_limit;
END;
$$;

-- For the metrics sampler: each stream's backlog without reading it. Every count ends at p_cap; ages are in
-- seconds by this server's clock, 0 where there is nothing, and taken from the first rows of an index. So what
-- failed or was deferred, and waits, is looked at in the order of its next attempts, p_cap of them, and not in that of its age: no
-- index has that, and each comes first when its time has come.
-- p_floors and p_lease_floors are the worker's claim floors (0: none): they skip what is dead at the head of
-- an index. The row comparison is that of pick_fresh(), for its reason.
CREATE FUNCTION sample_streams(
  p_streams text[], p_floors bigint[], p_cap int DEFAULT 10000, p_lease_floors bigint[] DEFAULT NULL)
RETURNS TABLE (stream text, paused boolean, paused_destinations bigint, pending bigint, deferred bigint,
               retryable_failure bigint, held bigint, dead_letters bigint, oldest_due_seconds float8, oldest_blocked_seconds float8,
               oldest_retried_seconds float8, oldest_deferred_seconds float8, oldest_created_seconds float8, leases_active bigint, leases_expired bigint)
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
BEGIN
  RETURN QUERY
    SELECT s.name, coalesce(t.paused, false), p.n, f.n + d.pending, d.deferred, d.retryable, h.n, x.n,
           greatest(0, extract(epoch FROM v_now - least(f.created_at, d.first_due)))::float8,
           greatest(0, extract(epoch FROM v_now - h.due_at))::float8,
           greatest(0, extract(epoch FROM v_now - d.retried_from))::float8,
           greatest(0, extract(epoch FROM v_now - d.deferred_from))::float8,
           greatest(0, extract(epoch FROM v_now - least(f.created_at, d.created_at, h.created_at)))::float8,
           l.active, l.expired
      FROM unnest(p_streams, p_floors, p_lease_floors) AS s (name, floor, lease_floor)
      LEFT JOIN streams t ON t.name = s.name
     CROSS JOIN LATERAL (
       SELECT count(*) AS n
         FROM (SELECT FROM destinations y WHERE y.stream = s.name LIMIT p_cap) c) p
     CROSS JOIN LATERAL (
       -- What lies in a parking waits like what is held, and is mostly below the floor.
       SELECT coalesce(range_agg(g.ids), '{}') AS ids FROM parkings g WHERE g.stream = s.name) k
     CROSS JOIN LATERAL (
       SELECT (SELECT count(*)
                 FROM (SELECT FROM entries e
                        WHERE (e.stream, e.id) >= (s.name, coalesce(s.floor, 0)) AND e.stream <= s.name
                          AND e.status = 'pending' AND e.available_at IS NULL AND NOT e.id <@ k.ids
                        ORDER BY e.stream, e.id LIMIT p_cap) c) AS n,
              (SELECT e.created_at FROM entries e
                WHERE (e.stream, e.id) >= (s.name, coalesce(s.floor, 0)) AND e.stream <= s.name
                  AND e.status = 'pending' AND e.available_at IS NULL
                ORDER BY e.stream, e.id LIMIT 1) AS created_at) f
     CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE c.status = 'pending') AS pending,
              count(*) FILTER (WHERE c.status = 'deferred') AS deferred,
              count(*) FILTER (WHERE c.status = 'retryable_failure') AS retryable,
              min(c.created_at) AS created_at,
              min(coalesce(c.limits_from, c.created_at)) FILTER (WHERE c.status = 'retryable_failure') AS retried_from,
              min(coalesce(c.limits_from, c.created_at)) FILTER (WHERE c.status = 'deferred') AS deferred_from,
              min(c.available_at) FILTER (WHERE c.available_at <= v_now) AS first_due
         FROM (SELECT e.status, e.created_at, e.limits_from, e.available_at FROM entries e
                WHERE e.stream = s.name AND e.available_at IS NOT NULL AND e.status <> 'held'
                ORDER BY e.available_at LIMIT p_cap) c) d
     CROSS JOIN LATERAL (
       SELECT least(p_cap, count(*) + (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(k.ids) r))::bigint AS n,
              min(c.created_at) AS created_at, min(coalesce(c.available_at, c.created_at)) AS due_at
         FROM (SELECT e.created_at, e.available_at FROM holds o
                CROSS JOIN LATERAL (SELECT i.created_at, i.available_at FROM entries i
                                     WHERE i.hold_id = o.hold_id AND i.status = 'held' ORDER BY i.id LIMIT p_cap) e
                WHERE o.stream = s.name LIMIT p_cap) c) h
     CROSS JOIN LATERAL (
       SELECT count(*) AS n
         FROM (SELECT FROM dead_letters y WHERE y.stream = s.name LIMIT p_cap) c) x
     CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE y.expires_at > v_now) AS active,
              count(*) FILTER (WHERE y.expires_at <= v_now) AS expired
         FROM leases y WHERE y.stream = s.name AND y.lease_no >= coalesce(s.lease_floor, 0)) l;
END;
$$;

-- Streams with live entries that are none of p_streams: the backlog that nobody serves. Walks from stream
-- to stream through the gaps between the named ones, so that it never meets what is dead at their heads.
CREATE FUNCTION unbound_streams(p_streams text[], p_cap int DEFAULT 10000, p_limit int DEFAULT 100)
RETURNS TABLE (stream text, entries bigint, oldest_created_seconds float8)
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
  v_named text[] := ARRAY(SELECT DISTINCT n FROM unnest(p_streams) n WHERE n IS NOT NULL ORDER BY n);
  v_after text;
  v_end   text;
  v_next  text;
  v_found text[] := '{}';
BEGIN
  FOR gap IN 0..cardinality(v_named) LOOP
    v_after := CASE gap WHEN 0 THEN '' ELSE v_named[gap] END;
    v_end := v_named[gap + 1];
    LOOP
      EXIT WHEN cardinality(v_found) >= p_limit;
      IF v_end IS NULL THEN
        v_next := least(
          (SELECT e.stream FROM entries e WHERE e.stream > v_after AND e.status = 'pending' AND e.available_at IS NULL
            ORDER BY e.stream, e.id LIMIT 1),
          (SELECT e.stream FROM entries e WHERE e.stream > v_after AND e.available_at IS NOT NULL AND e.status <> 'held'
            ORDER BY e.stream, e.available_at LIMIT 1),
          (SELECT h.stream FROM holds h WHERE h.stream > v_after ORDER BY h.stream LIMIT 1));
      ELSE
        v_next := least(
          (SELECT e.stream FROM entries e WHERE e.stream > v_after AND e.stream < v_end
              AND e.status = 'pending' AND e.available_at IS NULL ORDER BY e.stream, e.id LIMIT 1),
          (SELECT e.stream FROM entries e WHERE e.stream > v_after AND e.stream < v_end
              AND e.available_at IS NOT NULL AND e.status <> 'held' ORDER BY e.stream, e.available_at LIMIT 1),
          (SELECT h.stream FROM holds h WHERE h.stream > v_after AND h.stream < v_end ORDER BY h.stream LIMIT 1));
      END IF;
      EXIT WHEN v_next IS NULL;
      v_found := v_found || v_next;
      v_after := v_next;
    END LOOP;
  END LOOP;
  RETURN QUERY
    SELECT s.stream, least(s.pending + s.deferred + s.retryable_failure + s.held, p_cap), s.oldest_created_seconds
      FROM sample_streams(v_found, NULL, p_cap) s
     WHERE s.pending + s.deferred + s.retryable_failure + s.held > 0;
END;
$$;

-- For the metrics sampler: what the whole database tells about the outbox; leases are counted by
-- sample_streams(), which reads them from a floor. oldest_transaction_seconds is null
-- when sessions of other roles hide their start: membership in pg_read_all_stats shows them.
CREATE FUNCTION sample_database(
  OUT oldest_xmin_age_transactions bigint, OUT oldest_transaction_seconds float8,
  OUT dead_tuples_entries bigint, OUT dead_tuples_leases bigint,
  OUT receipts_partitions int, OUT receipts_in_default boolean, OUT sequence_last bigint,
  OUT schema_version int, OUT min_worker int)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
BEGIN
  SELECT coalesce(max(greatest(age(a.backend_xmin), age(a.backend_xid))), 0),
         CASE WHEN bool_and(a.state IS NOT NULL) IS NOT FALSE
              THEN coalesce(extract(epoch FROM v_now - min(a.xact_start)), 0) END
    INTO oldest_xmin_age_transactions, oldest_transaction_seconds
    FROM pg_stat_activity a
   WHERE (a.datname = current_database() OR a.backend_type = 'walsender') AND a.pid <> pg_backend_pid()
     AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL OR a.xact_start IS NOT NULL);
  SELECT greatest(oldest_xmin_age_transactions, max(age(p.transaction))),
         greatest(oldest_transaction_seconds, extract(epoch FROM v_now - min(p.prepared)))
    INTO oldest_xmin_age_transactions, oldest_transaction_seconds
    FROM pg_prepared_xacts p WHERE p.database = current_database();
  SELECT greatest(oldest_xmin_age_transactions, max(age(r.xmin))) INTO oldest_xmin_age_transactions
    FROM pg_replication_slots r WHERE r.xmin IS NOT NULL;

  dead_tuples_entries := pg_stat_get_dead_tuples('entries'::regclass);
  dead_tuples_leases := pg_stat_get_dead_tuples('leases'::regclass);
  SELECT count(*) INTO receipts_partitions FROM pg_inherits i WHERE i.inhparent = 'receipts'::regclass;
  receipts_in_default := EXISTS (SELECT FROM receipts_default);
  SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END INTO sequence_last FROM entries_id_seq s;
  SELECT max(v.version), max(v.min_worker) INTO schema_version, min_worker FROM schema_version v;
END;
$$;

-- Everything at a glance, for the command line. p_streams: those of the configuration; null: those that a
-- worker has ever registered.
CREATE FUNCTION status(p_streams text[] DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
DECLARE
  c_cap     CONSTANT int := 100000;
  v_streams text[] := ARRAY(SELECT DISTINCT n FROM unnest(coalesce(p_streams, ARRAY(SELECT s.name FROM streams s))) n ORDER BY n);
BEGIN
  RETURN jsonb_build_object(
    'taken_at', clock_timestamp(), 'counts_end_at', c_cap,
    'streams', (
      SELECT coalesce(jsonb_agg(to_jsonb(s) || jsonb_strip_nulls(jsonb_build_object(
               'registered', t.name IS NOT NULL, 'paused_at', t.paused_at, 'paused_by', t.paused_by,
               'paused_reason', t.paused_reason,
               'destinations', (SELECT jsonb_agg(jsonb_build_object('lane', d.lane, 'paused_at', d.parked_since,
                                         'paused_by', d.parked_by, 'paused_reason', d.reason) ORDER BY d.lane)
                                  FROM destinations d WHERE d.stream = s.stream))) ORDER BY s.stream), '[]')
        FROM sample_streams(v_streams, NULL, c_cap) s LEFT JOIN streams t ON t.name = s.stream),
    'unbound', (SELECT coalesce(jsonb_agg(to_jsonb(u) ORDER BY u.stream), '[]') FROM unbound_streams(v_streams, c_cap) u),
    'workers', (
      SELECT coalesce(jsonb_agg(to_jsonb(w) ORDER BY w.instance, w.worker, w.stream), '[]')
        FROM (SELECT l.instance, l.worker, l.stream, count(*) AS leases, sum(l.remaining) AS entries,
                     min(l.claimed_at) AS oldest_claimed_at, max(l.expires_at) AS expires_at
                FROM leases l GROUP BY l.instance, l.worker, l.stream) w),
    'database', (SELECT to_jsonb(d) FROM sample_database() d));
END;
$$;

INSERT INTO schema_version (version, name) VALUES (6, '0006_status');
