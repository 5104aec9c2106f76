"""The overview as it goes on: server-sent events, bounded in number and in time.

A stream ends by itself with an event that says why, and whoever still looks asks for the next: so a page left
open for a day holds no connection for a day, and its token is looked at again each time.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final, Literal

import msgspec
import structlog

from consumers.api.callers import Caller
from consumers.api.overview_reader import AGE_S, OverviewReader
from consumers.web.requests import Refused
from pipeline.clock import Clock
from pipeline.settings import ApiSettings

log = structlog.get_logger(__name__)

Reason = Literal["time", "token", "stopping", "busy"]
"""Why a stream ended: its time is over, its token is, the process stops, there are too many."""

_RETRY_MS: Final = 3000
_TOO_MANY, _UNAVAILABLE = 429, 503


class End(msgspec.Struct, frozen=True):
    """The data of the last event, `end`."""

    reason: Reason


class OverviewStreams:
    """A service: the streams that are open. Mutable state: how many, by subject."""

    name = "overview streams"

    def __init__(self, settings: ApiSettings, reader: OverviewReader, clock: Clock) -> None:
        self._settings = settings
        self._reader = reader
        self._clock = clock
        self._open: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"OverviewStreams({self._open.total()} open)"

    @property
    def open_count(self) -> int:
        """How many streams are open."""
        return self._open.total()

    async def start(self) -> None:
        """Do nothing: streams are opened when somebody looks."""

    async def drain(self) -> None:
        """End every stream, each with a word about it."""
        self._stopping.set()
        await self._idle.wait()

    async def stop(self) -> None:
        """End every stream, and what is being read for them."""
        self._stopping.set()
        await self._reader.stop()

    def stream(self, caller: Caller) -> AsyncIterator[bytes]:
        """Return a stream of events for a caller. Raises Refused when there are too many already."""
        if self._stopping.is_set() or self._open.total() >= self._settings.streams_max:
            raise Refused(_UNAVAILABLE)
        if self._open[caller.subject] >= self._settings.streams_each_max:
            raise Refused(_TOO_MANY, "too many streams of one subject")
        return self._events(caller)

    async def _events(self, caller: Caller) -> AsyncIterator[bytes]:
        self._open[caller.subject] += 1
        self._idle.clear()
        try:
            until = self._clock.monotonic() + self._settings.stream_s
            yield b"retry: %d\n\n" % _RETRY_MS
            while (reason := self._end(caller, until)) is None:
                yield b"event: overview\ndata: %s\n\n" % await self._reader.encoded()
                await self._pause(min(AGE_S, until - self._clock.monotonic()))
            yield b"event: end\ndata: %s\n\n" % msgspec.json.encode(End(reason))
        finally:
            self._open[caller.subject] -= 1
            self._open += Counter()  # forgets who has none
            if not self._open:
                self._idle.set()

    def _end(self, caller: Caller, until: float) -> Reason | None:
        if self._stopping.is_set():
            return "stopping"
        if self._clock.now().timestamp() >= caller.expires_at:
            return "token"
        each_max, most = self._settings.streams_each_max, self._settings.streams_max
        if self._open.total() > most or self._open[caller.subject] > each_max:  # they came in one moment
            return "busy"
        return "time" if self._clock.monotonic() >= until else None

    async def _pause(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
        except TimeoutError:
            pass  # the ordinary case: nobody stops
