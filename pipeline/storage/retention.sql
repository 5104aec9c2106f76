-- Statements of retention. A walk goes through a table's pages from first to last, some at a time: no index is
-- needed, each page is read once, and what a step costs does not depend on how much is old.

-- name: begin_walks
INSERT INTO retention_walk (table_name) VALUES ('inbox'), ('outbox') ON CONFLICT DO NOTHING;

-- name: take_step
-- No row: the walk is not due, or another process is taking a step of it.
SELECT next_page, pg_relation_size(table_name::regclass) / current_setting('block_size')::bigint AS pages
FROM retention_walk WHERE table_name = $1 AND due_at <= now()
FOR UPDATE SKIP LOCKED;

-- name: end_step
-- $2: the page to go on from; null at the end, and then $3 is how long to rest.
UPDATE retention_walk
SET next_page = coalesce($2, 0), deleted = deleted + $4,
    due_at = CASE WHEN $2::bigint IS NULL THEN now() + $3::interval ELSE due_at END
WHERE table_name = $1;

-- name: count_deleted
UPDATE retention_walk SET deleted = deleted + $2 WHERE table_name = $1;

-- name: delete_inbox
-- $1, $2: from page and before page, as tids. $3: how long rows are kept. Held: the events of orders that have
-- a message still open. OFFSET 0 has each open one looked up by itself: a step must never read a table through.
WITH open AS (
    SELECT slot, order_id FROM outbox WHERE state = 'unknown'
    UNION
    SELECT slot, order_id FROM outbox WHERE state = 'submitting'
    UNION
    SELECT slot, order_id FROM outbox
    WHERE state = 'pending' AND (kind = 'invoice_email' OR created_at < now() - $3::interval)
), held AS (
    SELECT slot, event_key_of(e.event_source, e.event_id) AS event_key
    FROM open, LATERAL (
        SELECT d.event_source, d.event_id FROM orders d
        WHERE d.slot = open.slot AND d.order_id = open.order_id OFFSET 0) e
    UNION ALL
    SELECT slot, event_key_of(e.event_source, e.event_id)
    FROM open, LATERAL (
        SELECT v.event_source, v.event_id FROM invoices v
        WHERE v.slot = open.slot AND v.order_id = open.order_id OFFSET 0) e
), gone AS (
    DELETE FROM inbox i USING shard_slot s
    WHERE i.ctid >= $1::tid AND i.ctid < $2::tid AND i.recorded_at < now() - $3::interval
      AND s.slot = i.slot AND s.state = 'owned'
      AND NOT EXISTS (SELECT FROM held h WHERE h.slot = i.slot AND h.event_key = i.event_key)
    RETURNING 1
)
SELECT count(*) AS deleted FROM gone;

-- name: delete_outbox
-- Only what is settled, and was so before the time that rows are kept. Its notes go with it.
WITH gone AS (
    DELETE FROM outbox o USING shard_slot s
    WHERE o.ctid >= $1::tid AND o.ctid < $2::tid
      AND greatest(o.created_at, o.accepted_at, o.settled_at, o.provider_status_at) < now() - $3::interval
      AND o.state IN ('accepted', 'delivered', 'undelivered', 'suppressed', 'expired', 'failed', 'abandoned')
      AND s.slot = o.slot AND s.state = 'owned'
    RETURNING o.slot, o.effect_id, o.channel, o.kind, o.state
), notes AS (
    DELETE FROM effect_note n USING gone WHERE n.slot = gone.slot AND n.effect_id = gone.effect_id
), counted AS (
    INSERT INTO retired_effect AS r (channel, kind, state, effects)
    SELECT channel, kind, state, count(*) FROM gone GROUP BY channel, kind, state
    ON CONFLICT (channel, kind, state) DO UPDATE SET effects = r.effects + excluded.effects
)
SELECT count(*) AS deleted FROM gone;

-- name: delete_recipient_day
-- Counts of days that no cap looks at any more, by anybody's clock. $1, $2: from page and before page, as tids.
DELETE FROM recipient_day d USING shard_slot s
WHERE d.ctid >= $1::tid AND d.ctid < $2::tid AND d.day < (now() AT TIME ZONE 'UTC')::date - 2
  AND s.slot = d.slot AND s.state = 'owned';

-- name: delete_sms_spend
DELETE FROM sms_spend WHERE spend_id = ANY (ARRAY(
    SELECT spend_id FROM sms_spend WHERE recorded_at < now() - interval '2 days'
    ORDER BY recorded_at LIMIT $1));

-- name: survey_inbox
-- Rows and their bytes in some pages, and of these the ones old enough to go (of them, those of orders with an
-- open message stay).
SELECT count(*) AS rows,
       coalesce(sum(pg_column_size(i.*) + 4), 0)::bigint AS bytes,
       count(*) FILTER (WHERE is_old) AS old_rows,
       coalesce(sum(pg_column_size(i.*) + 4) FILTER (WHERE is_old), 0)::bigint AS old_bytes
FROM inbox i, LATERAL (SELECT i.recorded_at < now() - $3::interval AS is_old) AS age
WHERE i.ctid >= $1::tid AND i.ctid < $2::tid;

-- name: survey_outbox
SELECT count(*) AS rows,
       coalesce(sum(pg_column_size(o.*) + 4), 0)::bigint AS bytes,
       count(*) FILTER (WHERE is_old) AS old_rows,
       coalesce(sum(pg_column_size(o.*) + 4) FILTER (WHERE is_old), 0)::bigint AS old_bytes
FROM outbox o, LATERAL (
    SELECT greatest(o.created_at, o.accepted_at, o.settled_at, o.provider_status_at) < now() - $3::interval
           AND o.state IN ('accepted', 'delivered', 'undelivered', 'suppressed', 'expired', 'failed', 'abandoned') AS is_old) AS age
WHERE o.ctid >= $1::tid AND o.ctid < $2::tid;

-- name: size
SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::bigint AS pages,
       pg_total_relation_size($1::text::regclass) AS file_bytes;
