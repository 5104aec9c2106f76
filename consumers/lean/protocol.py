"""The bytes of one connection: frames in, taken apart as they come; frames out, with back-pressure."""

import asyncio
import struct
from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

from pamqp import frame as pamqp_frame
from pamqp.base import Frame
from pamqp.exceptions import PAMQPException

from consumers.lean.wire import (
    FLAG_CONTENT_ENCODING,
    FLAG_CONTENT_TYPE,
    FRAME_BODY,
    FRAME_END,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    HEARTBEAT,
    PROTOCOL_HEADER,
)

_DELIVER, _RETURN, _CONFIRM_ACK, _CONFIRM_NACK = 0x003C003C, 0x003C0032, 0x003C0050, 0x003C0078
_FRAME_HEAD = struct.Struct(">BHI")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_CONTENT_HEAD = struct.Struct(">QH")
_ROUTES_MAX = 1024
_BEYOND = 256  # longer than any short text
_DECODE_ERRORS = (IndexError, ValueError, KeyError, TypeError, OverflowError, RecursionError)
_FRAME_BYTES_MAX = 16 * 1024 * 1024  # until the broker has named its own limit


class Route(NamedTuple):
    """Where a message was published to."""

    exchange: str
    routing_key: str


class Content(NamedTuple):
    """A message's content. `content_type` is None when absent; `bad_content_type` when it is no UTF-8."""

    body: bytes
    content_type: str | None
    content_encoding: str | None
    raw_properties: bytes


class Listener(Protocol):
    """Who is told what comes in. Every call is synchronous and must not raise."""

    def on_delivery(self, tag: int, route: Route, content: Content) -> None:
        """Take a message."""

    def on_confirm(self, tag: int, *, multiple: bool, confirmed: bool) -> None:
        """Take the broker's answer to publishes."""

    def on_return(self, code: int) -> None:
        """Take the news that the last publish before this found no queue. Its confirm follows."""

    def on_method(self, channel: int, method: Frame) -> None:
        """Take any other method."""

    def on_lost(self, error: Exception | None) -> None:
        """Take the end of the connection."""


class WireError(ConnectionError):
    """The peer sends what is no AMQP."""


