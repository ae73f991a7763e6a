-- 0003_settle: what a worker tells the database about its leases. None of these functions touches a
-- stream row, so they never wait for a claim; lock order: lease, then entries.
\if :{?schema}
\else
\set schema outbox
\endif
SET search_path = :"schema", pg_temp;

-- Writes the outcomes of one lease in one transaction.
--   p_delivered      entry ids, ascending; deleted here. p_record_ids aligns with it, or is null when
--                    each record id is the envelope id. p_receipts: keep a receipt.
--   p_ids …          the others, one element an entry: the next status (retryable_failure, deferred or
--                    dead_lettered), whether the attempt counts, the delay until it is due, the error.
--   p_returned       given back unchanged: not sent, or nobody's fault.
--   p_keys           hashes of the keys that stay busy when the lease goes on; null when it ends.
--   p_in_doubt       the very same call was made before and its answer was lost. It took effect as a
--                    whole or not at all, so one id that has left the lease tells that it did.
--   p_server         the server_since() under which the lease is known to be good; null: any. Behind a pooler a
--                    session outlives the server, and an earlier settle of the same keys may be undone.
-- Returns 'settled'; 'stale' when the lease is gone, and 'restarted' when the server is another one: then nothing
-- was changed; 'repeated' when an earlier call in doubt had taken effect. Entries of the lease
-- that an operator could not have touched are all there; a count that does not match is a defect and
-- raises. Delivered-only settles commit asynchronously: losing one means a redelivery.
CREATE FUNCTION settle(
  p_lease_id uuid, p_worker uuid, p_provider text, p_receipts boolean,
  p_delivered bigint[], p_record_ids text[],
  p_ids bigint[], p_statuses text[], p_counted boolean[], p_delays_ms bigint[], p_codes text[], p_messages text[],
  p_hold_key boolean, p_returned bigint[], p_keys int[], p_in_doubt boolean, p_server timestamptz DEFAULT NULL,
  OUT result text, OUT settled_at timestamptz, OUT server_since timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_lease     record;
  v_delivered int := cardinality(p_delivered);
  v_others    int := cardinality(p_ids);
  v_done      int := cardinality(p_delivered) + cardinality(p_ids) + cardinality(p_returned);
  v_count     bigint;
  v_dead      int[];
BEGIN
  settled_at := clock_timestamp();
  server_since := server_since();
  IF p_server <> server_since THEN
    result := 'restarted';
    RETURN;
  END IF;
  -- The sum is a copy out of the toast: ids that lie apart are many ranges, and every entry is looked up in them.
  SELECT l.ids + '{}' AS ids, l.remaining, l.stream, l.suspect INTO v_lease
    FROM leases l WHERE l.lease_id = p_lease_id AND l.worker = p_worker FOR UPDATE;
  IF NOT FOUND THEN
    result := 'stale';
    RETURN;
  END IF;
  IF p_in_doubt AND NOT coalesce(p_delivered[1], p_ids[1], p_returned[1]) <@ v_lease.ids THEN
    result := 'repeated';
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM unnest(p_returned) i WHERE NOT i <@ v_lease.ids) THEN
    RAISE EXCEPTION 'lease % returns entries that it does not hold', p_lease_id;
  END IF;
  SELECT array_agg(i) INTO v_dead FROM generate_subscripts(p_statuses, 1) i WHERE p_statuses[i] = 'dead_lettered';
  IF v_dead IS NULL THEN
    PERFORM set_config('synchronous_commit', 'off', true);
  END IF;

  IF v_delivered > 0 THEN
    v_count := settle_delivered(v_lease.stream, v_lease.ids, p_provider, p_receipts, p_delivered, p_record_ids, settled_at);
    IF v_count <> v_delivered THEN
      RAISE EXCEPTION 'lease % settles % delivered entries but holds % of them', p_lease_id, v_delivered, v_count;
    END IF;
  END IF;

  IF v_others > 0 THEN
    UPDATE entries e
       SET status = o.status::entry_status,
           available_at = settled_at + o.delay_ms * interval '1 millisecond',
           deferred_since = CASE WHEN o.status = 'deferred' THEN coalesce(e.deferred_since, settled_at) END,
           -- The time that a scheduled entry was to begin at is overwritten here, as whenever it is pending no more.
           limits_from = CASE WHEN e.status = 'pending' AND e.available_at > e.created_at THEN e.available_at ELSE e.limits_from END,
           attempts = e.attempts + o.counted::int,
           abandoned = 0,
           hold_id = NULL,
           last_error_code = coalesce(o.code, e.last_error_code),
           last_error_message = CASE WHEN o.code IS NULL THEN e.last_error_message ELSE o.message END
      FROM unnest(p_ids, p_statuses, p_counted, p_delays_ms, p_codes, p_messages)
             AS o (id, status, counted, delay_ms, code, message)
     -- An equality could be planned as a join with all of the table, while that had no row.
     WHERE e.id = ANY (ARRAY[o.id]) AND o.status <> 'dead_lettered' AND e.id <@ v_lease.ids;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_dead IS NOT NULL THEN
      v_count := v_count + (
        SELECT move_to_dead_letters(array_agg(p_ids[i]), array_agg(p_codes[i]), array_agg(p_messages[i]),
                                    array_agg(p_counted[i]), p_hold_key)
          FROM unnest(v_dead) i WHERE p_ids[i] <@ v_lease.ids);
    END IF;
    IF v_count IS DISTINCT FROM v_others::bigint THEN
      RAISE EXCEPTION 'lease % settles % other entries but holds % of them', p_lease_id, v_others, v_count;
    END IF;
  END IF;

  -- It was tried alone, its destination was away, and its worker lives: no worker has died with it. Of the deaths
  -- in a long outage, with a probe on its way all the time, as many as dead-letter an entry would come together.
  IF v_lease.suspect AND cardinality(p_returned) > 0 THEN
    UPDATE entries e SET abandoned = 0 WHERE e.id = ANY (p_returned) AND e.abandoned > 0;
  END IF;

  IF v_done = v_lease.remaining THEN
    DELETE FROM leases l WHERE l.lease_id = p_lease_id;
  ELSE
    UPDATE leases l
       SET remaining = l.remaining - v_done, keys = p_keys,
           ids = l.ids - (SELECT range_agg(int8range(i, i, '[]'))
                            FROM unnest(p_delivered || p_ids || p_returned) i)
     WHERE l.lease_id = p_lease_id;
  END IF;
  result := 'settled';
