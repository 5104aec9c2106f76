-- Statements about messages that fell out of the flow, and about what providers say of messages later. Each
-- that changes something runs under the fence; rows of slots that are not this shard's are left alone.

-- name: expire_leases
-- A claim whose holder did not come back may have been sent: unknown, never pending. $1: how many at most.
-- $2: none whose lease ended before this; null: any. As $5 of claim, for the index of leases.
WITH lost AS (
    SELECT slot, effect_id FROM outbox
    WHERE state = 'submitting' AND lease_until < now()
      AND lease_until >= coalesce($2::timestamptz, '-infinity')
      AND ((SELECT is_settled FROM shard_map)
         OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = outbox.slot AND s.state = 'owned'))
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), turned AS (
    UPDATE outbox o SET state = 'unknown', reason = 'lease_expired', lease_until = NULL
    FROM lost
    WHERE o.slot = lost.slot AND o.effect_id = lost.effect_id
    RETURNING o.slot, o.effect_id, o.channel
), noted AS (
    INSERT INTO effect_note (slot, effect_id, what, detail, actor)
    SELECT slot, effect_id, 'unknown', 'lease_expired', 'reconciler' FROM turned
)
SELECT now() AS looked_at, count(*) FILTER (WHERE channel = 'sms') AS sms,
       count(*) FILTER (WHERE channel = 'email') AS email
FROM turned;

-- name: owe_left_behind_invoices
-- An order and its invoice that were committed at the same moment could not see each other. By now both
-- can be seen, so an invoice that waits although its order mail has left gets a mail of its own: with others of
-- its order, as in owe_invoice_mails, unless its document could not be had before. Then it travels alone, and
-- its mail has an id of another kind, because there may be one named after it that went without it.
WITH late AS (
    SELECT v.slot, v.order_id, v.invoice_id, v.travels_alone
    FROM invoices v
    JOIN outbox o ON o.slot = v.slot AND o.effect_id = effect_id_of(v.order_id, 2)
    WHERE v.effect_id IS NULL AND o.state <> 'pending'
      AND ((SELECT is_settled FROM shard_map)
         OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = v.slot AND s.state = 'owned'))
    LIMIT $1
    FOR UPDATE OF v SKIP LOCKED
), waiting AS (
    SELECT m.slot, m.order_id, m.effect_id
    FROM late JOIN invoices i USING (slot, order_id)
    JOIN outbox m ON m.slot = i.slot AND m.effect_id = i.effect_id
    WHERE NOT i.travels_alone AND m.kind = 'invoice_email' AND m.state = 'pending' AND m.attempts = 0
    ORDER BY m.slot, m.effect_id
    FOR UPDATE OF m SKIP LOCKED
), carried AS (
    SELECT late.*, CASE WHEN travels_alone THEN effect_id_of(order_id || ' ' || invoice_id, 4) ELSE coalesce(
        (SELECT w.effect_id FROM waiting w WHERE w.slot = late.slot AND w.order_id = late.order_id LIMIT 1),
        effect_id_of(order_id || ' ' || min(invoice_id) FILTER (WHERE NOT travels_alone)
                                        OVER (PARTITION BY slot, order_id), 3)) END AS effect_id
    FROM late
), owed AS (
    INSERT INTO outbox (slot, effect_id, order_id, invoice_id, channel, kind, expires_at)
    SELECT slot, effect_id, order_id, invoice_id, 'email', 'invoice_email', now() + $2::interval
    FROM carried
    WHERE effect_id = effect_id_of(order_id || ' ' || invoice_id, CASE WHEN travels_alone THEN 4 ELSE 3 END)
    ON CONFLICT DO NOTHING
)
UPDATE invoices v SET effect_id = carried.effect_id
FROM carried
WHERE v.slot = carried.slot AND v.order_id = carried.order_id AND v.invoice_id = carried.invoice_id
RETURNING v.effect_id;

-- name: take_unknown
-- Unknown messages that may be asked about now, and by nobody else for a while. $1: channel. $2: how many at
-- most. $3: how long after the claim a call may still be under way. $4: for how long they are ours. The columns
-- up to left_s are those of claim.
WITH due AS (
    SELECT slot, effect_id FROM outbox
    WHERE state = 'unknown' AND channel = $1 AND due_at <= now()
      AND coalesce(claimed_at, created_at) < now() - $3::interval
      AND ((SELECT is_settled FROM shard_map)
         OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = outbox.slot AND s.state = 'owned'))
    ORDER BY created_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE outbox o SET due_at = now() + $4::interval
    FROM due
    WHERE o.slot = due.slot AND o.effect_id = due.effect_id
    RETURNING o.*
)
SELECT t.slot, t.effect_id, t.claim_id, t.kind, t.order_id, t.invoice_id, t.attempts, t.created_at,
       d.event_time, d.number, d.customer_name, d.email, d.phone, d.locale, d.country, d.currency,
       d.total::text AS total, d.lines, d.customer_id,
       extract(epoch FROM now() - t.created_at)::double precision AS age_s,
       extract(epoch FROM t.expires_at - now())::double precision AS left_s,
       coalesce(t.claimed_at, t.created_at) AS claimed_at,
       (SELECT count(*) FROM effect_note n
        WHERE n.slot = t.slot AND n.effect_id = t.effect_id AND n.what = 'asked'
          AND n.at >= coalesce(t.claimed_at, t.created_at)) AS asked
FROM taken t JOIN orders d USING (slot, order_id);

