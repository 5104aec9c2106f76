"""From an order to its place: slot, shard, and the ids that follow from the order's name."""

from typing import NamedTuple

from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import key_digest, slot_of_digest


class Place(NamedTuple):
    """Where an order lives. `digest` is SHA-256 of its id: 32 bytes."""

    shard: str
    slot: int
    digest: bytes


class Router:
    """Looks shards up in the map in force. Mutable state: that map, replaced by newer ones only."""

    def __init__(self, shard_map: ShardMap) -> None:
        self.shard_map = shard_map
        self._owners = shard_map.owners

    def __repr__(self) -> str:
        return f"Router(epoch {self.epoch})"

    @property
    def epoch(self) -> int:
        """The epoch of the map in force."""
        return self.shard_map.epoch

    def adopt(self, shard_map: ShardMap) -> None:
        """Go by another map from now on."""
        self.shard_map = shard_map
        self._owners = shard_map.owners

    def place(self, order_id: str) -> Place:
        """Return where an order lives. About 1 µs."""
        digest = key_digest(order_id)
        slot = slot_of_digest(digest)
        return Place(self._owners[slot], slot, digest)

    def shard_of(self, slot: int) -> str:
        """Return the shard that owns a slot."""
        return self._owners[slot]