END;
$$;

-- Deletes delivered entries of a lease and writes their receipt in the same statement. Ids without a gap
-- are deleted by one range scan.
CREATE FUNCTION settle_delivered(
  p_stream text, p_leased int8multirange, p_provider text, p_receipts boolean,
  p_ids bigint[], p_record_ids text[], p_now timestamptz)
RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_first bigint := p_ids[1];
  v_last  bigint := p_ids[cardinality(p_ids)];
  v_dense boolean := v_last - v_first + 1 = cardinality(p_ids);
  v_count bigint;
  v_split int;
BEGIN
  IF v_last - v_first > 2147483647 THEN
    -- An offset is an int: an entry that was replayed after years has a receipt of its own.
    v_split := (SELECT count(*) FROM unnest(p_ids) i WHERE i - v_first <= 2147483647);
    RETURN settle_delivered(p_stream, p_leased, p_provider, p_receipts, p_ids[:v_split], p_record_ids[:v_split], p_now)
         + settle_delivered(p_stream, p_leased, p_provider, p_receipts, p_ids[v_split + 1:], p_record_ids[v_split + 1:], p_now);
  END IF;
  IF NOT p_receipts THEN
    IF v_dense THEN
      DELETE FROM entries e WHERE e.id BETWEEN v_first AND v_last AND e.id <@ p_leased;
    ELSE
      DELETE FROM entries e WHERE e.id = ANY (p_ids) AND e.id <@ p_leased;
    END IF;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
  END IF;
  IF v_dense THEN
    WITH gone AS (
      DELETE FROM entries e WHERE e.id BETWEEN v_first AND v_last AND e.id <@ p_leased
      RETURNING e.id, e.envelope_id, e.created_at, e.attempts, e.type, e.key)
    INSERT INTO receipts AS r
      (delivered_at, first_id, last_id, first_created, last_created, entries, stream, provider,
       id_offsets, envelope_ids, created_offsets, attempts, types, keys, record_ids)
    SELECT p_now, v_first, v_last, min(g.created_at), max(g.created_at), count(*), p_stream, p_provider,
           array_agg((g.id - v_first)::int), array_agg(g.envelope_id),
           array_agg(greatest(least((date_part('epoch', p_now - g.created_at) * 1000)::bigint, 2147483647), -2147483648)::int),
           array_agg(g.attempts + 1), array_agg(g.type), nullif(array_agg(g.key), array_fill(NULL::text, ARRAY[count(*)::int])),
           p_record_ids
      FROM gone g
    RETURNING entries INTO v_count;
  ELSE
    WITH gone AS (
      DELETE FROM entries e WHERE e.id = ANY (p_ids) AND e.id <@ p_leased
      RETURNING e.id, e.envelope_id, e.created_at, e.attempts, e.type, e.key)
    INSERT INTO receipts AS r
      (delivered_at, first_id, last_id, first_created, last_created, entries, stream, provider,
       id_offsets, envelope_ids, created_offsets, attempts, types, keys, record_ids)
    SELECT p_now, v_first, v_last, min(g.created_at), max(g.created_at), count(*), p_stream, p_provider,
           array_agg((g.id - v_first)::int), array_agg(g.envelope_id),
           array_agg(greatest(least((date_part('epoch', p_now - g.created_at) * 1000)::bigint, 2147483647), -2147483648)::int),
           array_agg(g.attempts + 1), array_agg(g.type), nullif(array_agg(g.key), array_fill(NULL::text, ARRAY[count(*)::int])),
           p_record_ids
      FROM (SELECT * FROM gone ORDER BY id) g
    RETURNING entries INTO v_count;
  END IF;
  RETURN v_count;
