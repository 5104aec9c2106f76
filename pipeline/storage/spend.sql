-- Statements about what SMS cost: segments by country calling code. Rows belong to no slot and do not move; what
-- counts is the sum over all shards.

-- name: add
INSERT INTO sms_spend (country, segments) SELECT * FROM unnest($1::text[], $2::integer[]);

-- name: last_hour
SELECT country, sum(segments)::bigint AS segments FROM sms_spend
WHERE recorded_at > now() - interval '1 hour' GROUP BY country;
