-- 0002_claim: leasing entries to workers. Why every step is as it is: docs/internals/claiming.md.
\if :{?schema}
\else
\set schema outbox
\endif
SET search_path = :"schema", pg_temp;

-- The lane of an entry: the destination of an entry inside its stream. p_lane is the
-- stream's `lane` setting: null, 'type', 'source', 'subject' or 'header.NAME'. Of a longer value the first 200
-- characters, since a lane is in indexes; workers cut it in the same way.
CREATE FUNCTION lane_of(p_lane text, p_type text, p_source text, p_subject text, p_headers jsonb)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT CASE WHEN p_lane IS NULL THEN NULL
              ELSE left(coalesce(CASE WHEN p_lane LIKE 'header.%' THEN p_headers ->> substr(p_lane, 8)
                                      WHEN p_lane = 'type' THEN p_type
                                      WHEN p_lane = 'source' THEN p_source
                                      WHEN p_lane = 'subject' THEN p_subject END, ''), 200) END;
END;

-- Whether a transaction that pg_locks shows by its 32-bit xid is one that a snapshot saw as ended.
CREATE FUNCTION xid_visible_in(p_xid xid, p_snapshot pg_snapshot) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
  -- The epoch that puts the xid nearest to the snapshot's xmax.
  SELECT pg_visible_in_snapshot(
           ((m.xmax - ((m.xmax - p_xid::text::bigint) & 4294967295)
             + CASE WHEN ((m.xmax - p_xid::text::bigint) & 4294967295) >= 2147483648 THEN 4294967296 ELSE 0 END)::text)::xid8,
           p_snapshot)
    FROM (SELECT pg_snapshot_xmax(p_snapshot)::text::bigint AS xmax) m;
END;

-- What an entry takes of a worker's memory, without reading it.
CREATE FUNCTION payload_bytes(p_payload json, p_payload_binary bytea, p_headers jsonb) RETURNS int
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT coalesce(pg_column_size(p_payload), 0) + coalesce(pg_column_size(p_payload_binary), 0)
         + coalesce(pg_column_size(p_headers), 0);
END;

-- Since when the server has kept what it said: from its start, or from the crash of one of its processes, after which it
-- recovers under the same start time, without what was committed and not yet on disk, and begins its statistics anew.
-- Who resets those of WAL by hand is taken for a crash, which costs a worker its leases once.
CREATE FUNCTION server_since() RETURNS timestamptz
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT greatest(pg_postmaster_start_time(), w.stats_reset) FROM pg_stat_wal w;
END;

-- Moves entries into dead_letters. Only for callers that hold the entry: by its lease, or by the
-- stream lock with no lease on it. Returns how many were moved.
CREATE FUNCTION move_to_dead_letters(
  p_ids bigint[], p_reason_codes text[], p_reasons text[], p_counted boolean[], p_holds_key boolean)
RETURNS bigint LANGUAGE sql VOLATILE
BEGIN ATOMIC
  WITH gone AS (
    DELETE FROM entries e WHERE e.id = ANY (p_ids) RETURNING e.*
  ), kept AS (
    INSERT INTO dead_letters (id, envelope_id, created_at, occurred_at, attempts, replays, abandoned,
        holds_key, stream, type, key, source, subject, content_type, data_schema, headers,
        reason_code, reason, last_error_code, last_error_message, payload, payload_binary)
    SELECT g.id, g.envelope_id, g.created_at, g.occurred_at, g.attempts + w.counted::int, g.replays,
           g.abandoned, p_holds_key AND g.key IS NOT NULL, g.stream, g.type, g.key, g.source, g.subject,
           g.content_type, g.data_schema, g.headers, w.code, w.reason,
           -- A sink's refusal is the last error itself; a reason of outfall's own leaves it as it was.
           CASE WHEN w.code ~ '^(outbox|worker|operator)[.]' THEN g.last_error_code ELSE w.code END,
           CASE WHEN w.code ~ '^(outbox|worker|operator)[.]' THEN g.last_error_message ELSE w.reason END,
           g.payload, g.payload_binary
      FROM unnest(p_ids, p_reason_codes, p_reasons, p_counted) AS w (id, code, reason, counted)
      JOIN gone g ON g.id = w.id
    RETURNING 1
  )
  SELECT count(*) FROM kept;
END;

-- Claim, step 2: takes the leases of dead workers away, all of one worker's or none, so that its own
-- later lease cannot let it send 3, 4 and then 1, 2. Runs under the stream lock. The freed entries
-- are picked again by whoever claims next; each takeover counts one `abandoned`, except where the
-- server restarted or crashed meanwhile or the worker gave the lease back. From p_suspect_at on an entry is
-- leased alone, and dead-lettered when a worker died p_max_abandoned times with it, the last time alone.
-- Returns how many leases were taken, and the entries that were dead-lettered.
-- A worker's own leases are taken over only when it has released them all: after a restart of the server,
-- which may have lost settles that this worker had seen confirmed.
CREATE FUNCTION take_over(
  p_stream text, p_worker uuid, p_now timestamptz, p_lease_floor bigint, p_dead uuid[],
  p_max_abandoned int, p_hold_key boolean, OUT taken int, OUT abandoned bigint[])
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
  v_worker     uuid;
  v_locked     record;
  v_killers    bigint[];
  v_suspect_at int := greatest(p_max_abandoned - 2, 1);
  v_since      timestamptz := server_since();
BEGIN
  taken := 0; abandoned := '{}';
  FOR v_worker IN
    SELECT l.worker FROM leases l
     WHERE l.stream = p_stream AND l.lease_no >= p_lease_floor
     GROUP BY l.worker
    HAVING bool_and(CASE WHEN l.worker = p_worker THEN l.released
                         ELSE l.expires_at <= p_now OR l.worker = ANY (p_dead) END)
     ORDER BY min(l.lease_no)
  LOOP
    SELECT count(*) AS leases,
           array_agg(x.lease_id) AS lease_ids,
           range_agg(x.ids) FILTER (WHERE x.counts) AS counted_ids,
           array_agg(lower(x.ids)) FILTER (WHERE x.counts AND x.suspect AND x.remaining = 1) AS alone
      INTO v_locked
      FROM (SELECT l.lease_id, l.ids, l.suspect, l.remaining,
                   NOT l.released AND l.claimed_at > v_since AS counts
              FROM leases l
             WHERE l.stream = p_stream AND l.lease_no >= p_lease_floor AND l.worker = v_worker
               AND (l.expires_at <= p_now OR l.worker = ANY (p_dead))
               FOR UPDATE SKIP LOCKED) x;
    -- A lease that is being renewed or settled right now is locked: its worker lives, or will be
    -- looked at again by the next claim.
    CONTINUE WHEN v_locked.leases IS DISTINCT FROM
      (SELECT count(*) FROM leases l
        WHERE l.stream = p_stream AND l.lease_no >= p_lease_floor AND l.worker = v_worker);

    UPDATE entries e
       SET abandoned = e.abandoned + 1,
           status = CASE WHEN e.abandoned + 1 >= v_suspect_at THEN 'deferred'::entry_status ELSE e.status END,
           available_at = CASE WHEN e.abandoned + 1 >= v_suspect_at THEN p_now ELSE e.available_at END,
           deferred_since = CASE WHEN e.abandoned + 1 >= v_suspect_at THEN p_now ELSE e.deferred_since END,
           limits_from = CASE WHEN e.status = 'pending' AND e.available_at > e.created_at THEN e.available_at ELSE e.limits_from END,
           hold_id = CASE WHEN e.abandoned + 1 >= v_suspect_at THEN NULL ELSE e.hold_id END
      FROM unnest(v_locked.counted_ids) r
     WHERE e.id >= lower(r) AND e.id < upper(r);

    SELECT array_agg(e.id) INTO v_killers
      FROM entries e WHERE e.id = ANY (v_locked.alone) AND e.abandoned >= p_max_abandoned;
    IF v_killers IS NOT NULL THEN
      PERFORM move_to_dead_letters(
                array_agg(e.id), array_agg('worker.abandoned'::text),
                array_agg(format('%s workers died while they delivered this entry, the last one with it alone', e.abandoned)),
                array_agg(false), p_hold_key)
         FROM entries e WHERE e.id = ANY (v_killers);
      abandoned := abandoned || v_killers;
    END IF;

    DELETE FROM leases l WHERE l.lease_id = ANY (v_locked.lease_ids);
    taken := taken + v_locked.leases;
  END LOOP;
END;
$$;

