"""The shards that can be reached: for what has to work while one of them is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from pipeline.errors import PostorderError
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster

log = structlog.get_logger(__name__)


@asynccontextmanager
async def reachable(settings: Settings) -> AsyncIterator[Cluster]:
    """All shards of the settings, of which those are open that answer, by the newest map that they know.

    Raises StorageUnavailableError when none answers.
    """
    cluster = Cluster(settings)
    try:
        shards = list(cluster)
        opened = await asyncio.gather(*(shard.primary.open() for shard in shards), return_exceptions=True)
        for shard, error in zip(shards, opened, strict=True):
            if isinstance(error, PostorderError) and error.retryable:
                log.debug("shard.unavailable", shard=shard.name, error=str(error))  # the work itself says it
            elif isinstance(error, BaseException):
                raise error
        await cluster.load_map()
        yield cluster
    finally:
        await cluster.close()
