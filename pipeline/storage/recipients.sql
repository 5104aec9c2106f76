-- Statements about recipients: who wants nothing any more, and how many messages they were sent.

-- name: look
-- $1, $2: slots and keys. A row for each. Nothing is said for slots that are not this shard's, paused ones among
-- them: a word said elsewhere might be missed.
SELECT t.key AS recipient_key,
       coalesce((SELECT s.state FROM shard_slot s WHERE s.slot = t.slot) = 'owned', false) AS is_owned,
       (SELECT r.reason FROM recipient r
        WHERE r.slot = t.slot AND r.recipient_key = t.key AND r.state = 'out') AS refused_for
FROM unnest($1::smallint[], $2::uuid[]) AS t(slot, key);

-- name: count
-- $1: the fence's lock. $2, $3: slots and keys, each but once. $4: how many messages to each. $5: the cap.
SELECT recipient_key, is_owned, refused_for, granted, day FROM count_messages($1, $2, $3, $4, $5);

-- name: take_back
-- Messages that were counted and not sent. $3: the days on which they were counted.
UPDATE recipient_day d SET messages = greatest(0, d.messages - t.messages)
FROM unnest($1::smallint[], $2::uuid[], $3::date[], $4::integer[]) AS t(slot, key, day, messages)
WHERE d.slot = t.slot AND d.recipient_key = t.key AND d.day = t.day;

-- name: set
-- What was said last counts, and of two things said at once the one that sends less. A time far ahead would keep
-- all later ones out, so it counts as five minutes ahead. What only an operator may lift stays: a person who
-- writes START does not mend a mailbox that is gone.
INSERT INTO recipient AS r (slot, recipient_key, channel, state, reason, changed_at)
VALUES ($1, $2, $3, $4, $5, least($6, now() + interval '5 minutes'))
ON CONFLICT (slot, recipient_key) DO UPDATE
    SET state = excluded.state, reason = excluded.reason, changed_at = excluded.changed_at, recorded_at = now()
    WHERE (r.changed_at < excluded.changed_at
           OR (r.changed_at = excluded.changed_at AND r.state = 'in' AND excluded.state = 'out'))
      AND (r.state = 'in' OR excluded.reason = 'operator'
           OR NOT (r.reason = 'operator' OR r.reason LIKE 'bounce:%'))
RETURNING r.state;

-- name: show
SELECT r.channel, r.state, r.reason, r.changed_at,
       coalesce((SELECT d.messages FROM recipient_day d
                 WHERE d.slot = $1 AND d.recipient_key = $2 AND d.day = (now() AT TIME ZONE 'UTC')::date), 0)
           AS messages_today
FROM (SELECT $1::smallint AS slot, $2::uuid AS recipient_key) AS t
LEFT JOIN recipient r USING (slot, recipient_key);

-- name: mail_recipient
-- $1: slots, because an effect id tells its slot for an order's messages only. $2: the mail. Where it went is
-- not kept with it: it was the order's address, else the customer's.
SELECT o.slot, o.provider, o.provider_id, d.email, d.customer_id,
       CASE WHEN o.provider_status = 'failed' THEN o.provider_status_at END AS bounced_at
FROM outbox o JOIN orders d USING (slot, order_id)
WHERE o.slot = ANY ($1::smallint[]) AND o.effect_id = $2 AND o.channel = 'email'
  AND EXISTS (SELECT FROM shard_slot s WHERE s.slot = o.slot AND s.state IN ('owned', 'leaving'));
