"""Keeps a process's shard map fresh: it listens on every shard, and looks again after each silence."""

import asyncio

import asyncpg
import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.storage.cluster import Cluster
from pipeline.storage.map_table import CHANGED
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

_RETRY = Backoff(base_s=0.2, ceiling_s=5.0)
_LOOK_INTERVAL_S = 30.0  # a NOTIFY can be missed; a writer with an old map finds out by itself anyway


class MapKeeper:
    """A service: one listening connection for each shard."""

    name = "shard map"

    def __init__(self, cluster: Cluster, *, clock: Clock, tasks: Tasks) -> None:
        self._cluster = cluster
        self._clock = clock
        self._tasks = tasks

    async def start(self) -> None:
        """Listen on every shard, and on those that come."""
        for shard in self._cluster:
            self._listen_to(shard)
        self._cluster.on_added.append(self._listen_to)

    async def drain(self) -> None:
        """End: the map is needed no longer than those who write."""
        await self.stop()

    async def stop(self) -> None:
        """End."""
        if self._listen_to in self._cluster.on_added:
            self._cluster.on_added.remove(self._listen_to)
        await self._tasks.cancel()

    def _listen_to(self, shard: Shard) -> None:
        self._tasks.start(self._listen_forever(shard), f"listen to {shard.name}")

    async def _listen_forever(self, shard: Shard) -> None:
        failures = 0
        while True:
            try:
                connection = await shard.primary.dedicated_connection()
            except PostorderError as error:
                failures += 1
                log.debug("shard_map.not_listening", shard=shard.name, error=str(error))
                await self._clock.sleep(_RETRY.delay_s(failures))
                continue
            failures = 0
            try:
                await self._listen(connection)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                log.info("shard_map.listener_lost", shard=shard.name, error=type(error).__name__)
            finally:
                connection.terminate()
            await self._clock.sleep(_RETRY.delay_s(1))

    async def _listen(self, connection: asyncpg.Connection) -> None:
        """Refresh at each notice, until the connection is lost."""
        news, lost = asyncio.Event(), asyncio.Event()

        def on_notice(*_notice: object) -> None:
            news.set()

        def on_end(_connection: object) -> None:
            lost.set()
            news.set()

        connection.add_termination_listener(on_end)
        await connection.add_listener(CHANGED, on_notice)
        news.set()  # it may have changed before anybody listened
        while not lost.is_set():
            try:
                async with asyncio.timeout(_LOOK_INTERVAL_S):
                    await news.wait()
            except TimeoutError:
                await connection.execute("SELECT 1")  # a peer that is gone without a word shows here
            news.clear()
            await self._cluster.refresh()
