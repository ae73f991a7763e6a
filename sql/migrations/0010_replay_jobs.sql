-- 0010_replay_jobs: the replay or discard of many dead letters as a job that the database keeps. run_job() is
-- one chunk of it and one transaction: it moves dead letters in id order under the locks of their streams and
-- advances the job in the same transaction. So whoever runs the job may die at any moment, and whoever goes on
-- repeats nothing and leaves nothing out. The job's row is locked by the chunk, before any stream: two that run
-- one job take turns, and its rate is kept for all of them together.
\if :{?schema}
\else
\set schema outbox
\endif
SET search_path = :"schema", pg_temp;

CREATE TABLE jobs (
  job_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  action         text NOT NULL CHECK (action IN ('replay', 'discard')),
  state          text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'finished', 'aborted')),
  actor          text NOT NULL CHECK (actor <> ''),
  reason         text NOT NULL CHECK (reason <> ''),
  database_user  text NOT NULL DEFAULT session_user,
  created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  ran_at         timestamptz NOT NULL DEFAULT clock_timestamp(), -- the last sign of somebody who runs it
  ended_at       timestamptz,
  runner         uuid,             -- who runs it, chosen at random; null: anybody may
  -- Which dead letters: what is null does not narrow.
  ids            bigint[],
  envelope_ids   uuid[],
  stream         text,
  type           text,
  key            text,
  reason_code    text,
  since          timestamptz,
  until          timestamptz NOT NULL, -- those that fail again meanwhile are not part of it
  most           int CHECK (most > 0), -- no more than so many
  per_second     float8 CHECK (per_second > 0),
  in_flight      int CHECK (in_flight BETWEEN 1 AND 10000), -- so many of its entries are live at a time
  -- How far it is.
  total          bigint,           -- counted at its start; null: more than are counted
  last_id        bigint,           -- all up to here are dealt with
  done           bigint NOT NULL DEFAULT 0,
  skipped        bigint NOT NULL DEFAULT 0,
  more           boolean NOT NULL DEFAULT false, -- `most` left some that the filter names
  due_at         timestamptz NOT NULL DEFAULT 'epoch', -- no chunk before it, by the rate or while others lock one
  live           bigint[] NOT NULL DEFAULT '{}' -- with in_flight: its entries that were live at the last look
) WITH (fillfactor = 50);

