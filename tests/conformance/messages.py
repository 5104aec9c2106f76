"""Messages as a broker sends them: the bytes of a delivery's frames, legal or not."""

import struct
from dataclasses import dataclass
from typing import Any

from pamqp import commands

METHOD, HEADER, BODY = 1, 2, 3
FRAME_END = b"\xce"
_DELIVER = 0x003C003C


def frame(kind: int, channel: int, payload: bytes, end: bytes = FRAME_END) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def short_text(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return bytes([len(raw)]) + raw


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is published. `raw_properties`, when given, stand for the fields of the properties."""

    body: bytes = b'{"order":1}'
    exchange: str = "orders"
    routing_key: str | bytes = "order.processed"
    content_type: str | None = "application/json"
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    message_id: str | None = None
    raw_properties: bytes | None = None

    @property
    def property_bytes(self) -> bytes:
        if self.raw_properties is not None:
            return self.raw_properties
        found = commands.Basic.Properties(
            content_type=self.content_type,
            content_encoding=self.content_encoding,
            headers=self.headers,
            message_id=self.message_id,
        )
        return bytes(found.marshal())

    def method_frame(self, channel: int, consumer_tag: str, tag: int) -> bytes:
        payload = struct.pack(">I", _DELIVER) + short_text(consumer_tag) + struct.pack(">QB", tag, 0)
        return frame(METHOD, channel, payload + short_text(self.exchange) + short_text(self.routing_key))

    def header_frame(self, channel: int) -> bytes:
        return frame(HEADER, channel, struct.pack(">HHQ", 60, 0, len(self.body)) + self.property_bytes)

    def body_frames(self, channel: int, piece_max: int) -> bytes:
        pieces = [self.body[at : at + piece_max] for at in range(0, len(self.body), piece_max)]
        return b"".join(frame(BODY, channel, piece) for piece in pieces)


# Properties that RabbitMQ hands on as they are, and that pamqp cannot decode.
_HEADERS_FLAG = 0x2000


def headers_of(table: bytes) -> bytes:
    """Return properties that hold nothing but a table of headers, given as the bytes of its entries."""
    return struct.pack(">HI", _HEADERS_FLAG, len(table)) + table


def _nested(depth: int) -> bytes:
    table = b""
    for _ in range(depth):
        table = short_text("a") + b"F" + struct.pack(">I", len(table)) + table
    return table


UNDECODABLE = {
    "a value of an unknown type": headers_of(short_text("a") + b"?"),
    "a key that is no UTF-8": headers_of(short_text(b"\xff\xfe") + b"t\x01"),
    "a time after the end of the calendar": headers_of(short_text("a") + b"T" + b"\x7f" + b"\xff" * 7),
    "a table in a table, 2000 deep": headers_of(_nested(2000)),
    "a table longer than the message": struct.pack(">HI", _HEADERS_FLAG, 10_000),
    "a content type that is no UTF-8": struct.pack(">H", 0x8000) + short_text(b"\xff\xfejson"),
}
