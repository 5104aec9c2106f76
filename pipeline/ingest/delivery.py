"""A delivery: one message as the broker handed it over, with its acknowledgement."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

UNDECODABLE_HEADER = "undecodable_base64"
"""The header that a message's raw properties are kept in, base64, when they cannot be decoded."""


class Properties(msgspec.Struct, frozen=True, kw_only=True):
    """What a message carries besides body and content type; read only where a mode or a fault needs it."""

    headers: Mapping[str, Any] = {}
    message_id: str | None = None


# A Struct is built in a quarter of the time of a plain class; untracked, because nothing points back to it.
class Delivery(msgspec.Struct, gc=False, weakref=False, eq=False):
    """One message. It may carry several events; it is settled when the last of them is.

    `read_properties` turns `raw_properties` into Properties; it raises EventError when they cannot be
    decoded. `settle` is called once, with `tag`. `received_at` is of the monotonic clock, in seconds.
    `attempts` and `trips` are what parking counted so far.
    """

    body: bytes
    queue: str
    exchange: str
    routing_key: str
    content_type: str | None
    content_encoding: str | None
    raw_properties: bytes
    read_properties: Callable[[bytes], Properties]
    settle: Callable[[int], None]
    tag: int
    received_at: float = 0.0
    attempts: int = 0
    trips: int = 0
    _open: int = 1
    _properties: Properties | None = None

    def __repr__(self) -> str:
        return f"Delivery({self.tag} from {self.queue}, {len(self.body)} bytes, {self._open} events open)"

    @property
    def properties(self) -> Properties:
        """Headers and the like. Raises EventError when they cannot be decoded."""
        if self._properties is None:
            self._properties = self.read_properties(self.raw_properties)
        return self._properties

    def expect(self, events: int) -> None:
        """Say how many events it carries, when that is not one. None at all settles it."""
        self._open = events
        if not events:
            self.settle(self.tag)

    def event_settled(self) -> None:
        """Say that one event of it is durable or parked. The last one settles the delivery."""
        self._open -= 1
        if self._open == 0:
            self.settle(self.tag)
