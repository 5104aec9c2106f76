"""Whether the shards are as they should be: an owner for each slot, one map, each row where it belongs."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from pipeline.errors import ShardMapError
from pipeline.resharding.change import moves_in_progress
from pipeline.sharding.slots import SLOT_COUNT
from pipeline.storage.checksums import Differences, compare
from pipeline.storage.cluster import Cluster
from pipeline.storage.move_table import Move
from pipeline.storage.slot_ownership import SlotOwnership
from pipeline.storage.slot_rows import SlotRows, links_on

_TRIES = 5
_GROUP = 16


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `moving`: slots are on their way, so that rows may lie on both of two shards.

    `compared`: the rows of moved slots, on the shard that has them and the one that could take them back.
    """

    epoch: int
    moving: tuple[str, ...]
    problems: tuple[str, ...]
    compared: Differences

    @property
    def is_clean(self) -> bool:
        """Whether all is as it should be."""
        return not self.problems


async def verify(cluster: Cluster) -> Verification:
    """Look at every shard. Changes nothing. Raises what a shard that does not answer raises."""
    moves = await moves_in_progress(cluster)
    problems = await _maps(cluster)
    problems += await _owners(cluster)
    problems += await _links(cluster, moves)
    for shard in cluster:
        expected = {slot for move in moves if move.source == shard.name for slot in move.slots}
        strays = await SlotRows(shard.primary).strays(expected)
        problems += [
            f"{shard.name}: {rows} rows of {table} belong elsewhere" for table, rows in strays.items()
        ]
    compared = Differences(slots=0, rows=0)
    for move in moves:
        compared = compared.plus(await _compare(cluster, move))
    problems += [f"{where}: not the same on both shards" for where in compared.where]
    return Verification(
        epoch=cluster.shard_map.epoch,
        moving=tuple(f"{move} ({move.state})" for move in moves),
        problems=tuple(problems),
        compared=compared,
    )


async def _maps(cluster: Cluster) -> list[str]:
    stored = await cluster.stored_maps()
    if not stored:
        raise ShardMapError("the databases hold no shard map: run `postorder migrate` first")
    await cluster.load_map()
    problems = []
    for shard in cluster:
        found = stored.get(shard.name)
        if found is None:
            problems.append(f"{shard.name}: has no shard map")
        elif found.shard_map.epoch != cluster.shard_map.epoch:
            problems.append(
                f"{shard.name}: its map is of epoch {found.shard_map.epoch}, not {cluster.shard_map.epoch}"
            )
        elif found.shard_map != cluster.shard_map:
            problems.append(f"{shard.name}: its map of epoch {found.shard_map.epoch} is another one")
    return problems


async def _owners(cluster: Cluster) -> list[str]:
    owners: dict[int, list[str]] = defaultdict(list)
    problems = []
    for shard in cluster:
        states = await shard.maps.slots()
        for slot, state in states.items():
            if state != "arriving":
                owners[slot].append(shard.name)
        paused = sum(state == "leaving" for state in states.values())
        if paused:
            problems.append(f"{shard.name}: {paused} slots take no writes: resume or abort the move")
    for slot in range(SLOT_COUNT):
        found, expected = owners[slot], cluster.shard_map.owners[slot]
        if found != [expected]:
            problems.append(f"slot {slot}: owned by {' and '.join(found) or 'nobody'}, by the map {expected}")
    return problems


async def _links(cluster: Cluster, moves: Sequence[Move]) -> list[str]:
    """Find parts of links that no move knows any more: a slot that nobody reads keeps WAL for ever."""
    known = {name for move in moves for name in (move.link_name, move.back_link_name)}
    found = [(shard.name, link) for shard in cluster for link in await links_on(shard.primary)]
    return [
        f"{name}: {link} is of no move"
        for name, link in found
        if link.split()[1] not in known and not (moves and link.startswith("slot pg_"))
    ]


async def _compare(cluster: Cluster, move: Move) -> Differences:
    """Compare what has moved with what its old shard has of it. Writes go on: what differs is retried."""
    target = SlotOwnership(move.target, cluster[move.target].primary)
    source = SlotOwnership(move.source, cluster[move.source].primary)
    moved = sorted(await target.held(move.slots))
    total = Differences(slots=0, rows=0)
    if not any("back" in link for link in await links_on(cluster[move.target].primary)):
        return total
    for start in range(0, len(moved), _GROUP):
        group = moved[start : start + _GROUP]
        found = await compare(cluster[move.target].primary, cluster[source.shard].primary, group)
        if not found.is_clean:
            found = Differences(slots=0, rows=0)
            for slot in group:
                found = found.plus(await _settled(cluster, move, slot))
        total = total.plus(found)
    return total


async def _settled(cluster: Cluster, move: Move, slot: int) -> Differences:
    for _ in range(_TRIES):
        found = await compare(cluster[move.target].primary, cluster[move.source].primary, [slot])
        if found.is_clean:
            return found
    return found
