"""The shards that can be reached: for what has to work while one of them is away."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import structlog

from pipeline.errors import PostorderError
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)


async def open_primaries(shards: Iterable[Shard]) -> dict[str, str]:
    """Open primaries at once; return, by shard, why one is not open that may be later.

    Raises what is wrong with a server and not mended by waiting.
    """
    opening = list(shards)
    opened = await asyncio.gather(*(shard.primary.open() for shard in opening), return_exceptions=True)
    away = {}
    for shard, error in zip(opening, opened, strict=True):
        if isinstance(error, PostorderError) and error.retryable:
            away[shard.name] = str(error)
        elif error is not None:
            raise error
    return away


@asynccontextmanager
async def reachable(settings: Settings) -> AsyncIterator[Cluster]:
    """All shards of the settings, of which those are open that answer, by the newest map that they know.

    Raises StorageUnavailableError when none answers.
    """
    cluster = Cluster(settings)
    try:
        if away := await open_primaries(cluster):
            log.debug("shards.unavailable", shards=away)  # the work itself says it
        await cluster.load_map()
        yield cluster
    finally:
        await cluster.close()
