"""Watches every shard: does its primary answer, how far is the replica, what waits there."""

from collections.abc import Iterable
from typing import Final

import structlog

from pipeline.clock import Clock
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.observability.readiness import Cause
from pipeline.storage.cluster import Cluster
from pipeline.storage.node import Node
from pipeline.storage.outbox import Channel
from pipeline.storage.shard import Shard
from pipeline.storage.watch_table import Waiting, WatchTable

log = structlog.get_logger(__name__)

_PACE_S: Final = 5.0
_LOOKS_PER_COUNT: Final = 3  # what waits is counted every 15 s
_LOOKS_PER_QUARANTINE: Final = 12
_MINUTE_S: Final = 60


class ShardWatch:
    """A service: a task for each shard, so that one that hangs holds up no other.

    `counts`: whether what waits is counted too, which is for processes that send. Mutable state: `_down`, why
    each primary that is away is so; `_waiting`, by shard, what waited last; `_epoch_shown`.
    """

    name = "shard watch"

    def __init__(
        self, cluster: Cluster, *, counts: bool, metrics: Metrics, clock: Clock, tasks: Tasks
    ) -> None:
        self._cluster = cluster
        self._counts = counts
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks
        self._down: dict[str, str] = {}
        self._waiting: dict[str, dict[Channel, Waiting]] = {}
        self._epoch_shown: int | None = None

    def __repr__(self) -> str:
        return f"ShardWatch({len(self._cluster.shards)} shards, down: {sorted(self._down)})"

    async def start(self) -> None:
        """Watch every shard, and those that come."""
        for shard in self._cluster:
            self._add(shard)
        self._cluster.on_added.append(self._add)
        self._metrics.looks += [self._show_pools, self._show_work]

    async def drain(self) -> None:
        """Go on watching: what drains still writes."""

    async def stop(self) -> None:
        """End."""
        if self._add in self._cluster.on_added:
            self._cluster.on_added.remove(self._add)
        await self._tasks.cancel()

    def causes(self) -> Iterable[Cause]:
        """Return a cause for each primary that is away. It blocks only when all are: the others go on."""
        down = dict(self._down)
        is_blocking = len(down) >= len(self._cluster.shards)
        return [Cause("primary", error, what=shard, is_blocking=is_blocking) for shard, error in down.items()]

    def _add(self, shard: Shard) -> None:
        self._tasks.start(self._watch(shard, WatchTable(shard.primary)), f"watch {shard.name}")

    async def _watch(self, shard: Shard, table: WatchTable) -> None:
        looks = 0
        while True:
            try:
                await self._look(shard, table)
            except PostorderError as error:
                self._is_down(shard.name, error)
            else:
                self._is_up(shard.name)
                if self._counts:
                    await self._count(shard.name, table, looks)
            looks += 1
            await self._clock.sleep(_PACE_S)

    async def _look(self, shard: Shard, table: WatchTable) -> None:
        standing, metrics, name = await table.standing(), self._metrics, shard.name
        if shard.replica is None and not standing.replicas:
            self._forget_replicas(name)  # none on purpose: a gauge of 0 would page for ever
            return
        metrics.replicas.labels(name).set(standing.replicas)
        metrics.replicas_synchronous.labels(name).set(standing.synchronous)
        metrics.replica_lag_bytes.labels(name).set(standing.lag_bytes)
        metrics.replica_lag_seconds.labels(name).set(standing.lag_s)

    async def _count(self, shard: str, table: WatchTable, looks: int) -> None:
        """Count what waits, now and then. A count that takes too long says nothing of the primary."""
        try:
            if looks % _LOOKS_PER_COUNT == 0:
                self._waiting[shard] = await table.waiting()
                self._show_waiting(shard)
            if looks % _LOOKS_PER_QUARANTINE == 0:
                self._metrics.quarantine_held.labels(shard).set(await table.quarantine_held())
        except PostorderError as error:
            log.warning("shard.uncounted", shard=shard, error=str(error))
            self._forget_counts(shard)

    def _is_down(self, shard: str, error: PostorderError) -> None:
        if shard not in self._down:
            log.warning("shard.primary_down", shard=shard, error=str(error))
        self._down[shard] = str(error)
        self._metrics.primary_up.labels(shard).set(0)
        # What was seen before would count against what other processes see now.
        self._forget_replicas(shard)
        self._forget_counts(shard)

    def _forget_replicas(self, shard: str) -> None:
        metrics = self._metrics
        for gauge in (
            metrics.replicas,
            metrics.replicas_synchronous,
            metrics.replica_lag_bytes,
            metrics.replica_lag_seconds,
        ):
            gauge.remove(shard)

    def _forget_counts(self, shard: str) -> None:
        self._waiting.pop(shard, None)
        self._metrics.quarantine_held.remove(shard)
        for channel in Channel:
            self._metrics.due_messages.remove(shard, channel)
            self._metrics.oldest_due_seconds.remove(shard, channel)

    def _is_up(self, shard: str) -> None:
        if self._down.pop(shard, None) is not None:
            log.info("shard.primary_up", shard=shard)
        self._metrics.primary_up.labels(shard).set(1)

    # --- what is shown ------------------------------------------------------------------------------

    def _show_waiting(self, shard: str) -> None:
        for channel, waiting in self._waiting[shard].items():
            self._metrics.due_messages.labels(shard, channel).set(waiting.due)
            self._metrics.oldest_due_seconds.labels(shard, channel).set(waiting.oldest_s)

    def _show_work(self) -> None:
        """Show what all shards that answer have to send."""
        work, now = self._metrics.work, self._clock.monotonic()
        for channel in Channel:
            if not self._waiting:
                work.hide(channel)
                continue
            found = [waiting[channel] for waiting in self._waiting.values()]
            settled = sum(waiting.settled for waiting in found)
            work.stage(channel).saw(now, sum(waiting.due for waiting in found), settled / _MINUTE_S)
            work.show(channel)

    def _show_pools(self) -> None:
        metrics = self._metrics
        if self._epoch_shown != self._cluster.router.epoch:
            self._epoch_shown = self._cluster.router.epoch
            shares = self._cluster.shard_map.shares()
            for name in self._cluster.shards:
                metrics.slots_owned.labels(name).set(shares.get(name, 0))
            metrics.map_epoch.set(self._epoch_shown)
        for shard in self._cluster:
            for server, node in (("primary", shard.primary), ("replica", shard.replica)):
                if node is not None:
                    self._show_pool(shard.name, server, node)

    def _show_pool(self, shard: str, server: str, node: Node) -> None:
        used, idle, at_most = node.connections()
        self._metrics.connections.labels(shard, server, "used").set(used)
        self._metrics.connections.labels(shard, server, "idle").set(idle)
        self._metrics.connections_max.labels(shard, server).set(at_most)
