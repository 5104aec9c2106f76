"""AMQP 0-9-1 frames as bytes: what is written often, and what is read lazily."""

import struct
from collections.abc import Mapping
from typing import Any, Final

from pamqp import commands, encode

from pipeline.errors import EventError
from pipeline.events import Reason
from pipeline.ingest.delivery import Properties

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
FRAME_END: Final = 0xCE
HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT = 1, 2, 3, 8
_PROPERTIES_BYTES_MAX = 32_768
CHANNEL: Final = 1  # a connection has one channel: what breaks it breaks nothing else

FLAG_CONTENT_TYPE, FLAG_CONTENT_ENCODING, FLAG_CONTINUED = 0x8000, 0x4000, 0x0001

# Frame type, channel, size, class and method, and for acknowledgements the tag and the flag `multiple`.
_ACK = struct.Struct(">BHIIQBB")
_ACK_METHOD, _ACK_SIZE = 0x003C0050, 13
_PUBLISH_HEAD = struct.Struct(">BHIIH")
_PUBLISH_METHOD = 0x003C0028
_CONTENT_HEAD = struct.Struct(">BHIHHQ")
_BODY_HEAD = struct.Struct(">BHI")
_FRAME_OVERHEAD = 8


def ack_frame(tag: int, *, multiple: bool) -> bytes:
    """Return a basic.ack."""
    return _ACK.pack(FRAME_METHOD, CHANNEL, _ACK_SIZE, _ACK_METHOD, tag, multiple, FRAME_END)


def route_of(exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """Return the arguments of a basic.publish after its first. Raises TypeError for too long a name."""
    parts = [encode.short_string(exchange), encode.short_string(routing_key), bytes([mandatory])]
    return b"".join(parts)


def publish_frames(route: bytes, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Return the frames of one message. `properties` are flags and values as `property_bytes` makes them."""
    parts = [
        _PUBLISH_HEAD.pack(FRAME_METHOD, CHANNEL, 6 + len(route), _PUBLISH_METHOD, 0),
        route,
        b"\xce",
        _CONTENT_HEAD.pack(FRAME_HEADER, CHANNEL, 12 + len(properties), 60, 0, len(body)),
        properties,
        b"\xce",
    ]
    size = frame_max - _FRAME_OVERHEAD
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        parts += [_BODY_HEAD.pack(FRAME_BODY, CHANNEL, len(piece)), piece, b"\xce"]
    return b"".join(parts)


def property_bytes(
    *,
    content_type: str | None,
    headers: Mapping[str, Any] | None = None,
    message_id: str | None = None,
    content_encoding: str | None = None,
) -> bytes:
    """Return the properties of a persistent message. Raises ValueError or TypeError for what cannot be."""
    properties = commands.Basic.Properties(
        content_type=content_type,
        content_encoding=content_encoding,
        headers=dict(headers) if headers else None,
        delivery_mode=2,
        message_id=message_id,
    )
    return bytes(properties.marshal())


# The properties in order, with the bits that say they are there: short texts, a table, numbers.
_FLAG_USER_ID = 0x0010
_IN_ORDER = (
    (0x8000, "s"), (0x4000, "s"), (0x2000, "t"), (0x1000, 1), (0x0800, 1), (0x0400, "s"), (0x0200, "s"),
    (0x0100, "s"), (0x0080, "s"), (0x0040, 8), (0x0020, "s"), (_FLAG_USER_ID, "s"), (0x0008, "s"),
    (0x0004, "s"),
)  # fmt: skip


def without_user_id(raw: bytes) -> bytes:
    """Return properties without `user_id`: the broker lets nobody publish under another user's name.

    Raises ValueError for properties that are cut short: the broker would end the connection over them.
    """
    if not raw:
        return bytes(2)
    flags = int.from_bytes(raw[:2], "big")
    at = 2
    user_id = slice(0, 0)
    try:
        for flag, size in _IN_ORDER:
            if flags & flag:
                end = at + _size_at(raw, at, size)
                if flag == _FLAG_USER_ID:
                    user_id = slice(at, end)
                at = end
    except IndexError:
        at = len(raw) + 1
    if at > len(raw):
        raise ValueError("properties that are cut short")
    if not user_id.stop:
        return raw
    return (flags & ~_FLAG_USER_ID).to_bytes(2, "big") + raw[2 : user_id.start] + raw[user_id.stop :]


def _size_at(raw: bytes, at: int, size: str | int) -> int:
    if isinstance(size, int):
        return size
    return 1 + raw[at] if size == "s" else 4 + int.from_bytes(raw[at : at + 4], "big")


def read_properties(raw: bytes) -> Properties:
    """Decode the properties of a delivery. Raises EventError when that cannot be done."""
    if len(raw) < 2:  # noqa: PLR2004  # the flags
        return Properties()
    if len(raw) > _PROPERTIES_BYTES_MAX:
        # The library's decoder takes time by the square of a table's size.
        raise EventError(Reason.UNDECODABLE_PROPERTIES, f"more than {_PROPERTIES_BYTES_MAX} bytes")
    found = commands.Basic.Properties()
    try:
        flags = int.from_bytes(raw[:2], "big")
        if flags & FLAG_CONTINUED:
            raise ValueError("unknown property flags")  # noqa: TRY301  # one place says what is wrong
        found.unmarshal(flags, raw[2:])
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, OSError, RecursionError) as error:
        raise _undecodable(error) from None
    except struct.error as error:
        raise _undecodable(error) from None
    return Properties(headers=found.headers or {}, message_id=found.message_id)


def _undecodable(error: Exception) -> EventError:
    return EventError(Reason.UNDECODABLE_PROPERTIES, f"AMQP properties: {type(error).__name__}")
