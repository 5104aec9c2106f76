-- Statements about steering: reports of processes, and limits set while everything runs.

-- name: report
-- $1 to $5: who. $6: the report. Who has said nothing for ten minutes is forgotten; two writers at once that forget
-- the same ones do not wait for each other.
WITH silent AS (
    DELETE FROM process_report WHERE process_id = ANY (ARRAY(
        SELECT process_id FROM process_report
        WHERE seen_at < now() - interval '10 minutes' AND process_id <> $1
        LIMIT 100 FOR UPDATE SKIP LOCKED))
)
INSERT INTO process_report AS p (process_id, host, pid, started_at, roles, seen_at, report)
VALUES ($1, $2, $3, $4, $5, now(), $6::text::jsonb)
ON CONFLICT (process_id) DO UPDATE
    SET roles = excluded.roles, seen_at = excluded.seen_at, report = excluded.report;

-- name: forget
DELETE FROM process_report WHERE process_id = $1;

-- name: reports
-- $1: at most so many, those seen last.
SELECT process_id, host, pid, started_at, roles, seen_at,
       greatest(0, extract(epoch FROM now() - seen_at))::double precision AS age_s, report::text AS report
FROM process_report ORDER BY seen_at DESC LIMIT $1;

-- name: reporting
-- $1: a role. $2: seconds. $3: at most so many.
SELECT process_id FROM process_report
WHERE $1 = ANY (roles) AND seen_at > now() - make_interval(secs => $2) LIMIT $3;

-- name: limits
-- $1: at most so many. Those that were taken off or are over as well: they outdo older copies elsewhere.
SELECT key, value, version, set_by, set_at, expires_at,
       extract(epoch FROM expires_at - now())::double precision AS left_s
FROM limit_override ORDER BY key LIMIT $1;

-- name: write_limits
-- A copy never replaces a newer one. Two of one version were set at once: then time and name decide, everywhere alike.
INSERT INTO limit_override AS l (key, value, version, set_by, set_at, expires_at)
SELECT * FROM unnest($1::text[], $2::double precision[], $3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[])
ON CONFLICT (key) DO UPDATE
    SET value = excluded.value, version = excluded.version, set_by = excluded.set_by, set_at = excluded.set_at,
        expires_at = excluded.expires_at
    WHERE (l.version, l.set_at, l.set_by) < (excluded.version, excluded.set_at, excluded.set_by);
