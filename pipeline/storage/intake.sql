-- Statements of the intake transaction. Each batch runs them on one shard, between BEGIN and COMMIT.

-- name: store_orders
-- Returns the keys of the events that are new. $21: grace window. $22: how long a message stays useful.
WITH input AS (
    SELECT * FROM unnest(
        $1::smallint[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[],
        $7::text[], $8::uuid[], $9::uuid[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], $20::timestamptz[]
    ) AS t(slot, event_key, payload_hash, event_source, event_id, event_time,
           order_id, sms_id, email_id, number, customer_id, customer_name, email, phone,
           locale, country, currency, total, lines, processed_at)
), fresh AS (
    INSERT INTO inbox (slot, event_key, payload_hash)
    SELECT slot, event_key, payload_hash FROM input
    ON CONFLICT DO NOTHING
    RETURNING slot, event_key
), new_orders AS (
    INSERT INTO orders (slot, order_id, number, customer_id, customer_name, email, phone, locale, country,
                        currency, total, lines, processed_at, event_source, event_id, event_time)
    SELECT slot, order_id, number, customer_id, customer_name, email, phone, locale, country,
           currency, total::numeric, lines::jsonb, processed_at, event_source, event_id, event_time
    FROM input JOIN fresh USING (slot, event_key)
    ON CONFLICT DO NOTHING
    RETURNING slot, event_source, event_id, order_id
), owed AS (
    INSERT INTO outbox (slot, effect_id, order_id, channel, kind, due_at, expires_at)
    SELECT i.slot, m.effect_id, i.order_id, m.channel, m.kind, m.due_at, now() + $22::interval
    FROM new_orders n
    JOIN input i USING (slot, event_source, event_id, order_id)
    CROSS JOIN LATERAL (VALUES
        (i.sms_id, 'sms', 'order_sms', now()),
        (i.email_id, 'email', 'order_email',
         CASE WHEN EXISTS (SELECT FROM invoices v WHERE v.slot = i.slot AND v.order_id = i.order_id)
              THEN now() ELSE now() + $21::interval END)
    ) AS m(effect_id, channel, kind, due_at)
    ON CONFLICT DO NOTHING
)
SELECT event_key FROM fresh;

-- name: store_invoices
-- Returns the keys of the events that are new.
WITH input AS (
    SELECT * FROM unnest(
        $1::smallint[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[],
        $13::text[], $14::text[], $15::bytea[], $16::text[]
    ) AS t(slot, event_key, payload_hash, event_source, event_id, event_time,
           order_id, invoice_id, number, currency, total, issued_at,
           media_type, filename, document, document_url)
), fresh AS (
    INSERT INTO inbox (slot, event_key, payload_hash)
    SELECT slot, event_key, payload_hash FROM input
    ON CONFLICT DO NOTHING
    RETURNING slot, event_key
), stored AS (
    INSERT INTO invoices (slot, order_id, invoice_id, number, currency, total, issued_at, media_type,
                          filename, document, document_url, event_source, event_id, event_time)
    SELECT slot, order_id, invoice_id, number, currency, total::numeric, issued_at, media_type,
           filename, document, document_url, event_source, event_id, event_time
    FROM input JOIN fresh USING (slot, event_key)
    ON CONFLICT DO NOTHING
)
SELECT event_key FROM fresh;

-- name: bring_order_mails_forward
-- An order mail that is still waiting need not wait any longer. This also takes the row's lock, so that a
-- claim running at the same time has either finished (and the next statement sees it) or passes over it.
-- $2: the order mails' effect ids, in the order in which every transaction locks them.
-- A mail that was tried before keeps its backoff.
UPDATE outbox SET due_at = CASE WHEN attempts = 0 THEN least(due_at, now()) ELSE due_at END
FROM unnest($1::smallint[], $2::uuid[]) AS t(slot, effect_id)
WHERE outbox.slot = t.slot AND outbox.effect_id = t.effect_id AND outbox.state = 'pending';

-- name: owe_invoice_mails
-- Invoices whose order mail has already left get a mail of their own. Must run in a statement after
-- bring_order_mails_forward, for a snapshot that sees the claim it may have waited for.
WITH late AS (
    SELECT v.slot, v.order_id, v.invoice_id,
           effect_id_of(v.order_id || ' ' || v.invoice_id, 3) AS effect_id
    FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[]) AS t(slot, effect_id, order_id, invoice_id)
    JOIN invoices v ON v.slot = t.slot AND v.order_id = t.order_id AND v.invoice_id = t.invoice_id
    JOIN outbox o ON o.slot = t.slot AND o.effect_id = t.effect_id
    WHERE v.effect_id IS NULL AND o.state <> 'pending'
), owed AS (
    INSERT INTO outbox (slot, effect_id, order_id, invoice_id, channel, kind, expires_at)
    SELECT slot, effect_id, order_id, invoice_id, 'email', 'invoice_email', now() + $5::interval FROM late
    ON CONFLICT DO NOTHING
)
UPDATE invoices v SET effect_id = late.effect_id
FROM late
WHERE v.slot = late.slot AND v.order_id = late.order_id AND v.invoice_id = late.invoice_id;

-- name: hashes_of_known_events
SELECT i.event_key, i.payload_hash
FROM unnest($1::smallint[], $2::uuid[]) AS t(slot, event_key)
JOIN inbox i USING (slot, event_key);

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
INSERT INTO intake_batch (trigger, events, orders, invoices, duplicates, quarantined)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: probe
-- Writes to the WAL only, so the commit waits for the replica; refused by a server in recovery.
SELECT pg_logical_emit_message(true, 'postorder.probe', '');
