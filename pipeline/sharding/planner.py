"""Which slots move when a shard comes, goes, or is given some. Pure: plans, and moves nothing.

A plan starts from the owners in force, never from a ring computed anew: with bounded loads a new ring would
also move slots between shards that stay. So when a shard comes, slots move only to it; when one goes, only
its slots move. The ring decides which ones, so that the same change always gives the same plan.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heapreplace

import msgspec

from pipeline.errors import ShardMapError
from pipeline.sharding.ring import SLOT_SPACING, Ring
from pipeline.sharding.slots import SLOT_COUNT


class SlotMove(msgspec.Struct, frozen=True):
    """A slot that is to leave one shard for another."""

    slot: int
    source: str
    target: str


def plan_add(owners: tuple[str, ...], weights: Mapping[str, int], new: str) -> tuple[SlotMove, ...]:
    """Return the moves that give a new shard its share, in the order of slots.

    `owners[slot]` is the map in force; `weights` holds those shards' weights and the new one's (others in it
    take no part). The new shard gets floor(4096 * weight / all weights) slots: those for which it stands
    nearest clockwise, from the shards that are furthest above their own share. Raises ShardMapError.
    """
    _check_owners(owners)
    if new in owners:
        raise ShardMapError(f"shard {new} is in the map already")
    taking_part = _weights_of({*owners, new}, weights)
    quota = SLOT_COUNT * taking_part[new] // sum(taking_part.values())
    if not quota:
        raise ShardMapError(f"shard {new}: its share of the {SLOT_COUNT} slots is less than one")
    giving = _shares_to_give(Counter(owners), taking_part, new, quota)
    moves = []
    for slot in _nearest_first(Ring(taking_part), new):
        source = owners[slot]
        if giving[source]:
            giving[source] -= 1
            moves.append(SlotMove(slot, source, new))
    return tuple(sorted(moves, key=_slot_of_move))


def plan_remove(owners: tuple[str, ...], weights: Mapping[str, int], gone: str) -> tuple[SlotMove, ...]:
    """Return the moves that empty a shard, in the order of slots.

    `weights` holds the weights of the shards that stay (others in it take no part). Each slot goes to the
    next shard clockwise that has fewer than its share, so no shard is filled above the share it is due,
    rounded up. Raises ShardMapError.
    """
    _check_owners(owners)
    if gone not in owners:
        raise ShardMapError(f"unknown shard {gone}: it owns no slots")
    staying = {*owners} - {gone}
    if not staying:
        raise ShardMapError(f"shard {gone} is the last one: its slots have nowhere to go")
    taking_part = _weights_of(staying, weights)
    counts = Counter(owners)
    shares = _whole_shares(taking_part, counts)
    room = {name: max(0, shares[name] - counts[name]) for name in taking_part}
    ring = Ring(taking_part)
    moves = []
    for slot in (slot for slot, owner in enumerate(owners) if owner == gone):
        # There is always one with room: the shares add up to all the slots, these ones among them.
        target = next(name for name in ring.clockwise(slot * SLOT_SPACING) if room[name])
        room[target] -= 1
        moves.append(SlotMove(slot, gone, target))
    return tuple(moves)


def plan_move(owners: tuple[str, ...], slots: Iterable[int], target: str) -> tuple[SlotMove, ...]:
    """Return the moves that bring chosen slots to a shard of the map, in the order of slots.

    Raises ShardMapError for a shard or slot that is not there, a slot named twice or already in place.
    """
    _check_owners(owners)
    if target not in owners:
        raise ShardMapError(f"unknown shard {target}: it owns no slots (a new shard is added, not moved to)")
    moves: list[SlotMove] = []
    for slot in sorted(slots):
        if not 0 <= slot < SLOT_COUNT:
            raise ShardMapError(f"slot {slot}: slots are 0 to {SLOT_COUNT - 1}")
        if moves and moves[-1].slot == slot:
            raise ShardMapError(f"slot {slot} is named twice")
        if owners[slot] == target:
            raise ShardMapError(f"slot {slot} is on shard {target} already")
        moves.append(SlotMove(slot, owners[slot], target))
    return tuple(moves)


def after(owners: tuple[str, ...], moves: Iterable[SlotMove]) -> tuple[str, ...]:
    """Return the owners once a plan is carried out. Raises ShardMapError if it does not start from these."""
    changed = list(owners)
    for move in moves:
        if changed[move.slot] != move.source:
            raise ShardMapError(
                f"slot {move.slot} is on shard {changed[move.slot]}, not on {move.source}: "
                "the map changed after the plan was made"
            )
        changed[move.slot] = move.target
    return tuple(changed)


def _check_owners(owners: Sequence[str]) -> None:
    if len(owners) != SLOT_COUNT:
        raise ShardMapError(f"a shard map has {SLOT_COUNT} slots, not {len(owners)}")


def _weights_of(names: set[str], weights: Mapping[str, int]) -> dict[str, int]:
    for name in sorted(names):
        if name not in weights:
            raise ShardMapError(f"unknown shard {name}: it is in the map, but has no weight in the settings")
    return {name: weights[name] for name in sorted(names)}


def _shares_to_give(
    counts: Mapping[str, int], weights: Mapping[str, int], new: str, quota: int
) -> dict[str, int]:
    """Return how many slots each shard gives: one after the other from whoever is furthest above its share.

    In whole numbers: how far a shard is above its share, times the sum of all weights.
    """
    total = sum(weights.values())
    # A heap has its smallest first, so what is above is below zero here.
    heap = [(SLOT_COUNT * weights[name] - counts[name] * total, name) for name in weights if name != new]
    heapify(heap)
    giving = dict.fromkeys(weights, 0)
    for _ in range(quota):
        below, name = heap[0]
        giving[name] += 1
        heapreplace(heap, (below + total, name))
    return giving


def _whole_shares(weights: Mapping[str, int], counts: Mapping[str, int]) -> dict[str, int]:
    """Return each shard's share of the slots in whole numbers that add up to all slots (largest remainder).

    Of equal remainders the shard that has more slots now is rounded up: it has them already.
    """
    total = sum(weights.values())
    shares = {name: SLOT_COUNT * weight // total for name, weight in weights.items()}
    left = SLOT_COUNT - sum(shares.values())
    by_remainder = sorted(
        weights, key=lambda name: (-(SLOT_COUNT * weights[name] % total), -counts[name], name)
    )
    for name in by_remainder[:left]:
        shares[name] += 1
    return shares


def _nearest_first(ring: Ring, name: str) -> list[int]:
    """Return all slots, those first from which the fewest other points are passed to reach the shard."""
    passed = ring.points_before(name)
    return sorted(range(SLOT_COUNT), key=lambda slot: (passed[slot], slot))


def _slot_of_move(move: SlotMove) -> int:
    return move.slot
