"""What a run left in the tables: which transaction wrote each order, and how far each message came."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from loadtest.scenarios.arrivals import Floats
from loadtest.scenarios.event_bodies import EventBodies
from loadtest.scenarios.sightings import Sightings, first_seen
from pipeline.storage.cluster import Cluster
from pipeline.storage.shard import Shard

SAMPLED_MAX = 300_000
"""Orders whose way is followed; of more, one in so many by a hash of its id."""

_TIMEOUT_S = 120.0
_ORDERS = """
SELECT order_id, (extract(epoch FROM recorded_at) * 1000000)::bigint AS at_us FROM orders
WHERE order_id LIKE $1 AND (hashtext(order_id) & 2147483647) % $2 = 0"""
_MESSAGES = """
SELECT order_id, kind, state, extract(epoch FROM created_at)::float8 AS owed,
       extract(epoch FROM claimed_at)::float8 AS claimed,
       extract(epoch FROM accepted_at)::float8 AS accepted,
       extract(epoch FROM settled_at)::float8 AS settled
FROM outbox WHERE order_id LIKE $1 AND (hashtext(order_id) & 2147483647) % $2 = 0
  AND slot IN (SELECT slot FROM shard_slot WHERE state = 'owned')"""
# While the way back is open, rows of slots that moved lie on the shard they left, too.
_COUNT = """
SELECT count(*) FROM orders
WHERE order_id LIKE $1 AND slot IN (SELECT slot FROM shard_slot WHERE state = 'owned')"""


class Traces(NamedTuple):
    """UNIX times by the number of an order; NaN: not so far, or not followed. `shard`: -1 or its place.

    `followed`: one order in so many. `sms_owed` and so on: of the order's SMS and of its order mail.
    """

    followed: int
    shards: list[str]
    shard: Any
    committed: Floats
    replica: Floats
    moments: Mapping[str, Floats]
    stored: int
    states: dict[str, int]


_MOMENTS = ("owed", "claimed", "accepted", "settled")
_CHANNEL = {"order_sms": "sms", "order_email": "mail"}


async def traces(cluster: Cluster, sightings: Sightings, bodies: EventBodies, orders: int) -> Traces:
    """Read what became of a run's orders. Raises StorageUnavailableError, StorageTimeoutError."""
    every = max(1, -(-orders // SAMPLED_MAX))
    names = [shard.name for shard in cluster]
    moments = {
        f"{channel}_{what}": np.full(orders, np.nan) for channel in _CHANNEL.values() for what in _MOMENTS
    }
    found = Traces(
        every,
        names,
        np.full(orders, -1, np.int16),
        np.full(orders, np.nan),
        np.full(orders, np.nan),
        moments,
        0,
        {},
    )
    stored = 0
    for place, shard in enumerate(cluster):
        stored += await _orders(shard, place, found, sightings, bodies)
        await _messages(shard, found, bodies)
    return found._replace(stored=stored)


async def _orders(shard: Shard, place: int, found: Traces, sightings: Sightings, bodies: EventBodies) -> int:
    primary = first_seen(sightings.primaries[shard.name])
    watch = sightings.replicas.get(shard.name)
    replica = first_seen(watch) if watch else {}
    like = f"{bodies.run}-%"
    async with shard.primary.connection() as connection:
        for row in await connection.fetch(_ORDERS, like, found.followed, timeout=_TIMEOUT_S):
            number = bodies.number_of_order(row["order_id"])
            if number is None or number >= len(found.committed):
                continue
            # A slot's rows lie on two shards while it moves; the shard that wrote the order saw its batch.
            if (at := primary.get(row["at_us"])) is not None:
                found.shard[number] = place
                found.committed[number] = at
                found.replica[number] = replica.get(row["at_us"], np.nan)
        stored: int = await connection.fetchval(_COUNT, like, timeout=_TIMEOUT_S)
    return stored


async def _messages(shard: Shard, found: Traces, bodies: EventBodies) -> None:
    async with shard.primary.connection() as connection:
        rows = await connection.fetch(_MESSAGES, f"{bodies.run}-%", found.followed, timeout=_TIMEOUT_S)
    for row in rows:
        key = f"{row['kind']}.{row['state']}"
        found.states[key] = found.states.get(key, 0) + 1
        number, channel = bodies.number_of_order(row["order_id"]), _CHANNEL.get(row["kind"])
        if number is None or channel is None or number >= len(found.committed):
            continue
        for what in _MOMENTS:
            if row[what] is not None:
                found.moments[f"{channel}_{what}"][number] = row[what]
