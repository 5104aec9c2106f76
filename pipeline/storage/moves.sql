-- Statements of moves of slots from one shard to another.

-- name: in_progress
SELECT move_id, source, target, slots, step, state, token, started_at FROM slot_move
WHERE state IN ('running', 'aborting', 'moved') ORDER BY move_id;

-- name: register
INSERT INTO slot_move (move_id, source, target, slots, step, token, started_at)
VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7) ON CONFLICT DO NOTHING;

-- name: take_over
-- Whoever held a lower token can change nothing from now on.
UPDATE slot_move SET token = $2, updated_at = now()
WHERE move_id = $1 AND token < $2 AND state IN ('running', 'aborting', 'moved') RETURNING 1;

-- name: is_held
SELECT EXISTS (SELECT FROM slot_move
               WHERE move_id = $1 AND token = $2 AND state IN ('running', 'aborting', 'moved'));

-- name: note
UPDATE slot_move SET step = $2, state = $3, updated_at = now() WHERE move_id = $1;

-- name: touch
UPDATE slot_move SET updated_at = now() WHERE move_id = $1;

-- name: arrive
INSERT INTO shard_slot (slot, epoch, state) SELECT unnest($1::smallint[]), $2, 'arriving'
ON CONFLICT DO NOTHING;

-- name: unsettle
UPDATE shard_map SET is_settled = false WHERE is_settled;

-- name: settle
-- Other moves of this shard may go on.
UPDATE shard_map m SET is_settled = true
WHERE NOT EXISTS (SELECT FROM slot_move
                  WHERE state IN ('running', 'aborting', 'moved') AND m.shard IN (source, target))
  AND NOT EXISTS (SELECT FROM shard_slot WHERE state <> 'owned');

-- name: pause
UPDATE shard_slot SET state = 'leaving' WHERE slot = ANY ($1::smallint[]) AND state IN ('owned', 'leaving')
RETURNING slot;

-- name: unpause
UPDATE shard_slot SET state = 'owned' WHERE slot = ANY ($1::smallint[]) AND state = 'leaving' RETURNING slot;

-- name: take
INSERT INTO shard_slot (slot, epoch, state) SELECT unnest($1::smallint[]), $2, 'owned'
ON CONFLICT (slot) DO UPDATE SET epoch = excluded.epoch, state = 'owned';

-- name: give_up
DELETE FROM shard_slot WHERE slot = ANY ($1::smallint[]);

-- name: forget_arriving
DELETE FROM shard_slot WHERE slot = ANY ($1::smallint[]) AND state = 'arriving';

-- name: move_states
SELECT move_id, state FROM slot_move WHERE move_id = ANY ($1::uuid[]);

-- name: states
SELECT slot, state, epoch FROM shard_slot WHERE slot = ANY ($1::smallint[]);

-- name: put_marker
INSERT INTO slot_marker (move_id, marker) VALUES ($1, 1)
ON CONFLICT (move_id) DO UPDATE SET marker = slot_marker.marker + 1 RETURNING marker;

-- name: marker
SELECT marker FROM slot_marker WHERE move_id = $1;

-- name: forget_markers
DELETE FROM slot_marker WHERE move_id = ANY ($1::uuid[]);

-- name: can_replicate
-- What a server and this role need for a link. Free: replication slots that nobody has.
SELECT current_setting('wal_level') AS wal_level,
       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user) AS may_read,
       pg_has_role('pg_create_subscription', 'MEMBER') AS may_subscribe,
       current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots) AS free;

-- name: moving_tables
-- Tables whose rows belong to a slot.
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'slot'
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'shard_slot'
ORDER BY c.relname;

-- name: published
SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1) AS published,
       (SELECT active FROM pg_replication_slots WHERE slot_name = $1) AS active,
       (SELECT wal_status <> 'lost' FROM pg_replication_slots WHERE slot_name = $1) AS usable,
       (SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1) AS walsender,
       (SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint
        FROM pg_replication_slots WHERE slot_name = $1) AS lag_bytes;

-- name: subscribed
SELECT s.oid, s.subenabled AS enabled,
       (SELECT count(*) FROM pg_subscription_rel r WHERE r.srsubid = s.oid AND r.srsubstate <> 'r') AS copying,
       (SELECT coalesce(sum(bytes_processed), 0)::bigint FROM pg_stat_progress_copy) AS bytes_copied,
       (SELECT count(*) FROM pg_stat_subscription t WHERE t.subid = s.oid AND t.pid IS NOT NULL) AS workers
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE s.subname = $1 AND d.datname = current_database();

-- name: create_slot
SELECT pg_create_logical_replication_slot($1, 'pgoutput');

-- name: drop_slots
-- Those that nobody reads from; those that are left are counted.
SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots
WHERE NOT active AND database = current_database() AND (slot_name = $1 OR starts_with(slot_name, $2));

-- name: slots_left
SELECT count(*) FROM pg_replication_slots
WHERE database = current_database() AND (slot_name = $1 OR starts_with(slot_name, $2));

-- name: end_readers
SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots
WHERE active AND database = current_database() AND (slot_name = $1 OR starts_with(slot_name, $2));

-- name: hand_over
-- The connection string holds a password: as a parameter it stands in no statement's text.
SELECT set_config('postorder.publisher', $1, true);

-- name: replica_lag
SELECT coalesce(max(extract(epoch FROM replay_lag)), 0)::float8 AS lag_s,
       coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint AS lag_bytes
FROM pg_stat_replication
WHERE application_name !~ '^(postorder_move_|postorder_back_|pg_[0-9]+_sync_)' AND state = 'streaming';

-- name: left_behind
-- Links of moves on this server, whatever became of their moves.
SELECT 'publication' AS kind, pubname::text AS name FROM pg_publication
WHERE pubname ~ '^postorder_(move|back)_'
UNION ALL
SELECT 'subscription', subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE subname ~ '^postorder_(move|back)_' AND d.datname = current_database()
UNION ALL
SELECT 'slot', slot_name FROM pg_replication_slots
WHERE slot_name ~ '^postorder_(move|back)_|^pg_[0-9]+_sync_' AND database = current_database();
