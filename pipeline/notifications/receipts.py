"""Receipts on their way into the ledger: gathered for a moment, written as sets."""

import asyncio
from collections import defaultdict

import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel, Receipt

log = structlog.get_logger(__name__)

_RETRY = Backoff(base_s=0.1, ceiling_s=5.0)
_SET_MAX = 500


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
        self._some = {shard.name: asyncio.Event() for shard in cluster}

    def __repr__(self) -> str:
        return f"ReceiptBook({self._channel}: {sum(map(len, self._open.values()))} open)"

    def start(self) -> None:
        """Start a writing task for each shard."""
        for shard in self._cluster:
            self._tasks.start(self._write_shard(shard.name), f"{self._channel} receipts {shard.name}")

    async def record(self, shard: str, receipt: Receipt) -> None:
        """Record a receipt; return when it is durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open[shard].append((receipt, done))
        self._some[shard].set()
        await done

    async def _write_shard(self, shard: str) -> None:
        while True:
            await self._some[shard].wait()
            await self._clock.sleep(self._gather_s)
            waiting = self._open[shard]
            batch, self._open[shard] = waiting[:_SET_MAX], waiting[_SET_MAX:]
            if not self._open[shard]:
                self._some[shard].clear()
            await self._write(shard, [receipt for receipt, _ in batch])
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    async def _write(self, shard: str, receipts: list[Receipt]) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                recorded = await self._cluster[shard].outbox.record(self._channel, receipts)
            except PostorderError as error:
                if not error.retryable:
                    raise
                delay_s = _RETRY.delay_s(attempt)
                log.warning(
                    "receipts.write_failed", shard=shard, error=str(error), retry_in_s=round(delay_s, 2)
                )
                await self._clock.sleep(delay_s)
                continue
            break
        for receipt in receipts:
            self._metrics.receipts.labels(self._channel, receipt.state).inc()
        if recorded.stale:
            self._metrics.stale_receipts.labels(self._channel).inc(recorded.stale)
            log.warning("receipts.stale", shard=shard, receipts=recorded.stale)