-- Claim, step 3: the keys that have an entry which waits and is not due at p_now, in no lease, or a holding
-- dead letter, so that their later entries may have to wait; null when there are more than a claim should
-- look at, or when lanes hold entries. A waiting entry has failed or was deferred, and then is due later;
-- or is held, and then its hold is among p_holds. What died under an old xmin is not due later.
CREATE FUNCTION waiting_keys(p_stream text, p_now timestamptz, p_holds text[]) RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  c_many    CONSTANT int := 1000;
  c_holding CONSTANT int := 200;  -- each of these is a hop from key to key
  v_later   text[];
  v_holding text[];
BEGIN
  SELECT array_agg(l.key) INTO v_later
    FROM (SELECT e.key FROM entries e
           WHERE e.stream = p_stream AND e.available_at > p_now
             AND e.status IN ('retryable_failure', 'deferred') AND e.key IS NOT NULL
           ORDER BY e.available_at LIMIT c_many + 1) l;
  WITH RECURSIVE holding AS (
    (SELECT d.key FROM dead_letters d WHERE d.stream = p_stream AND d.holds_key ORDER BY d.key LIMIT 1)
    UNION ALL
    SELECT (SELECT d.key FROM dead_letters d
             WHERE d.stream = p_stream AND d.holds_key AND d.key > h.key ORDER BY d.key LIMIT 1)
      FROM holding h WHERE h.key IS NOT NULL
  )
  SELECT array_agg(k.key) INTO v_holding
    FROM (SELECT h.key FROM holding h WHERE h.key IS NOT NULL LIMIT c_holding + 1) k;
  IF cardinality(v_later) > c_many OR cardinality(v_holding) > c_holding THEN
    RETURN NULL;
  END IF;
  RETURN coalesce(v_later, '{}') || p_holds || coalesce(v_holding, '{}');
END;
$$;

-- Claim, step 4, the usual case: nothing is due, no hold wants a look, no lane and no key is full. Reads
-- the fresh index from p_scan. p_start <= p_scan; what lies between is leased. p_busy: hashes of the
-- keys that other workers hold. p_waiting: keys whose later entries may wait; `waits` says that one of
-- theirs was met, and then the rest of the answer is not to be used. One statement, so that entries and snapshot belong together. NOT IN is
-- a hashed subplan, which keeps the index order; an anti join would sort the whole backlog. The row
-- comparison with ORDER BY stream, id leaves entries_fresh as the only index in that order: written with
-- an equality, the planner may walk the primary key over the dead entries of every stream. Generic plans:
-- the plans of these functions do not depend on their arguments, and planning took milliseconds a claim.
CREATE FUNCTION pick_fresh(
  p_stream text, p_start bigint, p_scan bigint, p_active int8multirange, p_busy int[], p_limit int,
  p_max_bytes bigint, p_by_key boolean, p_waiting text[],
  OUT picked int8multirange, OUT keys int[], OUT entries int, OUT more boolean,
  OUT snapshot pg_snapshot, OUT live_min bigint, OUT waits boolean)
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  -- Past so many of busy keys nobody walks: it takes as long as it keeps the worker from claiming that has them.
  c_walk CONSTANT int := 4000;
  c_leap CONSTANT int := 200;  -- fewer leased ids are walked past sooner than leapt over
BEGIN
  SELECT range_agg(int8range(w.id, w.id, '[]')) FILTER (WHERE w.fits),
         array_agg(DISTINCT w.h) FILTER (WHERE w.fits AND w.h IS NOT NULL),
         count(*) FILTER (WHERE w.fits),
         count(*) >= p_limit OR coalesce(bool_or(NOT w.fits), false),
         pg_current_snapshot(),
         CASE WHEN p_scan > p_start THEN p_start
              ELSE (SELECT e.id FROM entries e
                     WHERE (e.stream, e.id) >= (p_stream, p_start) AND e.stream <= p_stream
                       AND e.status = 'pending' AND e.available_at IS NULL
                     ORDER BY e.stream, e.id LIMIT 1) END,
         coalesce(bool_or(w.waits), false)
    INTO picked, keys, entries, more, snapshot, live_min, waits
    FROM (SELECT c.id, c.h, c.waits,
                 sum(c.bytes) OVER w - first_value(c.bytes) OVER w <= p_max_bytes AS fits
            FROM (SELECT e.id, payload_bytes(e.payload, e.payload_binary, e.headers) AS bytes,
                         CASE WHEN p_by_key THEN hashtext(e.key) END AS h,
                         e.key IN (SELECT unnest(p_waiting)) AS waits
                    FROM (SELECT * FROM entries x
                           WHERE (x.stream, x.id) >= (p_stream, (SELECT CASE WHEN upper(p_active) - p_scan > c_leap
                                                                             THEN scan_start(p_stream, p_scan, p_active) ELSE p_scan END))
                             AND x.stream <= p_stream
                             AND x.status = 'pending' AND x.available_at IS NULL AND NOT x.id <@ p_active
                           ORDER BY x.stream, x.id LIMIT p_limit + c_walk) e
                   WHERE e.key IS NULL OR hashtext(e.key) NOT IN (SELECT unnest(p_busy))
                   ORDER BY e.stream, e.id LIMIT p_limit) c
          WINDOW w AS (ORDER BY c.id ROWS UNBOUNDED PRECEDING)) w;
END;
$$;

-- Whether these ids are so many ranges, some thousands, that every claim feels it.
CREATE FUNCTION many_ranges(p_ids int8multirange) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT pg_column_size(p_ids) > 100000;
END;

-- From where on the fresh entries of p_stream have to be read: from p_from, or later where all that comes first is in
-- p_skip. A walk over many skipped entries costs more than some hops from range to range, each found by halving.
-- STABLE, so that it sees what the statement that calls it sees: an entry that is skipped unseen would be overtaken.
CREATE FUNCTION scan_start(p_stream text, p_from bigint, p_skip int8multirange) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_from   bigint := p_from;
  v_first  bigint;
  v_lowers bigint[];
  v_uppers bigint[];
  v_at     int;
BEGIN
  IF p_skip = '{}' THEN
    RETURN p_from;
  END IF;
  SELECT array_agg(lower(r)), array_agg(upper(r)) INTO v_lowers, v_uppers FROM unnest(p_skip) r;
  FOR hop IN 1..100 LOOP
    SELECT e.id INTO v_first FROM entries e
     WHERE (e.stream, e.id) >= (p_stream, v_from) AND e.stream <= p_stream
       AND e.status = 'pending' AND e.available_at IS NULL
     ORDER BY e.stream, e.id LIMIT 1;
    EXIT WHEN v_first IS NULL OR v_first < v_lowers[1];
    v_at := width_bucket(v_first, v_lowers);
    EXIT WHEN v_first >= v_uppers[v_at];
    v_from := v_uppers[v_at];
  END LOOP;
  RETURN v_from;
END;
$$;

-- Claim, step 3c: where nearly all fresh entries that come first are known to wait, takes what waits among the next
-- c_pass_chunk out of the way at once, as a parking, and returns their ids. Marking them one by one takes ten
-- times as long, and everything behind them waits that long. Where the stream's ids lie apart, as they do beside other
-- streams, each is a range of its own, which costs every claim something: then fewer are taken at a time, and none
-- while the parkings have many ranges (pick_disturbed then marks more). Gaps are not bridged: an entry that commits
-- late in one would count as parked. p_slow_keys: hashes of keys that other workers hold, and have held for long.
CREATE FUNCTION pass_over(
  p_stream text, p_scan bigint, p_active int8multirange, p_parked int8multirange, p_lane text,
  p_blocked_keys text[], p_slow_keys int[], p_waiting_lanes text[])
RETURNS int8multirange LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  c_sample     CONSTANT int := 100;
  c_many       CONSTANT int := 90;  -- of these
  c_pass_chunk CONSTANT int := 100000;
  c_apart      CONSTANT int := 5000;  -- the same where ids lie apart
  v_scan       bigint;
  v_many       boolean;
  v_span       bigint;
  v_taken      bigint[];
  v_last       bigint;
  v_hashes     int[];
  v_ids        int8multirange;
  v_keys       int4multirange;
