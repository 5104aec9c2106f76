"""What a shard owns, changed step by step while slots move. Each step is a transaction alone on the shard."""

from collections.abc import Collection, Sequence

import msgspec

from pipeline.errors import ReshardingError
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.move_table import Move, move_step
from pipeline.storage.node import Node
from pipeline.storage.statements import FENCE, MOVES


class Held(msgspec.Struct, frozen=True):
    """A slot that a shard owns: `leaving` while it is paused, and since which epoch."""

    state: str
    epoch: int


class SlotOwnership:
    """The table `shard_slot` of one shard, and the copy of the map that goes with it."""

    def __init__(self, shard: str, node: Node) -> None:
        self.shard = shard
        self._node = node

    async def held(self, slots: Collection[int]) -> dict[int, Held]:
        """Return those of the slots that the shard owns, paused ones among them."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(MOVES["states"], list(slots))
        return {row["slot"]: Held(row["state"], row["epoch"]) for row in rows if row["state"] != "arriving"}

    async def held_for_certain(self, move: Move, slots: Collection[int]) -> dict[int, Held]:
        """Do as `held` does, after whatever change is under way has ended one way or the other."""
        async with move_step(self._node, move, alone=True) as connection:
            rows = await connection.fetch(MOVES["states"], list(slots))
            # Written, so that on return all that was seen is on the replica as well.
            await connection.execute(MOVES["touch"], move.move_id)
        return {row["slot"]: Held(row["state"], row["epoch"]) for row in rows if row["state"] != "arriving"}

    async def expect(self, move: Move, epoch: int) -> None:
        """Get ready for slots to come. From now on writers look each slot up."""
        async with move_step(self._node, move, alone=True) as connection:
            await connection.execute(MOVES["unsettle"])
            await connection.execute(MOVES["arrive"], list(move.slots), epoch)

    async def unsettle(self, move: Move) -> None:
        """Have writers look each slot up from now on."""
        async with move_step(self._node, move, alone=True) as connection:
            await connection.execute(MOVES["unsettle"])

    async def pause(self, move: Move, slots: Sequence[int], marker: object) -> int:
        """Take no more writes of slots; return the marker that follows the last one on its way."""
        async with move_step(self._node, move, alone=True) as connection:
            paused = await connection.fetch(MOVES["pause"], list(slots))
            if len(paused) != len(slots):
                raise ReshardingError(
                    f"{self.shard} owns {len(paused)} of {len(slots)} slots that are to leave it: "
                    "see `postorder shards verify`"
                )
            return int(await connection.fetchval(MOVES["put_marker"], marker))

    async def unpause(self, move: Move, slots: Collection[int]) -> int:
        """Take writes again; return of how many slots."""
        async with move_step(self._node, move, alone=True) as connection:
            return len(await connection.fetch(MOVES["unpause"], list(slots)))

    async def take(self, move: Move, slots: Sequence[int], shard_map: ShardMap) -> None:
        """Own slots from this commit on, by a map that says so. This is the decision: it is not undone.

        Raises ReshardingError when the shard has this epoch already.
        """
        async with move_step(self._node, move, alone=True) as connection:
            known = await connection.fetchval("SELECT epoch FROM shard_map")
            if known is None or known >= shard_map.epoch:
                raise ReshardingError(f"{self.shard} has epoch {known}: another change was made meanwhile")
            await connection.execute(MOVES["take"], list(slots), shard_map.epoch)
            await connection.execute(FENCE["spread_map"], shard_map.epoch, encoded(shard_map))
            await connection.execute(FENCE["notify"], str(shard_map.epoch))

    async def give_up(self, move: Move, slots: Sequence[int], shard_map: ShardMap) -> None:
        """Own slots no more: another shard does, by this map."""
        async with move_step(self._node, move, alone=True) as connection:
            await connection.execute(MOVES["give_up"], list(slots))
            await connection.execute(FENCE["spread_map"], shard_map.epoch, encoded(shard_map))
            await connection.execute(FENCE["notify"], str(shard_map.epoch))

    async def adopt(self, shard_map: ShardMap) -> None:
        """Take a newer map that changes nothing of what this shard owns."""
        async with self._node.connection() as connection, connection.transaction():
            await connection.execute(FENCE["spread_map"], shard_map.epoch, encoded(shard_map))
            await connection.execute(FENCE["notify"], str(shard_map.epoch))

    async def close(self, move: Move, state: str) -> None:
        """Record that a move is over here; let writers go by the map alone again if no other goes on."""
        async with move_step(self._node, move, alone=True) as connection:
            await connection.execute(MOVES["forget_arriving"], list(move.slots))
            await connection.execute(MOVES["forget_markers"], [move.move_id, move.back_marker])
            await connection.execute(MOVES["note"], move.move_id, state, state)
            await connection.execute(MOVES["settle"])


def encoded(shard_map: ShardMap) -> str:
    """Return the owners as the table holds them."""
    return msgspec.json.encode(shard_map.owners).decode()
