-- 0009_operating: what the command line and the metrics sampler need beyond 0005 and 0006: an entry by its
-- entry id, a dead letter with its payload, one sampler among many workers, and which streams have a worker.
\if :{?schema}
\else
\set schema outbox
\endif
SET search_path = :"schema", pg_temp;

-- The envelope that has this entry id, wherever it is; null where nobody knows it.
CREATE FUNCTION envelope_of(p_entry_id bigint) RETURNS uuid
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
  RETURN coalesce(
    (SELECT e.envelope_id FROM entries e WHERE e.id = p_entry_id),
    (SELECT d.envelope_id FROM dead_letters d WHERE d.id = p_entry_id),
    (SELECT o.envelope_id FROM operations o WHERE o.entry_id = p_entry_id ORDER BY o.operation_id LIMIT 1),
    (SELECT f.envelope_id FROM find_delivered(p_entry_id => p_entry_id) f LIMIT 1));
END;
$$;

-- One dead letter with all that it says, payload included: for those who decide what becomes of it.
CREATE FUNCTION show_dead_letter(
  p_envelope_id uuid DEFAULT NULL, p_entry_id bigint DEFAULT NULL, p_stream text DEFAULT NULL)
RETURNS SETOF dead_letters LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
  v_what    text := coalesce('envelope ' || p_envelope_id, 'entry ' || p_entry_id);
  v_ids     bigint[];
  v_streams text[];
BEGIN
  IF (p_envelope_id IS NULL) = (p_entry_id IS NULL) THEN
    RAISE EXCEPTION 'either the envelope id or the entry id is needed' USING ERRCODE = 'OF005',
      HINT = 'Pass p_envelope_id, or p_entry_id, and not both.';
  END IF;
  SELECT array_agg(d.id), array_agg(d.stream ORDER BY d.stream) INTO v_ids, v_streams
    FROM dead_letters d
   WHERE (d.id = p_entry_id OR d.envelope_id = p_envelope_id) AND (p_stream IS NULL OR d.stream = p_stream);
  IF v_ids IS NULL THEN
    RAISE EXCEPTION '% is no dead letter%', v_what, coalesce(' of stream ' || quote_literal(p_stream), '')
      USING ERRCODE = 'OF002', HINT = 'explain_entry() says what became of it.';
  END IF;
  IF cardinality(v_ids) > 1 THEN
    RAISE EXCEPTION '% is % dead letters, with the entry ids % (%)', v_what, cardinality(v_ids),
        array_to_string(v_ids, ', '), array_to_string(v_streams, ', ')
      USING ERRCODE = 'OF003', HINT = 'Name one by its entry id.';
  END IF;
  RETURN QUERY SELECT d.* FROM dead_letters d WHERE d.id = v_ids[1];
END;
$$;

-- Has other sessions see these streams served for as long as this session lives: one shared advisory lock
-- a stream. Not behind a transaction pooler, whose sessions are nobody's own.
CREATE FUNCTION serve_streams(p_streams text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
BEGIN
  PERFORM pg_try_advisory_lock_shared('entries'::regclass::oid::int, hashtext(s))
     FROM (SELECT DISTINCT n FROM unnest(p_streams) n) u (s);
END;
$$;

-- Which of these streams a living session serves.
CREATE FUNCTION served_streams(p_streams text[]) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
  RETURN QUERY
    SELECT s FROM unnest(p_streams) s
     WHERE hashtext(s)::oid IN (
       SELECT l.objid FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.classid = 'entries'::regclass::oid
          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()));
END;
$$;

-- True for one of all callers that name the same streams: for as long as the session lives, or with
-- p_for_transaction as long as the transaction does. Workers with other streams sample for themselves.
CREATE FUNCTION become_sampler(p_streams text[], p_for_transaction boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
  v_lock bigint := hashtextextended('outfall sampler ' || 'entries'::regclass::oid || ' '
    || array_to_string(ARRAY(SELECT DISTINCT quote_ident(n) FROM unnest(p_streams) n ORDER BY 1), ' '), 0);
BEGIN
  RETURN CASE WHEN p_for_transaction THEN pg_try_advisory_xact_lock(v_lock) ELSE pg_try_advisory_lock(v_lock) END;
END;
$$;

-- Whether the caller may do a worker's work; else the first claim would tell, after the worker has said that it is ready.
CREATE FUNCTION may_work() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
  RETURN (SELECT bool_and(has_function_privilege(p.oid, 'EXECUTE')) FROM pg_proc p
           WHERE p.pronamespace = (SELECT c.relnamespace FROM pg_class c WHERE c.oid = 'entries'::regclass)
             AND p.proname IN ('claim', 'settle', 'renew', 'release', 'due_streams'));
END;
$$;

REVOKE ALL ON FUNCTION envelope_of, show_dead_letter, serve_streams, served_streams, become_sampler, may_work FROM PUBLIC;
GRANT EXECUTE ON FUNCTION envelope_of, served_streams, may_work TO outbox_worker, outbox_operator, outbox_reader;
GRANT EXECUTE ON FUNCTION show_dead_letter TO outbox_worker, outbox_operator;
GRANT EXECUTE ON FUNCTION serve_streams, become_sampler TO outbox_worker;

INSERT INTO schema_version (version, name) VALUES (9, '0009_operating');
