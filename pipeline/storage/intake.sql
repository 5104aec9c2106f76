-- Statements of the intake transaction. Each batch runs them on one shard, between BEGIN and COMMIT.

-- name: look
-- What is known before anything is written: this shard's map, events applied, and orders whose invoice was
-- here first. Runs after the fence was locked, so what it says of the map holds until the end.
-- Two transactions that bring the same event at once both find nothing; then the unique index lets one
-- pass, and the other is run again.
WITH input AS (
    SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::text[]) AS t(slot, event_key, order_id)
), known AS (
    SELECT slot, event_key, i.payload_hash FROM input JOIN inbox i USING (slot, event_key)
)
SELECT now() AS now,
       (SELECT epoch FROM shard_map) AS epoch,
       (SELECT is_settled FROM shard_map) AS is_settled,
       (SELECT array_agg(slot) FROM known) AS slots,
       (SELECT array_agg(event_key) FROM known) AS keys,
       (SELECT array_agg(payload_hash) FROM known) AS hashes,
       (SELECT array_agg(order_id) FROM input
        WHERE EXISTS (SELECT FROM invoices v
                      WHERE v.slot = input.slot AND v.order_id = input.order_id AND v.effect_id IS NULL)
       ) AS early;

-- name: store_few
-- Inbox, orders and their messages in one round trip. For a large batch, three COPYs cost less.
WITH applied AS (
    INSERT INTO inbox (slot, event_key, payload_hash)
    SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::uuid[])
), input AS (
    SELECT * FROM unnest(
        $4::smallint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
        $12::text[], $13::text[], $14::text[], $15::text[], $16::timestamptz[], $17::text[], $18::text[],
        $19::timestamptz[], $20::uuid[], $21::uuid[], $22::interval[]
    ) AS t(slot, order_id, number, customer_id, customer_name, email, phone, locale, country, currency, total,
           lines, processed_at, event_source, event_id, event_time, sms_id, email_id, email_delay)
), stored AS (
    INSERT INTO orders (slot, order_id, number, customer_id, customer_name, email, phone, locale, country,
                        currency, total, lines, processed_at, event_source, event_id, event_time)
    SELECT slot, order_id, number, customer_id, customer_name, email, phone, locale, country,
           currency, total::numeric, lines::jsonb, processed_at, event_source, event_id, event_time
    FROM input
)
INSERT INTO outbox (slot, effect_id, order_id, channel, kind, due_at, expires_at)
SELECT slot, sms_id, order_id, 'sms', 'order_sms', now(), now() + $23::interval FROM input
UNION ALL
SELECT slot, email_id, order_id, 'email', 'order_email', now() + email_delay, now() + $23::interval FROM input;

-- name: known_orders
-- Orders that another event brought before: that event's identity was another one.
SELECT o.order_id FROM unnest($1::smallint[], $2::text[]) AS t(slot, order_id) JOIN orders o USING (slot, order_id);

-- name: store_invoices
INSERT INTO invoices (slot, order_id, invoice_id, number, currency, total, issued_at, media_type,
                      filename, document, document_url, event_source, event_id, event_time)
SELECT slot, order_id, invoice_id, number, currency, total::numeric, issued_at, media_type,
       filename, document, document_url, event_source, event_id, event_time
FROM unnest(
    $1::smallint[], $2::text[], $3::text[], $4::timestamptz[],
    $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::timestamptz[],
    $11::text[], $12::text[], $13::bytea[], $14::text[]
) AS t(slot, event_source, event_id, event_time, order_id, invoice_id, number, currency, total, issued_at,
       media_type, filename, document, document_url)
ON CONFLICT DO NOTHING;

-- name: bring_order_mails_forward
-- An order mail that is still waiting need not wait any longer. This also takes the row's lock, so that a
-- claim running at the same time has either finished (and the next statement sees it) or passes over it.
-- $2: the order mails' effect ids, in the order in which every transaction locks them.
-- A mail that was tried before keeps its backoff. CASE keeps the planner from the index of what is due: after a
-- quiet hour that seems to be empty, and all that waits would be read.
UPDATE outbox SET due_at = CASE WHEN attempts = 0 THEN least(due_at, now()) ELSE due_at END
FROM unnest($1::smallint[], $2::uuid[]) AS t(slot, effect_id)
WHERE outbox.slot = t.slot AND outbox.effect_id = t.effect_id
  AND CASE WHEN t.slot IS NOT NULL THEN outbox.state = 'pending' END;

