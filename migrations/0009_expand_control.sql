-- Steering (ADR 26): processes say how they are, operators change limits while everything runs, and what they did is
-- on record. These rows belong to no slot: they live on the homes, the first three shards of the map by name.

CREATE UNLOGGED TABLE process_report (
    process_id  text NOT NULL,
    host        text NOT NULL,
    pid         integer NOT NULL,
    started_at  timestamptz NOT NULL,
    roles       text[] NOT NULL,
    seen_at     timestamptz DEFAULT now() NOT NULL,
    report      jsonb NOT NULL,
    CONSTRAINT pk_process_report PRIMARY KEY (process_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE process_report IS
    'How each process is, written every two seconds. Unlogged: after a crash or a failover it fills again by itself.';
COMMENT ON COLUMN process_report.report IS 'Rates, buffers, pools, limits, CPU, memory. No personal data.';

CREATE TABLE limit_override (
    key         text NOT NULL,
    value       double precision,
    version     bigint NOT NULL,
    set_by      text NOT NULL,
    set_at      timestamptz NOT NULL,
    expires_at  timestamptz,
    CONSTRAINT pk_limit_override PRIMARY KEY (key),
    CONSTRAINT cns_limit_override_value CHECK (value >= 0 AND value < 'infinity'::double precision)
);
COMMENT ON TABLE limit_override IS
    'Limits of pools that count instead of those of the settings. Of several copies the highest version is in force.';
COMMENT ON COLUMN limit_override.value IS 'Null: taken off. The row stays, so that an older copy does not come back.';
COMMENT ON COLUMN limit_override.expires_at IS 'From then on the settings count again. Null: until it is taken off.';

CREATE TABLE audit (
    entry_id     uuid NOT NULL,
    action_id    uuid NOT NULL,
    at           timestamptz NOT NULL,
    recorded_at  timestamptz DEFAULT now() NOT NULL,
    actor        text NOT NULL,
    what         text NOT NULL,
    target       text NOT NULL,
    epoch        bigint NOT NULL,
    outcome      text NOT NULL,
    detail       text NOT NULL,
    CONSTRAINT pk_audit PRIMARY KEY (entry_id),
    CONSTRAINT cns_audit_outcome CHECK (outcome IN ('begun', 'done', 'refused', 'failed')),
    CONSTRAINT cns_audit_sizes CHECK (octet_length(actor) <= 200 AND octet_length(what) <= 100
                                      AND octet_length(target) <= 400 AND octet_length(detail) <= 2000)
);
COMMENT ON TABLE audit IS
    'What operators did: an entry before it is done, and one of what came of it. Nothing here is changed or deleted.';
COMMENT ON COLUMN audit.at IS 'By the clock of the process that did it; recorded_at is by this server''s.';
COMMENT ON COLUMN audit.target IS 'Ids, never a number, an address or a text.';
COMMENT ON COLUMN audit.epoch IS 'Of the shard map by which it was done.';
CREATE INDEX idx_audit_at ON audit (at, entry_id);

-- One line, as the model has it.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '%: nothing is changed or deleted here', tg_table_name USING ERRCODE = 'check_violation'; END $$;
CREATE TRIGGER trg_audit_rows BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER trg_audit_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Also what is applied by replication, which ordinary triggers do not see.
ALTER TABLE audit ENABLE ALWAYS TRIGGER trg_audit_rows;
ALTER TABLE audit ENABLE ALWAYS TRIGGER trg_audit_truncate;
