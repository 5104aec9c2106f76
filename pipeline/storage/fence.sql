-- Statements about which slots a shard owns.

-- name: not_owned
SELECT slot, (SELECT epoch FROM shard_map) AS epoch FROM unnest($1::smallint[]) AS t(slot)
WHERE NOT EXISTS (SELECT FROM shard_slot s WHERE s.slot = t.slot AND s.state = 'owned');

-- name: read_map
SELECT shard, epoch, owners, is_settled FROM shard_map;

-- name: write_map
-- An older map never replaces a newer one.
INSERT INTO shard_map (shard, epoch, owners, is_settled) VALUES ($1, $2, $3, $4)
ON CONFLICT (is_only) DO UPDATE
    SET epoch = excluded.epoch, owners = excluded.owners, is_settled = excluded.is_settled, written_at = now()
    WHERE shard_map.epoch <= excluded.epoch AND shard_map.shard = excluded.shard;

-- name: spread_map
-- A newer map for a shard that the change does not concern: what it owns is not touched.
UPDATE shard_map SET epoch = $1, owners = $2, written_at = now() WHERE epoch < $1;

-- name: slots
SELECT slot, epoch, state FROM shard_slot ORDER BY slot;

-- name: leaving
SELECT count(*) FROM shard_slot WHERE state = 'leaving';

-- name: notify
SELECT pg_notify('postorder_shard_map', $1);
