"""One server as reads see it: how quickly it answers, and what it has been asked and not yet answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline.errors import PostorderError, StorageUnavailableError
from pipeline.reading.latency import Latency
from pipeline.settings import ReadSettings
from pipeline.storage.node import Node

_FAILURE_S = 0.25  # what a failure counts as in a server's latency, at least
_REOPEN_AFTER_S = 1.0
_HALF_LIFE_S = 5.0

Ask = Callable[["Endpoint", Any], Awaitable[Any]]
"""Asks a server on a connection and returns its answer; raises PostorderError when it may not answer."""


class Endpoint:
    """A server of a pair. Its pool is opened when it is first asked.

    State, changed by its attempts alone: `pending` (attempts under way), `losers` (those of them that nobody
    waits for, the oldest first), `asked` (all attempts of reads so far).
    """

    def __init__(self, node: Node, settings: ReadSettings) -> None:
        self.node = node
        self.settings = settings
        self.latency = Latency(_HALF_LIFE_S)
        self.in_recovery: bool | None = None
        self.asked = 0
        self.pending: set[Attempt] = set()
        self.losers: list[Attempt] = []
        self._opening: asyncio.Task[None] | None = None
        self._closed_until = 0.0
        self._why_closed = ""

    def __repr__(self) -> str:
        return f"Endpoint({self.node.name}, {len(self.pending)} pending, {len(self.losers)} losers)"

    @property
    def has_room(self) -> bool:
        """Whether a second attempt may be made here: not while losers hold what connections they may."""
        return len(self.losers) < self.settings.losers_max

    def start(self, ask: Ask, *, is_read: bool = True) -> "Attempt":
        """Ask the server in the background."""
        self.asked += is_read
        return Attempt(self, ask, is_read=is_read)

    async def ready(self) -> None:
        """Open the pool if it is not. Raises StorageUnavailableError."""
        if self._opening is None:
            if time.monotonic() < self._closed_until:
                raise StorageUnavailableError(self._why_closed)
            self._opening = asyncio.create_task(self.node.open(), name=f"open {self.node.name}")
        opening = self._opening
        try:
            await asyncio.shield(opening)
        except PostorderError as error:
            if opening is self._opening:
                self._opening = None
                self._closed_until = time.monotonic() + _REOPEN_AFTER_S
                self._why_closed = str(error)
            raise

    async def close(self) -> None:
        """Wait for attempts within the limit for losers, cut the rest off, close the pool."""
        if self.pending:
            await asyncio.wait(
                {attempt.task for attempt in self.pending}, timeout=self.settings.loser_limit_s
            )
        for attempt in [*self.pending]:
            attempt.cut()
        if self.pending:
            await asyncio.wait({attempt.task for attempt in self.pending})
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.wait({opening})
        await self.node.close()


class Attempt:
    """One server asked once. The answer is out before its connection is back in the pool.

    An attempt that nobody waits for any more goes on: cancelling a query costs a connection of its own, to
    carry the request to cancel. At its limit the connection is dropped instead.
    """

    def __init__(self, endpoint: Endpoint, ask: Ask, *, is_read: bool) -> None:
        self.endpoint = endpoint
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.answer.add_done_callback(_look)
        self.began = time.monotonic()
        self.took_s = 0.0
        self._is_read = is_read
        self._connection: Any = None
        self._limit: asyncio.TimerHandle | None = None
        endpoint.pending.add(self)
        self.task = asyncio.create_task(self._run(ask), name=f"read from {endpoint.node.name}")
        self.task.add_done_callback(self._ended)

    async def _run(self, ask: Ask) -> None:
        await self.endpoint.ready()
        async with self.endpoint.node.connection() as connection:
            self._connection = connection
            try:
                answer = await ask(self.endpoint, connection)
            finally:
                self._connection = None  # on its way back to the pool: no longer ours to drop
            self._observe(0.0)
            self.answer.set_result(answer)

    def abandon(self) -> None:
        """Leave it to itself, within the limits for losers. Nothing if it has ended."""
        if self.task.done() or self._limit is not None:
            return
        endpoint = self.endpoint
        endpoint.losers.append(self)
        limit_s = endpoint.settings.loser_limit_s
        self._limit = asyncio.get_running_loop().call_later(limit_s, self.cut)
        if len(endpoint.losers) > endpoint.settings.losers_max:
            endpoint.losers[0].cut()

    def cut(self) -> None:
        """End it now, without a word to the server."""
        if self in self.endpoint.losers:
            self.endpoint.losers.remove(self)
        if self._connection is None:
            self.task.cancel()  # it waits for a connection, or gives it back: there is no query to cancel
        else:
            self._connection.terminate()

    def _observe(self, at_least_s: float) -> None:
        now = time.monotonic()
        self.took_s = now - self.began
        if self._is_read:
            self.endpoint.latency.observe(max(self.took_s, at_least_s), now)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.endpoint.pending.discard(self)
        if self in self.endpoint.losers:
            self.endpoint.losers.remove(self)
        if self._limit is not None:
            self._limit.cancel()
        if self.answer.done():
            _look(task)  # the answer was out; what came of giving the connection back is the pool's affair
            return
        self._observe(_FAILURE_S)
        if task.cancelled():
            self.answer.cancel()
        else:
            self.answer.set_exception(task.exception() or RuntimeError("an attempt ended without an answer"))


def _look(future: "asyncio.Future[Any]") -> None:
    """Look at an outcome that perhaps nobody else looks at, so that asyncio does not complain of it."""
    if not future.cancelled():
        future.exception()
