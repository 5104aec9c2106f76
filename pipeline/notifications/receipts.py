"""Receipts on their way into the ledger: gathered for a moment, written as sets."""

import asyncio
from collections import defaultdict

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

_Waiting = tuple[Receipt, "asyncio.Future[None]"]


class ReceiptBook:
    """Writes receipts, a set per shard at a time. Bounded by the pools: each place holds one receipt."""

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
        self._open: dict[str, list[tuple[Receipt, asyncio.Future[None]]]] = defaultdict(list)
        self._some: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def __repr__(self) -> str:
        return f"ReceiptBook({self._channel}: {sum(map(len, self._open.values()))} open)"

    def start(self) -> None:
        """Start a writing task for each shard."""
        for shard in self._cluster:
            self._add(shard)
        self._cluster.on_added.append(self._add)

    def _add(self, shard: Shard) -> None:
        self._tasks.start(self._write_shard(shard.name), f"{self._channel} receipts {shard.name}")

    async def record(self, receipt: Receipt) -> None:
        """Record a receipt where its slot is by now; return when it is durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(receipt, done)
        await done

    def _put(self, receipt: Receipt, done: "asyncio.Future[None]") -> None:
        shard = self._cluster.router.shard_of(receipt.slot)
        self._open[shard].append((receipt, done))
        self._some[shard].set()

    async def _write_shard(self, shard: str) -> None:
        while True:
            await self._some[shard].wait()
            await self._clock.sleep(self._gather_s)
            waiting = self._open[shard]
            batch, self._open[shard] = waiting[:_SET_MAX], waiting[_SET_MAX:]
            if not self._open[shard]:
                self._some[shard].clear()
            await self._write(shard, batch)

    async def _write(self, shard: str, batch: list[_Waiting]) -> None:
        attempt = 0
        while batch:
            attempt += 1
            receipts = [receipt for receipt, _ in batch]
            try:
                recorded = await self._cluster[shard].outbox.record(self._channel, receipts)
            except SlotsMovedError as error:
                # The others need not wait until a moving slot has arrived.
                moved = [waiting for waiting in batch if waiting[0].slot in error.slots]
                batch = [waiting for waiting in batch if waiting[0].slot not in error.slots]
                self._tasks.start(self._follow(moved), f"{self._channel} receipts of moved slots")
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
                break
        for _, done in batch:
            if not done.done():
                done.set_result(None)

    async def _follow(self, moved: list[_Waiting]) -> None:
        """Send receipts after their slots."""
        await self._cluster.refresh()
        await self._clock.sleep(_MOVING_S)
        for receipt, done in moved:
            self._put(receipt, done)

    def _count(self, shard: str, recorded: Recorded) -> None:
        for state, receipts in recorded.states.items():
            self._metrics.receipts.labels(self._channel, state).inc(receipts)
        if recorded.stale:
            self._metrics.stale_receipts.labels(self._channel).inc(recorded.stale)
            log.warning("receipts.stale", shard=shard, receipts=recorded.stale)
