"""Publishing in bulk with confirms: a window of unconfirmed messages, no task for each."""

import asyncio
from collections import deque
from collections.abc import Iterable

import structlog
from pamqp import commands

from consumers.lean.link import Link
from consumers.lean.wire import publish_frames
from pipeline.errors import BrokerUnavailableError
from pipeline.settings import AmqpSettings

log = structlog.get_logger(__name__)

Message = tuple[bytes, bytes, bytes]
"""Route, properties and body, as `route_of` and `property_bytes` make them."""


class LeanPublisher(Link):
    """A connection in confirm mode.

    `publish` writes and returns once the window has room; `settled` waits for all confirms. Tags count up
    from 1; the window is what lies between the last one written and the lowest one unconfirmed.
    """

    def __init__(self, settings: AmqpSettings, name: str, window: int) -> None:
        super().__init__(settings, name)
        self._window = window
        self._last = 0
        self._unconfirmed: deque[int] = deque()
        self._early: set[int] = set()  # confirmed out of order
        self._room = asyncio.Event()
        self._room.set()
        self._done = asyncio.Event()
        self._done.set()
        self.refused = 0
        self.confirmed = 0

    async def open(self) -> None:
        """Connect, in confirm mode. Raises BrokerUnavailableError."""
        await self.connect()
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await self.call(commands.Confirm.Select())
        except TimeoutError:
            await self.close()
            raise BrokerUnavailableError(f"{self._where}: no answer to a request") from None
        except BaseException:
            self.abort("given up")
            raise

    @property
    def unconfirmed(self) -> int:
        """How many messages await their confirm."""
        return len(self._unconfirmed) - len(self._early)

    async def publish(self, route: bytes, properties: bytes, body: bytes) -> int:
        """Write one message when the window has room; return its tag. Raises BrokerUnavailableError."""
        while not (self._room.is_set() and self.can_write):
            if self.lost.is_set():
                break
            await self._room.wait()
            await self.writable()
        if self.lost.is_set():
            raise BrokerUnavailableError(f"{self._where}: {self.error}")
        self._last += 1
        self._unconfirmed.append(self._last)
        self._done.clear()
        if len(self._unconfirmed) >= self._window:
            self._room.clear()
        self.write(publish_frames(route, properties, body, self.frame_max))
        return self._last

    async def publish_all(self, messages: Iterable[Message], timeout_s: float) -> None:
        """Publish messages; return when every one is confirmed.

        Raises BrokerUnavailableError when the broker takes none, or confirms not all, in `timeout_s`, and as
        `settled` does: then what of them arrived is unknown.
        """
        try:
            for message in messages:
                async with asyncio.timeout(timeout_s):
                    await self.publish(*message)
        except TimeoutError:
            raise BrokerUnavailableError(
                f"{self._where}: takes nothing for {timeout_s:g} s: is it short of memory or disk space?"
            ) from None
        await self.settled(timeout_s)

    async def settled(self, timeout_s: float) -> None:
        """Return when every message is confirmed.

        Raises BrokerUnavailableError when the connection was lost, the time is over, or one was refused:
        then what was published since the last return is unknown.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._done.wait()
        except TimeoutError:
            raise BrokerUnavailableError(f"{self._where}: no confirm in {timeout_s:g} s") from None
        if self.lost.is_set():
            raise BrokerUnavailableError(f"{self._where}: {self.error}")
        if self.refused:
            refused, self.refused = self.refused, 0
            raise BrokerUnavailableError(
                f"{self._where}: {refused} messages refused: no queue, or a full one"
            )

    def on_return(self, code: int) -> None:
        """Count what no queue takes as refused; its confirm follows all the same."""
        self.refused += 1
        log.error("publish.returned", connection=self._name, code=code)

    def on_confirm(self, tag: int, *, multiple: bool, confirmed: bool) -> None:
        """Take the broker's answer."""
        before = self.unconfirmed
        unconfirmed, early = self._unconfirmed, self._early
        if multiple:
            while unconfirmed and unconfirmed[0] <= tag:
                early.discard(unconfirmed.popleft())
        else:
            early.add(tag)
        while unconfirmed and unconfirmed[0] in early:
            early.remove(unconfirmed.popleft())
        settled = before - self.unconfirmed
        if confirmed:
            self.confirmed += settled
        else:
            self.refused += settled
        if len(unconfirmed) < self._window:
            self._room.set()
        if not unconfirmed:
            self._done.set()

    def on_end(self) -> None:
        """Wake who waits."""
        self._room.set()
        self._done.set()
