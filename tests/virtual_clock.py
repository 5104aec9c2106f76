"""A clock that a test turns: time passes only while everything waits for it."""

import asyncio
import heapq
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TypeVar

T = TypeVar("T")


class VirtualClock:
    """Sleepers wake in order, each at its exact time."""

    def __init__(self, start: float = 1000.0) -> None:
        self.time = start
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.time)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, delay_s: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + delay_s, next(self._numbers), woken))
        await woken

    async def pass_by(self, seconds: float) -> None:
        """Let so much time pass, and everything happen that falls into it."""
        await self._pass_until(self.time + seconds)

    async def _pass_until(self, end: float) -> None:
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heapq.heappop(self._sleepers)
            self.time = max(self.time, at)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self.time = end

    async def run(self, work: Awaitable[T], limit_s: float = 100_000.0) -> T:
        """Let time pass until something is done; fail after `limit_s` seconds of it."""
        task = asyncio.ensure_future(work)
        end = self.time + limit_s
        await settle()
        while not task.done():
            assert self._sleepers, "nothing waits for time to pass, and it is not done"
            assert self.time < end, f"not done in {limit_s} s"
            await self._pass_until(max(self.time, self._sleepers[0][0]))
        return task.result()


async def settle() -> None:
    """Let whatever can run now run, until it waits for the clock."""
    for _ in range(20):
        await asyncio.sleep(0)