BEGIN
  IF many_ranges(p_parked) THEN
    RETURN '{}';
  END IF;
  v_scan := scan_start(p_stream, p_scan, p_parked + p_active);
  -- IN with a subquery is hashed; = ANY with a parameter looks through all of it for every entry.
  SELECT count(*) FILTER (WHERE s.key IN (SELECT unnest(p_blocked_keys)) OR hashtext(s.key) IN (SELECT unnest(p_slow_keys))
                             OR s.lane IN (SELECT unnest(p_waiting_lanes))) >= c_many,
         max(s.id) - min(s.id)
    INTO v_many, v_span
    FROM (SELECT e.id, e.key, lane_of(p_lane, e.type, e.source, e.subject, e.headers) AS lane FROM entries e
           WHERE (e.stream, e.id) >= (p_stream, v_scan) AND e.stream <= p_stream
             AND e.status = 'pending' AND e.available_at IS NULL AND NOT e.id <@ p_active AND NOT e.id <@ p_parked
           ORDER BY e.stream, e.id LIMIT c_sample) s;
  IF NOT v_many THEN
    RETURN '{}';
  END IF;
  SELECT array_agg(s.id), array_agg(s.h) FILTER (WHERE s.h IS NOT NULL)
    INTO v_taken, v_hashes
    FROM (SELECT e.id, e.key, hashtext(e.key) >> 1 AS h,
                 lane_of(p_lane, e.type, e.source, e.subject, e.headers) AS lane
            FROM entries e
           WHERE (e.stream, e.id) >= (p_stream, v_scan) AND e.stream <= p_stream
             AND e.status = 'pending' AND e.available_at IS NULL AND NOT e.id <@ p_active AND NOT e.id <@ p_parked
           ORDER BY e.stream, e.id
           LIMIT CASE WHEN v_span > c_sample * 3 / 2 THEN least(c_apart, c_pass_chunk) ELSE c_pass_chunk END) s
   WHERE s.key IN (SELECT unnest(p_blocked_keys)) OR hashtext(s.key) IN (SELECT unnest(p_slow_keys))
      OR s.lane IN (SELECT unnest(p_waiting_lanes));
  -- Ranges are made of runs and of distinct keys: one an entry would take longer than reading them.
  v_last := v_taken[cardinality(v_taken)];
  IF v_last - v_taken[1] + 1 = cardinality(v_taken) THEN
    v_ids := int8multirange(int8range(v_taken[1], v_last + 1));
  ELSE
    SELECT range_agg(int8range(r.first, r.last + 1)) INTO v_ids
      FROM (SELECT min(w.id) AS first, max(w.id) AS last FROM unnest(v_taken) WITH ORDINALITY AS w (id, n) GROUP BY w.id - w.n) r;
  END IF;
  SELECT range_agg(int4range(k.h, k.h + 1)) INTO v_keys FROM (SELECT DISTINCT h FROM unnest(v_hashes) AS u (h)) k;
  INSERT INTO parkings (stream, ids, keys, lanes) VALUES (p_stream, v_ids, v_keys, p_waiting_lanes);
  RETURN v_ids;
END;
$$;

-- Claim, step 4, when something stands in the way: retries are due, entries are parked or blocked, a
-- lane or a key is full. Merges fresh, due and held candidates by id and keeps, per key, a prefix: an
-- entry is picked only if no earlier entry of its key is left behind. What cannot go is returned in
-- park_* and leaves the hot indexes (park()), so that no later claim reads it again.
--   p_lanes/p_lane_rooms, p_keys/p_key_rooms: how many more entries these may take; others p_*_room.
--   p_blocked_keys: keys that are known to be parked; their fresh entries join their hold unread.
--   p_waiting: the only keys with waiting entries or holding dead letters, beside those of due entries;
--   null: any key may have some.
--   p_parked: what lies in parkings, on its way to its hold.
--   p_waiting_lanes: lanes whose fresh entries join their hold unread.
--   p_due_floor: no entry that is due has an earlier available_at, but for those that may wait for the next full look.
--   p_only_suspects: pick one entry that workers died with, and nothing else.
CREATE FUNCTION pick_disturbed(
  p_stream text, p_now timestamptz, p_due_floor timestamptz, p_start bigint, p_scan bigint, p_active int8multirange, p_busy int[],
  p_parked int8multirange, p_limit int, p_max_bytes bigint, p_by_key boolean, p_lane text,
  p_lanes text[], p_lane_rooms int[], p_lane_room int, p_keys text[], p_key_rooms int[], p_key_room int,
  p_blocked_keys text[], p_waiting_lanes text[], p_waiting text[], p_hold_floor bigint, p_suspect_at int,
  p_only_suspects boolean,
  OUT picked int8multirange, OUT keys int[], OUT entries int, OUT more boolean,
  OUT snapshot pg_snapshot, OUT live_min bigint,
  OUT park_ids bigint[], OUT park_scopes text[], OUT park_values text[], OUT waiting_holds bigint[], OUT from_holds int)
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET enable_incremental_sort = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  c_park_chunk CONSTANT int := CASE WHEN many_ranges(p_parked) THEN 4000 ELSE 500 END;
  c_walk       CONSTANT int := 4000;  -- as in pick_fresh
  c_holds      CONSTANT int := 200;
  c_all        CONSTANT bigint := 9223372036854775807;
  v_closed     text[];
  -- Without parkings, what is skipped is short: the usual way.
  v_skip       int8multirange := CASE WHEN p_parked = '{}' THEN p_parked ELSE p_parked + p_active END;