-- name: owe_invoice_mails
-- Invoices whose order mail has already left get a mail of their own, one for all that come within the grace
-- window ($6): they join a mail of their order that waits untried, or open one, which is named after the first
-- of them. A waiting mail's row is locked, so that no claim takes it before the invoice is in it. Must run in
-- a statement after bring_order_mails_forward, for a snapshot that sees the claim it may have waited for.
WITH late AS (
    SELECT v.slot, v.order_id, v.invoice_id
    FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[]) AS t(slot, effect_id, order_id, invoice_id)
    JOIN invoices v ON v.slot = t.slot AND v.order_id = t.order_id AND v.invoice_id = t.invoice_id
    JOIN outbox o ON o.slot = t.slot AND o.effect_id = t.effect_id
    WHERE v.effect_id IS NULL AND NOT v.travels_alone AND o.state <> 'pending'
), waiting AS (
    SELECT m.slot, m.order_id, m.effect_id
    FROM late JOIN invoices i USING (slot, order_id)
    JOIN outbox m ON m.slot = i.slot AND m.effect_id = i.effect_id
    WHERE NOT i.travels_alone AND m.kind = 'invoice_email' AND m.state = 'pending' AND m.attempts = 0
    ORDER BY m.slot, m.effect_id
    FOR UPDATE OF m
), carried AS (
    SELECT late.*, coalesce(
        (SELECT w.effect_id FROM waiting w WHERE w.slot = late.slot AND w.order_id = late.order_id LIMIT 1),
        effect_id_of(order_id || ' ' || min(invoice_id) OVER (PARTITION BY slot, order_id), 3)) AS effect_id
    FROM late
), owed AS (
    INSERT INTO outbox (slot, effect_id, order_id, invoice_id, channel, kind, due_at, expires_at)
    SELECT slot, effect_id, order_id, invoice_id, 'email', 'invoice_email', now() + $6::interval,
           now() + $5::interval
    FROM carried WHERE effect_id = effect_id_of(order_id || ' ' || invoice_id, 3)
    ON CONFLICT DO NOTHING
)
UPDATE invoices v SET effect_id = carried.effect_id
FROM carried
WHERE v.slot = carried.slot AND v.order_id = carried.order_id AND v.invoice_id = carried.invoice_id
  AND v.effect_id IS NULL;

-- name: keep_traces
-- Of messages that this transaction owes, and of no others: their rows nobody else has seen, so nothing is waited for.
UPDATE outbox o SET trace_context = t.context
FROM unnest($1::smallint[], $2::uuid[], $3::text[]) AS t(slot, effect_id, context)
WHERE o.slot = t.slot AND o.effect_id = t.effect_id AND o.xmin = pg_current_xact_id()::xid;

-- name: quarantine
INSERT INTO quarantine (slot, quarantine_id, reason, detail, queue, exchange, routing_key, content_type,
                        message_id, headers, body, seen)
SELECT slot, quarantine_id, reason, detail, queue, exchange, routing_key, content_type,
       message_id, headers::jsonb, body, seen
FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::text[], $9::text[], $10::text[], $11::bytea[], $12::integer[])
    AS t(slot, quarantine_id, reason, detail, queue, exchange, routing_key, content_type,
         message_id, headers, body, seen)
ON CONFLICT (slot, quarantine_id) DO UPDATE
    SET seen = quarantine.seen + excluded.seen, last_seen_at = now(), state = 'held';

-- name: record_intake_batch
-- Always the last statement: its row makes the commit wait for the replica, whatever the batch held.
-- The values are filled in as text: one message then carries it and the COMMIT.
INSERT INTO intake_batch (trigger, events, orders, invoices, customers, duplicates, quarantined)
VALUES ('{trigger}', {events}, {orders}, {invoices}, {customers}, {duplicates}, {quarantined});

-- name: probe
-- Writes to the WAL only, so the commit waits for the replica; refused by a server in recovery.
SELECT pg_logical_emit_message(true, 'postorder.probe', '');
