-- The shard map: which shard owns each slot. Each shard holds a copy; the one with the highest epoch is the
-- map in force. What a shard may write is decided by its own shard_slot alone, never by a copy of the map.
CREATE TABLE shard_map (
    is_only     boolean DEFAULT true NOT NULL,
    shard       text NOT NULL,
    epoch       bigint NOT NULL,
    owners      jsonb NOT NULL,
    is_settled  boolean DEFAULT true NOT NULL,
    written_at  timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_shard_map PRIMARY KEY (is_only),
    CONSTRAINT cns_shard_map_only CHECK (is_only),
    CONSTRAINT cns_shard_map_owners CHECK (jsonb_array_length(owners) = 4096)
);
COMMENT ON TABLE shard_map IS 'The shard map as this shard knows it. One row.';
COMMENT ON COLUMN shard_map.shard IS 'The name of this very shard, so that a wrong DSN is found.';
COMMENT ON COLUMN shard_map.owners IS 'The name of the owner of slot n, at place n: 0 to 4095.';
COMMENT ON COLUMN shard_map.is_settled IS
    'Whether shard_slot and the rows here are just what the map gives this shard. False while slots come or go.';

-- A move of slots between two shards, on both of them. The coordinator holds its token; a second one takes
-- the next, and from then on the first can change nothing.
CREATE TABLE slot_move (
    move_id     uuid NOT NULL,
    source      text NOT NULL,
    target      text NOT NULL,
    slots       jsonb NOT NULL,
    step        text NOT NULL,
    state       text DEFAULT 'running' NOT NULL,
    token       bigint DEFAULT 1 NOT NULL,
    started_at  timestamptz DEFAULT now() NOT NULL,
    updated_at  timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_slot_move PRIMARY KEY (move_id),
    CONSTRAINT cns_slot_move_state CHECK (state IN ('running', 'aborting', 'moved', 'finished', 'aborted')),
    CONSTRAINT cns_slot_move_shards CHECK (source <> target)
);
COMMENT ON TABLE slot_move IS 'Moves of slots that this shard takes part in.';
COMMENT ON COLUMN slot_move.state IS
    'running and aborting: in progress. moved: the target owns the slots, the source follows it, ready to take '
    'them back. finished, aborted: over.';

CREATE TABLE slot_marker (
    move_id     uuid NOT NULL,
    marker      bigint NOT NULL,
    CONSTRAINT pk_slot_marker PRIMARY KEY (move_id)
);
COMMENT ON TABLE slot_marker IS
    'Travels with a move''s rows: when a marker has arrived, so has all that was committed before it.';
