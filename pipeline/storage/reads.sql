-- Statements of reads that primary or replica may answer. Those after `answer` are its middle: `data` is JSON,
-- `seen` the transactions that wrote the rows shown, `owned` whether this shard may answer at all.

-- name: position
-- Asked of a replica in a statement of its own, before the data: a statement's snapshot is older than anything
-- it calls, so a position read together with the data could be ahead of the data.
SELECT pg_is_in_recovery() AS in_recovery,
       CASE WHEN pg_is_in_recovery() THEN coalesce(w.received_tli, 0)
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer
       END AS timeline,
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END
        - '0/0')::bigint AS lsn,
       (pg_last_wal_receive_lsn() - '0/0')::bigint AS received,
       (w.latest_end_lsn - '0/0')::bigint AS announced,
       coalesce(w.status = 'streaming', false) AS streams,
       -- A primary that is killed may leave half a record behind, which counts as received and cannot be
       -- replayed. Who waits to look for more again has replayed all that can be.
       CASE WHEN pg_is_in_recovery() AND coalesce(w.status <> 'streaming', true)
            THEN coalesce((SELECT a.wait_event = 'RecoveryRetrieveRetryInterval' FROM pg_stat_activity a
                           WHERE a.backend_type = 'startup'), false)
            ELSE false END AS exhausted
FROM (VALUES (1)) AS one LEFT JOIN pg_stat_wal_receiver w ON true;

-- name: survey
-- Who is what in a pair. `synchronous`: commits here wait for the replica, and there is no other one.
SELECT pg_is_in_recovery() AS in_recovery,
       CASE WHEN pg_is_in_recovery() THEN 0
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer
       END AS timeline,
       current_setting('synchronous_commit') IN ('on', 'remote_apply')
       AND (SELECT count(*) = 1 AND bool_and(r.sync_state IN ('sync', 'quorum'))
            FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
            WHERE s.slot_type IS DISTINCT FROM 'logical') AS synchronous;

-- name: answer
-- The data and, after the data's snapshot, where the server stands. On a primary that is enough.
SELECT d.*, pg_is_in_recovery() AS in_recovery, pg_current_snapshot()::text AS snapshot,
       concat(host(inet_server_addr()), ':', inet_server_port()) AS address,
       CASE WHEN pg_is_in_recovery() THEN 0
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer
       END AS timeline,
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END
        - '0/0')::bigint AS lsn
FROM (/* middle */) AS d;

-- name: order
-- $1: slot. $2: order. The messages are found by their ids, which follow from the order or are its invoices'.
WITH o AS (
    SELECT *, xmin::text::bigint AS xid FROM orders WHERE slot = $1 AND order_id = $2
), i AS (
    SELECT *, xmin::text::bigint AS xid FROM invoices WHERE slot = $1 AND order_id = $2
), m AS (
    SELECT *, xmin::text::bigint AS xid FROM outbox
    WHERE slot = $1 AND effect_id IN (
        SELECT effect_id_of($2, 1) UNION ALL SELECT effect_id_of($2, 2)
        UNION ALL SELECT i.effect_id FROM i)
)
SELECT jsonb_build_object(
        'order', (SELECT jsonb_build_object(
            'order_id', order_id, 'slot', slot, 'number', number,
            'customer', jsonb_build_object('id', customer_id, 'name', customer_name, 'email', email,
                'phone', phone, 'locale', locale, 'country', country),
            'currency', currency, 'total', total::text, 'lines', lines, 'processed_at', processed_at,
            'recorded_at', recorded_at, 'source', event_source, 'event_id', event_id) FROM o),
        'invoices', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'invoice_id', invoice_id, 'order_id', order_id, 'slot', slot, 'number', number,
            'currency', currency, 'total', total::text, 'issued_at', issued_at, 'media_type', media_type,
            'filename', filename, 'document_bytes', length(document), 'document_url', document_url,
            'effect_id', effect_id, 'recorded_at', recorded_at) ORDER BY recorded_at, invoice_id), '[]') FROM i),
        'messages', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'effect_id', effect_id, 'kind', kind, 'channel', channel, 'state', state,
            'invoice_id', invoice_id, 'attempts', attempts, 'due_at', due_at, 'accepted_at', accepted_at,
            'provider', provider, 'provider_id', provider_id, 'reason', reason)
            ORDER BY created_at, kind, effect_id), '[]') FROM m)) AS data,
       ARRAY(SELECT xid FROM o UNION SELECT xid FROM i UNION SELECT xid FROM m) AS seen,
       coalesce((SELECT state IN ('owned', 'leaving') FROM shard_slot WHERE slot = $1), false) AS owned;

