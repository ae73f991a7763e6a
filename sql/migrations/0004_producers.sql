-- 0004_producers: what a producer calls. A plain INSERT of stream, type and payload into entries does the
-- same; the function is for those who want the envelope id back, or named arguments.
\if :{?schema}
\else
\set schema outbox
\endif
SET search_path = :"schema", pg_temp;

-- Adds one entry within the caller's transaction and returns its envelope id. An argument that is left
-- out, or null, means what the column's default means. It reads nothing, so that a producer needs no right
-- but INSERT, and has no EXCEPTION block: a refused entry raises what the INSERT would, and the name of the
-- violated constraint says which column is wrong and how.
CREATE FUNCTION enqueue(
  p_stream text, p_type text, p_payload json DEFAULT NULL, p_key text DEFAULT NULL,
  p_headers jsonb DEFAULT NULL, p_source text DEFAULT NULL, p_subject text DEFAULT NULL,
  p_content_type text DEFAULT NULL, p_data_schema text DEFAULT NULL, p_payload_binary bytea DEFAULT NULL,
  p_occurred_at timestamptz DEFAULT NULL, p_available_at timestamptz DEFAULT NULL,
  p_envelope_id uuid DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
  v_envelope_id uuid := coalesce(p_envelope_id, new_envelope_id());
BEGIN
  INSERT INTO entries (envelope_id, stream, type, key, source, subject, content_type, data_schema,
                       headers, payload, payload_binary, occurred_at, available_at)
  VALUES (v_envelope_id, p_stream, p_type, p_key, p_source, p_subject, p_content_type, p_data_schema,
          p_headers, p_payload, p_payload_binary, p_occurred_at, p_available_at);
  RETURN v_envelope_id;
END;
$$;

-- A time that no CloudEvent can carry, or that never comes, would wait for ever.
ALTER TABLE entries
  ADD CONSTRAINT occurred_at_must_lie_in_the_years_1_to_9999
    CHECK (occurred_at >= '0001-01-01 00:00:00+00' AND occurred_at < '10000-01-01 00:00:00+00'),
  ADD CONSTRAINT available_at_must_lie_in_the_years_1_to_9999
    CHECK (available_at >= '0001-01-01 00:00:00+00' AND available_at < '10000-01-01 00:00:00+00');

INSERT INTO schema_version (version, name) VALUES (4, '0004_producers');
