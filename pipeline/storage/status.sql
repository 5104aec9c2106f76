-- Statements behind `postorder status` and the ownership check at start.

-- name: owned_slots
SELECT slot, epoch FROM shard_slot WHERE state = 'owned' ORDER BY slot;

-- name: totals
SELECT (SELECT count(*) FROM inbox) AS inbox,
       (SELECT count(*) FROM orders) AS orders,
       (SELECT count(*) FROM invoices) AS invoices,
       (SELECT count(*) FROM invoices WHERE effect_id IS NULL) AS invoices_waiting,
       (SELECT count(*) FROM customers) AS customers,
       (SELECT coalesce(sum(seen), 0) FROM quarantine) AS quarantined;

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
SELECT channel, kind, state, count(*) AS effects FROM outbox GROUP BY channel, kind, state;

-- name: owed
-- What the business tables say is owed: an SMS and a mail for each order, and a mail for each invoice
-- that no order mail carries.
SELECT (SELECT count(*) * 2 FROM orders)
       + (SELECT count(*) FROM invoices
          WHERE effect_id = effect_id_of(order_id || ' ' || invoice_id, 3)) AS owed;

-- name: replication
SELECT application_name, state, sync_state,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS lag_bytes,
       coalesce(extract(epoch FROM replay_lag), 0)::double precision AS lag_s
FROM pg_stat_replication WHERE state IS NOT NULL;

-- name: acceptance_latencies
-- Seconds from an event's own time to the provider's acceptance of its message, since a moment.
SELECT extract(epoch FROM o.accepted_at - d.event_time)::double precision AS latency_s
FROM outbox o JOIN orders d USING (slot, order_id)
WHERE o.kind = $1 AND o.accepted_at IS NOT NULL AND d.event_time IS NOT NULL AND o.created_at >= $2;

-- name: clock
SELECT clock_timestamp();
