"""One kept-alive HTTP/1.1 connection: a request at a time, and no reply is paired with another's request.

Whatever is odd ends the connection: a time-out, a reply nobody asked for, a second reply, one too large or
not well-formed. What was written before that may have been carried out.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from pipeline.errors import LeaseEndedError, OutcomeUnknownError, ThrottledError
from pipeline.notifications.providers.twilio_reply import REPLY_BYTES_MAX, Reply

_FIRST_FINAL_STATUS: Final = 200
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class Connection(asyncio.Protocol):
    """Sends requests and returns their replies.

    Mutable state: `_transport` (None before the start), `_waiting` (the reply's future while a request is
    under way), `_deadline` and `_timer` (one timer serves many requests), and the reply as far as it came.
    """

    def __init__(
        self, *, on_closed: Callable[["Connection"], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_closed = on_closed
        self._monotonic = monotonic
        self._transport: asyncio.WriteTransport | None = None
        self._parser = HttpResponseParser(self)
        self._waiting: asyncio.Future[Reply] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.idle_since = 0.0
        self._received = 0
        self._body: list[bytes] = []
        self._has_head = False
        self._is_framed = False
        self._retry_after: str | None = None
        self._date: str | None = None

    def __repr__(self) -> str:
        state = "closed" if not self.is_open else "busy" if self._waiting is not None else "idle"
        return f"Connection({state}, {self._received} bytes of a reply)"

    @property
    def is_open(self) -> bool:
        """Whether a request can be written."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, *, timeout_s: float, send_before: float) -> asyncio.Future[Reply]:
        """Write a request; the future is its reply.

        The clock is looked at in the same step, and both event loops hand the bytes to the system in it
        (TLS too, where the system has room), so that no pause comes between. Raises LeaseEndedError, or
        ThrottledError when the connection has closed: then nothing was written. The future raises
        OutcomeUnknownError.
        """
        assert self._waiting is None
        if not self.is_open or self._transport is None:
            raise ThrottledError("unreachable", "the connection was closed before the request")
        if self._monotonic() >= send_before:
            raise LeaseEndedError
        self._transport.write(request)
        self._received = 0
        self._begin_reply()
        self._waiting = self._loop.create_future()
        self._deadline = self._loop.time() + timeout_s
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_time)
        return self._waiting

    def release(self) -> bool:
        """Tell whether the connection can be used again; one whose reply is still to come is closed."""
        if self._waiting is not None:
            self.close()
        self.idle_since = self._loop.time()
        return self.is_open

    def close(self) -> None:
        """Close at once. A request under way has an unknown outcome."""
        if self._transport is not None:
            self._transport.abort()
        self._fail("no_reply", "the connection was closed")

    # --- asyncio.Protocol ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's does not derive from it

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._waiting is None:
            self.close()  # nobody asked
            return
        self._received += len(data)
        if self._received > REPLY_BYTES_MAX:
            self._break("the reply is too large")
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._break("the reply is not well-formed")

    def connection_lost(self, error: Exception | None) -> None:
        """End. A body without a length ends with the connection, if that was closed in order."""
        if error is None and self._has_head and not self._is_framed:
            self._complete()
        self._fail("no_reply", "the connection was lost")
        if self._timer is not None:
            self._timer.cancel()
        self._on_closed(self)

    # --- httptools --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Close when this is a second reply to one request."""
        if self._waiting is None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the few headers that matter."""
        name = name.lower()
        if name in _FRAMING:
            self._is_framed = True
        elif name == b"retry-after":
            self._retry_after = value.decode("latin-1")
        elif name == b"date":
            self._date = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note that a body may follow."""
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Hand out the reply, unless it is an interim one (1xx)."""
        if self._parser.get_status_code() < _FIRST_FINAL_STATUS:
            self._begin_reply()
            return
        keep = self._parser.should_keep_alive()
        self._complete()
        if not keep:
            self.close()

    # --- the reply --------------------------------------------------------------------------------------

    def _begin_reply(self) -> None:
        self._body = []
        self._has_head = self._is_framed = False
        self._retry_after = self._date = None

    def _complete(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            status = self._parser.get_status_code()
            waiting.set_result(Reply(status, b"".join(self._body), self._retry_after, self._date))

    def _break(self, why: str) -> None:
        self._fail("bad_reply", why)
        self.close()

    def _fail(self, code: str, why: str) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(OutcomeUnknownError(code, why))

    def _look_at_the_time(self) -> None:
        self._timer = None
        if self._waiting is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_time)
            return
        self._fail("no_reply", "no answer in time")
        self.close()
