"""Retry later: what cannot be written now goes back to the broker, to return after a while.

A shard that is away must not hold the others' places in the prefetch window, so its events are *parked*:
published to a rung of the retry ladder, confirmed, and only then acknowledged.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pipeline.errors import EventError
from pipeline.ingest.content_mode import BATCH_TYPE
from pipeline.ingest.delivery import Delivery

ATTEMPTS_HEADER = "x-postorder-attempts"
PARKED_HEADER = "x-postorder-parked"
ROUTING_KEY_HEADER = "x-postorder-routing-key"
OWN_HEADERS = frozenset(
    {
        ATTEMPTS_HEADER,
        PARKED_HEADER,
        ROUTING_KEY_HEADER,
        "x-death",
        "x-first-death-queue",
        "x-first-death-reason",
        "x-first-death-exchange",
        "x-delivery-count",
    }
)


class Parcel(NamedTuple):
    """One message to park: the body as it came, or what is left of a batch.

    `attempts` counts failures that may be the event's own fault; `trips` counts returns to the ladder.
    """

    delivery: Delivery
    body: bytes
    content_type: str | None
    attempts: int
    trips: int


class Parking(Protocol):
    """Where parcels are left."""

    async def park(self, parcels: Sequence[Parcel]) -> None:
        """Return when every parcel is confirmed by the broker. Raises BrokerUnavailableError."""


def counter(delivery: Delivery, header: str) -> int:
    """Return a counter that earlier trips wrote into a message's headers."""
    try:
        value = delivery.properties.headers.get(header)
    except EventError:
        return 0  # headers that nobody can read were not written by us
    return value if isinstance(value, int) and value > 0 else 0


def make_parcel(delivery: Delivery, members: Sequence[bytes | None], *, attempt: bool) -> Parcel:
    """Return the parcel for some events of a delivery. `attempt`: they failed by themselves."""
    whole = members[0] is None
    body = delivery.body if whole else b"[" + b",".join(member for member in members if member) + b"]"
    return Parcel(
        delivery,
        body,
        delivery.content_type if whole else BATCH_TYPE,
        counter(delivery, ATTEMPTS_HEADER) + attempt,
        counter(delivery, PARKED_HEADER) + 1,
    )
