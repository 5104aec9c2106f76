"""A worker's side of the socket: says how it is, obeys, and drains when the supervisor is gone."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, Self

import msgspec
import structlog

from consumers.allocator.messages import LINE_BYTES_MAX, Order, WorkerWord, read_line, send_line
from consumers.knobs import Knobs
from pipeline.clock import Clock
from pipeline.lifecycle import Service, Tasks
from pipeline.observability.metrics import Metrics
from pipeline.observability.readings import read

log = structlog.get_logger(__name__)

WORD_S: Final = 1.0


class Supervised:
    """The socket to the supervisor. Mutable state: `order`, the last one that came; `on_stop`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self.order = Order()
        self.news = asyncio.Event()
        self.on_stop: Callable[[str], None] = _nothing
        self._reading = asyncio.create_task(self._read(), name="orders of the supervisor")

    def __repr__(self) -> str:
        return f"Supervised({self.order})"

    @classmethod
    async def connect(cls, connected: socket.socket, clock: Clock) -> Self:
        """Take the socket over, and listen."""
        connected.setblocking(False)  # noqa: FBT003  # the library's signature
        reader, writer = await asyncio.open_unix_connection(sock=connected, limit=LINE_BYTES_MAX)
        return cls(reader, writer, clock)

    def service(self, knobs: Knobs, metrics: Metrics, tasks: Tasks) -> Service:
        """Return the service that tells the supervisor of the process, and turns its knobs."""
        return Obedience(self, knobs, metrics, clock=self._clock, tasks=tasks)

    def tell(self, word: WorkerWord) -> None:
        """Say how the worker is. A supervisor that does not listen misses it, and hears the next."""
        if not send_line(self._writer, word):
            log.debug("worker.unheard")

    def report(self) -> dict[str, Any]:
        """Return the last decision, for the process's report."""
        order = self.order
        return {"workers": order.workers, "bottleneck": order.bottleneck, "why": order.why}

    def close(self) -> None:
        """Hang up."""
        self._reading.cancel()
        self._writer.close()

    async def _read(self) -> None:
        while (line := await read_line(self._reader)) is not None:
            try:
                self.order = msgspec.json.decode(line, type=Order)
            except msgspec.MsgspecError as error:
                log.warning("worker.order_unreadable", error=type(error).__name__)
                continue
            if self.order.stop:
                self.on_stop("the supervisor says so")
            self.news.set()
        self.on_stop("the supervisor is gone")


def _nothing(_why: str) -> None:
    """Stop nothing: there is no process yet."""


class Obedience:
    """A service: tells the supervisor once a second, and does what its last order says.

    Level-triggered: whatever came in between, what counts is the last order and how things are. Most
    upstream: it drains first, so that nothing is turned while consumers end.
    """

    name = "supervised"

    def __init__(
        self, link: Supervised, knobs: Knobs, metrics: Metrics, *, clock: Clock, tasks: Tasks
    ) -> None:
        self._link = link
        self._knobs = knobs
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks
        self._turning = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Obedience({self._link!r})"

    async def start(self) -> None:
        """Begin to tell and to obey."""
        self._tasks.start(self._tell_forever(), "tell the supervisor")
        self._tasks.start(self._obey_forever(), "obey the supervisor")

    async def drain(self) -> None:
        """End, but not in the middle of a change."""
        async with self._turning:
            await self._tasks.cancel()

    async def stop(self) -> None:
        """End."""
        await self._tasks.cancel()

    async def _tell_forever(self) -> None:
        while True:
            knobs = self._knobs
            word = WorkerWord(
                readings=read(self._metrics), prefetch=knobs.prefetch, batch_max=knobs.batch_max
            )
            self._link.tell(word)
            await self._clock.sleep(WORD_S)

    async def _obey_forever(self) -> None:
        while True:
            self._link.news.clear()
            async with self._turning:
                await self._obey(self._link.order)
            await self._link.news.wait()

    async def _obey(self, order: Order) -> None:
        knobs = self._knobs
        before = (knobs.prefetch, knobs.batch_max)
        if order.batch_max:
            knobs.set_batch_max(order.batch_max)
        if order.prefetch:
            await knobs.set_prefetch(order.prefetch)
        after = (knobs.prefetch, knobs.batch_max)
        if after != before:
            log.info("worker.turned", prefetch=knobs.prefetch, batch_max=knobs.batch_max)