END;
$$;

-- Prolongs leases; returns those that are still this worker's. One that is missing was taken over or given up: the
-- worker stops everything of that lease's keys that it has not sent. A renewal that comes after the release, as both may be
-- under way after a failover, would keep the lease from everybody while its worker goes on with the later entries.
CREATE FUNCTION renew(p_worker uuid, p_lease_ids uuid[], p_lease_ms int) RETURNS SETOF uuid
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  RETURN QUERY
    UPDATE leases l SET expires_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'
     WHERE l.lease_id = ANY (p_lease_ids) AND l.worker = p_worker AND NOT l.released
    RETURNING l.lease_id;
END;
$$;

-- A clean stop: the leases end now and count against nobody. They stay as rows, because only a claim,
-- under the stream lock, may free entries; the next claimer takes them over.
CREATE FUNCTION release(p_worker uuid) RETURNS int
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
  v_count int;
BEGIN
  UPDATE leases l SET expires_at = '-infinity', released = true WHERE l.worker = p_worker;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END;
$$;

-- A worker that was thought dead and came back: the entries of its lost leases did not kill it.
CREATE FUNCTION forgive(p_ids bigint[]) RETURNS int
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
DECLARE
  v_count int;
BEGIN
  UPDATE entries e SET abandoned = e.abandoned - 1 WHERE e.id = ANY (p_ids) AND e.abandoned > 0;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END;
$$;

