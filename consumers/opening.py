"""How a process comes by its shards when it begins."""

import asyncio
from typing import Final

import structlog

from consumers.reachable import open_primaries
from pipeline.backoff import Backoff
from pipeline.observability.readiness import Cause
from pipeline.storage.cluster import Cluster
from pipeline.storage.schema_version import schema_versions

log = structlog.get_logger(__name__)

_RETRY: Final = Backoff(base_s=0.5, ceiling_s=5.0)


class Opening:
    """Opens primaries until one is open. Mutable state: `away`, why each is not that is waited for."""

    def __init__(self, cluster: Cluster, stopping: asyncio.Event) -> None:
        self._cluster = cluster
        self._stopping = stopping
        self.away: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Opening(away: {sorted(self.away)})"

    def causes(self) -> list[Cause]:
        """Return a cause for each primary that is waited for."""
        return [Cause("primary", error, what=shard) for shard, error in list(self.away.items())]

    async def open(self) -> bool:
        """Open the primaries that are there, at least one, and go by their map. False when told to stop.

        A shard that is away holds no other up: its events are parked and its messages wait, as when it goes
        away later. Raises SchemaVersionError, ShardMapError, and what is wrong with a server and not
        mended by waiting.
        """
        await self._open_some()
        if self._stopping.is_set():
            return False
        await schema_versions(shard for shard in self._cluster if shard.primary.is_open)
        await self._cluster.load_map()
        return True

    async def _open_some(self) -> None:
        shards, attempt = list(self._cluster), 0
        while not self._stopping.is_set():
            self.away = await open_primaries(shards)
            if self.away:
                log.warning("shards.unavailable", shards=dict(self.away))
            if len(self.away) < len(shards):
                self.away = {}  # the shard watch tells of them from now on
                return
            attempt += 1
            await self._pause(_RETRY.delay_s(attempt))

    async def _pause(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
        except TimeoutError:
            pass  # the ordinary case: nobody asked to stop