-- name: invoice
-- $1: invoice. On every shard. `slots` lets the reader see whether all answers together cover every slot once:
-- a slot that moved between two of them would be missed, or met twice.
WITH i AS (
    SELECT i.*, i.xmin::text::bigint AS xid FROM invoices i JOIN shard_slot s ON s.slot = i.slot
    WHERE i.invoice_id = $1 AND s.state IN ('owned', 'leaving')
)
SELECT jsonb_build_object(
        'invoices', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'invoice_id', invoice_id, 'order_id', order_id, 'slot', slot, 'number', number,
            'currency', currency, 'total', total::text, 'issued_at', issued_at, 'media_type', media_type,
            'filename', filename, 'document_bytes', length(document), 'document_url', document_url,
            'effect_id', effect_id, 'recorded_at', recorded_at) ORDER BY order_id), '[]') FROM i),
        'slots', (SELECT jsonb_build_array(count(*), coalesce(sum(slot), 0), coalesce(sum(slot * slot::bigint), 0))
                  FROM shard_slot WHERE state IN ('owned', 'leaving'))) AS data,
       ARRAY(SELECT DISTINCT xid FROM i) AS seen,
       true AS owned;

-- name: customer
-- $1: customer. $2: how many orders at most, the latest first. $3: the person's slot. On every shard, as above;
-- one of them has the person.
WITH p AS (
    SELECT c.*, c.xmin::text::bigint AS xid FROM customers c JOIN shard_slot s ON s.slot = c.slot
    WHERE c.slot = $3 AND c.customer_id = $1 AND s.state IN ('owned', 'leaving')
), w AS (
    SELECT n.*, n.xmin::text::bigint AS xid FROM consent n JOIN p ON n.slot = p.slot AND n.customer_id = p.customer_id
), o AS (
    SELECT o.*, o.xmin::text::bigint AS xid FROM orders o JOIN shard_slot s ON s.slot = o.slot
    WHERE o.customer_id = $1 AND s.state IN ('owned', 'leaving')
    ORDER BY o.processed_at DESC, o.order_id LIMIT $2
)
SELECT jsonb_build_object(
        'person', (SELECT jsonb_build_object('id', customer_id, 'name', name, 'email', email, 'phone', phone,
            'locale', locale, 'country', country) FROM p),
        'updated_at', (SELECT updated_at FROM p),
        'opted_out', (SELECT coalesce(jsonb_agg(channel ORDER BY channel), '[]') FROM w WHERE state = 'out'),
        'orders', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'order_id', order_id, 'slot', slot, 'number', number, 'currency', currency, 'total', total::text,
            'processed_at', processed_at) ORDER BY processed_at DESC, order_id), '[]') FROM o),
        'slots', (SELECT jsonb_build_array(count(*), coalesce(sum(slot), 0), coalesce(sum(slot * slot::bigint), 0))
                  FROM shard_slot WHERE state IN ('owned', 'leaving'))) AS data,
       ARRAY(SELECT xid FROM o UNION SELECT xid FROM p UNION SELECT xid FROM w) AS seen,
       true AS owned;

-- name: slots
SELECT coalesce(jsonb_agg(jsonb_build_array(slot, epoch)), '[]') AS data, '{}'::bigint[] AS seen, true AS owned
FROM shard_slot WHERE state IN ('owned', 'leaving');

-- name: standings
-- $1, $2: slots and keys of recipients. Of each: its key, whether this shard may speak of it, why it wants nothing.
SELECT coalesce(jsonb_agg(jsonb_build_array(
           t.key,
           coalesce((SELECT s.state FROM shard_slot s WHERE s.slot = t.slot) = 'owned', false),
           (SELECT r.reason FROM recipient r
            WHERE r.slot = t.slot AND r.recipient_key = t.key AND r.state = 'out'))), '[]') AS data,
       ARRAY[]::bigint[] AS seen, true AS owned
FROM unnest($1::smallint[], $2::uuid[]) AS t(slot, key);