class AmqpProtocol(asyncio.Protocol):
    """One connection's bytes. Mutable state: what is left of a frame, and the message being put together."""

    def __init__(self, listener: Listener, clock: Callable[[], float]) -> None:
        self._listener = listener
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._routes: dict[bytes, Route] = {}
        self._error: Exception | None = None
        # The message being received: its start, and the pieces of its body so far.
        self._start: tuple[int, Route] | None = None
        self._head: tuple[str | None, str | None, bytes] = (None, None, b"")
        self._missing = 0
        self._pieces: list[bytes] = []
        self.frame_bytes_max = _FRAME_BYTES_MAX
        self.received_at = clock()
        self.sent_at = clock()
        self.writable = asyncio.Event()
        self.writable.set()

    def __repr__(self) -> str:
        return f"AmqpProtocol({len(self._rest)} bytes of a frame, {self._missing} bytes of a body missing)"

    # --- asyncio.Protocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.send(PROTOCOL_HEADER)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.writable.set()
        self._listener.on_lost(self._error or exc)

    def pause_writing(self) -> None:
        """Have publishers wait."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Let publishers go on."""
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        """Take bytes apart into frames; what is left of one waits for the next bytes."""
        self.received_at = self._clock()
        buffer = self._rest + data if self._rest else data
        try:
            self._rest = buffer[self._take_frames(buffer) :]
        except WireError as error:
            self.fail(error)
        except (*_DECODE_ERRORS, struct.error, PAMQPException) as error:
            self.fail(WireError(f"not AMQP: {type(error).__name__}"))

    # --- writing ------------------------------------------------------------------------------------------

    def send(self, frames: bytes) -> None:
        """Write frames; without a connection, nothing happens."""
        if self._transport is not None and not self._transport.is_closing():
            self.sent_at = self._clock()
            self._transport.write(frames)

    def send_heartbeat(self) -> None:
        """Say that we live."""
        self.send(HEARTBEAT)

    def pause_reading(self, *, paused: bool) -> None:
        """Leave what comes in the sockets' buffers, so that the broker keeps it; or go on."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading() is not paused:
            return
        if paused:
            transport.pause_reading()
        else:
            transport.resume_reading()
            self.received_at = self._clock()

    @property
    def reading(self) -> bool:
        """Whether we listen; a peer we do not listen to cannot be silent."""
        return self._transport is not None and self._transport.is_reading()

    def fail(self, error: Exception) -> None:
        """Cut the connection for an error."""
        self._error = self._error or error
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Send what is written and end."""
        if self._transport is not None:
            self._transport.close()

    # --- frames ---------------------------------------------------------------------------------------------

    def _take_frames(self, buffer: bytes) -> int:
        """Handle every whole frame; return where the first incomplete one begins."""
        at, length = 0, len(buffer)
        unpack_head = _FRAME_HEAD.unpack_from
        while length - at >= 8:  # noqa: PLR2004  # the smallest frame
            kind, channel, size = unpack_head(buffer, at)
            if size > self.frame_bytes_max:
                raise WireError("a frame above the agreed size")
            end = at + 7 + size
            if end >= length:
                break
            if buffer[end] != FRAME_END:
                raise WireError("a frame without its end")
            if kind == FRAME_BODY:
                self._take_body(buffer[at + 7 : end])
            elif kind == FRAME_HEADER:
                self._take_header(buffer, at + 7, end)
            elif kind == FRAME_METHOD:
                self._take_method(buffer, at, channel, end)
            elif kind != FRAME_HEARTBEAT:
                raise WireError("a frame of an unknown type")
            at = end + 1
        return at

    def _take_method(self, buffer: bytes, at: int, channel: int, end: int) -> None:
        method = _U32.unpack_from(buffer, at + 7)[0]
        if self._missing:
            raise WireError("a message cut short")
        if method == _DELIVER:
            tag_at = at + 12 + buffer[at + 11]
            self._start = (_U64.unpack_from(buffer, tag_at)[0], self._route(buffer[tag_at + 9 : end]))
        elif method in (_CONFIRM_ACK, _CONFIRM_NACK):
            self._listener.on_confirm(
                _U64.unpack_from(buffer, at + 11)[0],
                multiple=bool(buffer[at + 19] & 1),
                confirmed=method == _CONFIRM_ACK,
            )
        elif method == _RETURN:
            self._start = None  # the returned content follows; its publisher still has it
            self._listener.on_return(int.from_bytes(buffer[at + 11 : at + 13], "big"))
        else:
            self._listener.on_method(channel, _control_method(buffer[at : end + 1]))

    def _route(self, raw: bytes) -> Route:
        """Return exchange and routing key. Few differ, so the texts are made once."""
        route = self._routes.get(raw)
        if route is None:
            split = 1 + raw[0]
            # A routing key may be any bytes; what is no UTF-8 stays readable and different.
            names = raw[1:split], raw[split + 1 : split + 1 + raw[split]]
            route = Route(*(name.decode(errors="backslashreplace") for name in names))
            if len(self._routes) >= _ROUTES_MAX:
                self._routes.clear()
            self._routes[raw] = route
        return route

    def _take_header(self, buffer: bytes, at: int, end: int) -> None:
        if self._missing:
            raise WireError("a message cut short")
        size, flags = _CONTENT_HEAD.unpack_from(buffer, at + 4)
        texts: list[str | None] = [None, None]
        cursor = at + 14
        for index, flag in enumerate((FLAG_CONTENT_TYPE, FLAG_CONTENT_ENCODING)):
            if flags & flag:
                length = buffer[cursor] if cursor < end else _BEYOND
                raw = buffer[cursor + 1 : cursor + 1 + length]
                cursor += 1 + length
                if cursor > end:
                    break  # properties that nobody can read: that is the delivery's trouble, not ours
                texts[index] = raw.decode(errors="backslashreplace")
        self._head = (texts[0], texts[1], buffer[at + 12 : end])
        self._missing = size
        if not size:
            self._deliver(b"")

    def _take_body(self, piece: bytes) -> None:
        self._missing -= len(piece)
        if self._missing < 0:
            raise WireError("a body longer than its header says")
        if self._missing:
            self._pieces.append(piece)
        elif self._pieces:
            body = b"".join([*self._pieces, piece])
            self._pieces.clear()
            self._deliver(body)
        else:
            self._deliver(piece)

    def _deliver(self, body: bytes) -> None:
        start, self._start = self._start, None
        if start is not None:
            self._listener.on_delivery(start[0], start[1], Content(body, *self._head))


def _control_method(raw: bytes) -> Frame:
    _, _, method = pamqp_frame.unmarshal(raw)
    if not isinstance(method, Frame):
        raise WireError("no method")
    return method
