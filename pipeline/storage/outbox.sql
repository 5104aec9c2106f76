-- Statements of the effect ledger. Each runs under the fence. While slots move, rows of slots that are not
-- this shard's, or not yet, or not any more, lie beside its own: nothing may be done about those here.

-- name: claim
-- $1: channel. $2: how many at most. $3: claim id. $4: lease. $5: none due before this; null: any. Committed,
-- and on the replica, before any of the messages is sent. The columns up to left_s are read by their place, as
-- those of take_unknown are.
-- $5 is why this stays fast while a snapshot is held open for long: until it ends, the index keeps an entry
-- for each message that was ever pending since, and without a lower bound every claim walks over all of them.
-- Never ahead of the server's clock, which may have been set back, or be another server's by now.
WITH due AS (
    SELECT slot, effect_id FROM outbox
    WHERE state = 'pending' AND channel = $1 AND due_at <= now()
      AND due_at >= CASE WHEN $5::timestamptz IS NULL THEN '-infinity' ELSE least($5, now() - interval '1 second') END
      AND ((SELECT is_settled FROM shard_map)
         OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = outbox.slot AND s.state = 'owned'))
    ORDER BY due_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE outbox o
    SET state = 'submitting', claim_id = $3, claimed_at = now(), lease_until = now() + $4::interval,
        attempts = attempts + 1
    FROM due
    WHERE o.slot = due.slot AND o.effect_id = due.effect_id
    RETURNING o.slot, o.effect_id, o.order_id, o.invoice_id, o.kind, o.attempts, o.expires_at, o.created_at,
              o.due_at, o.claim_id, o.trace_context, o.reason
)
SELECT c.slot, c.effect_id, c.claim_id, c.kind, c.order_id, c.invoice_id, c.attempts, c.created_at,
       d.event_time, d.number, d.customer_name, d.email, d.phone, d.locale, d.country, d.currency,
       d.total::text AS total, d.lines, d.customer_id,
       extract(epoch FROM now() - c.created_at)::double precision AS age_s,
       extract(epoch FROM c.expires_at - now())::double precision AS left_s,
       c.due_at, c.trace_context,
       -- Whether it ever waited because a rule of ours said so. Not asked of a first try. By LIMIT it is looked
       -- up for each; without, all notes might be read at once.
       CASE WHEN c.reason IS NOT NULL THEN coalesce((
           SELECT true FROM effect_note n
           WHERE n.slot = c.slot AND n.effect_id = c.effect_id AND n.what = 'retry'
             AND n.detail IN ('quiet_hours', 'daily_cap', 'spend_total', 'spend_country', 'spend_prefix',
                              'rate_limited', 'contact_unknown')
           LIMIT 1), false) ELSE false END AS was_held
FROM claimed c JOIN orders d USING (slot, order_id);

-- name: next_due
-- Seconds until the next message of a channel is due, below 0 when one is; null: none. $2: as $5 of claim.
-- Those due for longer than two seconds do not count: a claim has just been and could not take them, because
-- somebody else has them or their slots are moving.
SELECT extract(epoch FROM min(due_at) - now())::double precision FROM outbox
WHERE state = 'pending' AND channel = $1
  AND due_at >= greatest(now() - interval '2 seconds',
                         CASE WHEN $2::timestamptz IS NOT NULL THEN least($2, now() - interval '1 second') END);

-- name: tell
-- $1: channel of NOTIFY. $2: who tells. A notice is nothing that must survive, so its commit waits for nobody.
SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2);

-- name: carry_invoices
-- The invoices that claimed mails carry, with their documents. A claimed order mail ($4) takes every invoice of
-- its order that no other message carries; its row here is still as it was before, so none is there twice.
-- In a statement after the claim: who gives an invoice to a waiting mail locks the mail's row, so this one's
-- snapshot, taken once the claim has that lock, shows all that were given; the claim's own might not.
WITH t AS (
    SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::boolean[])
        AS t(slot, effect_id, order_id, takes)
), taken AS (
    UPDATE invoices v SET effect_id = t.effect_id
    FROM t
    WHERE v.slot = t.slot AND v.order_id = t.order_id
      AND CASE WHEN t.takes THEN v.effect_id IS NULL AND NOT v.travels_alone END  -- as in record_receipts
    RETURNING v.effect_id, v.invoice_id, v.number, v.currency, v.total, v.media_type, v.filename, v.document,
              v.document_url, v.issued_at
)
SELECT effect_id, invoice_id, number, currency, total::text AS total, media_type, filename,
       document AS content, document_url AS url, issued_at
FROM (
    SELECT * FROM taken
    UNION ALL
    SELECT v.effect_id, v.invoice_id, v.number, v.currency, v.total, v.media_type, v.filename, v.document,
           v.document_url, v.issued_at
    FROM t JOIN invoices v ON v.slot = t.slot AND v.order_id = t.order_id AND v.effect_id = t.effect_id
) AS carried
ORDER BY issued_at, invoice_id;

-- name: leave_out
-- The order's mail goes without this invoice. Once it has gone, the invoice gets a mail of its own.
UPDATE invoices SET effect_id = NULL, travels_alone = true
WHERE slot = $1 AND order_id = $2 AND invoice_id = $3 AND effect_id = $4;