-- Makes streams known: claims lock these rows. Safe for several workers at once.
CREATE FUNCTION register_streams(p_streams text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
BEGIN
  INSERT INTO streams (name) SELECT n FROM unnest(p_streams) n ORDER BY n ON CONFLICT (name) DO NOTHING;
END;
$$;

-- Presence. A worker holds a session-level advisory lock as long as its connection lives; who has seen
-- the lock of another worker free for long enough may name it in claim's p_dead. The lock's key is the
-- first half of the worker's uuid.
CREATE FUNCTION hold_presence(p_worker uuid) RETURNS boolean
LANGUAGE sql VOLATILE
BEGIN ATOMIC
  SELECT pg_try_advisory_lock(('x' || left(replace(p_worker::text, '-', ''), 16))::bit(64)::bigint);
END;

CREATE FUNCTION present_workers(p_workers uuid[]) RETURNS SETOF uuid
LANGUAGE sql VOLATILE
BEGIN ATOMIC
  SELECT w FROM unnest(p_workers) w
   WHERE EXISTS (SELECT FROM pg_locks l
                  WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
                    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                    AND l.classid = ('x' || left(w::text, 8))::bit(32)::int::oid
                    AND l.objid = ('x' || substr(replace(w::text, '-', ''), 9, 8))::bit(32)::int::oid);
END;

-- The idle poll of a worker: which of its streams may have something to claim. p_floors are its claim
-- floors, so that dead index entries are skipped, as p_due_floors are for what is due; null looks at all. p_vxids with p_bounds, each for the stream in
-- p_tracking, are the transactions that a floor tracks below its start: once one has ended, its entries
-- lie below the floor. One light query for any number of streams.
CREATE FUNCTION due_streams(
  p_streams text[], p_floors bigint[], p_tracking text[], p_vxids text[], p_bounds bigint[],
  p_server timestamptz DEFAULT NULL, p_due_floors timestamptz[] DEFAULT '{}')
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
BEGIN
  IF p_server <> server_since() THEN
    p_floors := array_fill(0::bigint, ARRAY[cardinality(p_streams)]); p_due_floors := '{}';
  ELSIF cardinality(p_vxids) > 0 THEN
    SELECT array_agg(least(s.floor, b.bound) ORDER BY s.place) INTO p_floors
      FROM unnest(p_streams, p_floors) WITH ORDINALITY AS s (stream, floor, place)
      LEFT JOIN (SELECT t.stream, min(t.bound) AS bound
                   FROM unnest(p_tracking, p_vxids, p_bounds) AS t (stream, vxid, bound)
                  WHERE t.vxid NOT IN (SELECT l.virtualtransaction FROM pg_locks l
                                        WHERE l.locktype = 'relation' AND l.relation = 'entries'::regclass
                                          AND l.mode = 'RowExclusiveLock' AND l.granted
                                          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
                  GROUP BY t.stream) b ON b.stream = s.stream;
  END IF;
  RETURN QUERY
    -- A probe for each: an EXISTS may be planned as a hash of all that is live, whichever stream it is of.
    SELECT s.stream FROM unnest(p_streams, p_floors, p_due_floors) AS s (stream, floor, due_floor)
     WHERE (SELECT e.id FROM entries e WHERE (e.stream, e.id) >= (s.stream, s.floor) AND e.stream <= s.stream
               AND e.status = 'pending' AND e.available_at IS NULL
             ORDER BY e.stream, e.id LIMIT 1) IS NOT NULL
        OR (SELECT e.id FROM entries e WHERE e.stream = s.stream AND e.available_at IS NOT NULL
               AND e.status <> 'held' AND e.available_at >= coalesce(s.due_floor, '-infinity')
               AND e.available_at <= v_now
             ORDER BY e.available_at LIMIT 1) IS NOT NULL
        OR (SELECT h.hold_id FROM holds h WHERE h.stream = s.stream AND h.due_at <= v_now
             ORDER BY h.hold_id + 0 LIMIT 1) IS NOT NULL
        OR (SELECT g.parking_id FROM parkings g WHERE g.stream = s.stream ORDER BY g.parking_id LIMIT 1) IS NOT NULL;
END;
$$;

INSERT INTO schema_version (version, name) VALUES (3, '0003_settle');