BEGIN
  SELECT array_agg(l.lane) INTO v_closed FROM unnest(p_lanes, p_lane_rooms) AS l (lane, room) WHERE l.room <= 0;

  WITH due AS MATERIALIZED (
    SELECT e.id, e.key, lane_of(p_lane, e.type, e.source, e.subject, e.headers) AS lane,
           payload_bytes(e.payload, e.payload_binary, e.headers) AS bytes
      FROM entries e
     WHERE e.stream = p_stream AND e.available_at IS NOT NULL AND e.status <> 'held'
       AND e.available_at >= p_due_floor AND e.available_at <= p_now AND NOT e.id <@ p_active
       AND (e.abandoned >= p_suspect_at) = p_only_suspects
       AND (e.key IS NULL OR hashtext(e.key) NOT IN (SELECT unnest(p_busy)))
       -- Suspects that cannot go now, and are not parked, must not use up the limit.
       AND (NOT p_only_suspects
            OR (p_lane IS NULL OR lane_of(p_lane, e.type, e.source, e.subject, e.headers) NOT IN (SELECT unnest(v_closed)))
               -- Both as the lowest of the key, in the order of the one index that leads to it (see tend_holds).
               AND (NOT p_by_key OR e.key IS NULL
                    OR coalesce((SELECT b.id FROM entries b
                                  WHERE b.stream = p_stream AND b.key >= e.key AND b.key <= e.key
                                    AND b.status <> 'pending' AND NOT b.id <@ p_active
                                  ORDER BY b.key, b.id LIMIT 1) >= e.id, true)
                       AND (SELECT d.key = e.key AND d.id < e.id
                              FROM (SELECT x.key, x.id FROM dead_letters x
                                     WHERE (x.stream, x.key) >= (p_stream, e.key) AND x.stream <= p_stream AND x.holds_key
                                     ORDER BY x.stream, x.key, x.id LIMIT 1) d) IS NOT TRUE))
     ORDER BY e.available_at LIMIT CASE WHEN p_only_suspects THEN 50 ELSE p_limit END
  ), beginning AS MATERIALIZED (
    SELECT scan_start(p_stream, p_scan, v_skip) AS id
  ), scanned AS MATERIALIZED (
    SELECT e.id, e.key, lane_of(p_lane, e.type, e.source, e.subject, e.headers) AS lane,
           payload_bytes(e.payload, e.payload_binary, e.headers) AS bytes,
           coalesce(e.key IN (SELECT unnest(p_blocked_keys)), false)
             OR coalesce(lane_of(p_lane, e.type, e.source, e.subject, e.headers) IN (SELECT unnest(p_waiting_lanes)), false) AS waits
      FROM (SELECT * FROM entries x
             WHERE NOT p_only_suspects
               AND (x.stream, x.id) >= (p_stream, (SELECT b.id FROM beginning b)) AND x.stream <= p_stream
               AND x.status = 'pending' AND x.available_at IS NULL AND NOT x.id <@ p_active AND NOT x.id <@ p_parked
             ORDER BY x.stream, x.id LIMIT p_limit + c_park_chunk + c_walk) e
     WHERE e.key IS NULL OR hashtext(e.key) NOT IN (SELECT unnest(p_busy))
     ORDER BY e.stream, e.id LIMIT p_limit + c_park_chunk
  ), fresh AS MATERIALIZED (
    SELECT s.id, s.key, s.lane, s.bytes FROM scanned s WHERE NOT s.waits ORDER BY s.id LIMIT p_limit
  ), frontier AS MATERIALIZED (
    -- Every fresh entry up to here was read: an earlier one of a key may lie above it.
    SELECT CASE WHEN (SELECT count(*) FROM fresh) >= p_limit THEN (SELECT max(f.id) FROM fresh f)
                WHEN (SELECT count(*) FROM scanned) >= p_limit + c_park_chunk THEN (SELECT max(s.id) FROM scanned s)
                WHEN p_busy = '{}' OR p_only_suspects THEN c_all
                -- Where the walk past busy keys has ended, unless it came to the end of all.
                ELSE coalesce((SELECT x.id FROM entries x
                                WHERE (x.stream, x.id) >= (p_stream, (SELECT b.id FROM beginning b)) AND x.stream <= p_stream
                                  AND x.status = 'pending' AND x.available_at IS NULL AND NOT x.id <@ p_active AND NOT x.id <@ p_parked
                                ORDER BY x.stream, x.id OFFSET p_limit + c_park_chunk + c_walk - 1 LIMIT 1), c_all) END AS id
  ), passed AS MATERIALIZED (
    -- Fresh entries up to there that are known to wait: they go to their hold.
    SELECT s.id, s.key, s.lane FROM scanned s WHERE s.waits AND s.id <= (SELECT f.id FROM frontier f)
  ), parked_keys AS MATERIALIZED (
    -- Of each key in a parking, later entries wait: from the parking's first id on, which is sooner than need be.
    -- The sum is a copy out of the toast, or every look at a key would read it anew.
    SELECT lower(g.ids) AS from_id, g.keys + '{}' AS keys FROM parkings g WHERE g.stream = p_stream AND g.keys IS NOT NULL
  ), left_behind AS MATERIALIZED (
    -- Per key the lowest fresh entry that goes to its hold now, or that a suspect would overtake.
    SELECT p.key, min(p.id) AS id FROM passed p WHERE p.key IS NOT NULL GROUP BY p.key
    UNION ALL
    SELECT e.key, min(e.id)
      FROM (SELECT f.key, f.id FROM entries f
             WHERE p_only_suspects
               AND (f.stream, f.id) >= (p_stream, p_scan) AND (f.stream, f.id) < (p_stream, (SELECT max(d.id) FROM due d))
               AND f.status = 'pending' AND f.available_at IS NULL AND NOT f.id <@ p_active
               -- Not as a join, which compares each with each where few are expected.
               AND (f.key IN (SELECT d.key FROM due d)) IS TRUE
             ORDER BY f.stream, f.id LIMIT 2147483647) e  -- the order pins the index
     GROUP BY e.key
  ), open_holds AS MATERIALIZED (
    -- Those whose first entry is the oldest: no number of busy holds can starve the others.
    SELECT o.hold_id, o.scope, o.room
      FROM (SELECT q.*, first.id
              FROM (SELECT h.hold_id, h.scope, h.value,
                           CASE h.scope WHEN 'lane' THEN coalesce(l.room, p_lane_room) ELSE coalesce(k.room, p_key_room) END AS room
                      -- By itself, in an order that the other index does not have: for a merge join that one looks good.
                      FROM (SELECT * FROM holds
                             WHERE stream = p_stream AND hold_id + 0 >= p_hold_floor AND due_at <= p_now
                             ORDER BY hold_id + 0 OFFSET 0) h
                      LEFT JOIN unnest(p_lanes, p_lane_rooms) AS l (lane, room) ON h.scope = 'lane' AND l.lane = h.value
                      LEFT JOIN unnest(p_keys, p_key_rooms) AS k (key, room) ON h.scope = 'key' AND k.key = h.value
                     WHERE NOT p_only_suspects
                       AND (h.scope = 'lane' OR hashtext(h.value) NOT IN (SELECT unnest(p_busy)))) q
             CROSS JOIN LATERAL (
               SELECT e.id FROM entries e
                WHERE e.hold_id = q.hold_id AND e.status = 'held' AND NOT e.id <@ p_active
                  AND (e.key IS NULL OR hashtext(e.key) NOT IN (SELECT unnest(p_busy)))
                ORDER BY e.id LIMIT 1) first
             WHERE q.room > 0
             -- With OFFSET the order is made first, and what follows asked until there are enough, not of each that is due.
             ORDER BY first.id OFFSET 0) o
           -- A key whose earlier entry waits in another hold, such as that of a paused lane, would take the place of one that
           -- can go. The lowest that is held, and not whether one is lower: behind bounds of the key, which pin the index (see
           -- tend_holds), one of the id ends no scan, and it would go on through all that waits in the key. What is held is
           -- known by its hold: with its status, a plan that was made while the table had no row may walk through entries_held.
     WHERE o.scope = 'lane' OR coalesce((SELECT b.id FROM entries b
                                          WHERE b.stream = p_stream AND b.key >= o.value AND b.key <= o.value
                                            AND b.status <> 'pending' AND b.hold_id IS NOT NULL AND NOT b.id <@ p_active
                                          ORDER BY b.key, b.id LIMIT 1) >= o.id, true)
     ORDER BY o.id LIMIT c_holds
  ), share AS MATERIALIZED (
    -- What a hold gives at most. All together twice what a claim can take, for some of it may have to stay: with all that
    -- each could give, a claim beside many long holds would look at hundreds of entries for each that it takes.
    -- What a hold with less room leaves of an even share goes to the others.
    SELECT ceil((2.0 * p_limit - coalesce(sum(o.room) FILTER (WHERE o.room < e.entries), 0))
                / greatest(count(*) FILTER (WHERE o.room >= e.entries), 1))::int AS entries
      FROM open_holds o
     CROSS JOIN (SELECT 2.0 * p_limit / greatest(count(*), 1) AS entries FROM open_holds) e
  ), held AS MATERIALIZED (
    SELECT x.*, h.hold_id, h.scope, h.room
      FROM open_holds h
     CROSS JOIN LATERAL (
       SELECT e.id, e.key, lane_of(p_lane, e.type, e.source, e.subject, e.headers) AS lane,
              payload_bytes(e.payload, e.payload_binary, e.headers) AS bytes
         FROM entries e
        WHERE e.hold_id = h.hold_id AND e.status = 'held' AND NOT e.id <@ p_active
          AND (e.key IS NULL OR hashtext(e.key) NOT IN (SELECT unnest(p_busy)))
        ORDER BY e.id LIMIT least(h.room, p_limit, (SELECT s.entries FROM share s))) x
  ), concerned_keys AS MATERIALIZED (
    -- Keys with a hold are among p_waiting.
    SELECT unnest(p_waiting || p_keys) AS key
    UNION ALL SELECT d.key FROM due d WHERE d.key IS NOT NULL
    UNION ALL SELECT b.key FROM left_behind b
    UNION ALL SELECT f.key FROM fresh f WHERE f.key IS NOT NULL AND f.lane IN (SELECT unnest(p_lanes))
  ), plain AS MATERIALIZED (
    -- Fresh entries in whose way nothing stands: their key is none of these, all that are picked would not fill it, and
    -- likewise their lane. They are nearly all, and are spared what follows, which takes longer than reading them.
    SELECT f.id, f.key, f.lane, f.bytes FROM fresh f
     WHERE p_waiting IS NOT NULL AND (SELECT count(*) < p_limit FROM due)
       AND (p_lane IS NULL
            OR f.lane NOT IN (SELECT unnest(p_lanes))
               AND p_lane_room >= (SELECT count(*) FROM fresh) + (SELECT count(*) FROM due) + (SELECT count(*) FROM held))
       AND (NOT p_by_key OR f.key IS NULL
            OR p_key_room >= p_limit AND f.key NOT IN (SELECT c.key FROM concerned_keys c)
               AND NOT EXISTS (SELECT FROM parked_keys p WHERE hashtext(f.key) >> 1 <@ p.keys))
  ), candidates AS MATERIALIZED (
    -- A fresh one is in the order of all fresh ones of its key, unless a closed lane took some out of it.
    SELECT f.id, CASE WHEN p_by_key THEN f.key END AS key, f.lane, f.bytes, cardinality(p_waiting_lanes) IS NULL AS in_order,
           NULL::bigint AS hold_id, NULL::text AS hold_scope
      FROM fresh f WHERE f.id NOT IN (SELECT p.id FROM plain p)
    UNION ALL
    SELECT d.id, CASE WHEN p_by_key THEN d.key END, d.lane, d.bytes, false, NULL, NULL FROM due d
    UNION ALL
    SELECT h.id, CASE WHEN p_by_key THEN h.key END, h.lane, h.bytes, false, h.hold_id, h.scope FROM held h
  ), candidate_ids AS MATERIALIZED (
    SELECT coalesce(range_agg(int8range(c.id, c.id, '[]')), '{}') AS ids FROM candidates c
  ), holding AS MATERIALIZED (
    -- The order leaves the index of those that hold. As EXISTS it may walk through all the others.
    SELECT (SELECT d.id FROM dead_letters d WHERE d.stream = p_stream AND d.holds_key ORDER BY d.key, d.id LIMIT 1) IS NOT NULL AS any
  ), blocks AS MATERIALIZED (
    -- Per key the lowest entry that is not finished, in no lease and no candidate: later ones wait.
    SELECT k.key,
           least(left_behind.id,
                 (SELECT min(g.from_id) FROM parked_keys g WHERE hashtext(k.key) >> 1 <@ g.keys),
                 CASE WHEN k.waits THEN
                   (SELECT b.id FROM entries b
                     WHERE b.stream = p_stream AND b.key >= k.key AND b.key <= k.key AND b.status <> 'pending'
                       AND NOT b.id <@ p_active AND NOT b.id <@ (SELECT ids FROM candidate_ids)
                     ORDER BY b.key, b.id LIMIT 1) END,
                 CASE WHEN k.waits AND (SELECT h.any FROM holding h) THEN
                   (SELECT CASE WHEN d.key = k.key THEN d.id END
                      FROM (SELECT x.key, x.id FROM dead_letters x
                             WHERE (x.stream, x.key) >= (p_stream, k.key) AND x.stream <= p_stream AND x.holds_key
                             ORDER BY x.stream, x.key, x.id LIMIT 1) d) END) AS from_id
      FROM (SELECT c.key,
                   p_waiting IS NULL OR p_only_suspects OR (SELECT count(*) >= p_limit FROM due)
                   OR c.key IN (SELECT unnest(p_waiting)) OR c.key IN (SELECT d.key FROM due d WHERE d.key IS NOT NULL) AS waits
              FROM candidates c WHERE c.key IS NOT NULL GROUP BY c.key) k
      LEFT JOIN left_behind ON left_behind.key = k.key
  ), judged AS (
    SELECT c.*, coalesce(b.from_id < c.id, false) AS blocked,
           c.key IS NOT NULL AND NOT c.in_order AND c.id > (SELECT f.id FROM frontier f) AS unread
      FROM candidates c
      LEFT JOIN blocks b ON b.key = c.key
  ), ranked AS (
    -- What is blocked takes no room, or a blocked key would close a lane that lets one probe through.
    SELECT c.*,
           CASE WHEN c.blocked THEN 'key'
                WHEN p_lane IS NOT NULL
                     AND row_number() OVER (PARTITION BY c.lane, c.blocked ORDER BY c.id) > coalesce(l.room, p_lane_room) THEN 'lane'
                WHEN c.key IS NOT NULL
                     AND row_number() OVER (PARTITION BY c.key, c.blocked ORDER BY c.id) > coalesce(k.room, p_key_room) THEN 'key'
           END AS obstacle
      FROM judged c
      LEFT JOIN unnest(p_lanes, p_lane_rooms) AS l (lane, room) ON l.lane = c.lane
      LEFT JOIN unnest(p_keys, p_key_rooms) AS k (key, room) ON k.key = c.key
  ), closed AS (
    -- Prefix per key: behind an entry that stays, everything stays.
    SELECT r.*, coalesce(r.obstacle, CASE WHEN r.key IS NOT NULL AND bool_or(r.obstacle IS NOT NULL) OVER k THEN 'key' END) AS scope,
           r.key IS NOT NULL AND bool_or(r.unread) OVER k AS waits
      FROM ranked r WINDOW k AS (PARTITION BY r.key ORDER BY r.id)
  ), sized AS (
    SELECT c.*,
           c.scope IS NULL AND NOT c.waits
           AND row_number() OVER w <= CASE WHEN p_only_suspects THEN 1 ELSE p_limit END
           AND (sum(c.bytes) OVER w - first_value(c.bytes) OVER w <= p_max_bytes) AS fits
      FROM (SELECT k.id, k.key, k.lane, k.bytes, k.hold_id, k.hold_scope, k.scope, k.waits FROM closed k
            UNION ALL
            SELECT p.id, CASE WHEN p_by_key THEN p.key END, p.lane, p.bytes, NULL, NULL, NULL, false FROM plain p) c
    WINDOW w AS (PARTITION BY c.scope IS NULL AND NOT c.waits ORDER BY c.id ROWS UNBOUNDED PRECEDING)
  ), parking AS (
    SELECT s.id, s.scope, CASE s.scope WHEN 'lane' THEN s.lane ELSE s.key END AS value
      FROM sized s WHERE s.scope IS NOT NULL AND s.scope IS DISTINCT FROM s.hold_scope AND NOT p_only_suspects
    UNION ALL
    SELECT p.id, CASE WHEN p.lane IN (SELECT unnest(p_waiting_lanes)) THEN 'lane' ELSE 'key' END,
           CASE WHEN p.lane IN (SELECT unnest(p_waiting_lanes)) THEN p.lane ELSE p.key END
      FROM passed p
  )
  SELECT (SELECT range_agg(int8range(s.id, s.id, '[]')) FROM sized s WHERE s.fits),
         (SELECT array_agg(DISTINCT hashtext(s.key)) FROM sized s WHERE s.fits AND s.key IS NOT NULL),
         (SELECT count(*) FROM sized s WHERE s.fits),
         (SELECT count(*) FROM fresh) >= p_limit OR (SELECT count(*) FROM due) >= p_limit
           OR EXISTS (SELECT FROM sized s WHERE s.scope IS NULL AND NOT s.fits)
           -- Of a hold there may be more than its share.
           OR EXISTS (SELECT FROM held h GROUP BY h.hold_id, h.room
                      HAVING count(*) < h.room AND count(*) >= least(p_limit, (SELECT s.entries FROM share s)))
           OR (SELECT count(*) FROM scanned) >= p_limit + c_park_chunk,
         pg_current_snapshot(),
         CASE WHEN p_scan > p_start THEN p_start
              ELSE (SELECT e.id FROM entries e
                     WHERE (e.stream, e.id) >= (p_stream, (SELECT scan_start(p_stream, p_start, p_parked)))
                       AND e.stream <= p_stream
                       AND e.status = 'pending' AND e.available_at IS NULL AND NOT e.id <@ p_parked
                     ORDER BY e.stream, e.id LIMIT 1) END,
         (SELECT array_agg(p.id ORDER BY p.id) FROM parking p),
         (SELECT array_agg(p.scope ORDER BY p.id) FROM parking p),
         (SELECT array_agg(p.value ORDER BY p.id) FROM parking p),
         (SELECT array_agg(DISTINCT s.hold_id) FROM sized s WHERE s.hold_id IS NOT NULL AND s.scope = 'key' AND s.hold_scope = 'key'),
         (SELECT count(*) FROM sized s WHERE s.fits AND s.hold_id IS NOT NULL)
    INTO picked, keys, entries, more, snapshot, live_min, park_ids, park_scopes, park_values, waiting_holds, from_holds;
