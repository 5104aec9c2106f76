"""Posts webhooks over HTTP/1.1 on connections that are kept, for half of what a general client takes.

The emulator posts three times for each message that it takes: what that costs, whoever sends waits for.
"""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import SplitResult, urlsplit

import httptools

_PORTS: Final = {"http": 80, "https": 443}
_IDLE_MAX: Final = 256


class _Connection(asyncio.Protocol):
    """One connection, one request at a time.

    Mutable state: the request's future, the status that was read, and whether another request may follow.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None
        self._status: int | None = None
        self.is_open = False

    async def request(self, message: bytes) -> int:
        """Send a request; return its answer's status when all of it has come. Raises ConnectionError."""
        assert self._transport is not None
        self._answer, self._status = asyncio.get_running_loop().create_future(), None
        self._transport.write(message)
        try:
            return await self._answer
        finally:
            self._answer = None

    def close(self) -> None:
        """End."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # --- the transport ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._answer is None or self._answer.done():
            return
        if exc is None and self._status is not None:  # an answer may end with its connection
            self._answer.set_result(self._status)
        else:
            self._answer.set_exception(exc or ConnectionResetError("closed before it answered"))

    # --- the parser -------------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        self.is_open = self.is_open and self._parser.should_keep_alive()
        if self._answer is None or self._answer.done():
            self.close()  # nobody asked, or nobody waits any more
        else:
            assert self._status is not None
            self._answer.set_result(self._status)


class Poster:
    """Keeps connections by place. Mutable state: those that are idle, the last used one last."""

    def __init__(self) -> None:
        self._idle: defaultdict[tuple[str, str, int], list[_Connection]] = defaultdict(list)
        self._tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"Poster({sum(map(len, self._idle.values()))} idle)"

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> int:
        """Return the status of the answer.

        Raises OSError, TimeoutError, and ValueError for what is no URL of HTTP.
        """
        parts = urlsplit(url)
        place = (parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0))
        message = _message(parts, body, headers)
        async with asyncio.timeout(timeout_s):
            connection = self._kept(place) or await self._opened(place)
            is_done = False
            try:
                status = await connection.request(message)
                is_done = True
            finally:
                if not is_done or not connection.is_open or len(self._idle[place]) >= _IDLE_MAX:
                    connection.close()
                else:
                    self._idle[place].append(connection)
        return status

    def close(self) -> None:
        """Close what is idle."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def _kept(self, place: tuple[str, str, int]) -> _Connection | None:
        idle = self._idle[place]
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _opened(self, place: tuple[str, str, int]) -> _Connection:
        scheme, host, port = place
        if scheme not in _PORTS or not host:
            raise ValueError(f"no URL of HTTP: {scheme}")
        if scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        tls = self._tls if scheme == "https" else None
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, host, port, ssl=tls)
        return connection


def _message(parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    head = "\r\n".join(lines)
    if "\n" in head.replace("\r\n", "") or " " in target:
        raise ValueError("the URL is not one line")
    return f"{head}\r\n\r\n".encode() + body