-- Who began, paused, resumed or aborted a job, when and why. Append-only.
CREATE TABLE job_changes (
  change_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id        bigint NOT NULL REFERENCES jobs,
  changed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  action        text NOT NULL CHECK (action IN ('create', 'pause', 'resume', 'abort')),
  actor         text NOT NULL CHECK (actor <> ''),
  reason        text NOT NULL CHECK (reason <> ''),
  database_user text NOT NULL DEFAULT session_user,
  done          bigint NOT NULL    -- how many were dealt with then, those skipped left out
);
CREATE INDEX job_changes_job ON job_changes (job_id, change_id);
CREATE INDEX replays_job ON replays (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX operations_job ON operations (job_id) WHERE job_id IS NOT NULL;

-- A job as a document. `interrupted`: it is running, but nobody has run it for a while.
CREATE FUNCTION job_document(p_job jobs) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
  v_exact constant text := 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"';
BEGIN
  RETURN jsonb_build_object(
    'job_id', p_job.job_id, 'action', p_job.action, 'state', p_job.state,
    'interrupted', p_job.state = 'running' AND p_job.ran_at < clock_timestamp() - interval '15 seconds',
    'actor', p_job.actor, 'reason', p_job.reason, 'database_user', p_job.database_user,
    'created_at', utc_text(p_job.created_at), 'ran_at', utc_text(p_job.ran_at), 'ended_at', utc_text(p_job.ended_at),
    'filter', jsonb_strip_nulls(jsonb_build_object(
      'ids', p_job.ids, 'envelope_ids', p_job.envelope_ids, 'stream', p_job.stream, 'type', p_job.type, 'key', p_job.key,
      'reason_code', p_job.reason_code,
      'since', to_char(p_job.since AT TIME ZONE 'UTC', v_exact), 'until', to_char(p_job.until AT TIME ZONE 'UTC', v_exact))),
    'limit', p_job.most, 'per_second', p_job.per_second, 'in_flight', p_job.in_flight,
    'total', p_job.total, 'done', p_job.done, 'skipped', p_job.skipped, 'last_entry_id', p_job.last_id,
    'more', p_job.more);
END;
$$;

-- Finds a job and locks it until the commit.
CREATE FUNCTION take_job(p_job_id bigint) RETURNS jobs
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
  v_job jobs;
BEGIN
  SELECT * INTO v_job FROM jobs j WHERE j.job_id = p_job_id FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no job %', coalesce(p_job_id::text, 'null') USING ERRCODE = 'OF002',
      HINT = 'list_jobs() shows those that there are.';
  END IF;
  RETURN v_job;
END;
$$;

-- What a replay or discard would find: how many, by reason and by key, the largest first, and how many of them
-- would be skipped because their envelopes are in the stream again. Changes nothing.
CREATE FUNCTION count_dead_letters(
  p_ids bigint[] DEFAULT NULL, p_envelope_ids uuid[] DEFAULT NULL, p_stream text DEFAULT NULL,
  p_type text DEFAULT NULL, p_key text DEFAULT NULL, p_reason_code text DEFAULT NULL,
  p_from timestamptz DEFAULT NULL, p_to timestamptz DEFAULT NULL, p_after bigint DEFAULT NULL,
  p_limit int DEFAULT NULL, p_top int DEFAULT 10) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
  v_document jsonb;
BEGIN
  WITH found AS MATERIALIZED (
    SELECT d.id, d.reason_code, d.stream, d.key, d.holds_key, d.dead_lettered_at,
           EXISTS (SELECT FROM entries e WHERE e.envelope_id = d.envelope_id AND e.stream = d.stream) AS conflict
      FROM dead_letters d
     WHERE filter_names(d.id, d.envelope_id, d.stream, d.type, d.key, d.reason_code, d.dead_lettered_at,
                        p_ids, p_envelope_ids, p_stream, p_type, p_key, p_reason_code, p_from, p_to, p_after)
     ORDER BY d.id LIMIT p_limit
  ), reasons AS (
    SELECT f.reason_code, count(*) AS n FROM found f GROUP BY 1
  ), keys AS (
    SELECT f.stream, f.key, count(*) AS n FROM found f WHERE f.key IS NOT NULL GROUP BY 1, 2
  )
  SELECT jsonb_build_object(
           'total', count(*), 'conflicts', count(*) FILTER (WHERE f.conflict),
           'hold_keys', count(*) FILTER (WHERE f.holds_key), 'without_key', count(*) FILTER (WHERE f.key IS NULL),
           'oldest', utc_text(min(f.dead_lettered_at)), 'newest', utc_text(max(f.dead_lettered_at)),
           'first_entry_id', min(f.id), 'last_entry_id', max(f.id),
           'keys', (SELECT count(*) FROM keys),
           'by_reason', coalesce((SELECT jsonb_agg(jsonb_build_object('reason_code', r.reason_code, 'count', r.n)
                                                   ORDER BY r.n DESC, r.reason_code) FROM reasons r), '[]'),
           'by_key', coalesce((SELECT jsonb_agg(jsonb_build_object('stream', k.stream, 'key', k.key, 'count', k.n)
                                                ORDER BY k.n DESC, k.stream, k.key)
                                 FROM (SELECT * FROM keys ORDER BY n DESC, stream, key LIMIT p_top) k), '[]'))
    INTO v_document
    FROM found f;
  RETURN v_document;
END;
$$;

-- Refuses a rate or a bound that no job of this action can have.
CREATE FUNCTION check_pace(p_action text, p_per_second float8, p_in_flight int) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT
AS $$
BEGIN
  IF p_per_second <= 0 OR p_per_second = 'NaN' THEN
    RAISE EXCEPTION 'the rate must be greater than 0' USING ERRCODE = 'OF005',
      HINT = 'Without p_per_second a new job has no rate, and one that is resumed keeps its own.';
  END IF;
  IF p_in_flight NOT BETWEEN 1 AND 10000 OR (p_in_flight IS NOT NULL AND p_action <> 'replay') THEN
    RAISE EXCEPTION 'in flight there can be 1 to 10,000 entries of a replay' USING ERRCODE = 'OF005',
      HINT = 'p_in_flight bounds how many of the replayed entries are unfinished at a time.';
  END IF;
END;
$$;

-- Begins a job, which does nothing yet: run_job() does. It counts what it will find, up to a million.
CREATE FUNCTION create_job(
  p_action text,
  p_ids bigint[] DEFAULT NULL, p_envelope_ids uuid[] DEFAULT NULL, p_stream text DEFAULT NULL,
  p_type text DEFAULT NULL, p_key text DEFAULT NULL, p_reason_code text DEFAULT NULL,
  p_from timestamptz DEFAULT NULL, p_to timestamptz DEFAULT NULL, p_after bigint DEFAULT NULL,
  p_limit int DEFAULT NULL,           -- no more than so many in all
  p_per_second float8 DEFAULT NULL,   -- no faster
  p_in_flight int DEFAULT NULL,       -- a replay: no more than so many of its entries unfinished at a time
  p_runner uuid DEFAULT NULL,         -- who runs it; null: anybody may
  p_actor text DEFAULT NULL, p_reason text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
  v_counted constant int := 1000000;
  v_total   bigint;
  v_until   timestamptz := coalesce(p_to, clock_timestamp());
  v_job     jobs;
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  IF p_action IS NULL OR p_action NOT IN ('replay', 'discard') THEN
    RAISE EXCEPTION 'a job replays or discards, it does not %', coalesce(p_action, 'null') USING ERRCODE = 'OF005',
      HINT = 'p_action is ''replay'' or ''discard''.';
  END IF;
  IF p_ids IS NULL AND p_envelope_ids IS NULL AND p_stream IS NULL THEN
    RAISE EXCEPTION 'the filter names no stream and no dead letter' USING ERRCODE = 'OF005',
      HINT = 'Pass p_stream, p_ids or p_envelope_ids; the other filters narrow them.';
  END IF;
  IF p_limit < 1 THEN
    RAISE EXCEPTION 'the limit must be at least 1' USING ERRCODE = 'OF005', HINT = 'Leave p_limit out for all.';
  END IF;
  PERFORM check_pace(p_action, p_per_second, p_in_flight);
  SELECT count(*) INTO v_total
    FROM (SELECT FROM dead_letters d
           WHERE filter_names(d.id, d.envelope_id, d.stream, d.type, d.key, d.reason_code, d.dead_lettered_at,
                              p_ids, p_envelope_ids, p_stream, p_type, p_key, p_reason_code, p_from, v_until, p_after)
           LIMIT least(p_limit, v_counted)) found;
  INSERT INTO jobs (action, actor, reason, runner, ids, envelope_ids, stream, type, key, reason_code, since, until,
                    most, per_second, in_flight, total, last_id)
  VALUES (p_action, p_actor, p_reason, p_runner, p_ids, p_envelope_ids, p_stream, p_type, p_key, p_reason_code, p_from,
          v_until, p_limit, p_per_second, p_in_flight,
          CASE WHEN v_total < v_counted OR p_limit <= v_counted THEN v_total END, p_after)
  RETURNING * INTO v_job;
  INSERT INTO job_changes (job_id, action, actor, reason, done) VALUES (v_job.job_id, 'create', p_actor, p_reason, 0);
  RETURN job_document(v_job);
END;
$$;

-- The next chunk of a job, at most 1,000 dead letters, 64 MiB and a quarter of a second of its rate. Call it
-- again until `state` is not running, each time after `wait_ms`. `taken_over`: another one runs the job now,
-- and nothing was done. `waits_for`: why a chunk could not be moved now; it is tried again.
CREATE FUNCTION run_job(
  p_job_id bigint, p_runner uuid DEFAULT NULL,
  OUT state text, OUT moved int, OUT wait_ms int, OUT done bigint, OUT skipped bigint, OUT total bigint,
  OUT last_id bigint, OUT more boolean, OUT waits_for text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_job    jobs := take_job(p_job_id);
  v_size   int := 1000;
  v_chosen record;
  v_ids    bigint[];
  v_now    timestamptz := clock_timestamp();
BEGIN
  PERFORM begin_operation(v_job.actor, v_job.reason);
  state := v_job.state; done := v_job.done; skipped := v_job.skipped; total := v_job.total;
  last_id := v_job.last_id; more := v_job.more; moved := 0; wait_ms := 0;
  IF v_job.state = 'running' AND p_runner <> v_job.runner THEN
    state := 'taken_over';
  END IF;
  IF state <> 'running' THEN
    RETURN;
  END IF;

  v_size := least(v_size, v_job.most - v_job.done - v_job.skipped);
  wait_ms := ceil(greatest(0, least(extract(epoch FROM v_job.due_at - v_now) * 1000, 60000)));
  IF v_job.per_second IS NOT NULL THEN
    v_size := least(v_size, greatest(1, floor(least(v_job.per_second, 10000) * 0.25)::int));
  END IF;
  IF wait_ms <= 0 AND v_job.in_flight IS NOT NULL THEN
    v_job.live := ARRAY(SELECT e.id FROM entries e WHERE e.id = ANY (v_job.live));
    v_size := least(v_size, v_job.in_flight - cardinality(v_job.live));
    wait_ms := CASE WHEN v_size > 0 THEN 0 ELSE 50 END;
  END IF;
  IF wait_ms > 0 THEN
    UPDATE jobs j SET ran_at = v_now WHERE j.job_id = p_job_id AND j.ran_at < v_now - interval '2 seconds';
    RETURN;
  END IF;
  wait_ms := 0;

  SELECT * INTO v_chosen
    FROM choose_dead_letters(v_job.ids, v_job.envelope_ids, v_job.stream, v_job.type, v_job.key, v_job.reason_code,
                             v_job.since, v_job.until, v_job.last_id, v_size, 67108864);
  BEGIN
    IF v_job.action = 'replay' THEN
      v_ids := return_dead_letters(ARRAY(SELECT c FROM unnest(v_chosen.ids) c WHERE c <> ALL (v_chosen.conflicts)),
                                   v_chosen.streams, v_job.actor, v_job.reason, p_job_id);
    ELSE
      v_ids := remove_dead_letters(v_chosen.ids, v_chosen.streams, v_job.actor, v_job.reason, p_job_id);
    END IF;
  EXCEPTION WHEN SQLSTATE 'OF001' THEN
    -- The locks of the streams went with it: their claims go on until the next try.
    waits_for := SQLERRM;
    wait_ms := 2000;
    UPDATE jobs j SET ran_at = clock_timestamp(), due_at = clock_timestamp() + interval '2 seconds' WHERE j.job_id = p_job_id;
    RETURN;
  END;
  moved := cardinality(v_ids);
  done := done + moved;
  skipped := skipped + cardinality(v_chosen.ids) - moved;
  last_id := coalesce(v_chosen.ids[cardinality(v_chosen.ids)], last_id);
  more := v_chosen.more;
  IF NOT more OR done + skipped >= v_job.most THEN
    state := 'finished';
  END IF;
  UPDATE jobs j
     SET state = run_job.state, done = run_job.done, skipped = run_job.skipped, last_id = run_job.last_id,
         more = run_job.more AND run_job.state = 'finished', ran_at = clock_timestamp(),
         ended_at = CASE WHEN run_job.state = 'finished' THEN clock_timestamp() END,
         live = CASE WHEN v_job.in_flight IS NULL THEN '{}' ELSE v_job.live || v_ids END,
         -- What was late by more than a chunk is not made up for: a pause is not followed by a burst.
         due_at = CASE WHEN v_job.per_second IS NULL THEN j.due_at
                       ELSE CASE WHEN v_job.due_at < v_now - interval '250 ms' THEN v_now ELSE v_job.due_at END
                            + moved / v_job.per_second * interval '1 second' END
   WHERE j.job_id = p_job_id;
END;
$$;

-- The common part of those below.
CREATE FUNCTION change_job(p_job jobs, p_action text, p_state text, p_actor text, p_reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
BEGIN
  IF p_job.state IN ('finished', 'aborted') THEN
    RAISE EXCEPTION 'job % is % since %', p_job.job_id, p_job.state, utc_text(p_job.ended_at) USING ERRCODE = 'OF004',
      HINT = 'What it left are dead letters still: begin another job for them.';
  END IF;
  UPDATE jobs j SET state = p_state, ended_at = CASE WHEN p_state = 'aborted' THEN clock_timestamp() END
   WHERE j.job_id = p_job.job_id
  RETURNING j.* INTO p_job;
  INSERT INTO job_changes (job_id, action, actor, reason, done)
  VALUES (p_job.job_id, p_action, p_actor, p_reason, p_job.done);
  RETURN job_document(p_job);
END;
$$;

-- Whoever runs the job ends after the chunk at hand.
CREATE FUNCTION pause_job(p_job_id bigint, p_actor text, p_reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  RETURN change_job(take_job(p_job_id), 'pause', 'paused', p_actor, p_reason);
END;
$$;

-- Lets a job go on that was paused, or whose process is gone. With another runner than before it is taken over
-- from whoever may still run it. A rate and a bound that are null stay as they are.
CREATE FUNCTION resume_job(
  p_job_id bigint, p_runner uuid DEFAULT NULL, p_per_second float8 DEFAULT NULL, p_in_flight int DEFAULT NULL,
  p_actor text DEFAULT NULL, p_reason text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_job jobs;
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  v_job := take_job(p_job_id);
  PERFORM check_pace(v_job.action, p_per_second, p_in_flight);
  IF p_in_flight IS NOT NULL AND v_job.in_flight IS NULL THEN  -- it has not looked until now
    v_job.live := ARRAY(SELECT r.entry_id FROM replays r JOIN entries e ON e.id = r.entry_id WHERE r.job_id = p_job_id);
  END IF;
  UPDATE jobs j SET runner = p_runner, per_second = coalesce(p_per_second, j.per_second), live = v_job.live,
                    in_flight = coalesce(p_in_flight, j.in_flight), ran_at = clock_timestamp()
   WHERE j.job_id = p_job_id
  RETURNING j.* INTO v_job;
  RETURN change_job(v_job, 'resume', 'running', p_actor, p_reason);
END;
$$;

-- Ends a job for good. What it has moved stays moved, the rest are dead letters still.
CREATE FUNCTION abort_job(p_job_id bigint, p_actor text, p_reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  RETURN change_job(take_job(p_job_id), 'abort', 'aborted', p_actor, p_reason);
END;
$$;

-- One job with its changes, what it moved by reason, and what has become of what it replayed: how many are
-- live still and how many are dead letters again.
CREATE FUNCTION show_job(p_job_id bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
  v_job    jobs;
  v_result jsonb;
BEGIN
  SELECT * INTO v_job FROM jobs j WHERE j.job_id = p_job_id;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no job %', coalesce(p_job_id::text, 'null') USING ERRCODE = 'OF002',
      HINT = 'list_jobs() shows those that there are.';
  END IF;
  IF v_job.action = 'replay' THEN
    SELECT jsonb_build_object(
             'by_reason', coalesce((SELECT jsonb_agg(jsonb_build_object('reason_code', r.reason_code, 'count', r.n)
                                                     ORDER BY r.n DESC, r.reason_code)
                                      FROM (SELECT x.reason_code, count(*) AS n FROM replays x
                                             WHERE x.job_id = p_job_id GROUP BY 1) r), '[]'),
             'live', (SELECT count(*) FROM replays r JOIN entries e ON e.id = r.entry_id WHERE r.job_id = p_job_id),
             'dead_letters_again', (SELECT count(*) FROM replays r JOIN dead_letters d ON d.id = r.entry_id
                                     WHERE r.job_id = p_job_id))
      INTO v_result;
  ELSE
    SELECT jsonb_build_object('by_reason', coalesce(jsonb_agg(jsonb_build_object('reason_code', r.reason_code, 'count', r.n)
                                                              ORDER BY r.n DESC, r.reason_code), '[]'))
      INTO v_result
      FROM (SELECT o.detail ->> 'reason_code' AS reason_code, count(*) AS n FROM operations o
             WHERE o.job_id = p_job_id GROUP BY 1) r;
  END IF;
  RETURN job_document(v_job) || v_result || jsonb_build_object('changes',
    (SELECT jsonb_agg(jsonb_build_object('at', utc_text(c.changed_at), 'action', c.action, 'actor', c.actor,
                                         'reason', c.reason, 'database_user', c.database_user, 'done', c.done)
                      ORDER BY c.change_id)
       FROM job_changes c WHERE c.job_id = p_job_id));
END;
$$;

-- The newest jobs first; p_state narrows.
CREATE FUNCTION list_jobs(p_state text DEFAULT NULL, p_limit int DEFAULT 50) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
  RETURN QUERY SELECT job_document(j) FROM jobs j WHERE p_state IS NULL OR j.state = p_state
                ORDER BY j.job_id DESC LIMIT p_limit;
END;
$$;

-- Dead letters with all that they say, in id order, at most 16 MiB beyond the first: p_after = the last id
-- continues, until none is left.
CREATE FUNCTION export_dead_letters(
  p_ids bigint[] DEFAULT NULL, p_envelope_ids uuid[] DEFAULT NULL, p_stream text DEFAULT NULL,
  p_type text DEFAULT NULL, p_key text DEFAULT NULL, p_reason_code text DEFAULT NULL,
  p_from timestamptz DEFAULT NULL, p_to timestamptz DEFAULT NULL, p_after bigint DEFAULT NULL,
  p_limit int DEFAULT 1000) RETURNS SETOF dead_letters
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_chosen record;
BEGIN
  SELECT * INTO v_chosen FROM choose_dead_letters(p_ids, p_envelope_ids, p_stream, p_type, p_key, p_reason_code,
                                                  p_from, p_to, p_after, p_limit, 16777216);
  RETURN QUERY SELECT d.* FROM dead_letters d WHERE d.id = ANY (v_chosen.ids) ORDER BY d.id;
END;
$$;

-- Puts other content into a dead letter, which stays one: its ids, stream, key and type stay, so that a replay
-- keeps the order and the consumer knows the envelope. p_fields names what is replaced, of payload,
-- content_type, data_schema and headers; a payload is text of JSON or base64. p_replays is what the caller has
-- seen of the dead letter: when it has been replayed since, it is refused. Recorded in `operations` by digests,
-- without payloads. A dry run refuses what would be refused, and locks nothing.
CREATE FUNCTION mend_dead_letter(
  p_envelope_id uuid, p_entry_id bigint, p_replays int, p_fields text[], p_payload text, p_payload_base64 text,
  p_content_type text, p_data_schema text, p_headers jsonb, p_dry_run boolean, p_actor text, p_reason text,
  OUT entry_id bigint, OUT changed text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  v_what   text := coalesce('entry ' || p_entry_id, 'envelope ' || p_envelope_id);
  v_old    dead_letters;
  v_new    dead_letters;
  v_before bytea;
  v_after  bytea;
  v_count  int;
BEGIN
  PERFORM begin_operation(p_actor, p_reason);
  IF p_envelope_id IS NULL AND p_entry_id IS NULL THEN
    RAISE EXCEPTION 'the envelope id or the entry id is needed' USING ERRCODE = 'OF005',
      HINT = 'Pass p_envelope_id, p_entry_id, or both.';
  END IF;
  IF p_dry_run IS NULL THEN
    RAISE EXCEPTION 'p_dry_run is null' USING ERRCODE = 'OF005', HINT = 'Pass true or false.';
  END IF;
  IF p_fields IS NULL OR NOT p_fields <@ ARRAY['payload', 'content_type', 'data_schema', 'headers'] THEN
    RAISE EXCEPTION 'p_fields names what cannot be replaced: %', coalesce(array_to_string(p_fields, ', ', 'null'), 'null')
      USING ERRCODE = 'OF005', HINT = 'There are payload, content_type, data_schema and headers.';
  END IF;
  SELECT count(*), min(d.id) INTO v_count, entry_id FROM dead_letters d
   WHERE (p_entry_id IS NULL OR d.id = p_entry_id) AND (p_envelope_id IS NULL OR d.envelope_id = p_envelope_id);
  IF v_count > 1 THEN
    RAISE EXCEPTION '% is % dead letters', v_what, v_count USING ERRCODE = 'OF003', HINT = 'Name one by its entry id.';
  END IF;
  IF p_dry_run THEN
    SELECT * INTO v_old FROM dead_letters d WHERE d.id = mend_dead_letter.entry_id;
  ELSE
    SELECT * INTO v_old FROM dead_letters d WHERE d.id = mend_dead_letter.entry_id FOR UPDATE;
  END IF;
  IF NOT FOUND THEN
    RAISE EXCEPTION '% is no dead letter', v_what USING ERRCODE = 'OF002',
      HINT = 'explain_entry() says what became of it.';
  END IF;
  IF v_old.replays <> p_replays THEN
    RAISE EXCEPTION '% has been replayed since: % times, not %', v_what, v_old.replays, p_replays
      USING ERRCODE = 'OF004', HINT = 'Export it again.';
  END IF;

  v_new := v_old;
  IF 'payload' = ANY (p_fields) THEN
    BEGIN
      v_new.payload := p_payload::json;
    EXCEPTION WHEN invalid_text_representation OR untranslatable_character THEN
      RAISE EXCEPTION 'the payload is not JSON: %', SQLERRM USING ERRCODE = 'OF005',
        HINT = 'A payload that is not JSON goes in as base64.';
    END;
    BEGIN
      v_new.payload_binary := decode(p_payload_base64, 'base64');
    EXCEPTION WHEN invalid_parameter_value THEN
      RAISE EXCEPTION 'the payload is not base64: %', SQLERRM USING ERRCODE = 'OF005',
        HINT = 'A payload that is JSON goes in as its text.';
    END;
  END IF;
  IF 'content_type' = ANY (p_fields) THEN v_new.content_type := p_content_type; END IF;
  IF 'data_schema' = ANY (p_fields) THEN v_new.data_schema := p_data_schema; END IF;
  IF 'headers' = ANY (p_fields) THEN v_new.headers := p_headers; END IF;
  IF v_new.payload IS NOT NULL AND v_new.payload_binary IS NOT NULL THEN
    RAISE EXCEPTION 'a payload is JSON or binary, not both' USING ERRCODE = 'OF005', HINT = 'Leave one out.';
  END IF;
  -- What entries would refuse: a replay must not fail of it.
  IF v_new.content_type = '' OR v_new.content_type ~ '[[:cntrl:]]' OR v_new.data_schema = ''
     OR v_new.data_schema ~ '[[:cntrl:]]' THEN
    RAISE EXCEPTION 'content_type and data_schema must not be empty or hold control characters' USING ERRCODE = 'OF005',
      HINT = 'Null takes them away.';
  END IF;
  IF jsonb_typeof(v_new.headers) <> 'object'
     OR jsonb_path_exists(v_new.headers, 'strict $.* ? (@.type() != "string")', '{}', true) THEN
    RAISE EXCEPTION 'headers must be an object of strings' USING ERRCODE = 'OF005',
      HINT = 'Such as {"traceparent": "00-…"}.';
  END IF;

  v_before := coalesce(v_old.payload_binary, convert_to(v_old.payload::text, 'UTF8'));
  v_after := coalesce(v_new.payload_binary, convert_to(v_new.payload::text, 'UTF8'));
  changed := array_remove(ARRAY[
    CASE WHEN v_before IS DISTINCT FROM v_after OR (v_old.payload IS NULL) <> (v_new.payload IS NULL) THEN 'payload' END,
    CASE WHEN v_old.content_type IS DISTINCT FROM v_new.content_type THEN 'content_type' END,
    CASE WHEN v_old.data_schema IS DISTINCT FROM v_new.data_schema THEN 'data_schema' END,
    CASE WHEN v_old.headers IS DISTINCT FROM v_new.headers THEN 'headers' END], NULL);
  IF p_dry_run OR changed = '{}' THEN
    RETURN;
  END IF;
  UPDATE dead_letters d
     SET payload = v_new.payload, payload_binary = v_new.payload_binary, content_type = v_new.content_type,
         data_schema = v_new.data_schema, headers = v_new.headers
   WHERE d.id = v_old.id;
  PERFORM record_operation('mend_dead_letter', p_actor, p_reason, v_old.stream, v_old.id, v_old.envelope_id,
    jsonb_strip_nulls(jsonb_build_object(
      'changed', changed, 'sha256_before', encode(sha256(v_before), 'hex'), 'sha256_after', encode(sha256(v_after), 'hex'),
      'bytes_before', octet_length(v_before), 'bytes_after', octet_length(v_after))));
END;
$$;

REVOKE ALL ON FUNCTION
  job_document, take_job, count_dead_letters, check_pace, create_job, run_job, change_job, pause_job, resume_job, abort_job, show_job,
  list_jobs, export_dead_letters, mend_dead_letter
FROM PUBLIC;
GRANT SELECT ON jobs, job_changes TO outbox_worker, outbox_operator, outbox_reader;
GRANT EXECUTE ON FUNCTION job_document, count_dead_letters, show_job, list_jobs
TO outbox_worker, outbox_operator, outbox_reader;
GRANT EXECUTE ON FUNCTION export_dead_letters TO outbox_worker, outbox_operator;
GRANT EXECUTE ON FUNCTION create_job, run_job, pause_job, resume_job, abort_job, mend_dead_letter TO outbox_operator;

INSERT INTO schema_version (version, name) VALUES (10, '0010_replay_jobs');
