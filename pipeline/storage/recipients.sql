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
-- Messages that were counted and not sent. $3: the days on which they were counted. $5: the cap. Two processes that
-- ask at once for the last room both add to the count, and only what fits is granted: so what lies above the cap was
-- granted to nobody, and must not use up what is taken back.
UPDATE recipient_day d SET messages = greatest(0, least(d.messages, $5) - t.messages)
FROM unnest($1::smallint[], $2::uuid[], $3::date[], $4::integer[]) AS t(slot, key, day, messages)
WHERE d.slot = t.slot AND d.recipient_key = t.key AND d.day = t.day;

-- name: lock
-- One word of a recipient at a time, also of one of whom nobody said anything. A statement of its own: the next
-- one's snapshot then shows what the word before has left.
SELECT pg_advisory_xact_lock($1::smallint, hashtext($2::uuid::text));

-- name: standing
-- $3: the key of the report that says something. The row's lock has a commit wait for the replica that writes
-- nothing else: what is said again may be acknowledged before the first time.
SELECT r.state, r.reason, r.changed_at, clock_timestamp() AS now,
       EXISTS (SELECT FROM recipient_day d WHERE d.slot = $1 AND d.recipient_key = $3) AS is_repeated
FROM (SELECT) AS one
LEFT JOIN (SELECT state, reason, changed_at FROM recipient WHERE slot = $1 AND recipient_key = $2 FOR UPDATE) AS r
    ON true;

-- name: remember
-- That a report was acted on: a count of no messages, which goes with the counts of its day.
INSERT INTO recipient_day (slot, recipient_key, day, messages)
VALUES ($1, $2, (now() AT TIME ZONE 'UTC')::date, 0) ON CONFLICT DO NOTHING;

-- name: set
INSERT INTO recipient (slot, recipient_key, channel, state, reason, changed_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (slot, recipient_key) DO UPDATE
    SET state = excluded.state, reason = excluded.reason, changed_at = excluded.changed_at, recorded_at = now();

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
SELECT o.slot, o.provider, o.provider_id, d.email, d.customer_id, o.provider_status_at AS status_at
FROM outbox o JOIN orders d USING (slot, order_id)
WHERE o.slot = ANY ($1::smallint[]) AND o.effect_id = $2 AND o.channel = 'email'
  AND EXISTS (SELECT FROM shard_slot s WHERE s.slot = o.slot AND s.state IN ('owned', 'leaving'));
