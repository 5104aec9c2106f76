"""How a process comes by its shards when it begins."""

import asyncio
from typing import Final

import structlog

from pipeline.backoff import Backoff
from pipeline.errors import PostorderError
from pipeline.observability.readiness import Cause
from pipeline.storage.cluster import Cluster
from pipeline.storage.schema_version import schema_versions

log = structlog.get_logger(__name__)

_RETRY: Final = Backoff(base_s=0.5, ceiling_s=5.0)


class Opening:
    """Opens primaries until told to stop. Mutable state: `away`, why each that is waited for is not open."""

    def __init__(self, cluster: Cluster, stopping: asyncio.Event) -> None:
        self._cluster = cluster
        self._stopping = stopping
        self.away: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Opening(away: {sorted(self.away)})"

    def causes(self) -> list[Cause]:
        """Return a cause for each primary that is waited for."""
        return [Cause("primary", error, what=shard) for shard, error in list(self.away.items())]

    async def open(self, *, needs_all: bool) -> bool:
        """Open the primaries, all of them or at least one, and go by their map. False when told to stop.

        Raises SchemaVersionError, ShardMapError, and what is wrong with a server and not mended by waiting.
        """
        await (self._open_all() if needs_all else self._open_some())
        if self._stopping.is_set():
            return False
        await schema_versions(shard for shard in self._cluster if shard.primary.is_open)
        await self._cluster.load_map()
        return True

    async def _open_all(self) -> None:
        for shard in self._cluster:
            attempt = 0
            while not self._stopping.is_set():
                try:
                    await shard.primary.open()
                except PostorderError as error:
                    if not error.retryable:
                        raise
                    attempt += 1
                    self.away[shard.name] = str(error)
                    delay_s = _RETRY.delay_s(attempt)
                    log.warning("shard.unavailable", error=str(error), retry_in_s=round(delay_s, 2))
                    await self._pause(delay_s)
                else:
                    self.away.pop(shard.name, None)
                    break

    async def _open_some(self) -> None:
        """For who looks: a process that shows what is wrong is needed most while something is."""
        shards, attempt = list(self._cluster), 0
        while not self._stopping.is_set():
            opened = (shard.primary.open() for shard in shards)
            errors = await asyncio.gather(*opened, return_exceptions=True)
            for shard, error in zip(shards, errors, strict=True):
                if isinstance(error, PostorderError) and error.retryable:
                    self.away[shard.name] = str(error)
                elif error is not None:
                    raise error
            if self.away:
                log.warning("shards.unavailable", shards=dict(self.away))
            if len(self.away) < len(shards):
                self.away.clear()  # the shard watch tells of them from now on
                return
            attempt += 1
            await self._pause(_RETRY.delay_s(attempt))

    async def _pause(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
        except TimeoutError:
            pass  # the ordinary case: nobody asked to stop