-- name: record_receipts
-- Only the holder of the claim may record, also when its lease ran out meanwhile: a late answer from the
-- provider is better knowledge than "unknown", and than what was done for want of it. Returns which were
-- recorded, by their place; of the others ownership is to be proven, and late_receipts tells what to say of them.
-- The states are in a CASE, here and below, so that they are no way to find the rows: by statistics of an hour in
-- which all was sent, nothing is ever being sent, and the whole table would be compared with each receipt.
UPDATE outbox o
SET state = r.state, provider = r.provider, provider_id = coalesce(r.provider_id, o.provider_id),
    reason = r.reason, accepted_at = r.accepted_at, lease_until = NULL,
    settled_at = CASE WHEN r.state IN ('suppressed', 'expired', 'failed') THEN now() END,
    due_at = CASE WHEN r.retry_in_s IS NOT NULL THEN now() + r.retry_in_s * interval '1 second'
                  WHEN r.state = 'pending' THEN now() ELSE o.due_at END,
    attempts = o.attempts - CASE WHEN r.is_untried THEN 1 ELSE 0 END
FROM unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::timestamptz[], $9::double precision[], $10::boolean[]) WITH ORDINALITY
    AS r(slot, effect_id, claim_id, state, provider, provider_id, reason, accepted_at, retry_in_s, is_untried,
         place)
WHERE o.slot = r.slot AND o.effect_id = r.effect_id AND o.claim_id = r.claim_id
  AND CASE WHEN r.state = 'accepted' THEN o.state IN ('submitting', 'unknown', 'pending', 'abandoned')
           ELSE o.state IN ('submitting', 'unknown') END
  AND ((SELECT is_settled FROM shard_map)
     OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = r.slot AND s.state = 'owned'))
RETURNING r.place, o.attempts;

-- name: late_receipts
-- Receipts that came too late to be recorded. Parameters as record_receipts. What becomes of each:
-- known: this was recorded already, or the provider's own word was here before it, or the claim's message was
--   given back meanwhile. proven: an older claim's message was accepted, and that is so whoever was to try
--   again; a note says it. stale: the message is somebody else's by now, and may go out twice when this one
--   was accepted: then a note says it.
WITH r AS (
    SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::timestamptz[], $9::double precision[], $10::boolean[])
        AS t(slot, effect_id, claim_id, state, provider, provider_id, reason, accepted_at, retry_in_s,
             is_untried)
), proven AS (
    UPDATE outbox o
    SET state = 'accepted', provider = r.provider, provider_id = coalesce(r.provider_id, o.provider_id),
        reason = NULL, accepted_at = r.accepted_at, settled_at = NULL, lease_until = NULL
    FROM r
    WHERE o.slot = r.slot AND o.effect_id = r.effect_id
      AND CASE WHEN r.state = 'accepted' THEN o.state IN ('pending', 'unknown', 'abandoned') END
    RETURNING o.slot, o.effect_id
), judged AS (
    SELECT r.*, CASE
        WHEN EXISTS (SELECT FROM proven p WHERE p.effect_id = r.effect_id) THEN 'proven'
        WHEN r.state = 'accepted' AND o.provider_id IS DISTINCT FROM r.provider_id THEN 'stale'
        WHEN r.state = 'accepted' OR (o.claim_id = r.claim_id AND o.state <> 'submitting') THEN 'known'
        ELSE 'stale' END AS verdict
    FROM r LEFT JOIN outbox o ON o.slot = r.slot AND o.effect_id = r.effect_id
), noted AS (
    INSERT INTO effect_note (slot, effect_id, what, provider, detail, actor)
    SELECT slot, effect_id, 'stale_receipt', provider, concat_ws(' ', 'accepted', provider_id), 'receipts'
    FROM judged WHERE state = 'accepted' AND verdict <> 'known'
)
SELECT effect_id, verdict FROM judged;

-- name: note
-- With is_once, nothing when the same was noted before.
INSERT INTO effect_note (slot, effect_id, what, provider, detail, actor)
SELECT slot, effect_id, what, provider, detail, 'receipts'
FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::boolean[])
    AS t(slot, effect_id, what, provider, detail, is_once)
WHERE NOT (is_once AND EXISTS (
    SELECT FROM effect_note n
    WHERE n.slot = t.slot AND n.effect_id = t.effect_id AND n.what = t.what AND n.detail = t.detail));

-- name: record_receipt_batch
-- The last statement of a transaction; the values are filled in as text, so that one message carries it and
-- the COMMIT.
INSERT INTO receipt_batch (channel, accepted, suppressed, expired, failed, unknown, retried)
VALUES ('{channel}', {accepted}, {suppressed}, {expired}, {failed}, {unknown}, {pending});

-- name: release
-- A claim whose commit was not answered may be durable all the same; nothing was sent under it.
UPDATE outbox SET state = 'pending', attempts = attempts - 1, claim_id = NULL, lease_until = NULL,
                  due_at = now()
WHERE state = 'submitting' AND claim_id = $1
  AND ((SELECT is_settled FROM shard_map)
         OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = outbox.slot AND s.state = 'owned'));
