"""Counts now and then whether the tables of all shards add up, in one process at a time."""

import asyncio
from typing import Final

import asyncpg
import structlog

from pipeline.clock import Clock
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.storage.accounting import accounting_of
from pipeline.storage.cluster import Cluster
from pipeline.storage.node import Node, translated
from pipeline.storage.reader import ShardTotals, read_totals
from pipeline.storage.watch_table import WATCH

log = structlog.get_logger(__name__)

LOCK: Final = 0x706F73746F726471
"""An advisory lock on the first shard's primary: who holds it counts."""
_COUNT_MIN_S: Final = 60.0
_AGAIN_S: Final = 300.0  # what was counted while slots moved may not hold, and is not shown for long


class LedgerWatch:
    """A service. A statement of a count may take as long as the pace is, and a minute at least.

    Mutable state: `_lead`, the connection that holds the lock while this process counts.
    """

    name = "ledger watch"

    def __init__(
        self, cluster: Cluster, *, every_s: float, metrics: Metrics, clock: Clock, tasks: Tasks
    ) -> None:
        self._cluster = cluster
        self._every_s = every_s
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks
        self._lead: asyncpg.Connection | None = None

    def __repr__(self) -> str:
        return f"LedgerWatch(every {self._every_s} s, {'counts' if self._lead else 'another counts'})"

    async def start(self) -> None:
        """Begin; nothing is counted when the pace is 0."""
        self._metrics.ledger_check_interval.set(self._every_s)
        if self._every_s:
            self._tasks.start(self._watch(), self.name)

    async def drain(self) -> None:
        """End: while all is being finished there is nothing to tell."""
        await self.stop()

    async def stop(self) -> None:
        """End."""
        await self._tasks.cancel()
        self._let_go()

    async def _watch(self) -> None:
        while True:
            pace_s = self._every_s
            try:
                if await self._leads() and not await self._balances():
                    pace_s = min(pace_s, _AGAIN_S)
            except PostorderError as error:
                log.warning("ledger.uncounted", error=str(error))
            await self._clock.sleep(pace_s)

    async def _leads(self) -> bool:
        """Return whether this process is the one that counts. Whoever is not says nothing any more."""
        node = self._cluster[min(self._cluster.shards)].primary
        try:
            if self._lead is None:
                self._lead = await node.dedicated_connection()
            with translated(f"{node.name} at {node.address}"):
                leads: bool = await self._lead.fetchval(WATCH["lead"], LOCK)
        except PostorderError:
            self._let_go()
            raise
        if not leads:
            self._let_go()
        return leads

    async def _balances(self) -> bool:
        """Count, and show what was counted."""
        answers = await asyncio.gather(
            *(self._totals(shard.primary) for shard in self._cluster), return_exceptions=True
        )  # none is left behind to count into the next time
        totals = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            totals.append(answer)
        found, metrics = accounting_of(totals), self._metrics
        metrics.ledger_difference.labels("events").set(found.events_difference)
        metrics.ledger_difference.labels("effects").set(found.effects_difference)
        metrics.ledger_checked.set(self._clock.now().timestamp())
        if not found.balances:
            log.error("ledger.difference", events=found.events_difference, effects=found.effects_difference)
        return found.balances

    async def _totals(self, node: Node) -> ShardTotals:
        """Read the tables through, on a connection of its own: that takes longer than any other statement.

        In the pool its time-out would have every connection of the primary made anew.
        """
        connection = await node.dedicated_connection()
        try:
            with translated(f"{node.name} at {node.address}"):
                await connection.execute(WATCH["end_with_client"])
                return await read_totals(connection, timeout_s=max(self._every_s, _COUNT_MIN_S))
        finally:
            connection.terminate()

    def _let_go(self) -> None:
        lead, self._lead = self._lead, None
        if lead is not None:
            lead.terminate()
        for ledger in ("events", "effects"):
            self._metrics.ledger_difference.remove(ledger)
