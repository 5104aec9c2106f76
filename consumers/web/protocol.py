"""The HTTP/1.1 protocol of the listener: uvicorn's on httptools, with the limits it does not have itself.

uvicorn bounds neither how long a request may take to arrive, nor its head, nor how long its answer may take
to be taken, nor the number of connections. Whatever is refused here gets one small answer, or none, and its
connection is closed.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from consumers.web.problem import MEDIA_TYPE, problem_body

_HEADERS_MAX: Final = 64
_PIPELINED_MAX: Final = 16
_VERSIONS: Final = ("1.0", "1.1")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection may take. `request_timeout_s`: also how long an answer may stand still."""

    connections_max: int
    head_bytes_max: int
    request_timeout_s: float
    idle_timeout_s: float


class RefusedError(Exception):
    """Raised in the parser's callbacks to end a connection with a status."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `on_refusal` is told of what never came to the application: its status, 0 for none."""

    def __init__(self, *, limits: Limits, on_refusal: Callable[[int], None], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._on_refusal = on_refusal
        self._refusal = HTTPStatus.BAD_REQUEST
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None  # while the peer takes nothing
        self._is_in_head = False
        self._head_bytes = 0  # of what the parser has handed over
        self._fed_bytes = 0  # of the chunks it has been fed since the head began in an earlier one

    # --- the connection ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections_max:
            self._on_refusal(0)
            transport.abort()
            return
        self._set_deadline(self._limits.idle_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._set_deadline(None)
        self._set_write_deadline(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, but no more of a head than is allowed."""
        if self._is_in_head:
            self._fed_bytes += len(data)
            if self._fed_bytes > self._limits.head_bytes_max:
                self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                self.send_400_response("")
                return
        super().data_received(data)
        if self._is_idle_without_end():
            self._set_deadline(self._limits.idle_timeout_s)

    def _is_idle_without_end(self) -> bool:
        """Tell whether nothing ends the connection: uvicorn's timer ends with any byte.

        Empty lines before a request begin none.
        """
        is_idle = self.cycle is not None and self.cycle.response_complete and not self._is_in_head
        return is_idle and self._deadline is None and self.timeout_keep_alive_task is None

    def pause_writing(self) -> None:
        """Wait for a peer that takes nothing of its answer as long as for one that never finishes asking."""
        super().pause_writing()
        self._set_write_deadline(self._limits.request_timeout_s)

    def resume_writing(self) -> None:
        """Go on with an answer."""
        super().resume_writing()
        self._set_write_deadline(None)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # ours says less
        """Answer what is no request, or too large a one, and close."""
        self._end_with(self._refusal)

    def _end_with(self, status: HTTPStatus) -> None:
        self._on_refusal(status)
        if self._may_answer():
            self.transport.write(_refusal(status))
        if self.cycle is not None:
            self.cycle.disconnected = True  # the application is told, and writes nothing more
        self.transport.close()

    def _may_answer(self) -> bool:
        """Tell whether an answer now would be taken for that of the request in hand, of no earlier one."""
        cycle = self.cycle
        if self._is_in_head or cycle is None:
            return cycle is None or cycle.response_complete
        return cycle.more_body and not cycle.response_started and not self.pipeline

    def _set_write_deadline(self, delay_s: float | None) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        abort = self.transport.abort
        self._write_deadline = None if delay_s is None else self.loop.call_later(delay_s, abort)

    def _set_deadline(self, delay_s: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if delay_s is None else self.loop.call_later(delay_s, self._too_late)

    def _too_late(self) -> None:
        if self.transport.is_closing():
            return
        if self._is_in_head or (self.cycle is not None and self.cycle.more_body):
            self._end_with(HTTPStatus.REQUEST_TIMEOUT)
        else:  # it was idle from the start
            self.transport.close()

    # --- the parser -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request: from now on it has so long to arrive."""
        super().on_message_begin()
        self._is_in_head, self._head_bytes, self._fed_bytes = True, 0, 0
        self._set_deadline(self._limits.request_timeout_s)

    def on_url(self, url: bytes) -> None:
        """Take a part of the request's target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._count(len(name) + len(value) + 4)
        if len(self.headers) >= _HEADERS_MAX:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer a request."""
        self._is_in_head = False
        # After an upgrade the parser would stop before the body.
        if self.parser.should_upgrade() or self.parser.get_http_version() not in _VERSIONS:
            self._refuse(HTTPStatus.BAD_REQUEST)
        if len(self.pipeline) >= _PIPELINED_MAX:
            self._refuse(HTTPStatus.BAD_REQUEST)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request's arrival."""
        self._set_deadline(None)
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes_max:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _refuse(self, status: HTTPStatus) -> None:
        self._refusal = status
        raise RefusedError


def _refusal(status: int) -> bytes:
    body = problem_body(status)
    head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return STATUS_LINE[status] + head.encode() + body