END;
$$;

-- Claim, step 3b: flips what the pick passed over to held, each under the hold of its key or lane. Runs
-- under the stream lock, on entries in no lease, so nobody else can change them.
CREATE FUNCTION park(p_stream text, p_now timestamptz, p_ids bigint[], p_scopes text[], p_values text[])
RETURNS int LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET enable_incremental_sort = off
AS $$
DECLARE
  v_parked int;
  v_holds  bigint[];  -- by entry
  v_opened bigint[];
BEGIN
  WITH opened AS (
    INSERT INTO holds (stream, scope, value, due_at, reason)
    SELECT p_stream, w.scope, w.value, p_now,
           CASE w.scope WHEN 'lane' THEN 'its destination is closed or full' ELSE 'an earlier entry of its key is unfinished' END
      FROM (SELECT DISTINCT scope, value FROM unnest(p_scopes, p_values) AS t (scope, value)) w
    ON CONFLICT (scope, value, (stream || '')) DO NOTHING
    RETURNING hold_id, scope
  )
  SELECT array_agg(o.hold_id) INTO v_opened FROM opened o WHERE o.scope = 'key';

  -- A probe for each, by holds_value: a join that was planned while there were few holds compares each hold with each entry.
  v_holds := ARRAY(
    SELECT (SELECT h.hold_id FROM holds h WHERE h.scope = w.scope AND h.value = w.value AND h.stream || '' = p_stream)
      FROM unnest(p_scopes, p_values) WITH ORDINALITY AS w (scope, value, n) ORDER BY w.n);

  -- A hold sleeps until what its first entry waits for. An entry that comes before that one may not wait.
  UPDATE holds h SET due_at = p_now
   WHERE h.due_at > p_now
     AND h.hold_id = ANY (ARRAY(
       SELECT n.hold_id
         FROM (SELECT w.hold_id, min(w.id) AS id FROM unnest(v_holds, p_ids) AS w (hold_id, id) GROUP BY w.hold_id) n
        WHERE (SELECT e.id FROM entries e WHERE e.hold_id = n.hold_id AND e.status = 'held' AND e.id < n.id LIMIT 1) IS NULL));

  UPDATE entries e
     SET status = 'held', hold_id = w.hold_id,
         limits_from = CASE WHEN e.status = 'pending' AND e.available_at > e.created_at THEN e.available_at ELSE e.limits_from END
    FROM unnest(p_ids, v_holds) AS w (id, hold_id)
   -- An equality could be planned as a join with all of the table, while that had no row.
   WHERE e.id = ANY (ARRAY[w.id]);
  GET DIAGNOSTICS v_parked = ROW_COUNT;
  -- Thousands that are due would be looked at by every claim, which puts 200 of them to sleep.
  PERFORM tend_holds(p_stream, p_now, 0, v_opened) WHERE v_opened IS NOT NULL;
  RETURN v_parked;
