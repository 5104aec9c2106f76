"""A bounded pool for one channel: a fixed number of workers, and room counted before anything is claimed."""

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.lifecycle import Tasks
from pipeline.storage.outbox import Claim


class WorkerPool:
    """Runs `work` on claims, at most `concurrency` at once, with as many more waiting at most.

    Mutable state: `_waiting` and `_room`. Room is reserved before claims are fetched, so that nothing is
    ever claimed that cannot be worked on soon.
    """

    def __init__(
        self, name: str, *, concurrency: int, work: Callable[[Claim], Awaitable[None]], tasks: Tasks
    ) -> None:
        self.name = name
        self._concurrency = concurrency
        self._work = work
        self._tasks = tasks
        self._waiting: asyncio.Queue[Claim | None] = asyncio.Queue()
        self._room = 2 * concurrency
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.busy = 0

    def __repr__(self) -> str:
        return (
            f"WorkerPool({self.name}: {self.busy} busy, {self._waiting.qsize()} waiting, {self._room} free)"
        )

    def start(self) -> None:
        """Start the workers."""
        for number in range(self._concurrency):
            self._tasks.start(self._run(), f"{self.name} worker {number}")

    async def reserve(self, wanted: int) -> int:
        """Wait for room and reserve up to `wanted` places; return how many."""
        while not self._room:
            self._has_room.clear()
            await self._has_room.wait()
        reserved = min(wanted, self._room)
        self._room -= reserved
        return reserved

    def give_back(self, places: int) -> None:
        """Free places that were reserved or worked off."""
        self._room += places
        if self._room:
            self._has_room.set()

    def put(self, claim: Claim) -> None:
        """Hand in a claim, on a place reserved before."""
        self._waiting.put_nowait(claim)

    def take_waiting(self) -> list[Claim]:
        """Take back the claims no worker has begun, for a drain."""
        taken = []
        while not self._waiting.empty():
            claim = self._waiting.get_nowait()
            if claim is not None:
                taken.append(claim)
        return taken

    async def finish(self) -> None:
        """Let the workers end what they are at; return when all have ended."""
        for _ in range(self._concurrency):
            self._waiting.put_nowait(None)
        await self._tasks.join()

    async def _run(self) -> None:
        while (claim := await self._waiting.get()) is not None:
            self.busy += 1
            try:
                await self._work(claim)
            finally:
                self.busy -= 1
                self.give_back(1)
