"""All shards together, and the check that they own what the shard map says."""

import asyncio
from collections.abc import Iterator

from pipeline.errors import ShardMapError
from pipeline.settings import Settings
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.shard import Shard


class Cluster:
    """The shards of the settings, by name, and the map of slots to them."""

    def __init__(self, settings: Settings) -> None:
        self.shards = {
            shard.name: Shard(shard, settings.storage, settings.notifications) for shard in settings.shards
        }
        self.shard_map = ShardMap.first({shard.name: shard.weight for shard in settings.shards})

    def __repr__(self) -> str:
        return f"Cluster({', '.join(self.shards)}; epoch {self.shard_map.epoch})"

    def __iter__(self) -> Iterator[Shard]:
        return iter(self.shards.values())

    def __getitem__(self, name: str) -> Shard:
        return self.shards[name]

    async def check_ownership(self) -> None:
        """Compare what each shard says it owns with the map. Raises ShardMapError, naming the shard."""
        owned = await asyncio.gather(*(shard.reader.owned_slots() for shard in self))
        for shard, slots in zip(self, owned, strict=True):
            if not slots:
                raise ShardMapError(f"{shard.name} owns no slots: run `postorder migrate` first")
            expected = self.shard_map.slots_of(shard.name)
            if list(slots) != expected:
                raise ShardMapError(
                    f"{shard.name} owns {len(slots)} slots, the settings give it {len(expected)}: "
                    "the list of shards or their weights changed after `postorder migrate`"
                )

    async def close(self) -> None:
        """Close every pool."""
        await asyncio.gather(*(shard.close() for shard in self))
