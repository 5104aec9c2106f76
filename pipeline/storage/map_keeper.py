"""Keeps a process's shard map fresh: it listens on every shard, and looks again after each silence.

A notice can be missed; a writer with an old map finds out by itself anyway. Each look also counts the slots
that take no writes: for long only when whoever moved them was killed.
"""

from collections.abc import Awaitable, Callable

import asyncpg

from pipeline.clock import Clock
from pipeline.lifecycle import Tasks
from pipeline.observability.shard_metrics import ShardMetrics
from pipeline.storage.cluster import Cluster
from pipeline.storage.listener import Listener
from pipeline.storage.map_table import CHANGED
from pipeline.storage.shard import Shard
from pipeline.storage.statements import FENCE


class MapKeeper:
    """A service: one listening connection for each shard."""

    name = "shard map"

    def __init__(self, cluster: Cluster, *, metrics: ShardMetrics, clock: Clock, tasks: Tasks) -> None:
        self._cluster = cluster
        self._metrics = metrics
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
        listener = Listener(
            shard,
            CHANGED,
            on_notice=lambda _epoch: None,
            attend=self._look_at(shard),
            on_lost=lambda: self._metrics.slots_leaving.remove(shard.name),
            clock=self._clock,
        )
        self._tasks.start(listener.run(), f"listen to {shard.name}")

    def _look_at(self, shard: Shard) -> Callable[[asyncpg.Connection], Awaitable[None]]:
        async def look(connection: asyncpg.Connection) -> None:
            leaving = await connection.fetchval(FENCE["leaving"])
            self._metrics.slots_leaving.labels(shard.name).set(leaving)
            await self._cluster.refresh()

        return look