-- name: conclude
-- What was found out about unknown messages. One that is known by now, or was claimed again, is left alone.
-- A message that stays unknown is asked about again in again_in_s; null: never.
WITH r AS (
    SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::text[], $9::text[], $10::double precision[], $11::boolean[])
        AS t(slot, effect_id, claim_id, state, provider, provider_id, status, reason, detail, again_in_s,
             is_counted)
), concluded AS (
    UPDATE outbox o
    SET state = r.state,
        provider = coalesce(r.provider, o.provider), provider_id = coalesce(r.provider_id, o.provider_id),
        provider_status = coalesce(r.status, o.provider_status),
        provider_status_at = CASE WHEN r.status IS NULL THEN o.provider_status_at ELSE now() END,
        reason = CASE WHEN r.state = 'unknown' THEN o.reason ELSE r.reason END,
        accepted_at = CASE WHEN r.state IN ('accepted', 'delivered', 'undelivered') THEN now() END,
        settled_at = CASE WHEN r.state IN ('abandoned', 'delivered', 'undelivered') THEN now() END,
        due_at = CASE WHEN r.state = 'unknown'
                      THEN coalesce(now() + r.again_in_s * interval '1 second', 'infinity')
                      ELSE now() END,
        attempts = o.attempts - CASE WHEN r.state = 'pending' AND NOT r.is_counted THEN 1 ELSE 0 END
    FROM r
    WHERE o.slot = r.slot AND o.effect_id = r.effect_id AND o.claim_id = r.claim_id
      AND CASE WHEN r.state IS NOT NULL THEN o.state = 'unknown' END  -- as in record_receipts
    RETURNING o.slot, o.effect_id, o.channel, o.state, r.provider, r.detail
), noted AS (
    INSERT INTO effect_note (slot, effect_id, what, provider, detail, actor)
    SELECT slot, effect_id, CASE state WHEN 'unknown' THEN 'asked' ELSE 'resolved' END, provider, detail,
           'reconciler'
    FROM concluded
)
SELECT effect_id, channel, state FROM concluded;

-- name: apply_statuses
-- Status words of providers; of a message one at a time. $8: the word's rank, it only goes up. $9: the state
-- that it proves. $10: the ranks of all words. A word proves that the message was accepted, also while nothing
-- else is known, and whoever holds the claim. A word about another id than the one stored is noted.
WITH s AS (
    SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::timestamptz[], $8::smallint[], $9::text[])
        AS t(slot, effect_id, provider, provider_id, status, code, at, rank, state)
), applied AS (
    UPDATE outbox o
    SET state = s.state, provider = coalesce(o.provider, s.provider),
        provider_id = coalesce(o.provider_id, s.provider_id),
        reason = CASE WHEN s.state = 'undelivered' THEN coalesce(s.code, s.status) END,
        accepted_at = coalesce(o.accepted_at, now()), lease_until = NULL,
        settled_at = CASE WHEN s.state <> 'accepted' THEN coalesce(o.settled_at, now()) END,
        provider_status = s.status, provider_status_at = s.at
    FROM s
    WHERE o.slot = s.slot AND o.effect_id = s.effect_id
      AND (o.state IN ('pending', 'submitting', 'unknown', 'abandoned', 'accepted')
           OR o.state = 'delivered' AND s.state = 'delivered')
      AND (o.provider_id IS NULL OR s.provider_id IS NULL OR o.provider_id = s.provider_id)
      AND s.rank > coalesce(($10::jsonb ->> o.provider_status)::smallint, 0)
    RETURNING o.slot, o.effect_id, o.channel, old.state AS was, s.provider, s.provider_id, s.status,
              CASE WHEN s.state = 'delivered' AND old.state <> 'delivered'
                   THEN extract(epoch FROM o.settled_at - o.accepted_at)::double precision END AS delivered_s
), judged AS (
    SELECT s.*, a.channel, a.was, a.delivered_s, o.trace_context, CASE
        WHEN a.effect_id IS NOT NULL THEN 'applied'
        WHEN o.effect_id IS NULL THEN 'no_such_message'
        WHEN o.provider_id <> s.provider_id THEN 'other_id'
        WHEN o.state IN ('suppressed', 'expired', 'failed') THEN 'contradiction'
        ELSE 'old' END AS outcome
    FROM s LEFT JOIN applied a USING (slot, effect_id) LEFT JOIN outbox o USING (slot, effect_id)
), noted AS (
    INSERT INTO effect_note (slot, effect_id, what, provider, detail, actor)
    SELECT slot, effect_id, CASE outcome WHEN 'applied' THEN 'resolved' ELSE 'status' END, provider,
           concat_ws(' ', nullif(outcome, 'applied'), status, provider_id), 'callbacks'
    FROM judged j
    WHERE (outcome = 'applied' AND was IN ('pending', 'unknown', 'abandoned'))
       OR (outcome IN ('other_id', 'contradiction') AND NOT EXISTS (
            SELECT FROM effect_note n
            WHERE n.slot = j.slot AND n.effect_id = j.effect_id AND n.what = 'status'
              AND n.detail = concat_ws(' ', j.outcome, j.status, j.provider_id)))
)
SELECT outcome, channel, was, delivered_s, effect_id, trace_context FROM judged;

-- name: unknown_totals
-- How many messages are unknown, and since when the oldest is owed.
SELECT channel, count(*) AS effects,
       extract(epoch FROM now() - min(created_at))::double precision AS oldest_s
FROM outbox
WHERE state = 'unknown'
  AND ((SELECT is_settled FROM shard_map)
     OR EXISTS (SELECT FROM shard_slot s WHERE s.slot = outbox.slot AND s.state = 'owned'))
GROUP BY channel;
