"""Steady load on a stack, and what can be said afterwards: every event there once, and how long a gap was."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from real_stack import Bench

from consumers.lean.publisher import LeanPublisher
from consumers.lean.wire import property_bytes, route_of
from consumers.topology import EXCHANGE
from loadtest.event_source import now_text, order_body

ROUTE = route_of(EXCHANGE, "order.processed", mandatory=True)
STRUCTURED = property_bytes(content_type="application/cloudevents+json")
# Gaps between the commits of a shard that matter: those that end after the moment of the fault.
_GAP = """
SELECT coalesce(max(extract(epoch FROM later - earlier)), 0)::float8 AS gap_s FROM (
    SELECT recorded_at AS later, lag(recorded_at) OVER (ORDER BY recorded_at) AS earlier FROM intake_batch
) AS pairs WHERE later >= $1
"""
_STORED = "SELECT order_id FROM orders WHERE order_id LIKE $1"
_RATE = "SELECT coalesce(sum(events), 0)::int AS events FROM intake_batch WHERE recorded_at BETWEEN $1 AND $2"


class SteadyLoad:
    """Publishes orders at a rate until told to stop. `confirmed` counts those that the broker has."""

    def __init__(self, bench: Bench, run: str, rate: float) -> None:
        self._bench = bench
        self._run = run
        self._rate = rate
        self._stopping = asyncio.Event()
        self.confirmed = 0

    async def run(self) -> None:
        publisher = LeanPublisher(self._bench.settings.amqp, "tests", 5000)
        await publisher.open()
        try:
            started = time.monotonic()
            while not self._stopping.is_set():
                body = order_body(self._run, self.confirmed, now_text())
                await publisher.publish(ROUTE, STRUCTURED, body)
                self.confirmed += 1
                await asyncio.sleep(max(0.0, self.confirmed / self._rate - (time.monotonic() - started)))
            await publisher.settled(30)
        finally:
            await publisher.close()

    def stop(self) -> None:
        self._stopping.set()


@asynccontextmanager
async def steady_load(bench: Bench, run: str, rate: float) -> AsyncIterator[SteadyLoad]:
    load = SteadyLoad(bench, run, rate)
    publishing = asyncio.create_task(load.run())
    try:
        yield load
        load.stop()
        await publishing
    finally:
        publishing.cancel()


async def ask(bench: Bench, shard: str, query: str, *arguments: object) -> list[dict]:
    """Ask a shard's primary, whichever server that is now. Raises PostorderError when there is none.

    One that was replaced without knowing it still answers reads: only a commit shows that it is alone.
    """
    async with bench.cluster[shard].primary.connection() as connection:
        await connection.execute("SELECT pg_logical_emit_message(true, 'tests', '')")
        return [dict(row) for row in await connection.fetch(query, *arguments)]


async def write_gap_s(bench: Bench, shard: str, since: object) -> float:
    """Return the longest time between two commits of a shard, in seconds."""
    return (await ask(bench, shard, _GAP, since))[0]["gap_s"]


async def events_between(bench: Bench, shard: str, since: object, until: object) -> int:
    return (await ask(bench, shard, _RATE, since, until))[0]["events"]


async def stored(bench: Bench, run: str) -> list[str]:
    """Return the orders of a run on all shards."""
    found = [await ask(bench, shard.name, _STORED, f"{run}-%") for shard in bench.cluster]
    return [row["order_id"] for rows in found for row in rows]


async def missing(bench: Bench, run: str, count: int) -> set[str]:
    """Return the orders of a run that are on no shard; fail for one stored twice, or never sent."""
    found = await stored(bench, run)
    assert len(found) == len(set(found))
    wanted = {f"{run}-{number}" for number in range(count)}
    assert set(found) <= wanted
    return wanted - set(found)
