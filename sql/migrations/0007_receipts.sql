-- 0007_receipts: daily partitions of receipts, made ahead and dropped by retention.
\if :{?schema}
\else
\set schema outbox
\endif
SET search_path = :"schema", pg_temp;

-- The partitions of receipts with their ranges; the default partition and open ranges have nulls.
CREATE FUNCTION receipts_partitions(OUT name text, OUT from_time timestamptz, OUT to_time timestamptz) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC'
AS $$
BEGIN
  RETURN QUERY
    SELECT c.relname::text, (b.bounds)[1]::timestamptz, (b.bounds)[2]::timestamptz
      FROM pg_inherits i
      JOIN pg_class c ON c.oid = i.inhrelid
      LEFT JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') AS b (bounds) ON true
     WHERE i.inhparent = 'receipts'::regclass
     ORDER BY 2 NULLS FIRST;
END;
$$;

-- Makes the partitions of today and of the next p_ahead days (UTC), drops those whose last receipt is older
-- than p_retention, and deletes such receipts from the default partition, at most 10,000 rows a call. Any
-- worker may call it at any time: whoever gets the lock does the work, for the others `ran` is false. Runs
-- with the owner's rights, so that a worker needs none on the tables; so a worker's login must not take all
-- receipts away by it: an hour of them always stays.
--
-- No step waits longer than 300 ms for a lock, because settles queue up behind it: what does not get its
-- lock is left to the next call and named in `postponed`. A day that has receipts in the default partition
-- already gets no partition, since making one would have to move them under a lock: it stays there, and its
-- receipts are deleted when their time has come. `more` asks for another call.
CREATE FUNCTION maintain_receipts(
  p_retention interval, p_ahead int DEFAULT 2,
  OUT ran boolean, OUT created text[], OUT dropped text[], OUT deleted bigint, OUT postponed text[], OUT more boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path FROM CURRENT SET timezone = 'UTC' SET lock_timeout = '300ms'
AS $$
DECLARE
  c_chunk CONSTANT int := 10000;
  v_cutoff timestamptz := clock_timestamp() - p_retention;
  v_from   timestamptz;
  v_to     timestamptz;
  v_name   text;
BEGIN
  IF p_retention IS NULL OR p_retention < interval '1 hour' OR p_ahead IS NULL OR p_ahead NOT BETWEEN 0 AND 60 THEN
    RAISE EXCEPTION 'a retention of an hour or more and 0 to 60 days ahead are needed, not % and %', p_retention, p_ahead
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  created := '{}'; dropped := '{}'; deleted := 0; postponed := '{}'; more := false;
  ran := pg_try_advisory_xact_lock(hashtextextended('outfall receipts ' || 'receipts'::regclass::oid, 0));
  IF NOT ran THEN
    RETURN;
  END IF;

  FOR day IN 0..p_ahead LOOP
    v_from := date_trunc('day', clock_timestamp()) + day * interval '1 day';
    v_to := v_from + interval '1 day';
    v_name := 'receipts_' || to_char(v_from, 'YYYYMMDD');
    CONTINUE WHEN EXISTS (SELECT FROM receipts_partitions() p WHERE p.from_time < v_to AND p.to_time > v_from);
    IF EXISTS (SELECT FROM receipts_default r WHERE r.delivered_at >= v_from AND r.delivered_at < v_to) THEN
      postponed := postponed || format('%s: the default partition holds receipts of that day', v_name);
      CONTINUE;
    END IF;
    BEGIN  -- ATTACH, not PARTITION OF: that would lock out every settle
      EXECUTE format('CREATE TABLE %I (LIKE receipts INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMPRESSION)', v_name);
      EXECUTE format('ALTER TABLE %I REPLICA IDENTITY FULL', v_name);
      EXECUTE format('ALTER TABLE receipts ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', v_name, v_from, v_to);
      created := created || v_name;
    EXCEPTION WHEN lock_not_available OR check_violation OR duplicate_table OR deadlock_detected THEN
      postponed := postponed || format('%s: %s', v_name, SQLERRM);
    END;
  END LOOP;

  FOR v_name IN SELECT p.name FROM receipts_partitions() p WHERE p.to_time <= v_cutoff ORDER BY p.to_time LOOP
    BEGIN
      EXECUTE format('DROP TABLE %I', v_name);
      dropped := dropped || v_name;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      postponed := postponed || format('%s: %s', v_name, SQLERRM);
      EXIT;
    END;
  END LOOP;

  DELETE FROM receipts_default r
   WHERE r.ctid = ANY (ARRAY(SELECT o.ctid FROM receipts_default o WHERE o.delivered_at < v_cutoff
                              ORDER BY o.delivered_at LIMIT c_chunk FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS deleted = ROW_COUNT;
  more := deleted = c_chunk;
END;
$$;

-- Receipts have no key. Without this, a publication FOR ALL TABLES forbids to delete the old ones, and the
-- maintenance with them.
ALTER TABLE receipts REPLICA IDENTITY FULL;
ALTER TABLE receipts_default REPLICA IDENTITY FULL;

-- From the first receipt on they go to a day's partition.
DO $$ BEGIN PERFORM maintain_receipts(interval '7 days'); END; $$;

INSERT INTO schema_version (version, name) VALUES (7, '0007_receipts');
