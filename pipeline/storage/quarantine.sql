-- Statements behind `postorder quarantine`.

-- name: held
-- $1: states. $2, $3: reason and queue, null for any. $4, $5: last seen from and before, null for any.
-- $6: beginnings of ids, empty for any. $7: how many at most.
SELECT slot, quarantine_id, reason, detail, queue, exchange, routing_key, content_type, message_id, headers,
       body, seen, first_seen_at, last_seen_at, state
FROM quarantine
WHERE state = ANY ($1::text[])
  AND ($2::text IS NULL OR reason = $2)
  AND ($3::text IS NULL OR queue = $3)
  AND ($4::timestamptz IS NULL OR last_seen_at >= $4)
  AND ($5::timestamptz IS NULL OR last_seen_at < $5)
  AND ($6::text[] = '{}' OR EXISTS (
        SELECT FROM unnest($6::text[]) AS p(prefix)
        WHERE starts_with(replace(quarantine_id::text, '-', ''), p.prefix)))
ORDER BY last_seen_at, quarantine_id
LIMIT $7;

-- name: mark
-- Only what did not change since it was read: a row seen again meanwhile is held anew.
UPDATE quarantine q SET state = $4
FROM unnest($1::smallint[], $2::uuid[], $3::integer[]) AS t(slot, quarantine_id, seen)
WHERE q.slot = t.slot AND q.quarantine_id = t.quarantine_id AND q.seen = t.seen
RETURNING q.quarantine_id;
