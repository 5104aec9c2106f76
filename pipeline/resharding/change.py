"""A change of shards: one or more moves that are planned, begun, finished or aborted together.

There is one change at a time. Two coordinators must never both make a map of the next epoch, so a change is
recorded first on the shard whose name comes first in the map in force: of two, that one refuses the second.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from uuid import UUID, uuid4

import msgspec

from pipeline.errors import CoordinatorReplacedError, PostorderError, ReshardingError, ShardMapError
from pipeline.resharding.throttle import Limits
from pipeline.sharding.planner import SlotMove
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.cluster import Cluster
from pipeline.storage.move_table import Move, MoveState, MoveTable
from pipeline.storage.schema_version import schema_versions
from pipeline.storage.slot_ownership import SlotOwnership
from pipeline.storage.slot_rows import SlotRows, SlotSize, check_can_replicate

_LINKS_EACH = 4  # one each way, and two for copying tables


class Change(msgspec.Struct, frozen=True):
    """Moves in this coordinator's hands, in order. `states[shard][move_id]`: where each stands, there."""

    moves: tuple[Move, ...]
    states: dict[str, dict[UUID, MoveState]]

    def shards_of(self, move: Move) -> list[str]:
        """Return the shards that hold a record of a move."""
        return [shard for shard, states in self.states.items() if move.move_id in states]


async def begin(
    cluster: Cluster, plan: Sequence[SlotMove], sizes: Mapping[int, SlotSize], limits: Limits
) -> Change:
    """Check everything that can be checked, then record a plan's moves: from then on it is a change.

    Raises ReshardingError, ShardMapError, SchemaVersionError before anything has changed.
    """
    shard_map = await checked_map(cluster)
    moves = pieces(plan, sizes, limits)
    await _check(cluster, moves)
    involved = {name for move in moves for name in (move.source, move.target)}
    first = min(set(shard_map.owners))
    done: list[str] = []
    try:
        for name in [first, *sorted(involved - {first})]:
            mine = [move for move in moves if name == first or name in (move.source, move.target)]
            await MoveTable(cluster[name].primary).register(mine, shard_map.epoch)
            done.append(name)
    except PostorderError:
        await _withdraw(cluster, moves, done)
        raise
    return await take_over(cluster)


async def _withdraw(cluster: Cluster, moves: Sequence[Move], shards: Sequence[str]) -> None:
    for name in reversed(shards):
        for move in moves:
            with suppress(CoordinatorReplacedError):  # it was not recorded here
                await SlotOwnership(name, cluster[name].primary).close(move, MoveState.ABORTED)


def pieces(plan: Sequence[SlotMove], sizes: Mapping[int, SlotSize], limits: Limits) -> tuple[Move, ...]:
    """Group a plan by shards, and cut what is too much for one copy into even pieces."""
    by_pair: dict[tuple[str, str], list[int]] = defaultdict(list)
    for planned in plan:
        by_pair[planned.source, planned.target].append(planned.slot)
    started_at = datetime.now(UTC)
    moves = []
    for (source, target), slots in sorted(by_pair.items()):
        size = sum(sizes[slot].size_bytes for slot in slots if slot in sizes)
        count = max(1, min(limits.pieces_max, -int(-size // limits.copy_bytes_max), len(slots)))
        moves += [
            Move(
                move_id=uuid4(),
                source=source,
                target=target,
                slots=tuple(slots[number::count]),
                started_at=started_at,
            )
            for number in range(count)
        ]
    return tuple(moves)


async def checked_map(cluster: Cluster) -> ShardMap:
    """Return the map in force, once all shards agree with it. Raises ShardMapError, SchemaVersionError."""
    await schema_versions(cluster)
    stored = await cluster.stored_maps()
    for shard in cluster:
        if shard.name not in stored:
            raise ShardMapError(f"{shard.primary.name}: has no shard map: run `postorder migrate`")
    await cluster.load_map()
    shard_map = cluster.shard_map
    for shard in cluster:
        slots = await shard.maps.slots()
        owned = sorted(slot for slot, state in slots.items() if state == "owned")
        if owned != shard_map.slots_of(shard.name) or len(owned) != len(slots):
            moving = await MoveTable(shard.primary).in_progress()
            if moving:
                raise ReshardingError(
                    f"slots are moving from {moving[0].source} to {moving[0].target}: finish or abort that "
                    "first (`postorder shards status`)"
                )
            raise ShardMapError(
                f"{shard.name} owns {len(owned)} slots, the map (epoch {shard_map.epoch}) gives it "
                f"{len(shard_map.slots_of(shard.name))}, or others: see `postorder shards verify`"
            )
    return shard_map


async def _check(cluster: Cluster, moves: Sequence[Move]) -> None:
    for shard in cluster:
        if moving := await MoveTable(shard.primary).in_progress():
            raise ReshardingError(
                f"{shard.name}: slots are moving from {moving[0].source} to {moving[0].target}: finish or "
                "abort that first (`postorder shards status`)"
            )
    for name in sorted({name for move in moves for name in (move.source, move.target)}):
        links = _LINKS_EACH + 2 * sum(name in (move.source, move.target) for move in moves)
        await check_can_replicate(cluster[name].primary, links)
    for move in moves:
        if tables := await SlotRows(cluster[move.target].primary).tables_with(move.slots):
            raise ReshardingError(
                f"{move.target} is not empty: its {', '.join(tables)} hold rows of slots that are to come "
                "from elsewhere: see `postorder shards verify`"
            )


async def moves_in_progress(cluster: Cluster) -> tuple[Move, ...]:
    """Return the moves that are not over on every shard. All shards must answer."""
    return merged_moves([await MoveTable(shard.primary).in_progress() for shard in cluster])


def merged_moves(records: Iterable[Iterable[Move]]) -> tuple[Move, ...]:
    """Return each move of several shards' records once, as the furthest of them has it."""
    found: dict[UUID, Move] = {}
    for move in chain.from_iterable(records):
        known = found.get(move.move_id, move)
        found[move.move_id] = msgspec.structs.replace(
            _further(known, move), token=max(known.token, move.token)
        )
    return tuple(sorted(found.values(), key=lambda move: (move.source, move.target, move.move_id)))


def _further(one: Move, other: Move) -> Move:
    """Return the record that says more: an abort counts once begun, `moved` once recorded everywhere."""
    order = (MoveState.ABORTING, MoveState.RUNNING, MoveState.MOVED)
    return min(one, other, key=lambda move: order.index(move.state))


async def take_over(cluster: Cluster) -> Change:
    """Take what is in progress into our hands: whoever had it can change nothing from now on.

    Raises ReshardingError when nothing is in progress, CoordinatorReplacedError when another one is quicker.
    """
    found = await moves_in_progress(cluster)
    if not found:
        raise ReshardingError("no slots are moving")
    token = max(move.token for move in found) + 1
    moves = tuple(msgspec.structs.replace(move, token=token) for move in found)
    states: dict[str, dict[UUID, MoveState]] = {}
    for shard in sorted(cluster, key=lambda shard: shard.name):
        here = {move.move_id for move in await MoveTable(shard.primary).in_progress()}
        mine = [move for move in moves if move.move_id in here or shard.name in (move.source, move.target)]
        if mine:
            states[shard.name] = await MoveTable(shard.primary).take_over(mine, token)
    await cluster.load_map()
    return Change(moves, states)
