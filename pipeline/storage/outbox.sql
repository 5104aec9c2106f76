-- Statements of the effect ledger. Each runs under the fence. While slots move, rows of slots that are not
-- this shard's, or not yet, or not any more, lie beside its own: nothing may be done about those here.

-- name: claim
-- $1: channel. $2: how many at most. $3: claim id. $4: lease. Committed, and on the replica, before any of
-- the messages is sent.
WITH due AS (
    SELECT slot, effect_id FROM outbox
    WHERE state = 'pending' AND channel = $1 AND due_at <= now()
      AND ((SELECT is_settled FROM shard_map)
         OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = outbox.slot AND s.state = 'owned'))
    ORDER BY due_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE outbox o
    SET state = 'submitting', claim_id = $3, lease_until = now() + $4::interval, attempts = attempts + 1
    FROM due
    WHERE o.slot = due.slot AND o.effect_id = due.effect_id
    RETURNING o.slot, o.effect_id, o.order_id, o.invoice_id, o.kind, o.attempts, o.expires_at, o.created_at
)
SELECT c.slot, c.effect_id, c.order_id, c.invoice_id, c.kind, c.attempts, c.created_at,
       c.expires_at <= now() AS is_expired,
       d.number, d.customer_name, d.email, d.phone, d.locale, d.country, d.currency, d.total, d.lines,
       d.event_time, d.customer_id, extract(epoch FROM now() - c.created_at)::double precision AS age_s,
       extract(epoch FROM c.expires_at - now())::double precision AS left_s
FROM claimed c JOIN orders d USING (slot, order_id);

-- name: attach_invoices
-- A claimed order mail takes every invoice of its order that no other message carries.
UPDATE invoices v SET effect_id = t.effect_id
FROM unnest($1::smallint[], $2::uuid[], $3::text[]) AS t(slot, effect_id, order_id)
WHERE v.slot = t.slot AND v.order_id = t.order_id AND v.effect_id IS NULL AND NOT v.travels_alone;

-- name: leave_out
-- The order's mail goes without this invoice. Once it has gone, the invoice gets a mail of its own.
UPDATE invoices SET effect_id = NULL, travels_alone = true
WHERE slot = $1 AND order_id = $2 AND invoice_id = $3 AND effect_id = $4;

-- name: documents
-- The invoices that claimed mails carry, with their documents.
SELECT v.effect_id, v.invoice_id, v.number, v.currency, v.total, v.media_type, v.filename, v.document,
       v.document_url
FROM unnest($1::smallint[], $2::uuid[], $3::text[]) AS t(slot, effect_id, order_id)
JOIN invoices v ON v.slot = t.slot AND v.order_id = t.order_id AND v.effect_id = t.effect_id
ORDER BY v.issued_at, v.invoice_id;

-- name: record_receipts
-- Only the holder of the claim may record, also when its lease ran out meanwhile: a late answer from the
-- provider is better knowledge than "unknown". Returns what was recorded.
UPDATE outbox o
SET state = r.state, provider = r.provider, provider_id = coalesce(r.provider_id, o.provider_id),
    reason = r.reason, accepted_at = r.accepted_at, lease_until = NULL,
    due_at = CASE WHEN r.retry_in_s IS NULL THEN o.due_at
                  ELSE now() + r.retry_in_s * interval '1 second' END,
    attempts = o.attempts - CASE WHEN r.is_untried THEN 1 ELSE 0 END
FROM unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::timestamptz[], $9::double precision[], $10::boolean[])
    AS r(slot, effect_id, claim_id, state, provider, provider_id, reason, accepted_at, retry_in_s, is_untried)
WHERE o.slot = r.slot AND o.effect_id = r.effect_id AND o.claim_id = r.claim_id
  AND o.state IN ('submitting', 'unknown')
RETURNING o.effect_id, o.state, o.channel;

-- name: record_receipt_batch
INSERT INTO receipt_batch (channel, accepted, suppressed, expired, failed, unknown, retried)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: release
-- A claim whose commit was not answered may be durable all the same; nothing was sent under it.
UPDATE outbox SET state = 'pending', attempts = attempts - 1, claim_id = NULL, lease_until = NULL
WHERE state = 'submitting' AND claim_id = $1
  AND ((SELECT is_settled FROM shard_map)
         OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = outbox.slot AND s.state = 'owned'));

-- name: expire_leases
-- A claim whose holder did not come back may have been sent: unknown, never pending.
WITH lost AS (
    SELECT slot, effect_id FROM outbox
    WHERE state = 'submitting' AND lease_until < now()
      AND ((SELECT is_settled FROM shard_map)
         OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = outbox.slot AND s.state = 'owned'))
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET state = 'unknown', reason = 'lease_expired', lease_until = NULL
FROM lost
WHERE o.slot = lost.slot AND o.effect_id = lost.effect_id
RETURNING o.effect_id, o.channel;

-- name: owe_left_behind_invoices
-- An order and its invoice that were committed at the same moment could not see each other. By now both
-- can be seen, so an invoice that waits although its order mail has left gets a mail of its own.
WITH late AS (
    SELECT v.slot, v.order_id, v.invoice_id,
           effect_id_of(v.order_id || ' ' || v.invoice_id, 3) AS effect_id
    FROM invoices v
    JOIN outbox o ON o.slot = v.slot AND o.effect_id = effect_id_of(v.order_id, 2)
    WHERE v.effect_id IS NULL AND o.state <> 'pending'
      AND ((SELECT is_settled FROM shard_map)
         OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = v.slot AND s.state = 'owned'))
    LIMIT $1
    FOR UPDATE OF v SKIP LOCKED
), owed AS (
    INSERT INTO outbox (slot, effect_id, order_id, invoice_id, channel, kind, expires_at)
    SELECT slot, effect_id, order_id, invoice_id, 'email', 'invoice_email', now() + $2::interval FROM late
    ON CONFLICT DO NOTHING
)
UPDATE invoices v SET effect_id = late.effect_id
FROM late
WHERE v.slot = late.slot AND v.order_id = late.order_id AND v.invoice_id = late.invoice_id
RETURNING v.effect_id;
