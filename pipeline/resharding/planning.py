"""What a change would move, and about how long it would take. Reads, and changes nothing."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pipeline.errors import ReshardingError, ShardMapError
from pipeline.sharding.planner import SlotMove, plan_add, plan_move, plan_remove
from pipeline.sharding.slots import SLOT_COUNT
from pipeline.storage.cluster import Cluster
from pipeline.storage.slot_rows import SlotRows, SlotSize

ROWS_PER_S = 20_000.0
"""Rows copied, and deleted afterwards, in a second on 2 shared cores (docs/explanation/moving-slots.md)."""

SLOTS_PER_S = 200.0
"""Slots flipped in a second, there."""


class PairEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What goes from one shard to another."""

    source: str
    target: str
    slots: tuple[int, ...]
    rows: int
    size_bytes: int


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A change before it is begun. `sizes` are of every slot that moves."""

    epoch: int
    pairs: tuple[PairEstimate, ...]
    sizes: dict[int, SlotSize]

    @property
    def slots(self) -> int:
        """How many slots would move."""
        return sum(len(pair.slots) for pair in self.pairs)

    @property
    def share(self) -> float:
        """The share of all slots that would move."""
        return self.slots / SLOT_COUNT

    @property
    def seconds(self) -> float:
        """About how long it would take, at the rates measured for the documentation."""
        rows = sum(pair.rows for pair in self.pairs)
        return rows / ROWS_PER_S + self.slots / SLOTS_PER_S


def planned_add(cluster: Cluster, name: str) -> tuple[SlotMove, ...]:
    """Plan for a shard that is to come. Raises ShardMapError."""
    _check_known(cluster, [name])
    return plan_add(cluster.shard_map.owners, _weights(cluster), name)


def planned_remove(cluster: Cluster, name: str) -> tuple[SlotMove, ...]:
    """Plan for a shard that is to go. Raises ShardMapError."""
    _check_known(cluster, [name])
    return plan_remove(cluster.shard_map.owners, _weights(cluster), name)


def planned_move(cluster: Cluster, slots: Iterable[int], target: str) -> tuple[SlotMove, ...]:
    """Plan for slots chosen by hand. Raises ShardMapError."""
    _check_known(cluster, [target])
    plan = plan_move(cluster.shard_map.owners, slots, target)
    if not plan:
        raise ShardMapError("no slots are named")
    return plan


def _check_known(cluster: Cluster, names: Iterable[str]) -> None:
    for name in names:
        if name not in cluster.shards:
            raise ShardMapError(f"unknown shard {name}: add it under [[shards]] in the settings")


def _weights(cluster: Cluster) -> Mapping[str, int]:
    return {shard.name: shard.settings.weight for shard in cluster}


async def estimate(cluster: Cluster, plan: Sequence[SlotMove]) -> Estimate:
    """Count what a plan would move, or estimate it from samples of large tables."""
    by_pair: dict[tuple[str, str], list[int]] = defaultdict(list)
    for move in plan:
        by_pair[move.source, move.target].append(move.slot)
    sources = sorted({source for source, _ in by_pair})
    found = await asyncio.gather(*(SlotRows(cluster[name].primary).sizes() for name in sources))
    sizes_of = dict(zip(sources, found, strict=True))
    nothing = SlotSize()
    return Estimate(
        epoch=cluster.shard_map.epoch,
        pairs=tuple(
            PairEstimate(
                source=source,
                target=target,
                slots=tuple(slots),
                rows=round(sum(sizes_of[source].get(slot, nothing).rows for slot in slots)),
                size_bytes=round(sum(sizes_of[source].get(slot, nothing).size_bytes for slot in slots)),
            )
            for (source, target), slots in sorted(by_pair.items())
        ),
        sizes={move.slot: sizes_of[move.source].get(move.slot, nothing) for move in plan},
    )


def parse_slots(text: str) -> list[int]:
    """Return the slots that `0-15,99` names. Raises ReshardingError."""
    slots: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ReshardingError(f"slots are written like 0-15,99, not {part.strip()!r}")
        end = int(last) if dash else int(first)
        if not int(first) <= end < SLOT_COUNT:
            raise ReshardingError(f"{part.strip()}: slots are 0 to {SLOT_COUNT - 1}, the lower one first")
        slots += range(int(first), end + 1)
    return slots


def as_ranges(slots: Iterable[int]) -> str:
    """Write slots as `parse_slots` reads them."""
    parts: list[list[int]] = []
    for slot in sorted(slots):
        if parts and slot == parts[-1][1] + 1:
            parts[-1][1] = slot
        else:
            parts.append([slot, slot])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in parts)
