-- Statements behind `postorder effects` and `postorder timeline`.

-- name: listed
-- {state}: one of the states, filled in as text so that its partial index serves. $1: channel. $2: kind; null:
-- any. $3: owed at least so long ago. $4: how many at most.
SELECT slot, effect_id, order_id, invoice_id, channel, kind, state, attempts, reason, provider, provider_id,
       provider_status, created_at, due_at, claim_id, claimed_at, lease_until, accepted_at, settled_at,
       provider_status_at, expires_at, split_part(trace_context, '-', 2) AS trace_id
FROM outbox
WHERE state = '{state}' AND ($1::text IS NULL OR channel = $1) AND ($2::text IS NULL OR kind = $2)
  AND created_at <= now() - $3::interval
  AND ((SELECT is_settled FROM shard_map)
     OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = outbox.slot AND s.state <> 'arriving'))
ORDER BY created_at
LIMIT $4;

-- name: by_id
-- The first and the last id that begin so. Every slot's part of the key is looked at: the id does not say which.
SELECT slot, effect_id, order_id, invoice_id, channel, kind, state, attempts, reason, provider, provider_id,
       provider_status, created_at, due_at, claim_id, claimed_at, lease_until, accepted_at, settled_at,
       provider_status_at, expires_at, split_part(trace_context, '-', 2) AS trace_id
FROM outbox
WHERE effect_id BETWEEN $1 AND $2
  AND ((SELECT is_settled FROM shard_map)
     OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = outbox.slot AND s.state <> 'arriving'))
ORDER BY effect_id
LIMIT 3;

-- name: of_order
-- By their ids, which follow from the order, or stand with its invoices.
SELECT slot, effect_id, order_id, invoice_id, channel, kind, state, attempts, reason, provider, provider_id,
       provider_status, created_at, due_at, claim_id, claimed_at, lease_until, accepted_at, settled_at,
       provider_status_at, expires_at, split_part(trace_context, '-', 2) AS trace_id
FROM outbox
WHERE slot = $1 AND effect_id IN (
    SELECT effect_id_of($2, 1) UNION ALL SELECT effect_id_of($2, 2)
    UNION ALL SELECT effect_id FROM invoices WHERE slot = $1 AND order_id = $2);

-- name: notes
SELECT effect_id, at, what, provider, detail, actor FROM effect_note
WHERE slot = $1 AND effect_id = ANY ($2::uuid[]) ORDER BY at;

-- name: order
SELECT order_id, number, customer_id, customer_name, email, phone, locale, country, event_source, event_id,
       event_time, recorded_at
FROM orders WHERE slot = $1 AND order_id = $2;

-- name: invoices
SELECT invoice_id, effect_id, travels_alone, event_time, recorded_at FROM invoices
WHERE slot = $1 AND order_id = $2 ORDER BY recorded_at;

-- name: resolve
-- $3, $4: as it was seen, so that what happened since is not overruled. $5: the state. $6: provider's id.
WITH resolved AS (
    UPDATE outbox
    SET state = $5, provider_id = coalesce($6, provider_id), reason = 'operator', lease_until = NULL,
        accepted_at = CASE WHEN $5 = 'accepted' THEN coalesce(accepted_at, now()) ELSE accepted_at END,
        settled_at = CASE WHEN $5 = 'abandoned' THEN now() END,
        due_at = CASE WHEN $5 = 'pending' THEN now() ELSE due_at END
    WHERE slot = $1 AND effect_id = $2 AND state = $3 AND claim_id IS NOT DISTINCT FROM $4
    RETURNING slot, effect_id, channel
), noted AS (
    INSERT INTO effect_note (slot, effect_id, what, detail, actor)
    SELECT slot, effect_id, 'resolved', $7, $8 FROM resolved
)
SELECT channel FROM resolved;
