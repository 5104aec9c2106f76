"""Receipts on their way into the ledger: gathered for a moment, written as sets."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable

import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import PostorderError, SlotsMovedError
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel, Receipt, Recorded
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

_RETRY = Backoff(base_s=0.1, ceiling_s=5.0)
_SET_MAX = 500
_MOVING_S = 0.02  # a slot is nobody's for a moment while it moves

_Open = tuple[Receipt, Callable[[], None]]


class ReceiptBook:
    """Writes a channel's receipts, a set per shard at a time. Nobody who sends waits for that.

    Bounded by who claims: nothing is claimed from a shard of which too many are open, see `until_few`.
    Mutable state: `_waiting`, what is to be written, by shard; `_open`, by shard, how many wait or are being
    written; `open`, those of all shards, and those that look for the new shard of their slot.
    """

    def __init__(
        self,
        channel: Channel,
        cluster: Cluster,
        *,
        gather_s: float,
        metrics: Metrics,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._channel = channel
        self._cluster = cluster
        self._gather_s = gather_s
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks
        self._waiting: dict[str, list[_Open]] = defaultdict(list)
        self._some: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._open: Counter[str] = Counter()
        self.open = 0
        self._fewer = asyncio.Event()

    def __repr__(self) -> str:
        return f"ReceiptBook({self._channel}: {self.open} open)"

    def start(self) -> None:
        """Start a writing task for each shard."""
        self._metrics.open_receipts.labels(self._channel).set_function(lambda: self.open)
        for shard in self._cluster:
            self._add(shard)
        self._cluster.on_added.append(self._add)

    def _add(self, shard: Shard) -> None:
        self._tasks.start(self._write_shard(shard.name), f"{self._channel} receipts {shard.name}")

    def put(self, receipt: Receipt, recorded: Callable[[], None]) -> None:
        """Have a receipt recorded where its slot is by then. `recorded` is called once it is durable."""
        self.open += 1
        self._place(receipt, recorded)

    def _place(self, receipt: Receipt, recorded: Callable[[], None]) -> None:
        shard = self._cluster.router.shard_of(receipt.slot)
        self._open[shard] += 1
        self._waiting[shard].append((receipt, recorded))
        self._some[shard].set()

    async def until_few(self, shard: str, open_max: int) -> None:
        """Return when no more than so many receipts of a shard are open; at once when that is so now."""
        while self._open[shard] > open_max:
            await self._until_fewer()

    async def drain(self) -> None:
        """Return when every receipt is durable."""
        while self.open:
            await self._until_fewer()

    async def stop(self) -> None:
        """End at once. A message whose receipt is not durable becomes unknown when its lease ends."""
        if self._add in self._cluster.on_added:
            self._cluster.on_added.remove(self._add)
        await self._tasks.cancel()
        if self.open:
            log.error("receipts.left", channel=self._channel, receipts=self.open)

    async def _until_fewer(self) -> None:
        self._fewer.clear()
        await self._fewer.wait()

    async def _write_shard(self, shard: str) -> None:
        while True:
            await self._some[shard].wait()
            await self._clock.sleep(self._gather_s)
            waiting = self._waiting[shard]
            batch, self._waiting[shard] = waiting[:_SET_MAX], waiting[_SET_MAX:]
            if not self._waiting[shard]:
                self._some[shard].clear()
            await self._write(shard, batch)

    async def _write(self, shard: str, batch: list[_Open]) -> None:
        """Write a set, however long that takes; what belongs elsewhere by now leaves it."""
        attempt = 0
        while batch:
            attempt += 1
            try:
                recorded = await self._cluster[shard].outbox.record(
                    self._channel, [receipt for receipt, _ in batch]
                )
            except SlotsMovedError as error:
                # The others need not wait until a moving slot has arrived.
                moved = [one for one in batch if one[0].slot in error.slots]
                batch = [one for one in batch if one[0].slot not in error.slots]
                self._leave(shard, moved)
            except PostorderError as error:
                if not error.retryable:
                    raise
                delay_s = _RETRY.delay_s(attempt)
                log.warning(
                    "receipts.write_failed", shard=shard, error=str(error), retry_in_s=round(delay_s, 2)
                )
                await self._clock.sleep(delay_s)
            else:
                self._count(shard, recorded)
                self._close(shard, batch)
                return

    def _close(self, shard: str, batch: list[_Open]) -> None:
        self._open[shard] -= len(batch)
        self.open -= len(batch)
        self._fewer.set()
        for _, recorded in batch:
            recorded()

    def _leave(self, shard: str, moved: list[_Open]) -> None:
        self._open[shard] -= len(moved)
        self._fewer.set()
        self._tasks.start(self._follow(moved), f"{self._channel} receipts of moved slots")

    async def _follow(self, moved: list[_Open]) -> None:
        """Send receipts after their slots."""
        await self._cluster.refresh()
        await self._clock.sleep(_MOVING_S)
        for receipt, recorded in moved:
            self._place(receipt, recorded)

    def _count(self, shard: str, recorded: Recorded) -> None:
        for state, receipts in recorded.states.items():
            self._metrics.receipts.labels(self._channel, state).inc(receipts)
        if recorded.stale:
            self._metrics.stale_receipts.labels(self._channel).inc(recorded.stale)
            log.warning("receipts.stale", shard=shard, receipts=recorded.stale)
