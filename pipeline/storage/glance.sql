-- Statements behind the overview: figures of one shard that are cheap enough to be read each second, by indexes
-- alone. While slots move, rows that are on both shards are counted on both.

-- name: glance
-- $1: how many messages are counted at most of each state and channel.
WITH taken AS (
    SELECT coalesce(sum(events), 0)::bigint AS events, coalesce(sum(orders), 0)::bigint AS orders,
           coalesce(sum(invoices), 0)::bigint AS invoices
    FROM intake_batch WHERE recorded_at > now() - interval '1 minute'
), sent AS (
    SELECT coalesce(sum(accepted) FILTER (WHERE channel = 'sms'), 0)::bigint AS sms,
           coalesce(sum(accepted) FILTER (WHERE channel = 'email'), 0)::bigint AS email,
           coalesce(sum(accepted + suppressed + expired + failed + unknown + retried), 0)::bigint AS settled
    FROM receipt_batch WHERE recorded_at > now() - interval '1 minute'
), due_sms AS (
    SELECT due_at FROM outbox
    WHERE state = 'pending' AND channel = 'sms' AND due_at <= now() ORDER BY due_at LIMIT $1
), due_email AS (
    SELECT due_at FROM outbox
    WHERE state = 'pending' AND channel = 'email' AND due_at <= now() ORDER BY due_at LIMIT $1
), unknown AS (
    SELECT channel, created_at FROM outbox WHERE state = 'unknown' ORDER BY created_at LIMIT $1
)
SELECT taken.events, taken.orders, taken.invoices, sent.sms, sent.email, sent.settled,
       (SELECT count(*) FROM due_sms) + (SELECT count(*) FROM due_email) AS due,
       coalesce(extract(epoch FROM now() - least((SELECT min(due_at) FROM due_sms),
                                                 (SELECT min(due_at) FROM due_email))), 0)::double precision
           AS unclaimed_s,
       (SELECT count(*) FROM unknown WHERE channel = 'sms') AS unknown_sms,
       (SELECT count(*) FROM unknown WHERE channel = 'email') AS unknown_email,
       coalesce(extract(epoch FROM now() - (SELECT min(created_at) FROM unknown)), 0)::double precision
           AS unknown_oldest_s
FROM taken, sent;

-- name: held
-- $1: how many are counted at most.
SELECT count(*) FROM (SELECT FROM quarantine WHERE state = 'held' LIMIT $1) AS q;
