"""The consistent-hash ring: which shard a slot falls to.

The circle is 0 … 2**64 - 1. Slot n stands at n * 2**52. A shard of weight w stands at
`VIRTUAL_NODES * w` points, at hash64("name#i"). A slot falls to the next point clockwise. With 4096
slots that alone leaves some shards a third above the mean, so a point is passed over while its shard
is full: consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018).
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import islice
from math import ceil

from pipeline.errors import ShardMapError
from pipeline.sharding.slots import SLOT_COUNT, hash64

VIRTUAL_NODES = 128
SLOT_SPACING = 2**64 // SLOT_COUNT
LOAD_BOUND = 1.05  # a shard takes at most 5 % more slots than its fair share


class Ring:
    """Shards by name and weight, as points on the circle. A value: never changed once built."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        if not weights:
            raise ShardMapError("a ring needs at least one shard")
        bad = [name for name, weight in weights.items() if weight < 1]
        if bad:
            raise ShardMapError(f"shard {bad[0]}: weight must be at least 1")
        self.weights = dict(weights)
        points = sorted(
            (hash64(f"{name}#{i}"), name)
            for name, weight in weights.items()
            for i in range(VIRTUAL_NODES * weight)
        )
        self._positions = [position for position, _ in points]
        self._names = [name for _, name in points]

    def __repr__(self) -> str:
        return f"Ring({len(self.weights)} shards, {len(self._positions)} points)"

    def clockwise(self, position: int) -> Iterator[str]:
        """Yield the shards met going clockwise from a position, each as often as it has points."""
        start = bisect_left(self._positions, position)
        yield from islice(self._names, start, None)
        yield from islice(self._names, 0, start)

    def owner_of(self, position: int) -> str:
        """Return the first shard clockwise, without regard to load. O(log points)."""
        return next(self.clockwise(position))

    def capacity(self, name: str) -> int:
        """Return how many slots a shard may take at most."""
        share = SLOT_COUNT * self.weights[name] / sum(self.weights.values())
        return ceil(share * LOAD_BOUND)

    def assign(self) -> tuple[str, ...]:
        """Return the owner of each slot, by slot number, for a fresh set of shards."""
        room = {name: self.capacity(name) for name in self.weights}
        owners = []
        for slot in range(SLOT_COUNT):
            # There is always one with room: the capacities add up to more than the slots.
            owner = next(name for name in self.clockwise(slot * SLOT_SPACING) if room[name])
            room[owner] -= 1
            owners.append(owner)
        return tuple(owners)
