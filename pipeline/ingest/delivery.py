"""A delivery: one message as the broker handed it over, with its acknowledgement."""

from collections.abc import Callable, Mapping
from typing import Any


class Delivery:
    """One message. It may carry several events; it is acknowledged when the last of them is durable."""

    __slots__ = (
        "_acknowledge",
        "_open",
        "body",
        "content_type",
        "exchange",
        "headers",
        "message_id",
        "queue",
        "routing_key",
    )

    def __init__(
        self,
        *,
        body: bytes,
        queue: str,
        exchange: str,
        routing_key: str,
        content_type: str | None,
        message_id: str | None,
        headers: Mapping[str, Any],
        acknowledge: Callable[[], None],
    ) -> None:
        self.body = body
        self.queue = queue
        self.exchange = exchange
        self.routing_key = routing_key
        self.content_type = content_type
        self.message_id = message_id
        self.headers = headers
        self._acknowledge = acknowledge
        self._open = 1

    def __repr__(self) -> str:
        return f"Delivery(from {self.queue}, {len(self.body)} bytes, {self._open} events open)"

    def event_durable(self) -> None:
        """Say that one event of it is durable. The consumer hears of it when that was the last one."""
        self._open -= 1
        if self._open == 0:
            self._acknowledge()
