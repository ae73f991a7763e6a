-- 0001_tables: the tables and their indexes.
--
-- Every migration can be run by `outfall migrate` or, in order, by
--   psql -v ON_ERROR_STOP=1 [-v schema=NAME] -1 -f NNNN_name.sql
-- The first lines choose the schema; everything after them is unqualified and lands in it. `outfall
-- migrate` drops the lines that begin with a backslash and fills in :"schema" itself.
\if :{?schema}
\else
\set schema outbox
\endif
CREATE SCHEMA IF NOT EXISTS :"schema";
SET search_path = :"schema", pg_temp;

-- Workers and emitters speak UTF-8. Elsewhere a single message of an error that the database cannot
-- hold would keep its whole batch from ever being settled.
DO $$
BEGIN
  IF pg_catalog.getdatabaseencoding() <> 'UTF8' THEN
    RAISE EXCEPTION 'the database % has the encoding %, and an outbox needs UTF8',
      current_database(), pg_catalog.getdatabaseencoding()
      USING ERRCODE = 'feature_not_supported',
            HINT = 'Create a database with ENCODING ''UTF8'' TEMPLATE template0.';
  END IF;
END;
$$;

CREATE TABLE schema_version (
  version    int PRIMARY KEY,
  name       text NOT NULL,
  checksum   text,                 -- SHA-256 of the file; null when psql applied it
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  min_worker int NOT NULL DEFAULT 1 -- the oldest worker protocol that this schema bears
);

-- One vocabulary for SQL, C++, metrics and JSON. `held` is a reason for waiting, not an outcome.
CREATE TYPE entry_status AS ENUM
  ('pending', 'held', 'delivered', 'deferred', 'failed', 'retryable_failure', 'dead_lettered');

CREATE FUNCTION status_code(p_status entry_status) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
  SELECT CASE p_status WHEN 'pending' THEN 100 WHEN 'held' THEN 110 WHEN 'delivered' THEN 200
                       WHEN 'deferred' THEN 300 WHEN 'failed' THEN 400
                       WHEN 'retryable_failure' THEN 410 WHEN 'dead_lettered' THEN 500 END;
END;

-- UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random. PostgreSQL 18 has its own; this one
-- takes the random half of gen_random_uuid() and turns its version nibble from 4 into 7.
CREATE FUNCTION new_envelope_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
BEGIN ATOMIC
  SELECT encode(
           set_bit(set_bit(
             overlay(uuid_send(gen_random_uuid())
                     PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                     FROM 1 FOR 6),
             52, 1), 53, 1),
           'hex')::uuid;
END;