END;
$$;

-- Claim, step 5: moves the first p_limit entries of the parkings to their holds, under the stream lock. What an
-- operator has changed or taken away meanwhile is not fresh any more and needs no hold. The join can only be a
-- nested loop over the ranges, which come in order: what is read is the lowest, and up to there all is read.
CREATE FUNCTION empty_parkings(p_stream text, p_now timestamptz, p_lane text, p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_left int := p_limit;
  v_next record;
  g      record;
BEGIN
  FOR g IN SELECT x.parking_id, x.ids, x.lanes FROM parkings x WHERE x.stream = p_stream ORDER BY x.parking_id LOOP
    EXIT WHEN v_left <= 0;
    SELECT count(*) AS entries, max(n.id) AS last, array_agg(n.id) AS ids,
           array_agg(CASE WHEN n.in_lane THEN 'lane' ELSE 'key' END) AS scopes,
           array_agg(CASE WHEN n.in_lane THEN coalesce(n.lane, '') ELSE n.key END) AS values
      INTO v_next
      FROM (SELECT e.id, e.key, e.lane, e.key IS NULL OR coalesce(e.lane = ANY (g.lanes), false) AS in_lane
              FROM unnest(g.ids) AS r
             CROSS JOIN LATERAL (SELECT x.id, x.key, lane_of(p_lane, x.type, x.source, x.subject, x.headers) AS lane
                                   FROM entries x
                                  WHERE x.id >= lower(r) AND x.id < upper(r)
                                    AND x.status = 'pending' AND x.available_at IS NULL
                                  ORDER BY x.id LIMIT upper(r) - lower(r)) e
             LIMIT v_left) n;
    IF v_next.entries > 0 THEN
      PERFORM park(p_stream, p_now, v_next.ids, v_next.scopes, v_next.values);
    END IF;
    IF v_next.entries < v_left THEN
      DELETE FROM parkings x WHERE x.parking_id = g.parking_id;
    ELSE
      UPDATE parkings x SET ids = x.ids - int8multirange(int8range(NULL, v_next.last, '[]'))
       WHERE x.parking_id = g.parking_id;
      DELETE FROM parkings x WHERE x.parking_id = g.parking_id AND isempty(x.ids);
    END IF;
    v_left := v_left - v_next.entries;
  END LOOP;
  RETURN p_limit - v_left;
END;
$$;

-- Claim, step 3a: ends the holds that nothing waits in (p_waiting null), or moves the next look at a hold whose first
-- entry is still blocked to when its head is due (for a head in flight: a few milliseconds from now).
CREATE FUNCTION tend_holds(p_stream text, p_now timestamptz, p_hold_floor bigint, p_waiting bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_incremental_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  c_heads CONSTANT int := 10;  -- when the last of a key's first ones is due, another look is worth it
  v_ids bigint[];
  v_due timestamptz[];
BEGIN
  IF p_waiting IS NULL THEN
    DELETE FROM holds d
     WHERE d.hold_id = ANY (ARRAY(
       SELECT h.hold_id FROM holds h
        WHERE h.stream = p_stream AND h.hold_id + 0 >= p_hold_floor AND h.due_at <= p_now
          -- A probe for each: as NOT EXISTS it becomes an anti join that reads all that is held.
          AND (SELECT e.id FROM entries e WHERE e.hold_id = h.hold_id AND e.status = 'held' LIMIT 1) IS NULL
        ORDER BY h.hold_id + 0 LIMIT 200));
    RETURN;
  END IF;

  -- What blocks a key is read in the order of the one index that leads to it, from the key's first row on, and judged
  -- afterwards: a plan that was made while little waited may else read, for each hold, all that waits in the stream. Two
  -- bounds and not an equality, which would leave the order to the primary key; as the columns before them are equal, the
  -- scan ends with the key, and not in the dead rows of the next ones.
  WITH looked AS MATERIALIZED (
    SELECT h.hold_id,
           CASE WHEN (SELECT d.key = h.value AND d.id < first.id
                        FROM (SELECT x.key, x.id FROM dead_letters x
                               WHERE (x.stream, x.key) >= (p_stream, h.value) AND x.stream <= p_stream AND x.holds_key
                               ORDER BY x.stream, x.key, x.id LIMIT 1) d)
             THEN 'infinity'::timestamptz
           ELSE (SELECT greatest(p_now + interval '20 milliseconds', max(b.available_at))
                   FROM (SELECT e.id, e.status, e.available_at FROM entries e
                          WHERE e.stream = p_stream AND e.key >= h.value AND e.key <= h.value
                            AND e.status <> 'pending' AND e.key IS NOT NULL
                          ORDER BY e.key, e.id LIMIT c_heads) b
                  WHERE b.id < first.id AND b.status IN ('retryable_failure', 'deferred')
                 HAVING count(*) > 0) END AS due_at
      FROM holds h
     CROSS JOIN LATERAL (SELECT e.id FROM entries e WHERE e.hold_id = h.hold_id AND e.status = 'held'
                          ORDER BY e.id LIMIT 1) first
     WHERE h.hold_id = ANY (p_waiting)
  )
  SELECT array_agg(l.hold_id ORDER BY l.hold_id), array_agg(l.due_at ORDER BY l.hold_id)
    INTO v_ids, v_due FROM looked l WHERE l.due_at IS NOT NULL;
  -- Not as a join, which may be planned as a comparison of each with each.
  UPDATE holds h SET due_at = v_due[width_bucket(h.hold_id, v_ids)]
   WHERE h.hold_id = ANY (v_ids);
END;
$$;

-- Claims one batch of p_stream for p_worker under the lease p_lease_id, which the worker chose at
-- random. Must run in READ COMMITTED, in a transaction of its own: every statement below takes a fresh
-- snapshot, and their order is what makes the claim correct (docs/internals/claiming.md).
--
-- status: 'batch' (fetch it with leased_entries), 'repeated' (the same; this lease id was claimed before,
-- and nothing is reported to the floor), 'empty', 'busy' (another claim of the stream is
-- running: come back in a millisecond or two), 'paused', 'unregistered' (register_stream first).
-- largest_key: no key has more entries in the lease; 0 where none has one.
-- p_floor, p_epoch, p_lease_floor, p_hold_floor, p_vxids, p_bounds come from the worker's ClaimFloor and the OUT
-- columns from live_min to used go back to it. p_server is the server_since() that they were learned under: another server
-- may hand out the same ids again, and so nothing is known of it. Null: the same one.
CREATE FUNCTION claim(
  p_stream text, p_worker uuid, p_instance text, p_lease_id uuid, p_lease_ms int,
  p_limit int, p_max_bytes bigint, p_by_key boolean, p_hold_key boolean, p_lane text, p_max_abandoned int,
  p_floor bigint, p_epoch bigint, p_lease_floor bigint, p_hold_floor bigint,
  p_vxids text[], p_bounds bigint[], p_dead uuid[],
  p_lanes text[], p_lane_rooms int[], p_lane_room int, p_keys text[], p_key_rooms int[], p_key_room int,
  p_server timestamptz DEFAULT NULL, p_due_floor timestamptz DEFAULT NULL,
  OUT status text, OUT entries int, OUT largest_key int, OUT lease_no bigint, OUT more boolean, OUT suspect boolean,
  OUT live_min bigint, OUT picked_from bigint, OUT epoch bigint, OUT next_lease_floor bigint,
  OUT next_hold_floor bigint, OUT next_due_floor timestamptz,
  OUT sequence_last bigint, OUT shown text[], OUT used text[],
  OUT others uuid[], OUT taken_over int, OUT abandoned bigint[], OUT parked int, OUT repicks int, OUT server_since timestamptz, OUT claimed_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  c_holds      CONSTANT int := 2000;
  -- Of the parkings to their holds, beside other work: a claim of another worker waits for it, too.
  c_move_chunk CONSTANT int := 100;
  c_move_many  CONSTANT int := 500;  -- the same where every claim feels the parkings, or has nothing else to do
  c_slow       CONSTANT interval := '250 milliseconds';  -- what takes longer than it would without an obstacle
  c_clock      CONSTANT interval := '1 second';  -- so much may the server's clock be set back
  v_now        timestamptz := clock_timestamp();
  v_paused     boolean;
  v_oldest     timestamptz;
  v_due_floor  timestamptz;
  v_active     int8multirange;
  v_parked     int8multirange;
  v_waiting_lanes text[];
  v_busy       int[];
  v_expired    boolean;
  v_my_suspect boolean;
  v_disturbed  boolean;
  v_suspects   boolean;
  v_suspect_at int := greatest(p_max_abandoned - 2, 1);
  v_blocked    text[];
  v_slow       int[];
  v_stuck      boolean;
  v_passed     int8multirange := '{}';
  v_waiting_keys text[] := '{}';
  v_holds      record;
  v_start      bigint;
  v_scan       bigint;
  v_restart    bigint;
  v_ended      text[];
  v_pick       record;
  v_park_ids   bigint[];
  v_park_scopes text[];
  v_park_values text[];
  v_waiting    bigint[];
  v_repeated   record;
  v_lanes      text[] := p_lanes;
  v_lane_rooms int[] := p_lane_rooms;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'claim must run in READ COMMITTED, not %', upper(current_setting('transaction_isolation'))
      USING HINT = 'Set default_transaction_isolation = ''read committed'' for the worker''s role.';
  END IF;
  -- Losing a claim's commit means that nobody holds the lease: the entries are claimed again.
  PERFORM set_config('synchronous_commit', 'off', true);
  server_since := server_since(); claimed_at := v_now;
  IF p_server <> server_since THEN
    p_floor := 0; p_lease_floor := 0; p_hold_floor := 0; p_due_floor := NULL; p_vxids := '{}'; p_bounds := '{}';
  END IF;
  taken_over := 0; abandoned := '{}'; parked := 0; repicks := 0; entries := 0; more := false; suspect := false;

  -- 1. One claim of a stream at a time.
  SELECT s.paused OR p_lane IS NULL AND EXISTS (SELECT FROM destinations d WHERE d.stream = p_stream AND d.lane = ''),
         s.floor_epoch
    INTO v_paused, epoch
    FROM streams s WHERE s.name = p_stream FOR NO KEY UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    status := CASE WHEN EXISTS (SELECT FROM streams s WHERE s.name = p_stream) THEN 'busy' ELSE 'unregistered' END;
    RETURN;
  END IF;
  -- The same claim was made before and its answer was lost: under the stream lock it is certain whether
  -- it took effect. Entries that the worker does not know it holds would be overtaken by later ones.
  UPDATE leases l SET expires_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'
   WHERE l.lease_id = p_lease_id AND l.worker = p_worker AND NOT l.released
  RETURNING l.remaining, l.lease_no, l.suspect INTO v_repeated;
  IF FOUND THEN
    status := 'repeated'; entries := v_repeated.remaining; lease_no := v_repeated.lease_no;
    suspect := v_repeated.suspect; more := true;
    RETURN;
  END IF;
  IF cardinality(p_dead) > 0 THEN  -- whoever is back is not dead: the worker may have asked long ago
    p_dead := ARRAY(SELECT d FROM unnest(p_dead) d WHERE d NOT IN (SELECT present_workers(p_dead)));
  END IF;

  -- 2. Leases: who else is here, what is out. One statement for both, so that no key is free whose
  -- entry still counts as leased.
  FOR attempt IN 1..2 LOOP
    SELECT min(l.lease_no), min(l.claimed_at), range_agg(l.ids), array_agg(DISTINCT l.worker) FILTER (WHERE l.worker <> p_worker),
           bool_or(l.released OR l.worker <> p_worker AND (l.expires_at <= v_now OR l.worker = ANY (p_dead))),
           bool_or(l.worker = p_worker AND l.suspect),
           (SELECT array_agg(DISTINCT k.h) FROM leases o CROSS JOIN LATERAL unnest(o.keys) AS k (h)
             WHERE o.stream = p_stream AND o.lease_no >= p_lease_floor AND o.worker <> p_worker)
      INTO next_lease_floor, v_oldest, v_active, others, v_expired, v_my_suspect, v_busy
      FROM leases l WHERE l.stream = p_stream AND l.lease_no >= p_lease_floor;
    EXIT WHEN attempt = 2 OR v_expired IS NOT TRUE;
    SELECT * INTO taken_over, abandoned
      FROM take_over(p_stream, p_worker, v_now, p_lease_floor, p_dead, p_max_abandoned, p_hold_key);
    EXIT WHEN taken_over = 0;
  END LOOP;
  -- Not before what dead workers have left is free: operators act on the entries of a paused stream.
  IF v_paused THEN
    status := 'paused';
    RETURN;
  END IF;
  v_active := coalesce(v_active, '{}');

  -- 3. Does anything stand in the way? A key that waits does so only where one of its entries is met. An
  -- entry that begins to wait after this statement is in a lease that step 2 has seen: only settles do that
  -- without the stream lock.
  SELECT count(*) AS live, bool_or(h.due_at <= v_now) AS due, bool_or(h.scope = 'lane') AS lanes,
         coalesce(array_agg(h.value) FILTER (WHERE h.scope = 'key' AND p_by_key), '{}') AS keys,
         -- Later ones of this stream get higher ids: only claims open holds.
         coalesce(min(h.hold_id), (SELECT last_value FROM holds_hold_id_seq)) AS first
    INTO v_holds
    FROM (SELECT * FROM holds WHERE stream = p_stream AND hold_id + 0 >= p_hold_floor ORDER BY hold_id + 0 LIMIT c_holds + 1) h;
  next_hold_floor := v_holds.first;
  IF p_by_key THEN
    v_waiting_keys := CASE WHEN v_holds.live <= c_holds AND v_holds.lanes IS NOT TRUE
                           THEN waiting_keys(p_stream, v_now, v_holds.keys) END;
  END IF;
  -- What is settled gets an available_at after its lease began. So from a look at all that is due, and at the leases that
  -- were out just before, none comes lower; but for what a producer dated back, which waits for the next such look.
  IF epoch = p_epoch AND p_due_floor <= v_now THEN
    v_due_floor := p_due_floor;
  ELSE
    v_due_floor := '-infinity';
    next_due_floor := least(v_now, v_oldest,
      (SELECT e.available_at FROM entries e
        WHERE e.stream = p_stream AND e.available_at IS NOT NULL AND e.status <> 'held'
        ORDER BY e.available_at LIMIT 1)) - c_clock;
    IF next_due_floor < v_now - interval '1 day' THEN
      next_due_floor := NULL;
    END IF;
  END IF;
  v_parked := coalesce((SELECT range_agg(g.ids) FROM parkings g WHERE g.stream = p_stream), '{}');
  SELECT v_waiting_keys IS NULL OR v_parked <> '{}' OR v_holds.due IS TRUE OR v_holds.live > c_holds
         OR EXISTS (SELECT FROM entries e WHERE e.stream = p_stream AND e.available_at IS NOT NULL
                       AND e.status <> 'held' AND e.available_at >= v_due_floor AND e.available_at <= v_now
                       AND NOT e.id <@ v_active)
         OR EXISTS (SELECT FROM destinations d WHERE d.stream = p_stream)
         OR cardinality(p_lanes) > 0 OR cardinality(p_keys) > 0,
         EXISTS (SELECT FROM entries e WHERE e.stream = p_stream AND e.abandoned > 0 AND e.abandoned >= v_suspect_at)
    INTO v_disturbed, v_suspects;

  -- 4. Pick, then look whether a tracked transaction below the start has ended: its entries may be
  -- the earlier ones of a key that the pick has just seen. Then pick again from there.
  v_start := CASE WHEN epoch = p_epoch THEN p_floor ELSE 0 END;
  used := '{}';
  LOOP
    v_scan := v_start;
    IF v_active @> v_start THEN
      SELECT upper(r) INTO v_scan FROM unnest(v_active) r WHERE r @> v_start;
    END IF;
    IF NOT v_disturbed THEN
      SELECT * INTO v_pick FROM pick_fresh(p_stream, v_start, v_scan, v_active, v_busy, p_limit, p_max_bytes, p_by_key,
        v_waiting_keys);
      v_disturbed := v_pick.waits;
      v_stuck := v_pick.entries = 0;
    END IF;
    IF v_slow IS NULL AND v_busy IS NOT NULL AND p_by_key AND (v_disturbed OR v_stuck) THEN
      SELECT array_agg(DISTINCT k.h) INTO v_slow FROM leases o CROSS JOIN LATERAL unnest(o.keys) AS k (h)
       WHERE o.stream = p_stream AND o.lease_no >= p_lease_floor AND o.worker <> p_worker
         AND o.claimed_at < v_now - c_slow;
      v_disturbed := v_disturbed OR v_slow IS NOT NULL;
    END IF;
    IF v_disturbed THEN
      IF v_blocked IS NULL THEN  -- once
        SELECT coalesce(array_agg(r.lane), '{}'), coalesce(array_agg(r.room), '{}') INTO v_lanes, v_lane_rooms
          FROM (SELECT a.lane, min(a.room) AS room
                  FROM (SELECT d.lane, 0 FROM destinations d WHERE d.stream = p_stream
                        UNION ALL SELECT * FROM unnest(p_lanes, p_lane_rooms)) AS a (lane, room)
                 GROUP BY a.lane) r;
        PERFORM tend_holds(p_stream, v_now, next_hold_floor, NULL);
        v_blocked := v_holds.keys || coalesce((SELECT array_agg(k.key) FROM unnest(p_keys, p_key_rooms) AS k (key, room)
                                             WHERE k.room <= 0), '{}');
        -- What comes new for a lane that is nearly full joins those that wait for it: it would fill the claim.
        SELECT array_agg(l.lane) INTO v_waiting_lanes
          FROM unnest(v_lanes, v_lane_rooms) AS l (lane, room)
         WHERE l.room <= 0
            OR (SELECT h.hold_id FROM holds h  -- by holds_value
                 WHERE h.scope = 'lane' AND h.value = l.lane AND h.stream || '' = p_stream) IS NOT NULL
            OR EXISTS (SELECT FROM parkings g WHERE g.stream = p_stream AND l.lane = ANY (g.lanes));
        IF v_waiting_lanes IS NOT NULL OR cardinality(v_blocked) > 0 OR v_slow IS NOT NULL THEN
          v_passed := pass_over(p_stream, v_scan, v_active, v_parked, p_lane, v_blocked, v_slow, v_waiting_lanes);
          v_parked := v_parked + v_passed;
        END IF;
      END IF;
      suspect := v_suspects AND v_my_suspect IS NOT TRUE
                 AND pg_try_advisory_xact_lock(hashtext('outfall.suspect'), hashtext(p_worker::text));
      IF suspect THEN  -- one in all its streams: another one would die with it, and seem to have done it
        suspect := NOT EXISTS (SELECT FROM leases l WHERE l.worker = p_worker AND l.suspect);
      END IF;
      SELECT * INTO v_pick FROM pick_disturbed(p_stream, v_now, v_due_floor, v_start, v_scan, v_active, v_busy, v_parked, p_limit, p_max_bytes,
        p_by_key, p_lane, v_lanes, v_lane_rooms, p_lane_room, p_keys, p_key_rooms, p_key_room,
        v_blocked, v_waiting_lanes, CASE WHEN NOT v_suspects THEN v_waiting_keys END, next_hold_floor, v_suspect_at, suspect);
      IF suspect AND v_pick.entries = 0 THEN  -- none can go now: the others may
        suspect := false;
        SELECT * INTO v_pick FROM pick_disturbed(p_stream, v_now, v_due_floor, v_start, v_scan, v_active, v_busy, v_parked, p_limit, p_max_bytes,
          p_by_key, p_lane, v_lanes, v_lane_rooms, p_lane_room, p_keys, p_key_rooms, p_key_room,
          v_blocked, v_waiting_lanes, CASE WHEN NOT v_suspects THEN v_waiting_keys END, next_hold_floor, v_suspect_at, false);
      END IF;
      v_park_ids := v_pick.park_ids; v_park_scopes := v_pick.park_scopes; v_park_values := v_pick.park_values;
      v_waiting := v_pick.waiting_holds;
    END IF;

    SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END INTO sequence_last FROM entries_id_seq s;
    SELECT coalesce(array_agg(l.virtualtransaction), '{}') INTO shown
      FROM pg_locks l
     WHERE l.locktype = 'relation' AND l.relation = 'entries'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
       AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
       AND l.pid IS DISTINCT FROM pg_backend_pid();

    EXIT WHEN NOT EXISTS (SELECT FROM unnest(p_bounds) b WHERE b < v_start);
    -- During COMMIT PREPARED, and for a moment in every commit, pg_locks still shows a transaction that
    -- is visible already: it counts as ended when the pick's snapshot saw its xid, or it has none.
    SELECT min(t.bound), array_agg(t.vxid) FILTER (WHERE t.vxid <> ALL (shown)) INTO v_restart, v_ended
      FROM unnest(p_vxids, p_bounds) AS t (vxid, bound)
     WHERE t.bound < v_start AND t.vxid <> ALL (used)
       AND (t.vxid <> ALL (shown)
            OR NOT EXISTS (SELECT FROM pg_locks x
                            WHERE x.locktype = 'transactionid' AND x.virtualtransaction = t.vxid AND x.granted
                              AND NOT xid_visible_in(x.transactionid, v_pick.snapshot)));
    EXIT WHEN v_restart IS NULL;
    v_start := v_restart;
    used := used || coalesce(v_ended, '{}');
    repicks := repicks + 1;
  END LOOP;
  picked_from := v_start;
  live_min := v_pick.live_min;
  entries := v_pick.entries;
  more := v_pick.more OR suspect OR taken_over > 0;

  IF v_disturbed THEN
    IF v_park_ids IS NOT NULL THEN
      parked := park(p_stream, v_now, v_park_ids, v_park_scopes, v_park_values);
      more := more OR parked > 0;
    END IF;
    IF v_parked <> '{}' THEN
      -- A little beside those that go, and more than the holds have given, so that these do not run dry; where nothing
      -- is closed any more, as much as a claim can take. Not in a claim that has passed over many: it has taken long enough.
      IF v_passed = '{}' THEN
        parked := parked + empty_parkings(p_stream, v_now, p_lane,
          CASE WHEN v_waiting_lanes IS NULL AND cardinality(v_blocked) = 0 THEN greatest(c_move_many, p_limit)
               ELSE greatest(CASE WHEN many_ranges(v_parked) THEN c_move_many ELSE c_move_chunk END,
                             least(2 * v_pick.from_holds, p_limit)) END);
      END IF;
      more := true;
    END IF;
    IF v_waiting IS NOT NULL THEN
      PERFORM tend_holds(p_stream, v_now, next_hold_floor, v_waiting);
    END IF;
  END IF;

  -- 5. The lease.
  IF entries = 0 THEN
    suspect := false;
    status := 'empty';
    RETURN;
  END IF;
  largest_key := CASE WHEN cardinality(v_pick.keys) > 0 THEN entries - cardinality(v_pick.keys) + 1 ELSE 0 END;
  lease_no := nextval('lease_numbers');
  next_lease_floor := coalesce(next_lease_floor, lease_no);
  INSERT INTO leases (lease_id, lease_no, claimed_at, expires_at, worker, remaining, suspect, stream, instance, ids, keys)
  VALUES (p_lease_id, lease_no, v_now, clock_timestamp() + p_lease_ms * interval '1 millisecond', p_worker, entries,
          suspect, p_stream, p_instance, v_pick.picked, v_pick.keys);
  status := 'batch';
END;
$$;

-- The entries of a lease in id order, for its worker. Reads no lock: while the lease exists nobody but
-- its worker changes them. The correlated ORDER BY and LIMIT pin the plan to the primary key.
CREATE FUNCTION leased_entries(p_lease_id uuid)
RETURNS TABLE (id bigint, envelope_id uuid, key text, key_hash int, type text, source text,
               subject text, content_type text, data_schema text, headers jsonb, payload json,
               payload_binary bytea, occurred_at timestamptz, created_at timestamptz, attempts int,
               attempts_base int, limits_from timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT e.id, e.envelope_id, e.key, hashtext(e.key), e.type, e.source, e.subject, e.content_type,
         e.data_schema, e.headers, e.payload, e.payload_binary, e.occurred_at, e.created_at, e.attempts,
         e.attempts_base, e.limits_from
    FROM leases l
   CROSS JOIN LATERAL unnest(l.ids) AS r
   CROSS JOIN LATERAL (SELECT * FROM entries x WHERE x.id >= lower(r) AND x.id < upper(r)
                        ORDER BY x.id LIMIT upper(r) - lower(r)) e
   WHERE l.lease_id = p_lease_id;
END;

INSERT INTO schema_version (version, name) VALUES (2, '0002_claim');
