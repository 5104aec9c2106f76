"""Values that are read when somebody asks, and not more often than they are worth."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from pipeline.clock import Clock

T = TypeVar("T")


class Fresh(Generic[T]):
    """A value not older than `age_s` seconds, counted from the end of its reading.

    So one that takes longer than that to read counts too, and there is a pause before the next reading. Who
    asks at once shares one reading, and so does who asks while a failure is that fresh. A reading that is not
    done in `patience_s` goes on, and who waits gets the value before it, if that is not older than `stale_s`.
    Mutable state: the last reading, when it ended, and the last that went well, with its end.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[T]],
        *,
        age_s: float,
        clock: Clock,
        patience_s: float | None = None,
        stale_s: float = 0.0,
    ) -> None:
        self._read = read
        self._age_s = age_s
        self._clock = clock
        self._patience_s = patience_s
        self._stale_s = stale_s
        self._ended = float("-inf")
        self._reading: asyncio.Task[T] | None = None
        self._last: tuple[T, float] | None = None

    async def get(self) -> T:
        """Return the value. Raises what reading it raises."""
        reading = self._reading
        if reading is None or (reading.done() and self._clock.monotonic() - self._ended >= self._age_s):
            reading = self._reading = asyncio.create_task(self._reading_of(), name="fresh")
            reading.add_done_callback(_seen)
        if self._last is not None and self._patience_s is not None:
            await asyncio.wait([reading], timeout=self._patience_s)
            value, ended = self._last
            if not reading.done() and self._clock.monotonic() - ended < self._stale_s:
                return value
        return await asyncio.shield(reading)

    async def _reading_of(self) -> T:
        try:
            value = await self._read()
        finally:
            self._ended = self._clock.monotonic()
        self._last = (value, self._ended)
        return value

    async def stop(self) -> None:
        """Break a reading off."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])


def _seen(reading: "asyncio.Task[T]") -> None:
    """Take note of a failure that nobody waits for any more."""
    if not reading.cancelled():
        reading.exception()
