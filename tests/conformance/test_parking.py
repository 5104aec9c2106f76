"""Parking: what comes back from the ladder, and what cannot be parked as it came."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator

import msgspec
import orjson
import pytest
from conformance.scripted_broker import ScriptedBroker
from deliveries import STRUCTURED, delivery
from pamqp import commands

from consumers.lean.wire import property_bytes, read_properties
from consumers.parking import BrokerParking
from pipeline.errors import BrokerUnavailableError, EventError
from pipeline.events import Reason
from pipeline.ingest.content_mode import BATCH_TYPE, content_mode
from pipeline.ingest.delivery import UNDECODABLE_HEADER, Delivery
from pipeline.ingest.entries import quarantine_row
from pipeline.ingest.parking import Parcel
from pipeline.settings import AmqpSettings

CUT_SHORT = {
    "user id": b"\x00\x10",
    "flags": b"\x80",
    "content type": b"\x80\x00",
    "table": b"\x20\x00\x00\x00\x01\x00ab",
    "timestamp": b"\x00\x40\x00",
}


@pytest.fixture
async def parking(settings: AmqpSettings) -> AsyncIterator[BrokerParking]:
    parking = BrokerParking(settings)
    yield parking
    await parking.stop()


def parcel(raw_properties: bytes, content_type: str | None = STRUCTURED) -> Parcel:
    made = delivery(b"{}", content_type)
    made.raw_properties = raw_properties
    return Parcel(made, None, 0, 1)


async def come_back(broker: ScriptedBroker, parking: BrokerParking, *parcels: Parcel) -> list[Delivery]:
    """Park parcels with a broker that takes them all; return what comes back from the ladder."""
    parked = asyncio.create_task(parking.park(parcels))
    await broker.news.until(
        lambda: sum(bool(body) for peer in broker.peers for *_, body in peer.published) == len(parcels),
        "every parcel",
    )
    [peer] = broker.peers
    peer.method(commands.Basic.Ack(len(parcels), multiple=True))
    await parked
    found = []
    for _, header, body in peer.published:
        properties = header.properties
        back = delivery(body, properties.content_type, content_encoding=properties.content_encoding)
        back.raw_properties, back.read_properties = properties.marshal(), read_properties
        found.append(back)
    return found


@pytest.mark.parametrize("raw", CUT_SHORT.values(), ids=CUT_SHORT)
async def test_properties_that_are_cut_short_are_parked_in_a_header_beside_healthy_neighbours(
    broker: ScriptedBroker, parking: BrokerParking, raw: bytes
) -> None:
    """RabbitMQ lets nobody publish them: as they are, they would cost every neighbour its trip."""
    healthy = property_bytes(content_type=STRUCTURED, message_id="m-1")
    one, bad, two = await come_back(broker, parking, parcel(healthy), parcel(raw), parcel(healthy))
    assert one.raw_properties == two.raw_properties == healthy
    assert (bad.content_type, bad.body) == (STRUCTURED, b"{}")
    row = quarantine_row(bad, None, "any", "")
    assert b64decode(orjson.loads(row.headers)[UNDECODABLE_HEADER]) == raw


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "\\xff" * 100])
async def test_what_may_have_had_headers_comes_back_as_no_event(
    broker: ScriptedBroker, parking: BrokerParking, content_type: str | None
) -> None:
    """Without headers a binary event's data would pass for a plain event, and be stored a second time."""
    [back] = await come_back(broker, parking, parcel(b"\x00\x10", content_type))
    with pytest.raises(EventError) as refused:
        content_mode(back.content_type, back.content_encoding)
    assert refused.value.reason == Reason.UNSUPPORTED_CONTENT_TYPE


@pytest.mark.parametrize("content_type", [STRUCTURED + "; charset=utf-8", BATCH_TYPE])
async def test_what_needs_no_headers_comes_back_as_what_it_is(
    broker: ScriptedBroker, parking: BrokerParking, content_type: str
) -> None:
    [back] = await come_back(broker, parking, parcel(b"\x00\x10", content_type))
    assert content_mode(back.content_type, None) is content_mode(content_type, None)


async def test_a_broker_that_takes_nothing_fails_in_time_and_the_next_time_is_a_new_connection(
    broker: ScriptedBroker, settings: AmqpSettings
) -> None:
    parking = BrokerParking(msgspec.structs.replace(settings, publish_window=2))
    with pytest.raises(BrokerUnavailableError, match="takes nothing for"):
        async with asyncio.timeout(3):
            await parking.park([parcel(b"")] * 5)
    [first] = broker.peers
    assert len(first.published) == 2
    again = asyncio.create_task(parking.park([parcel(b"")]))
    await broker.news.until(lambda: len(broker.peers) == 2 and bool(broker.peers[1].published), "a new try")
    broker.peers[1].method(commands.Basic.Ack(1))
    await again
    await parking.stop()
