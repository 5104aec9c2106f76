"""Looks after what fell out of the flow: claims whose holder is gone, invoices left behind."""

import structlog

from pipeline.clock import Clock
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.storage.cluster import Cluster
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)


class Reconciler:
    """Sweeps every shard at a steady pace."""

    name = "reconciler"

    def __init__(self, cluster: Cluster, *, interval_s: float, clock: Clock, tasks: Tasks) -> None:
        self._cluster = cluster
        self._interval_s = interval_s
        self._clock = clock
        self._tasks = tasks

    async def start(self) -> None:
        """Start a sweeping task for each shard."""
        for shard in self._cluster:
            self._add(shard)
        self._cluster.on_added.append(self._add)

    def _add(self, shard: Shard) -> None:
        self._tasks.start(self._sweep_forever(shard), f"sweep {shard.name}")

    async def drain(self) -> None:
        """End: a sweep has nothing to finish."""
        await self.stop()

    async def stop(self) -> None:
        """End."""
        if self._add in self._cluster.on_added:
            self._cluster.on_added.remove(self._add)
        await self._tasks.cancel()

    async def _sweep_forever(self, shard: Shard) -> None:
        while True:
            try:
                await self._sweep(shard)
            except PostorderError as error:
                log.warning("sweep.failed", shard=shard.name, error=str(error))
            await self._clock.sleep(self._interval_s)

    async def _sweep(self, shard: Shard) -> None:
        lost = await shard.effects.expire_leases()
        if lost:
            log.error("claims.lost", shard=shard.name, effects=lost)
        owed = await shard.effects.owe_left_behind_invoices()
        if owed:
            log.info("invoices.owed_late", shard=shard.name, invoices=owed)
