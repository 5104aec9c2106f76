-- Statements behind `postorder status` and the ownership check at start. While slots move, rows of slots that
-- are another shard's lie beside a shard's own, and are not counted.

-- name: owned_slots
SELECT slot, epoch FROM shard_slot WHERE state = 'owned' ORDER BY slot;

-- name: totals
WITH settled AS (
    SELECT coalesce(bool_and(is_settled), true) AS is_settled FROM shard_map
), own AS (
    SELECT slot FROM shard_slot WHERE state <> 'arriving'
)
SELECT (SELECT count(*) FROM inbox WHERE (SELECT is_settled FROM settled) OR slot IN (SELECT slot FROM own)) AS inbox,
       (SELECT count(*) FROM orders WHERE (SELECT is_settled FROM settled) OR slot IN (SELECT slot FROM own)) AS orders,
       (SELECT count(*) FROM invoices
        WHERE (SELECT is_settled FROM settled) OR slot IN (SELECT slot FROM own)) AS invoices,
       (SELECT count(*) FROM invoices
        WHERE effect_id IS NULL
          AND ((SELECT is_settled FROM settled) OR slot IN (SELECT slot FROM own))) AS invoices_waiting,
       (SELECT count(*) FROM customers
        WHERE (SELECT is_settled FROM settled) OR slot IN (SELECT slot FROM own)) AS customers,
       (SELECT coalesce(sum(seen), 0) FROM quarantine
        WHERE (SELECT is_settled FROM settled) OR slot IN (SELECT slot FROM own)) AS quarantined;

-- name: intake_sums
SELECT coalesce(sum(events), 0) AS events,
       coalesce(sum(orders), 0) AS orders,
       coalesce(sum(invoices), 0) AS invoices,
       coalesce(sum(customers), 0) AS customers,
       coalesce(sum(duplicates), 0) AS duplicates,
       coalesce(sum(quarantined), 0) AS quarantined,
       coalesce(sum(orders) FILTER (WHERE recorded_at > now() - interval '1 minute'), 0) AS orders_per_min,
       coalesce(sum(invoices) FILTER (WHERE recorded_at > now() - interval '1 minute'), 0) AS invoices_per_min
FROM intake_batch;

-- name: intake_by_trigger
SELECT trigger, sum(events) AS events, count(*) AS batches FROM intake_batch GROUP BY trigger;

-- name: receipt_sums
SELECT channel,
       sum(accepted) AS accepted,
       sum(accepted) FILTER (WHERE recorded_at > now() - interval '1 minute') AS accepted_per_min
FROM receipt_batch GROUP BY channel;

-- name: effects_by_state
SELECT channel, kind, state, count(*) AS effects FROM outbox
WHERE (SELECT coalesce(bool_and(is_settled), true) FROM shard_map)
   OR slot IN (SELECT slot FROM shard_slot WHERE state <> 'arriving')
GROUP BY channel, kind, state;

-- name: owed
-- What the business tables say is owed: an SMS and a mail for each order, and the mails that carry the invoices
-- that no order mail carries.
WITH settled AS (
    SELECT coalesce(bool_and(is_settled), true) AS is_settled FROM shard_map
), own AS (
    SELECT slot FROM shard_slot WHERE state <> 'arriving'
)
SELECT (SELECT count(*) * 2 FROM orders WHERE (SELECT is_settled FROM settled) OR slot IN (SELECT slot FROM own))
       + (SELECT count(DISTINCT effect_id) FROM invoices
          WHERE effect_id <> effect_id_of(order_id, 2)
            AND ((SELECT is_settled FROM settled) OR slot IN (SELECT slot FROM own))) AS owed;

-- name: replication
-- Replicas, and not who follows slots that move.
SELECT application_name, state, sync_state,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS lag_bytes,
       coalesce(extract(epoch FROM replay_lag), 0)::double precision AS lag_s
FROM pg_stat_replication
WHERE state IS NOT NULL AND application_name !~ '^(postorder_(move|back)_|pg_[0-9]+_sync_)';

-- name: acceptance_latencies
-- Seconds from an event's own time to the provider's acceptance of its message, since a moment.
SELECT extract(epoch FROM o.accepted_at - d.event_time)::double precision AS latency_s
FROM outbox o JOIN orders d USING (slot, order_id)
WHERE o.kind = $1 AND o.accepted_at IS NOT NULL AND d.event_time IS NOT NULL AND o.created_at >= $2;

-- name: clock
SELECT clock_timestamp();
