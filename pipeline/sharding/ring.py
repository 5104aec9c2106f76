"""The consistent-hash ring: which shard a slot falls to.

The circle is 0 … 2**64 - 1. Slot n stands at n * 2**52. A shard of weight w stands at
`VIRTUAL_NODES * w` points, at hash64("name#i"). A slot falls to the next point clockwise. With 4096
slots that alone leaves some shards a third above the mean, so a point is passed over while its shard
is full: consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018).

What a ring says of a set of shards is the *first* map of an installation. Later changes start from the map in
force (planner.py), because bounded loads would also move slots between shards that stay.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from math import ceil

from pipeline.errors import ShardMapError
from pipeline.sharding.slots import HASH_BYTES, SLOT_COUNT, hash64_bytes

VIRTUAL_NODES = 128
SLOT_SPACING = 2**64 // SLOT_COUNT
LOAD_BOUND = 1.05  # a shard takes at most 5 % more slots than its fair share

_NUMBER_BYTES = 4  # of a shard's number, in a point


class Ring:
    """Shards by name and weight, as points on the circle. A value: never changed once built."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        if not weights:
            raise ShardMapError("a ring needs at least one shard")
        bad = [name for name, weight in weights.items() if weight < 1]
        if bad:
            raise ShardMapError(f"shard {bad[0]}: weight must be at least 1")
        self.weights = dict(weights)
        self._total_weight = sum(weights.values())
        self._names = sorted(weights)
        self._points = sorted(self._unsorted_points())

    def _unsorted_points(self) -> Iterator[bytes]:
        """Yield each point as 12 bytes: position, then shard number, so that bytes sort as points do.

        Builds a large ring in a third of the time that (int, str) tuples take.
        """
        suffixes = [b"#%d" % i for i in range(VIRTUAL_NODES * max(self.weights.values()))]
        for number, name in enumerate(self._names):
            key, tail = name.encode(), number.to_bytes(_NUMBER_BYTES, "big")
            for suffix in suffixes[: VIRTUAL_NODES * self.weights[name]]:
                yield hash64_bytes(key + suffix) + tail

    def __repr__(self) -> str:
        return f"Ring({len(self.weights)} shards, {len(self._points)} points)"

    def __len__(self) -> int:
        return len(self._points)

    def clockwise(self, position: int) -> Iterator[str]:
        """Yield the shards met going clockwise from a position, each as often as it has points."""
        start = self._first_point(position)
        for index in range(start, start + len(self._points)):
            yield self._name_at(index % len(self._points))

    def owner_of(self, position: int) -> str:
        """Return the first shard clockwise, without regard to load. O(log points)."""
        return self._name_at(self._first_point(position) % len(self._points))

    def _first_point(self, position: int) -> int:
        return bisect_left(self._points, position.to_bytes(HASH_BYTES, "big"))

    def _name_at(self, index: int) -> str:
        return self._names[int.from_bytes(self._points[index][HASH_BYTES:], "big")]

    def points_before(self, name: str) -> list[int]:
        """Return, for each slot, how many points of others stand between it and a shard's next one."""
        own = [index for index in range(len(self._points)) if self._name_at(index) == name]
        own.append(own[0] + len(self._points))
        starts = (self._first_point(slot * SLOT_SPACING) for slot in range(SLOT_COUNT))
        return [own[bisect_left(own, start)] - start for start in starts]

    def capacity(self, name: str) -> int:
        """Return how many slots a shard may take at most."""
        return ceil(SLOT_COUNT * self.weights[name] / self._total_weight * LOAD_BOUND)

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
