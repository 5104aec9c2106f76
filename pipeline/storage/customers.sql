-- Statements about persons: their contact details and their consent.

-- name: store_customers
-- $1–$10: customers; $11–$15: consent. The newest wins, and of two of the same time the first. A time far ahead
-- would keep all later ones out, so it counts as five minutes ahead. Whoever keeps copies is told by slot.
WITH stored AS (
    INSERT INTO customers AS c (slot, customer_id, name, email, phone, locale, country, updated_at,
                                event_source, event_id)
    SELECT slot, customer_id, name, email, phone, locale, country,
           least(updated_at, now() + interval '5 minutes'), event_source, event_id
    FROM unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                $8::timestamptz[], $9::text[], $10::text[])
        AS t(slot, customer_id, name, email, phone, locale, country, updated_at, event_source, event_id)
    ON CONFLICT (slot, customer_id) DO UPDATE
        SET name = excluded.name, email = excluded.email, phone = excluded.phone, locale = excluded.locale,
            country = excluded.country, updated_at = excluded.updated_at,
            event_source = excluded.event_source, event_id = excluded.event_id, recorded_at = now()
        WHERE c.updated_at < excluded.updated_at
    RETURNING c.slot
), agreed AS (
    INSERT INTO consent AS c (slot, customer_id, channel, state, reason, changed_at)
    SELECT slot, customer_id, channel, state, 'customer.updated',
           least(changed_at, now() + interval '5 minutes')
    FROM unnest($11::smallint[], $12::text[], $13::text[], $14::text[], $15::timestamptz[])
        AS t(slot, customer_id, channel, state, changed_at)
    ON CONFLICT (slot, customer_id, channel) DO UPDATE
        SET state = excluded.state, reason = excluded.reason, changed_at = excluded.changed_at,
            recorded_at = now()
        WHERE c.changed_at < excluded.changed_at
    RETURNING c.slot
)
-- A notice holds less than 8000 bytes.
SELECT pg_notify('postorder_customers', CASE WHEN count(DISTINCT slot) <= 1500
                                             THEN string_agg(DISTINCT slot::text, ' ') ELSE 'all' END)
FROM (SELECT slot FROM stored UNION ALL SELECT slot FROM agreed) AS changed
HAVING count(*) > 0;

-- name: read_persons
-- $1, $2: slots and customers. A row for each, known or not. `owned`: whether this shard may answer at all.
SELECT t.customer_id, c.customer_id IS NOT NULL AS known, c.name, c.email, c.phone, c.locale, c.country, c.recorded_at,
       ARRAY(SELECT channel FROM consent k
             WHERE k.slot = t.slot AND k.customer_id = t.customer_id AND k.state = 'out') AS opted_out,
       coalesce((SELECT state IN ('owned', 'leaving') FROM shard_slot s WHERE s.slot = t.slot), false) AS owned
FROM unnest($1::smallint[], $2::text[]) AS t(slot, customer_id)
LEFT JOIN customers c ON c.slot = t.slot AND c.customer_id = t.customer_id;

-- name: written_up_to
-- Where a primary stands: all that was committed before is at or before it.
SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint AS lsn;

-- name: replayed_up_to
-- Where a replica stands; null on a primary. In a statement of its own, before the data: a statement's snapshot
-- is older than anything it calls.
SELECT CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0')::bigint END AS lsn;
