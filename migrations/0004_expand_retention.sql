-- outside a transaction
-- Old inbox and outbox rows are deleted (ADR 10). What is deleted still counts: the sums must add up.
CREATE OR REPLACE FUNCTION event_key_of(source text, id text) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN encode(substr(sha256(convert_to(source || chr(10) || id, 'UTF8')), 1, 16), 'hex')::uuid;

CREATE TABLE IF NOT EXISTS retention_walk (
    table_name  text NOT NULL,
    next_page   bigint DEFAULT 0 NOT NULL,
    due_at      timestamptz DEFAULT now() NOT NULL,
    deleted     bigint DEFAULT 0 NOT NULL,
    CONSTRAINT pk_retention_walk PRIMARY KEY (table_name),
    CONSTRAINT cns_retention_walk_table CHECK (table_name IN ('inbox', 'outbox'))
);
COMMENT ON TABLE retention_walk IS
    'How far retention has come in each table, page by page, and how many rows it has deleted in all.';
COMMENT ON COLUMN retention_walk.due_at IS 'When the next walk begins; in the past while one is under way.';

CREATE TABLE IF NOT EXISTS retired_effect (
    channel     text NOT NULL,
    kind        text NOT NULL,
    state       text NOT NULL,
    effects     bigint NOT NULL,
    CONSTRAINT pk_retired_effect PRIMARY KEY (channel, kind, state)
);
COMMENT ON TABLE retired_effect IS 'How many messages retention has deleted from the outbox, by what became of them.';

-- The rows deleted in a day are too few for the usual fifth of the table.
ALTER TABLE inbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

DROP INDEX CONCURRENTLY IF EXISTS idx_outbox_unknown;

CREATE INDEX CONCURRENTLY idx_outbox_unknown ON outbox (created_at) WHERE state = 'unknown';
