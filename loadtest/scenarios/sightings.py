"""When a batch could first be read, on each primary and on each replica: seen from outside, by asking.

A transaction that waits for its replica shows on the primary only when the replica has answered. So the first
time a reader sees a batch's row on the primary is when the batch was committed on both, and the first time on
the replica is when a read there shows it. What is seen is late by the time between two looks, never early.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Self

import msgspec
import structlog

from pipeline.errors import PostorderError
from pipeline.storage.cluster import Cluster
from pipeline.storage.node import Node

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.02
_GAP_S = 60.0  # a number that does not show for so long belongs to a transaction that was rolled back
_RETRY_S = 0.5
_GAPS_MAX = 100_000
_TIMEOUT_S = 5.0
_NEW = """
SELECT batch_id, (extract(epoch FROM recorded_at) * 1000000)::bigint AS at_us, events, orders, invoices
FROM intake_batch WHERE batch_id > $1 AND batch_id <> ALL($2::bigint[])"""
_LATEST = "SELECT coalesce(max(batch_id), 0) FROM intake_batch"


class Seen(msgspec.Struct, frozen=True):
    """A batch: its transaction's time on the server, when it was first seen (UNIX times), what it held."""

    began_us: int
    at: float
    events: int
    orders: int
    invoices: int


class Watch:
    """Looks at one server. Mutable state: what was seen, up to which number without gaps, what above it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._floor = 0
        self._above: dict[int, float] = {}
        self.seen: deque[Seen] = deque()
        self.events = 0
        self.orders = 0
        self.invoices = 0
        self.failures = 0
        self.gaps_s: deque[float] = deque(maxlen=_GAPS_MAX)

    def __repr__(self) -> str:
        return f"Watch({self._node.name}: {len(self.seen)} batches, {len(self._above)} above {self._floor})"

    async def begin(self) -> None:
        """Leave out what is there already. Raises StorageUnavailableError, StorageTimeoutError."""
        async with self._node.connection() as connection:
            self._floor = await connection.fetchval(_LATEST, timeout=_TIMEOUT_S)

    async def run(self) -> None:
        """Look until cancelled. A server that is away is asked again."""
        while True:
            try:
                async with self._node.connection() as connection:
                    await self._look(connection)
                    before = time.monotonic()
                    while True:
                        await asyncio.sleep(LOOK_EVERY_S)
                        await self._look(connection)
                        self.gaps_s.append(time.monotonic() - before)
                        before = time.monotonic()
            except PostorderError as error:
                self.failures += 1
                log.info("loadtest.watch_failed", server=self._node.name, error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _look(self, connection: Any) -> None:
        rows = await connection.fetch(_NEW, self._floor, list(self._above), timeout=_TIMEOUT_S)
        self.take([tuple(row) for row in rows], time.time())

    def take(self, rows: Sequence[tuple[int, int, int, int, int]], now: float) -> None:
        """Note rows (number, time, events, orders, invoices) as seen now."""
        for number, began_us, events, orders, invoices in rows:
            self.seen.append(Seen(began_us, now, events, orders, invoices))
            self.events += events
            self.orders += orders
            self.invoices += invoices
            self._above[number] = now
        self._raise_floor(now)

    def _raise_floor(self, now: float) -> None:
        above = self._above
        while above:
            if self._floor + 1 in above:
                self._floor += 1
                del above[self._floor]
            elif min(above.values()) < now - _GAP_S:
                self._floor = min(above) - 1  # numbers up to there were rolled back
            else:
                return


class Sightings:
    """Watches every server of a cluster; a context manager."""

    def __init__(self, cluster: Cluster) -> None:
        self.primaries = {shard.name: Watch(shard.primary) for shard in cluster}
        self.replicas = {shard.name: Watch(shard.replica) for shard in cluster if shard.replica}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        watches = [*self.primaries.values(), *self.replicas.values()]
        for watch in watches:
            await watch.begin()
        self._tasks = [asyncio.create_task(watch.run()) for watch in watches]
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def resolution_s(self) -> float:
        """How long it is from one look to the next, in 99 of 100."""
        gaps = [gap for watch in (*self.primaries.values(), *self.replicas.values()) for gap in watch.gaps_s]
        return sorted(gaps)[int(len(gaps) * 0.99)] if gaps else LOOK_EVERY_S

    @property
    def events(self) -> int:
        """How many events were seen committed so far."""
        return sum(watch.events for watch in self.primaries.values())

    @property
    def orders(self) -> int:
        """How many new orders were."""
        return sum(watch.orders for watch in self.primaries.values())

    @property
    def invoices(self) -> int:
        """How many new invoices were."""
        return sum(watch.invoices for watch in self.primaries.values())


def first_seen(watch: Watch) -> dict[int, float]:
    """Return when each transaction was first seen, by its time on the server in microseconds."""
    found: dict[int, float] = {}
    for seen in watch.seen:
        found.setdefault(seen.began_us, seen.at)
    return found
