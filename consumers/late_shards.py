"""Shards that were away when a process began."""

from typing import Final

import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.storage.cluster import Cluster
from pipeline.storage.schema_version import schema_versions
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

_RETRY: Final = Backoff(base_s=0.5, ceiling_s=5.0)


class LateShards:
    """A service: opens the primaries that are not open yet, each when it is there.

    One whose schema this program cannot work with ends the process, as it would have kept it from starting.
    One that goes away again meanwhile is tried again.
    """

    name = "late shards"

    def __init__(self, cluster: Cluster, *, clock: Clock, tasks: Tasks) -> None:
        self._cluster = cluster
        self._clock = clock
        self._tasks = tasks

    async def start(self) -> None:
        """Begin to try."""
        for shard in self._cluster:
            if not shard.primary.is_open:
                self._tasks.start(self._open(shard), f"open {shard.name}")

    async def drain(self) -> None:
        """Do nothing: who drains needs no more shards."""

    async def stop(self) -> None:
        """End."""
        await self._tasks.cancel()

    async def _open(self, shard: Shard) -> None:
        attempt = 0
        while not shard.primary.is_open:
            attempt += 1
            await self._clock.sleep(_RETRY.delay_s(attempt))
            try:
                await shard.primary.open()
                await schema_versions([shard])
            except PostorderError as error:
                await shard.primary.close()
                if not error.retryable:
                    raise
                log.debug("shard.unavailable", error=str(error))
        await self._cluster.refresh()
        log.info("shard.opened", shard=shard.name)
