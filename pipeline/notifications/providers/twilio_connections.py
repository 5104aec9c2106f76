"""The connections to one host: opened when needed, kept, and never more than allowed."""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from pipeline.errors import ThrottledError
from pipeline.notifications.providers.twilio_connection import Connection


class Connections:
    """Lends connections, the one used last first, so that those not needed grow old and are closed.

    Mutable state: `_idle` (the least recently used first), `_open` (every connection that is not closed),
    `_opening` (how many are on their way) and `_waiting` (who waits for one of them).
    """

    def __init__(
        self,
        base_url: str,
        *,
        tls: ssl.SSLContext | None,
        connections_max: int,
        connect_timeout_s: float,
        idle_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname is not None
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls
        self._max = connections_max
        self._connect_timeout_s = connect_timeout_s
        self._idle_s = idle_s
        self._monotonic = monotonic
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __repr__(self) -> str:
        return f"Connections({len(self._open)} open, {len(self._idle)} idle, {len(self._waiting)} waiting)"

    async def take(self) -> Connection:
        """Return an open connection; give it back. Raises ThrottledError: nothing was sent."""
        connection = self._take_idle()
        if connection is not None:
            return connection
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await self._take_or_open()
        except TimeoutError as error:
            raise ThrottledError("unreachable", "no connection in time") from error
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or type(error).__name__
            raise ThrottledError("unreachable", f"TLS: {reason}") from error
        except OSError as error:
            raise ThrottledError("unreachable", f"no connection: {type(error).__name__}") from error

    def give_back(self, connection: Connection) -> None:
        """Take a connection back, in whatever state it is."""
        if connection.release():
            self._idle.append(connection)
            self._close_oldest()
        else:
            self._open.discard(connection)  # it may have closed before anybody knew of it
        self._wake_one()

    def close(self) -> None:
        """Close every connection."""
        for connection in tuple(self._open):
            connection.close()

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and not self._is_old(connection):
                return connection
            connection.close()
        return None

    async def _take_or_open(self) -> Connection:
        while (connection := self._take_idle()) is None:
            if len(self._open) + self._opening < self._max:
                return await self._open_one()
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake_one()  # it was this one's turn, so it is the next one's now
                raise
        return connection

    async def _open_one(self) -> Connection:
        self._opening += 1
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(on_closed=self._closed, monotonic=self._monotonic),
                self._host,
                self._port,
                ssl=self._tls,
                server_hostname=self._host if self._tls is not None else None,
            )
        except BaseException:
            self._wake_one()
            raise
        finally:
            self._opening -= 1
        self._open.add(connection)
        return connection

    def _closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._wake_one()

    def _is_old(self, connection: Connection) -> bool:
        return asyncio.get_running_loop().time() - connection.idle_since > self._idle_s

    def _close_oldest(self) -> None:
        if self._is_old(self._idle[0]):
            self._idle.popleft().close()

    def _wake_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
