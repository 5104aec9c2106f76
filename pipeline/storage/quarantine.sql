-- Statements behind `postorder quarantine`.

-- name: matching
-- The condition of the statements below, put in for {matching}. $1: states. $2, $3: reason and queue, null for
-- any. $4, $5: last seen from and before, null for any. $6: beginnings of ids, empty for any.
-- While slots move, rows of slots that are not this shard's, or not yet, or not any more, lie beside its own.
q.state = ANY ($1::text[])
  AND ($2::text IS NULL OR q.reason = $2)
  AND ($3::text IS NULL OR q.queue = $3)
  AND ($4::timestamptz IS NULL OR q.last_seen_at >= $4)
  AND ($5::timestamptz IS NULL OR q.last_seen_at < $5)
  AND ($6::text[] = '{}' OR EXISTS (
        SELECT FROM unnest($6::text[]) AS p(prefix)
        WHERE starts_with(replace(q.quarantine_id::text, '-', ''), p.prefix)))
  AND EXISTS (SELECT FROM shard_slot s WHERE s.slot = q.slot AND s.state IN ('owned', 'leaving'));

-- name: held
-- $7: how many at most.
SELECT slot, quarantine_id, reason, detail, queue, exchange, routing_key, content_type, message_id, headers,
       body, seen, first_seen_at, last_seen_at, state
FROM quarantine q
WHERE {matching}
ORDER BY last_seen_at, quarantine_id
LIMIT $7;

-- name: listed
-- As `held`, without what deliveries hold.
SELECT slot, quarantine_id, reason, detail, queue, exchange, content_type, octet_length(body) AS body_bytes, seen,
       first_seen_at, last_seen_at, state
FROM quarantine q
WHERE {matching}
ORDER BY last_seen_at, quarantine_id
LIMIT $7;

-- name: page
-- $7, $8: after this slot and id. $9: how many at most. $10: and no more once their bodies have these bytes.
WITH page AS (
    SELECT slot, quarantine_id, octet_length(body) AS bytes
    FROM quarantine q
    WHERE (slot, quarantine_id) > ($7::smallint, $8::uuid) AND {matching}
    ORDER BY slot, quarantine_id
    LIMIT $9
), fitting AS (
    SELECT slot, quarantine_id, sum(bytes) OVER (ORDER BY slot, quarantine_id) - bytes AS bytes_before
    FROM page
)
SELECT slot, quarantine_id, reason, detail, queue, exchange, routing_key, content_type, message_id, headers,
       body, seen, first_seen_at, last_seen_at, state
FROM fitting JOIN quarantine USING (slot, quarantine_id)
WHERE bytes_before < $10
ORDER BY slot, quarantine_id;

-- name: count
SELECT count(*) FROM quarantine q WHERE {matching};

-- name: mark
-- Under the fence. Only what did not change since it was read: a row seen again meanwhile is held anew.
-- Locked in the order in which intake locks them.
WITH unchanged AS (
    SELECT q.slot, q.quarantine_id
    FROM quarantine q
    JOIN unnest($1::smallint[], $2::uuid[], $3::integer[]) AS t(slot, quarantine_id, seen)
        ON q.slot = t.slot AND q.quarantine_id = t.quarantine_id AND q.seen = t.seen
    WHERE EXISTS (SELECT FROM shard_slot s WHERE s.slot = q.slot AND s.state = 'owned')
    ORDER BY q.slot, q.quarantine_id
    FOR UPDATE OF q
)
UPDATE quarantine q SET state = $4
FROM unchanged u
WHERE q.slot = u.slot AND q.quarantine_id = u.quarantine_id
RETURNING q.quarantine_id;
