"""The corpus as data: malformed and odd deliveries, and what must become of each. See README.md here."""

from base64 import b64decode
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

FOLDER = Path(__file__).parent
STRUCTURED = "application/cloudevents+json"

Part = str | dict[str, Any]


class Expected(msgspec.Struct, frozen=True):
    """What must become of one event. `reason` only of what goes to quarantine."""

    kind: Literal["accept", "duplicate", "quarantine"]
    reason: str = ""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a file of the corpus."""

    id: str
    what: str
    content_type: Part | None
    content_encoding: Part | None
    routing_key: Part
    body: Part | list[Part]
    expect: Literal["accept", "duplicate", "quarantine"]
    reason: str = ""
    members: list[list[Any]] | None = None
    properties: Part | list[Part] | None = None
    order_id: str = ""
    after: str = ""
    broker: bool = True
    broker_why: str = ""
    defect: str = ""

    @property
    def raw_body(self) -> bytes:
        return expanded(self.body)

    @property
    def raw_properties(self) -> bytes:
        """Flags and values as they stand in the frame: those given, or content type, encoding and id."""
        if self.properties is not None:
            return expanded(self.properties)
        flags, values = 0x1080, b"\x02" + _short(self.id.encode())  # persistent, with a message_id
        for flag, text in ((0x4000, self.content_encoding), (0x8000, self.content_type)):
            if text is not None:
                flags, values = flags | flag, _short(expanded(text)) + values
        return flags.to_bytes(2, "big") + values

    @property
    def route(self) -> bytes:
        """The routing key as bytes."""
        return expanded(self.routing_key)

    @property
    def expected(self) -> list[Expected]:
        """One for each event, in their order; a delivery that is no batch is one event."""
        if self.members is None:
            return [Expected(self.expect, self.reason)]
        return [Expected(*what) for times, *what in self.members for _ in range(times)]

    def names(self, order_id: str) -> bool:
        """Whether an order is one that this entry brings."""
        return order_id.startswith(self.order_id or self.id)


def expanded(parts: Part | list[Part]) -> bytes:
    """Return the bytes that a text, a part or a list of parts stands for."""
    match parts:
        case str():
            return parts.encode()
        case list():
            return b"".join(expanded(part) for part in parts)
        case {"base64": text}:
            return b64decode(text, validate=True)
        case {"repeat": text, "times": times}:
            return text.encode() * times
        case {"each": text, "times": times, "between": between}:
            return between.join(text.replace("#", f"{number:05}") for number in range(times)).encode()
    raise ValueError(f"no part: {parts!r:.80}")


def _short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


@cache
def corpus() -> dict[str, Entry]:
    """Return every entry by its id, those that follow another one behind it."""
    decoder = msgspec.json.Decoder(Entry)
    lines = [line for path in sorted(FOLDER.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    entries = [decoder.decode(line) for line in lines]
    found = {entry.id: entry for entry in sorted(entries, key=lambda entry: bool(entry.after))}
    assert len(found) == len(entries), "an id is there twice"
    assert all(found[entry.after].after == "" for entry in entries if entry.after)
    return found
