"""Orders with a message owed for each, made by the servers themselves, and due all at once."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel

_TIMEOUT_S = 300.0
# $1: run. $2, $3: numbers from and to. $4: channel. Each order has a phone and an address of its own, as
# customers have, and belongs to the shard that owns its slot.
OWE = """
WITH made AS (
    INSERT INTO orders (slot, order_id, number, customer_id, customer_name, email, phone, country, currency,
                        total, lines, processed_at, event_source, event_id, event_time)
    SELECT slot_of(id), id, '#' || n, 'c-' || n, 'Ada Example', id || '@example.com',
           '+49151' || lpad(((hashtext($1) & 4194303) * 16 + n)::text, 8, '0'), 'DE', 'EUR', 74.40,
           '[{"sku": "LP-77", "quantity": 2, "unit_price": "29.95", "title": "Blue Train"},
             {"sku": "CD-3", "quantity": 1, "unit_price": "14.50"}]',
           now(), '/bench', id, now()
    FROM generate_series($2::bigint, $3::bigint) AS g(n), LATERAL (SELECT $1 || '-' || n AS id) AS named
    WHERE slot_of(id) IN (SELECT slot FROM shard_slot WHERE state = 'owned')
    RETURNING slot, order_id
)
INSERT INTO outbox (slot, effect_id, order_id, channel, kind, due_at, expires_at)
SELECT slot, effect_id_of(order_id, CASE $4 WHEN 'sms' THEN 1 ELSE 2 END), order_id, $4, 'order_' || $4,
       now(), now() + interval '1 day'
FROM made"""
_TELL = "SELECT pg_notify('postorder_outbox', '')"
_OPEN = """
SELECT (SELECT count(*) FROM outbox WHERE state = 'pending')
     + (SELECT count(*) FROM outbox WHERE state = 'submitting')"""
_MOMENTS = """
SELECT order_id, extract(epoch FROM created_at)::float8 AS owed,
       extract(epoch FROM claimed_at)::float8 AS claimed, extract(epoch FROM accepted_at)::float8 AS accepted
FROM outbox WHERE accepted_at > now() - interval '10 minutes' AND claimed_at IS NOT NULL"""
_STATES = "SELECT state, count(*) AS n FROM outbox WHERE order_id LIKE $1 || '-%' GROUP BY state"


@asynccontextmanager
async def about_to_be_owed(cluster: Cluster, run: str, count: int, channel: Channel) -> AsyncIterator[None]:
    """Write orders `run`-1 to `run`-`count` with a message each; all are due when the block ends.

    Inside the block the rows are written, and not committed yet.
    """
    async with AsyncExitStack() as exits:
        connections = [await exits.enter_async_context(shard.primary.connection()) for shard in cluster]
        async with AsyncExitStack() as transactions:
            for connection in connections:
                await transactions.enter_async_context(connection.transaction())
                await connection.execute(OWE, run, 1, count, channel, timeout=_TIMEOUT_S)
            yield
        for connection in connections:
            await connection.execute(_TELL)


async def states(cluster: Cluster, run: str) -> Counter[str]:
    """Return how many messages of a run are in each state."""
    found: Counter[str] = Counter()
    for shard in cluster:
        async with shard.primary.connection() as connection:
            for row in await connection.fetch(_STATES, run, timeout=_TIMEOUT_S):
                found[row["state"]] += row["n"]
    return found


async def open_messages(cluster: Cluster) -> int:
    """Return how many messages are pending or being sent; cheap when few are."""
    total = 0
    for shard in cluster:
        async with shard.primary.connection() as connection:
            total += await connection.fetchval(_OPEN, timeout=_TIMEOUT_S)
    return total


async def moments(cluster: Cluster) -> dict[str, list[tuple[float, float, float]]]:
    """Return when messages were owed, claimed and accepted, as UNIX times, by order; accepted ones only."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for shard in cluster:
        async with shard.primary.connection() as connection:
            for row in await connection.fetch(_MOMENTS, timeout=_TIMEOUT_S):
                found.setdefault(row["order_id"], []).append((row["owed"], row["claimed"], row["accepted"]))
    return found