-- Live entries only: what is delivered or dead-lettered leaves this table. A producer's whole contract
-- is one INSERT of stream, type and a payload in its own transaction.
--
-- The claim floor (0002_claim) relies on two things here: the identity has CACHE 1, and every
-- transaction that takes an id holds RowExclusiveLock on this table from before it takes it.
CREATE TABLE entries (
  id             bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
  envelope_id    uuid NOT NULL DEFAULT new_envelope_id(),
  created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  occurred_at    timestamptz,
  available_at   timestamptz,      -- null: at once
  deferred_since timestamptz,
  limits_from    timestamptz,      -- since when its age counts for limits; null: created_at, or available_at while pending
  hold_id        bigint,           -- set while status = held
  attempts       int NOT NULL DEFAULT 0,
  attempts_base  int NOT NULL DEFAULT 0,  -- attempts before the last replay: limits count from here
  replays        int NOT NULL DEFAULT 0,
  abandoned      int NOT NULL DEFAULT 0,  -- workers that died with this entry in their lease
  status         entry_status NOT NULL DEFAULT 'pending',
  stream         text NOT NULL,
  type           text NOT NULL,
  key            text,             -- ordering scope and Kafka message key; null: unordered
  source         text,
  subject        text,
  content_type   text,
  data_schema    text,
  headers        jsonb,
  last_error_code    text,
  last_error_message text,
  payload        json,             -- json, not jsonb: the exact text as written
  payload_binary bytea,
  CONSTRAINT entries_pkey PRIMARY KEY (id),
  -- What the configuration takes as a stream's name: of others nobody could ever serve the entries.
  CONSTRAINT stream_must_be_1_to_63_of_a_z_0_9_dot_underscore_or_hyphen
    CHECK (stream ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
  -- Keys are in indexes, whose rows have a limit that an entry would meet only when it fails.
  CONSTRAINT key_must_not_be_longer_than_1024_bytes CHECK (octet_length(key) <= 1024),
  CONSTRAINT type_must_not_be_empty_or_hold_control_characters
    CHECK (type <> '' AND type !~ '[[:cntrl:]]'),
  CONSTRAINT source_must_not_be_empty_or_hold_control_characters
    CHECK (source <> '' AND source !~ '[[:cntrl:]]'),
  CONSTRAINT subject_must_not_be_empty_or_hold_control_characters
    CHECK (subject <> '' AND subject !~ '[[:cntrl:]]'),
  CONSTRAINT content_type_must_not_be_empty_or_hold_control_characters
    CHECK (content_type <> '' AND content_type !~ '[[:cntrl:]]'),
  CONSTRAINT data_schema_must_not_be_empty_or_hold_control_characters
    CHECK (data_schema <> '' AND data_schema !~ '[[:cntrl:]]'),
  CONSTRAINT headers_must_be_an_object_of_strings
    CHECK (jsonb_typeof(headers) = 'object'
           AND NOT jsonb_path_exists(headers, 'strict $.* ? (@.type() != "string")')),
  CONSTRAINT payload_and_payload_binary_must_not_both_be_set
    CHECK (payload IS NULL OR payload_binary IS NULL)
) WITH (fillfactor = 95, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_limit = 2000);

-- External storage keeps payloads out of the compressor, so that pg_column_size tells a payload's
-- bytes without reading them: the claim is bounded by it.
ALTER TABLE entries ALTER COLUMN payload SET STORAGE EXTERNAL,
                    ALTER COLUMN payload_binary SET STORAGE EXTERNAL,
                    ALTER COLUMN headers SET STORAGE EXTERNAL;

-- The consumer's idempotency key is unique per stream among live entries; also answers "where is my
-- event?". A drain never touches it (a DELETE leaves indexes alone); it costs the producer's INSERT.
CREATE UNIQUE INDEX entries_envelope ON entries (envelope_id, stream);
-- Fresh entries, in order. Nothing that waits for a time or behind another entry is in it.
CREATE INDEX entries_fresh ON entries (stream, id) WHERE status = 'pending' AND available_at IS NULL;
-- Retries, deferrals, replays and scheduled entries.
CREATE INDEX entries_due ON entries (stream, available_at) WHERE available_at IS NOT NULL AND status <> 'held';
-- Heads of keys that wait for their next attempt.
CREATE INDEX entries_waiting ON entries (stream, available_at)
  WHERE status IN ('retryable_failure', 'deferred') AND key IS NOT NULL;
-- Parked entries of one hold, in order.
CREATE INDEX entries_held ON entries (hold_id, id) WHERE status = 'held';
-- What can block a later entry of its key: heads that failed or were deferred, and what is held.
CREATE INDEX entries_unfinished ON entries (stream, key, id) WHERE status <> 'pending' AND key IS NOT NULL;
-- Entries that workers died with.
CREATE INDEX entries_abandoned ON entries (stream, id) WHERE abandoned > 0;

-- One row per stream; its row lock serialises the claims of that stream.
CREATE TABLE streams (
  name          text PRIMARY KEY,
  paused        boolean NOT NULL DEFAULT false,
  paused_at     timestamptz,
  paused_by     text,
  paused_reason text,
  floor_epoch   bigint NOT NULL DEFAULT 1,  -- raised to make every worker read from id 0 once
  registered_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- One row per claimed batch. The row is the lease: as long as it exists the batch is its worker's.
CREATE TABLE leases (
  lease_id   uuid PRIMARY KEY,     -- random: the fencing token
  lease_no   bigint NOT NULL,      -- rises per stream, taken under the stream lock
  claimed_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  worker     uuid NOT NULL,
  remaining  int NOT NULL,         -- entries not settled yet
  suspect    boolean NOT NULL DEFAULT false, -- one entry that earlier workers died with, alone
  released   boolean NOT NULL DEFAULT false, -- given back by a clean stop
  stream     text NOT NULL,
  instance   text NOT NULL,
  ids        int8multirange NOT NULL,
  keys       int[]                 -- hashtext() of the keys that are busy; null: none
) WITH (fillfactor = 50, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_limit = 2000);
CREATE UNIQUE INDEX leases_order ON leases (stream, lease_no);
CREATE SEQUENCE lease_numbers CACHE 1;

-- What is parked and why. Its entries have status held and this hold_id; they are claimed from here
-- directly, in id order, as soon as nothing blocks them, and the hold ends when none is left.
CREATE TABLE holds (
  hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  stream  text NOT NULL,
  scope   text NOT NULL CHECK (scope IN ('key', 'lane')),
  value   text NOT NULL,
  since   timestamptz NOT NULL DEFAULT clock_timestamp(),
  due_at  timestamptz NOT NULL,    -- not worth a look before
  reason  text NOT NULL
) WITH (fillfactor = 70);
-- In the order of their ids, so that a claim can skip the dead ones; due_at is in no index and changes in place.
-- Each plan has one index to choose: this one for the holds of a stream, the next one for one by its key or lane, and the
-- primary key for one by its id. Where few live, all look equally good to a planner, and the wrong one leads through all
-- that have ended and cannot be removed beside an open transaction.
CREATE INDEX holds_order ON holds (stream, (hold_id + 0));
CREATE UNIQUE INDEX holds_value ON holds (scope, value, (stream || ''));

-- Entries that one claim has passed over because they wait, too many to mark them all at once. They
-- are out of every claim's way from here on, and later claims move them to their holds, some each.
CREATE TABLE parkings (
  parking_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  stream     text NOT NULL,
  ids        int8multirange NOT NULL,
  keys       int4multirange,       -- hashtext() >> 1 of their keys: later entries of these wait; null: they have none
  lanes      text[]                -- the lanes among theirs that were closed; the others wait for their key
) WITH (fillfactor = 50);
CREATE INDEX parkings_order ON parkings (stream, parking_id);
ALTER TABLE parkings ALTER COLUMN keys SET STORAGE EXTERNAL;  -- hashes do not compress

-- Lanes that are parked beyond the life of a process: by an operator, or because the destination said
-- that it is gone (HTTP 410).
CREATE TABLE destinations (
  stream       text NOT NULL,
  lane         text NOT NULL,
  parked_since timestamptz NOT NULL DEFAULT clock_timestamp(),
  parked_by    text NOT NULL,
  reason       text NOT NULL,
  PRIMARY KEY (stream, lane)
);

CREATE TABLE dead_letters (
  id                 bigint PRIMARY KEY,      -- the entry's id; a replay keeps it
  envelope_id        uuid NOT NULL,
  created_at         timestamptz NOT NULL,
  occurred_at        timestamptz,
  dead_lettered_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  attempts           int NOT NULL,
  replays            int NOT NULL,
  abandoned          int NOT NULL DEFAULT 0,
  holds_key          boolean NOT NULL DEFAULT false, -- later entries of its key wait for it
  stream             text NOT NULL,
  type               text NOT NULL,
  key                text,
  source             text,
  subject            text,
  content_type       text,
  data_schema        text,
  headers            jsonb,
  reason_code        text NOT NULL,
  reason             text,
  last_error_code    text,
  last_error_message text,
  payload            json,
  payload_binary     bytea
);
ALTER TABLE dead_letters ALTER COLUMN payload SET STORAGE EXTERNAL,
                         ALTER COLUMN payload_binary SET STORAGE EXTERNAL,
                         ALTER COLUMN headers SET STORAGE EXTERNAL;
CREATE INDEX dead_letters_by_time ON dead_letters (stream, dead_lettered_at);
CREATE INDEX dead_letters_envelope ON dead_letters (envelope_id);
CREATE INDEX dead_letters_holding ON dead_letters (stream, key, id) WHERE holds_key;

-- Who replayed what, when and why. Append-only.
CREATE TABLE replays (
  replay_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  replayed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor            text NOT NULL CHECK (actor <> ''),
  reason           text NOT NULL CHECK (reason <> ''),
  entry_id         bigint NOT NULL,
  envelope_id      uuid NOT NULL,
  stream           text NOT NULL,
  dead_lettered_at timestamptz NOT NULL,
  reason_code      text NOT NULL,
  job_id           bigint            -- null: not by a job
);
CREATE INDEX replays_entry ON replays (entry_id);

-- Every other act of an operator: pause, resume, retry, dead-letter, discard. Append-only.
CREATE TABLE operations (
  operation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  done_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor        text NOT NULL CHECK (actor <> ''),
  reason       text NOT NULL CHECK (reason <> ''),
  action       text NOT NULL,
  stream       text NOT NULL,
  entry_id     bigint,
  envelope_id  uuid,
  detail       jsonb,
  job_id       bigint              -- null: not by a job
);
CREATE INDEX operations_entry ON operations (entry_id) WHERE entry_id IS NOT NULL;

-- What was delivered: one row per settled batch. Element i of each array is the entry
-- first_id + id_offsets[i]; offsets instead of full values keep a row near 50 bytes an entry.
CREATE TABLE receipts (
  delivered_at    timestamptz NOT NULL,
  first_id        bigint NOT NULL,
  last_id         bigint NOT NULL,
  first_created   timestamptz NOT NULL,
  last_created    timestamptz NOT NULL,
  entries         int NOT NULL,
  stream          text NOT NULL,
  provider        text NOT NULL,
  id_offsets      int[] NOT NULL,
  envelope_ids    uuid[] NOT NULL,
  created_offsets int[] NOT NULL,  -- milliseconds before delivered_at, at most 24 days
  attempts        int[] NOT NULL,
  types           text[] NOT NULL,
  keys            text[],          -- null: no entry had a key
  record_ids      text[]           -- null: each record id is the envelope id
) PARTITION BY RANGE (delivered_at);
CREATE TABLE receipts_default PARTITION OF receipts DEFAULT;
CREATE INDEX receipts_time ON receipts (delivered_at);
CREATE INDEX receipts_ids ON receipts (last_id, first_id);
CREATE INDEX receipts_created ON receipts (last_created, first_created);

-- lz4 compresses a receipt several times faster than pglz; a server built without it keeps pglz.
DO $$
DECLARE
  v_column text;
BEGIN
  FOREACH v_column IN ARRAY ARRAY['id_offsets', 'envelope_ids', 'created_offsets', 'attempts', 'types', 'keys', 'record_ids'] LOOP
    EXECUTE format('ALTER TABLE receipts ALTER COLUMN %I SET COMPRESSION lz4', v_column);
    EXECUTE format('ALTER TABLE receipts_default ALTER COLUMN %I SET COMPRESSION lz4', v_column);
  END LOOP;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
  RAISE NOTICE 'this server has no lz4; receipts use pglz';
END;
$$;

INSERT INTO schema_version (version, name) VALUES (1, '0001_tables');
