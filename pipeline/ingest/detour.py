"""Events whose slot a shard just refused: to the new owner, or back into the lane when the slot has moved.

A slot that moves is nobody's for a moment. Its events are set aside for that long, so that they hold up
neither their lane nor, each time anew, the batches they would be part of.
"""

from collections.abc import Awaitable, Callable, Iterable

from pipeline.clock import Clock
from pipeline.ingest.batcher import Item
from pipeline.lifecycle import Tasks
from pipeline.sharding.router import Router

_PAUSE_S = 0.02

ParkItems = Callable[[list[Item]], Awaitable[None]]


class Detour:
    """One lane's. Mutable state: which slots are paused, and until when by the monotonic clock.

    `refresh` reads the shard map again; `route` puts events into the lanes of their slots' owners; `park`
    gives back to the broker what was on its way for longer than `park_after_s`.
    """

    def __init__(
        self,
        shard: str,
        *,
        router: Router,
        refresh: Callable[[], Awaitable[None]],
        route: Callable[[Iterable[Item]], None],
        park: ParkItems,
        park_after_s: float,
        is_closing: Callable[[], bool],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._shard = shard
        self._router = router
        self._refresh = refresh
        self._route = route
        self._park = park
        self._park_after_s = park_after_s
        self._is_closing = is_closing
        self._clock = clock
        self._tasks = tasks
        self._paused: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"Detour({self._shard}: {len(self._paused)} slots paused)"

    @property
    def epoch(self) -> int:
        """The epoch of the map in force."""
        return self._router.epoch

    def without_paused(self, items: list[Item]) -> list[Item]:
        """Return the events that may be tried now; the others are set aside for a moment."""
        if not self._paused:
            return items
        now = self._clock.monotonic()
        self._paused = {slot: until for slot, until in self._paused.items() if until > now}
        paused = self._paused
        waiting = [item for item in items if item.row.slot in paused]
        if not waiting:
            return items
        self._set_aside(waiting)
        return [item for item in items if item.row.slot not in paused]

    async def refused(self, items: list[Item], slots: frozenset[int]) -> list[Item]:
        """Take a refused batch apart by the newest map; return the events to try here again, now."""
        await self._refresh()
        here = [item for item in items if self._router.shard_of(item.row.slot) == self._shard]
        away = [item for item in items if self._router.shard_of(item.row.slot) != self._shard]
        if away:
            await self._send(away)
        until = self._clock.monotonic() + _PAUSE_S
        # A slot that is still ours by the map and refused all the same is just about to leave.
        self._paused |= {slot: until for slot in slots if self._router.shard_of(slot) == self._shard}
        return self.without_paused(here)

    def _set_aside(self, items: list[Item]) -> None:
        self._tasks.start(self._bring_back(items), f"events of moving slots of {self._shard}")

    async def _bring_back(self, items: list[Item]) -> None:
        await self._clock.sleep(_PAUSE_S)
        before = self._clock.monotonic() - self._park_after_s
        overdue = [item for item in items if item.delivery.received_at < before]
        if overdue:
            await self._park(overdue)
        await self._send([item for item in items if item.delivery.received_at >= before])

    async def _send(self, items: list[Item]) -> None:
        """Put events into lanes; while ending, lanes may have nobody left who empties them."""
        if not items:
            return
        if self._is_closing():
            await self._park(items)
        else:
            self._route(items)
