"""Retry later: what cannot be written now goes back to the broker, to return after a while.

A shard that is away must not hold the others' places in the prefetch window, so its events are *parked*:
published to a rung of the retry ladder, confirmed, and only then acknowledged.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pipeline.ingest.delivery import Delivery


class Parcel(NamedTuple):
    """One message to park: a delivery whole, or (`body`) what is left of a batch.

    `attempts` counts failures that may be the event's own fault; `trips` counts returns to the ladder.
    """

    delivery: Delivery
    body: bytes | None
    attempts: int
    trips: int


class Parking(Protocol):
    """Where parcels are left."""

    async def park(self, parcels: Sequence[Parcel]) -> None:
        """Return when every parcel is confirmed by the broker. Raises BrokerUnavailableError."""


def make_parcel(delivery: Delivery, members: Sequence[bytes | None], *, attempt: bool) -> Parcel:
    """Return the parcel for some events of a delivery. `attempt`: they failed by themselves."""
    whole = members[0] is None
    body = None if whole else b"[" + b",".join(member for member in members if member is not None) + b"]"
    return Parcel(delivery, body, delivery.attempts + attempt, delivery.trips + 1)
