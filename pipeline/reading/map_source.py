"""Where a reader has its shard map from: the cluster that its process keeps fresh, or the shards it reads."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

import msgspec
import structlog

from pipeline.errors import PostorderError
from pipeline.reading.consistency import Consistency, Mode
from pipeline.reading.pair import PairReader, Query
from pipeline.settings import Settings, ShardSettings
from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import SLOT_COUNT
from pipeline.storage.cluster import Cluster

log = structlog.get_logger(__name__)


class MapSource(Protocol):
    """What a reader goes by. It is only ever a hint: each shard says itself whether it owns a slot."""

    @property
    def shard_map(self) -> ShardMap:
        """The map at hand."""

    async def refresh(self) -> None:
        """Look for a newer one; what cannot be asked leaves the map as it is."""

    def settings_of(self, name: str) -> ShardSettings | None:
        """Return the settings of a shard that was added since, or None."""


class ClusterMap:
    """The map of a process's cluster: kept fresh by notices, and read once for readers and writers."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @property
    def shard_map(self) -> ShardMap:
        """The map in force."""
        return self._cluster.shard_map

    async def refresh(self) -> None:
        """Have the cluster read the shards' maps; callers at once share one reading."""
        await self._cluster.refresh()

    def settings_of(self, name: str) -> ShardSettings | None:
        """Return the settings by which the cluster has opened a shard."""
        shard = self._cluster.shards.get(name)
        return shard.settings if shard else None


class AskedMap:
    """A map of a reader's own, for programs that read and do no more. Mutable state: the map.

    At first it is that of a new installation; after that, what the shards say they own.
    """

    def __init__(self, settings: Settings, pairs: Mapping[str, PairReader]) -> None:
        self._pairs = pairs
        self._mode = Mode(settings.reads.mode)
        self.shard_map = ShardMap.first({shard.name: shard.weight for shard in settings.shards})

    async def refresh(self) -> None:
        """Ask every shard for its slots; one that cannot be asked keeps what the map at hand gives it."""
        names = list(self._pairs)
        query = Query("slots")
        replies = await asyncio.gather(
            *(
                self._pairs[name].read(query, mode=self._mode, consistency=Consistency.LATEST)
                for name in names
            ),
            return_exceptions=True,
        )
        owners = list(self.shard_map.owners)
        epochs = [0] * SLOT_COUNT
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, BaseException):
                if not isinstance(reply, PostorderError):
                    raise reply
                log.warning("reads.slots_unknown", shard=name, error=str(reply))
                continue
            for slot, epoch in msgspec.json.decode(reply.data, type=list[tuple[int, int]]):
                if epoch > epochs[slot]:
                    owners[slot], epochs[slot] = name, epoch
        self.shard_map = ShardMap(epoch=max(self.shard_map.epoch, *epochs), owners=tuple(owners))

    def settings_of(self, name: str) -> ShardSettings | None:  # noqa: ARG002  # as MapSource has it
        """Return None: only shards of the settings are asked."""
        return None
