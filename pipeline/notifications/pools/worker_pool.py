"""A bounded pool for one channel: as many workers as the providers can take, room counted before a claim."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from pipeline.lifecycle import Tasks
from pipeline.storage.outbox import Claim

_SET_SHARE = 3  # of the pool is worth a claim
_CLAIM_SHARE = 2  # of the pool a single claim gets at most


class Capacity(Protocol):
    """How much the providers of a channel can take at the moment."""

    ceiling: int
    """Messages worked on at once, whatever happens: so many workers are there."""

    def workers(self) -> int:
        """How many messages may be worked on at once, from 1 to `ceiling`."""

    def places(self) -> int:
        """How many messages may be in the pool, waiting or worked on."""

    async def until_open(self) -> None:
        """Return when some provider can be called; at once when that is so now."""

    def close(self) -> None:
        """Let nothing wait for a call any more: the pool ends."""


class FixedCapacity:
    """So many at once, always."""

    def __init__(self, concurrency: int) -> None:
        self.ceiling = concurrency

    def workers(self) -> int:
        """How many at once."""
        return self.ceiling

    def places(self) -> int:
        """As many more may wait."""
        return 2 * self.ceiling

    async def until_open(self) -> None:
        """Return at once."""

    def close(self) -> None:
        """Nothing waits here."""


class WorkerPool:
    """Runs `work` on claims, at most `capacity.workers()` at once.

    Room is reserved before claims are fetched, so that nothing is ever claimed that cannot be worked on soon.
    Workers are tasks that stay: a message costs no task, and no future while others wait. Mutable state:
    `_waiting` (claims nobody has begun), `_idle` (the workers that wait, the last to come first), `_taken`
    (places reserved, waiting or worked on), `_is_finishing`, `busy`.
    """

    def __init__(
        self, name: str, *, capacity: Capacity, work: Callable[[Claim], Awaitable[None]], tasks: Tasks
    ) -> None:
        self.name = name
        self._capacity = capacity
        self._work = work
        self._tasks = tasks
        self._waiting: deque[Claim] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._taken = 0
        self._has_room = asyncio.Event()
        self._is_finishing = False
        self.busy = 0

    def __repr__(self) -> str:
        return f"WorkerPool({self.name}: {self.busy} busy, {len(self._waiting)} waiting, {self.free} free)"

    @property
    def free(self) -> int:
        """Places that could be reserved now; below 0 while there are fewer than are taken."""
        return self._capacity.places() - self._taken

    @property
    def waiting(self) -> int:
        """Claims that no worker has begun."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the workers."""
        for number in range(self._capacity.ceiling):
            self._tasks.start(self._run(), f"{self.name} worker {number}")

    async def reserve(self, wanted: int) -> int:
        """Wait for an open provider and for room; reserve up to `wanted` places, return how many.

        Not for any room: a claim of few messages costs as many round trips as one of many, and taking each
        place as it came free made all of them small. Nor more than half of the pool, because a shard that
        does not answer keeps what it was given until the time-out.
        """
        while True:
            await self._capacity.until_open()
            places = self._capacity.places()
            if (free := places - self._taken) >= min(wanted, max(1, places // _SET_SHARE)):
                break
            self._has_room.clear()
            await self._has_room.wait()
        reserved = min(wanted, free, max(1, places // _CLAIM_SHARE))
        self._taken += reserved
        return reserved

    def give_back(self, places: int) -> None:
        """Free places that were reserved or worked off."""
        self._taken -= places
        self._has_room.set()

    def put(self, claim: Claim) -> None:
        """Hand in a claim, on a place reserved before."""
        self._waiting.append(claim)
        self._wake_one()

    def take_waiting(self) -> list[Claim]:
        """Take back the claims no worker has begun, for a drain."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    async def finish(self) -> None:
        """Let the workers end what is there; return when all have ended."""
        self._is_finishing = True
        self._capacity.close()
        while self._idle:
            self._rouse()
        await self._tasks.join()

    def _wake_one(self) -> None:
        if self._idle and self._waiting and self.busy < self._capacity.workers():
            self._rouse()

    def _rouse(self) -> None:
        # Counted as busy from now on, else several claims put at once would wake too many.
        self.busy += 1
        self._idle.pop().set_result(None)

    async def _run(self) -> None:
        """Work whenever woken. The last worker that is busy never idles while a claim waits."""
        self.busy += 1
        while True:
            try:
                while self._waiting and self.busy <= self._capacity.workers():
                    await self._work_on(self._waiting.popleft())
            finally:
                self.busy -= 1
            if self._is_finishing:
                return
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(woken)
            await woken

    async def _work_on(self, claim: Claim) -> None:
        try:
            await self._work(claim)
        finally:
            self.give_back(1)
        self._wake_one()  # there may be more workers now than before
