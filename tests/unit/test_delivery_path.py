"""Lanes under relief, back-pressure, and the way there and back of parked messages."""

import asyncio

import pytest
from deliveries import delivery
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from consumers.lean.wire import read_properties, without_user_id
from consumers.parking import delay_of
from consumers.return_address import restore, return_address
from consumers.topology import EXCHANGE, RETRY_LADDER_S
from pipeline.ingest.batcher import Item, Lane
from pipeline.ingest.parking import Parcel, make_parcel
from pipeline.ingest.pressure import Pressure


async def test_a_collector_survives_that_its_lane_is_emptied_while_it_lingers() -> None:
    """It took "nothing left" for "closed" and ended, and with it the shard's last writer."""
    lane = Lane(batch_max=10, linger_s=0.05)
    lane.add(Item(None, delivery(b"1", received_at=1.0)))
    collecting = asyncio.create_task(lane.next_batch())
    await asyncio.sleep(0)
    assert len(lane.take_overdue(2.0)) == 1
    await asyncio.sleep(0.1)
    assert not collecting.done()
    lane.add(Item(None, delivery(b"2", received_at=3.0)))
    assert len((await asyncio.wait_for(collecting, 1)).items) == 1


def test_only_what_is_overdue_is_taken_out() -> None:
    lane = Lane(batch_max=10, linger_s=1)
    for at in (1.0, 2.0, 3.0):
        lane.add(Item(None, delivery(b"", received_at=at)))
    assert [item.delivery.received_at for item in lane.take_overdue(2.5)] == [1.0, 2.0]
    assert lane.head_received_at() == 3.0


def test_pressure_pauses_at_the_high_mark_and_goes_on_at_the_low_one() -> None:
    pressure, calls = Pressure(high=10), []
    pressure.subscribe(calls.append)
    for _ in range(10):
        pressure.add(1)
    pressure.add(5)
    assert calls == [True]
    pressure.remove(9)
    assert calls == [True]
    pressure.remove(1)
    assert (calls, pressure.held) == ([True, False], 5)


keys = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=60)


@given(routing_key=keys, attempts=st.integers(0, 20), trips=st.integers(0, 50))
def test_a_parked_message_comes_back_as_it_was(routing_key: str, attempts: int, trips: int) -> None:
    parked = Parcel(delivery(b"x", routing_key=routing_key), None, attempts, trips)
    back = delivery(b"x", exchange="orders.return", routing_key=return_address(parked))
    restore(back)
    assert (back.routing_key, back.attempts, back.trips) == (routing_key, attempts, trips)
    assert back.exchange == EXCHANGE


def test_a_return_address_fits_into_a_routing_key() -> None:
    parcel = Parcel(delivery(b"", routing_key="ä" * 127), None, 10**6, 10**6)
    assert len(return_address(parcel).encode()) <= 255


def test_a_routing_key_that_is_no_return_address_is_left_alone() -> None:
    for key in ("", "order.processed", "a.b.c.d", "order-processed.1.x.y"):
        stray = delivery(b"", routing_key=key)
        restore(stray)
        assert (stray.routing_key, stray.trips) == (key, 0)


def test_what_is_left_of_a_batch_is_parked_as_a_batch() -> None:
    batch = delivery(b"[1,2,3]", "application/cloudevents-batch+json")
    parcel = make_parcel(batch, [b"1", b"3"], attempt=True)
    assert (parcel.body, parcel.attempts, parcel.trips) == (b"[1,3]", 1, 1)
    assert make_parcel(delivery(b"x"), [None], attempt=False).body is None


def test_the_longer_a_message_is_parked_the_longer_each_trip() -> None:
    message = delivery(b"")
    trips = [delay_of(Parcel(message, None, 0, trip)) for trip in range(1, 20)]
    attempts = [delay_of(Parcel(message, None, attempt, 1)) for attempt in range(1, 20)]
    assert trips == sorted(trips)
    assert attempts == sorted(attempts)
    assert set(trips) | set(attempts) <= set(RETRY_LADDER_S)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "content_type": st.just("application/json"),
            "content_encoding": st.just("utf-8"),
            "headers": st.dictionaries(st.text(max_size=5), st.integers(0, 9), min_size=1, max_size=3),
            "delivery_mode": st.sampled_from([1, 2]),
            "priority": st.integers(1, 9),
            "correlation_id": st.just("c-1"),
            "reply_to": st.just("r"),
            "expiration": st.just("60000"),
            "message_id": st.just("m-1"),
            "message_type": st.just("t"),
            "user_id": st.just("somebody"),
            "app_id": st.just("a"),
        },
    )
)
def test_the_user_id_is_cut_out_of_raw_properties_and_nothing_else(found: dict) -> None:
    raw = commands.Basic.Properties(**found).marshal()
    found.pop("user_id", None)
    assert without_user_id(raw) == commands.Basic.Properties(**found).marshal()
    for end in (1, len(raw) - 1) if len(raw) > 2 else (1,):
        with pytest.raises(ValueError, match="cut short"):
            without_user_id(raw[:end])
    assert read_properties(raw).headers == found.get("headers", {})
