"""Parking through the broker: parcels onto the retry ladder, each confirmed before it is acknowledged."""

import asyncio
from base64 import b64encode
from collections.abc import Sequence

import structlog

from consumers.lean.publisher import LeanPublisher, Message
from consumers.lean.wire import property_bytes, route_of, without_user_id
from consumers.return_address import return_address
from consumers.topology import RETRY_LADDER_S, retry_exchange
from pipeline.errors import BrokerUnavailableError, EventError
from pipeline.ingest.content_mode import BATCH_TYPE, STRUCTURED_TYPE, ContentMode, content_mode
from pipeline.ingest.delivery import UNDECODABLE_HEADER, Delivery
from pipeline.ingest.parking import Parcel
from pipeline.settings import AmqpSettings

log = structlog.get_logger(__name__)

# The longer a shard is away, the more is parked, and the less often each message should go round.
_TRIP_DELAYS_S = (1, 5, 5, 30, 30, 30, 300)
_OPAQUE = "application/octet-stream"


class BrokerParking:
    """A connection of its own in confirm mode, opened when first needed. Mutable state: `_publisher`."""

    name = "parking"

    def __init__(self, settings: AmqpSettings) -> None:
        self._settings = settings
        self._publisher: LeanPublisher | None = None
        self._one_at_a_time = asyncio.Lock()

    def __repr__(self) -> str:
        return f"BrokerParking({self._publisher!r})"

    async def park(self, parcels: Sequence[Parcel]) -> None:
        """Return when every parcel is confirmed. Raises BrokerUnavailableError: then none counts."""
        async with self._one_at_a_time:
            publisher = await self._open()
            try:
                await publisher.publish_all(map(_message, parcels), self._settings.publish_timeout_s)
            except BrokerUnavailableError:
                self._publisher = None
                await publisher.close()
                raise

    async def _open(self) -> LeanPublisher:
        if self._publisher is None or self._publisher.lost.is_set():
            publisher = LeanPublisher(self._settings, "postorder parking", self._settings.publish_window)
            await publisher.open()
            self._publisher = publisher
        return self._publisher

    async def start(self) -> None:
        """Nothing yet: most processes never park."""

    async def drain(self) -> None:
        """Nothing: every park call waits for its own confirms."""

    async def stop(self) -> None:
        """Close the connection."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.close()


def delay_of(parcel: Parcel) -> int:
    """Return the rung for a parcel, in seconds."""
    rounds = parcel.attempts or parcel.trips
    rungs = RETRY_LADDER_S if parcel.attempts else _TRIP_DELAYS_S
    return rungs[min(rounds, len(rungs)) - 1]


def _message(parcel: Parcel) -> Message:
    # Mandatory: a rung that is not there must come back as an error, not as a silent confirm.
    route = route_of(retry_exchange(delay_of(parcel)), return_address(parcel), mandatory=True)
    delivery = parcel.delivery
    if parcel.body is not None:
        return route, property_bytes(content_type=BATCH_TYPE), parcel.body
    try:
        return route, without_user_id(delivery.raw_properties), delivery.body
    except ValueError:
        return route, _wrapped(delivery), delivery.body


def _wrapped(delivery: Delivery) -> bytes:
    """Return properties that hold what cannot be published in a header, where quarantine looks for it.

    Only where the body alone says what the event is does it come back as one: where the headers might have
    said something, it must not pass for an event without any.
    """
    try:
        mode = content_mode(delivery.content_type, delivery.content_encoding)
    except EventError:
        mode = ContentMode.JSON
    content_type = {ContentMode.STRUCTURED: STRUCTURED_TYPE, ContentMode.BATCH: BATCH_TYPE}.get(mode, _OPAQUE)
    return property_bytes(
        content_type=content_type, headers={UNDECODABLE_HEADER: b64encode(delivery.raw_properties).decode()}
    )
