"""Hands a group of slots over: pause, verify, decide, let go. No two shards ever own a slot at once.

    giver  pause: takes no more writes of the group; a marker follows the last one on its way
    taker  the marker has arrived, and the checksums are the same
    taker  owns the group by the next epoch's map: this commit decides
    giver  owns it no more, and has the same map; then the other shards get it

Whoever is killed on the way leaves slots that nobody owns for a while, never slots that two own.
"""

import asyncio
import time
from collections.abc import Awaitable, Sequence

import msgspec
import structlog

from pipeline.errors import PostorderError, ReshardingError, RowsDifferError
from pipeline.resharding.map_maker import MapMaker
from pipeline.storage.checksums import Differences, compare
from pipeline.storage.move_table import Move
from pipeline.storage.replication_link import ReplicationLink
from pipeline.storage.shard import Shard
from pipeline.storage.slot_ownership import SlotOwnership

log = structlog.get_logger(__name__)

_NEAR_S = 30.0


class Flipped(msgspec.Struct, frozen=True):
    """A group that was handed over. `stall_s`: how long nobody took writes of it."""

    stall_s: float
    differences: Differences


class GroupFlip:
    """From one shard of a move to the other, in one direction."""

    def __init__(
        self,
        move: Move,
        *,
        giver: Shard,
        taker: Shard,
        link: ReplicationLink,
        marker: object,
        maps: MapMaker,
        pause_s_max: float,
    ) -> None:
        self._move = move
        self._link = link
        self._marker = marker
        self._maps = maps
        self._pause_s_max = pause_s_max
        self._giver = SlotOwnership(giver.name, giver.primary)
        self._taker = SlotOwnership(taker.name, taker.primary)
        self._nodes = (giver.primary, taker.primary)

    async def flip(self, slots: Sequence[int]) -> Flipped:
        """Hand a group over. When cancelled, first ends what it has begun.

        Raises RowsDifferError, TimeoutError (the link is too far behind), or as the shards do. Then the
        giver goes on, unless nobody can tell whether the taker has decided: that is left to `settle`.
        """
        # The pause is short only when the link has nothing left to carry.
        await self._link.until_arrived(await self._link.send_marker(), _NEAR_S)
        return await _to_the_end(self._flip(slots))

    async def _flip(self, slots: Sequence[int]) -> Flipped:
        started = time.monotonic()
        try:
            found = await self._pause_and_verify(slots)
        except BaseException:
            await self._giver.unpause(self._move, slots)
            raise
        shard_map = self._maps.next(slots, self._taker.shard)
        try:
            await self._taker.take(self._move, slots, shard_map)
        except PostorderError as error:
            if not await self._has_taken(slots, shard_map.epoch):
                await self._giver.unpause(self._move, slots)
                raise
            log.info("flip.was_unsure", epoch=shard_map.epoch, error=str(error))
        stall_s = time.monotonic() - started
        self._maps.use(shard_map)
        await self._giver.give_up(self._move, slots, shard_map)
        log.info(
            "slots.flipped", owner=self._taker.shard, slots=len(slots), epoch=shard_map.epoch,
            stall_ms=round(stall_s * 1e3, 1),
        )  # fmt: skip
        return Flipped(stall_s, found)

    async def _pause_and_verify(self, slots: Sequence[int]) -> Differences:
        marker = await self._giver.pause(self._move, slots, self._marker)
        await self._link.until_arrived(marker, self._pause_s_max)
        found = await compare(*self._nodes, slots)
        if not found.is_clean:
            raise RowsDifferError(f"{self._move}: {found}: nothing of these was flipped")
        return found

    async def _has_taken(self, slots: Sequence[int], epoch: int) -> bool:
        """Find out what became of a commit that was not answered."""
        held = await self._taker.held_for_certain(self._move, slots)
        taken = [slot for slot in slots if slot in held and held[slot].epoch == epoch]
        if taken and len(taken) != len(slots):
            raise ReshardingError(
                f"{self._taker.shard} owns a part of a group: see `postorder shards verify`"
            )
        return bool(taken)


async def _to_the_end(flipping: Awaitable[Flipped]) -> Flipped:
    """Await something that must not be cut off half-way; being cancelled counts afterwards."""
    task = asyncio.ensure_future(flipping)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: the caller is told that it was cancelled, and resumes by the databases
        raise
