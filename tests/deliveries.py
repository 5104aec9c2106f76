"""Deliveries made by hand, and a parking lot that keeps what it is given."""

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.ingest.delivery import Delivery, Properties
from pipeline.ingest.parking import Parcel

STRUCTURED = "application/cloudevents+json"


def delivery(
    body: bytes,
    content_type: str | None = STRUCTURED,
    *,
    content_encoding: str | None = None,
    queue: str = "order-processed",
    exchange: str = "orders",
    routing_key: str = "order.processed",
    headers: dict[str, Any] | None = None,
    message_id: str | None = None,
    settle: Callable[[int], None] = lambda _tag: None,
    tag: int = 0,
    received_at: float = 0.0,
) -> Delivery:
    properties = Properties(headers=headers or {}, message_id=message_id)
    return Delivery(
        body,
        queue,
        exchange,
        routing_key,
        content_type,
        content_encoding,
        b"",
        lambda _raw: properties,
        settle,
        tag,
        received_at,
    )


class ParkingLot:
    """Takes every parcel, as the broker would."""

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []

    async def park(self, parcels: Sequence[Parcel]) -> None:
        self.parcels += parcels
