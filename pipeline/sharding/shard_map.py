"""The shard map: which shard owns each slot, at which epoch."""

from collections.abc import Mapping
from typing import Self

import msgspec

from pipeline.errors import ShardMapError
from pipeline.sharding.ring import Ring
from pipeline.sharding.slots import SLOT_COUNT


class ShardMap(msgspec.Struct, frozen=True):
    """`owners[slot]` is a shard's name. The epoch grows by one with each change of an owner."""

    epoch: int
    owners: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.owners) != SLOT_COUNT:
            raise ShardMapError(f"a shard map has {SLOT_COUNT} slots, not {len(self.owners)}")

    @classmethod
    def first(cls, weights: Mapping[str, int]) -> Self:
        """Return the map of a new installation: epoch 1, owners from the ring."""
        return cls(epoch=1, owners=Ring(weights).assign())

    def slots_of(self, name: str) -> list[int]:
        """Return the slots a shard owns, in order."""
        return [slot for slot, owner in enumerate(self.owners) if owner == name]

    def shares(self) -> dict[str, int]:
        """Return how many slots each shard owns."""
        counts: dict[str, int] = {}
        for owner in self.owners:
            counts[owner] = counts.get(owner, 0) + 1
        return counts
