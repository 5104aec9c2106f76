-- Statements behind the gauges of shards: asked again and again, so that each is cheap.

-- name: standing
-- On a server that takes no writes this fails, which is the answer. Replicas, and not who follows slots that move.
SELECT count(*)::integer AS replicas,
       (count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')))::integer AS synchronous,
       coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint AS lag_bytes,
       coalesce(max(extract(epoch FROM replay_lag)), 0)::double precision AS lag_s
FROM pg_stat_replication
WHERE state = 'streaming' AND application_name !~ '^(postorder_(move|back)_|pg_[0-9]+_sync_)';

-- name: waiting
-- By channel: what is due, $1 at most of it, since when the oldest is, and what came to an end in the last minute.
SELECT c.channel, d.due::integer AS due, d.oldest_s, coalesce(s.settled, 0)::integer AS settled
FROM (VALUES ('sms'), ('email')) AS c(channel)
CROSS JOIN LATERAL (
    SELECT count(*) AS due,
           coalesce(extract(epoch FROM now() - min(due_at)), 0)::double precision AS oldest_s
    FROM (SELECT due_at FROM outbox
          WHERE state = 'pending' AND channel = c.channel AND due_at <= now()
          ORDER BY due_at LIMIT $1) AS first_due
) AS d
CROSS JOIN LATERAL (
    SELECT sum(accepted + suppressed + expired + failed + unknown) AS settled FROM receipt_batch
    WHERE channel = c.channel AND recorded_at > now() - interval '1 minute'
) AS s;

-- name: quarantine_held
-- While slots move, rows of slots that are not this shard's lie beside its own.
SELECT count(*)::integer AS held FROM quarantine q
WHERE state = 'held'
  AND EXISTS (SELECT FROM shard_slot s WHERE s.slot = q.slot AND s.state IN ('owned', 'leaving'));

-- name: lead
-- Held as long as the session lives, and taken again at each look: so one process counts, and another one takes over
-- when it is gone.
SELECT pg_try_advisory_lock($1) AND NOT pg_is_in_recovery();

-- name: end_with_client
-- A long statement ends soon after whoever asked has hung up.
SET client_connection_check_interval = '5s';
