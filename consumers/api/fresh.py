"""Values that are read when somebody asks, and not more often than they are worth."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from pipeline.clock import Clock

T = TypeVar("T")


class Fresh(Generic[T]):
    """A value not older than `age_s` seconds, counted from the begin of its reading.

    Who asks at once shares one reading, and so does who asks while a failure is that fresh. Mutable state:
    the last reading, and when it began.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], *, age_s: float, clock: Clock) -> None:
        self._read = read
        self._age_s = age_s
        self._clock = clock
        self._began = float("-inf")
        self._reading: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return the value. Raises what reading it raises."""
        now = self._clock.monotonic()
        if self._reading is None or (self._reading.done() and now - self._began >= self._age_s):
            self._began = now
            self._reading = asyncio.create_task(self._reading_of(), name="fresh")
            self._reading.add_done_callback(_seen)
        return await asyncio.shield(self._reading)

    async def _reading_of(self) -> T:
        return await self._read()

    async def stop(self) -> None:
        """Break a reading off."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])


def _seen(reading: "asyncio.Task[T]") -> None:
    """Take note of a failure that nobody waits for any more."""
    if not reading.cancelled():
        reading.exception()
