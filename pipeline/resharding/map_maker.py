"""Makes the maps of a change, one epoch after the other. Only the coordinator in charge may."""

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from pipeline.errors import PostorderError
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.cluster import Cluster
from pipeline.storage.shard import Shard
from pipeline.storage.slot_ownership import SlotOwnership

log = structlog.get_logger(__name__)


class MapMaker:
    """Mutable state: the map in force, `current`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.current = cluster.shard_map

    def next(self, slots: Sequence[int], owner: str) -> ShardMap:
        """Return the map of the next epoch, with an owner for some slots."""
        owners = list(self.current.owners)
        for slot in slots:
            owners[slot] = owner
        return ShardMap(self.current.epoch + 1, tuple(owners))

    def use(self, shard_map: ShardMap) -> None:
        """Go on from a map that has been decided."""
        self.current = shard_map

    async def spread(self, but: Iterable[str] = ()) -> None:
        """Give the map to the shards that the change does not concern. One that is away gets it later."""
        left_out = set(but)
        await asyncio.gather(*(self._give(shard) for shard in self._cluster if shard.name not in left_out))

    async def _give(self, shard: Shard) -> None:
        try:
            await SlotOwnership(shard.name, shard.primary).adopt(self.current)
        except PostorderError as error:
            if not error.retryable:
                raise
            log.warning("shard_map.not_spread", shard=shard.name, error=str(error))
