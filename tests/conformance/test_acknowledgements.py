"""Acknowledged is what was settled, all of it and nothing else, each by the session it came from."""

import asyncio
import random

import pytest
from conformance.conftest import NewSession
from conformance.inbox import Inbox
from conformance.messages import Message
from conformance.scripted_broker import Peer, ScriptedBroker
from pamqp import commands


async def deliveries_of(broker: ScriptedBroker, inbox: Inbox, count: int) -> Peer:
    peer = await broker.consumer()
    peer.deliver(*(Message(body=str(number).encode()) for number in range(1, count + 1)))
    await inbox.until(count)
    return peer


async def test_in_order_few_frames_cover_many(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    session = new_session(prefetch=1000)
    await session.open()
    peer = await deliveries_of(broker, inbox, 1000)
    assert session.open_deliveries == 1000
    inbox.settle(*inbox.deliveries)
    await peer.until_acknowledged(*range(1, 1001))
    assert session.open_deliveries == 0
    assert len(peer.acks) <= 5


async def test_an_open_delivery_is_never_acknowledged(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    session = new_session()
    await session.open()
    peer = await deliveries_of(broker, inbox, 5)
    first, second, third, fourth, fifth = inbox.deliveries
    inbox.settle(fifth, third, first)
    await peer.until_acknowledged(1)
    inbox.settle(second)
    await peer.until_acknowledged(1, 2, 3)
    assert peer.outstanding == {4, 5}
    await session.close()
    await peer.until_gone()
    assert peer.outstanding == {4}
    inbox.settle(fourth)
    assert peer.outstanding == {4}


async def test_one_slow_shard_does_not_hold_back_the_window(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    """With the first delivery open, the rest must still be acknowledged before the window is full."""
    session = new_session(prefetch=20)
    await session.open()
    peer = await deliveries_of(broker, inbox, 20)
    inbox.settle(*inbox.deliveries[1:])
    await peer.until_acknowledged(*range(2, 21))
    assert peer.outstanding == {1}
    inbox.settle(inbox.deliveries[0])
    await peer.until_acknowledged(1)


async def test_a_slow_shard_that_recovers_while_others_are_acknowledged(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, reader: str
) -> None:
    """A frame for all must not overtake the single ones: RabbitMQ closes the channel for that.

    So many that a library takes longer for all of them than one of them may take.
    """
    count = 2000 if reader == "lean" else 4000
    session = new_session(prefetch=count)
    await session.open()
    peer = await deliveries_of(broker, inbox, count)
    inbox.settle(*inbox.deliveries[1:-1])
    await peer.until(lambda: bool(peer.acks), "the first single acknowledgement")
    inbox.settle(inbox.deliveries[0], inbox.deliveries[-1])
    await peer.until_acknowledged(*range(1, count + 1), patience_s=30)
    await session.close()
    await peer.until_gone()
    assert peer.wrongs == []


@pytest.mark.parametrize("seed", range(8))
async def test_any_order_and_any_part(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, seed: int
) -> None:
    """Messages come in bursts and are settled in any order, in between and after; some never."""
    rng = random.Random(seed)
    session = new_session(prefetch=rng.choice((4, 40, 400)))
    await session.open()
    peer = await broker.consumer()
    waiting: list = []
    for _ in range(30):
        burst = rng.randrange(12)
        peer.deliver(*[Message()] * burst)
        waiting += (await inbox.until(len(inbox.deliveries) + burst))[-burst:] if burst else []
        rng.shuffle(waiting)
        for _ in range(rng.randrange(len(waiting) + 1) * (rng.random() < 0.7)):
            inbox.settle(waiting.pop())
        await asyncio.sleep(rng.choice((0, 0, 0.006)))  # so that flushes fall between
    await session.close()
    await peer.until_gone()
    assert session.open_deliveries == len(waiting)
    assert peer.covered == inbox.settled
    assert peer.outstanding == {delivery.tag for delivery in waiting}


async def test_settling_while_closing_sends_nothing_late(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    session = new_session()
    await session.open()
    peer = await deliveries_of(broker, inbox, 3)
    inbox.settle(inbox.deliveries[0])
    closing = asyncio.create_task(session.close())
    await asyncio.sleep(0)
    inbox.settle(inbox.deliveries[1])
    await closing
    inbox.settle(inbox.deliveries[2])
    await peer.until_gone()
    assert peer.covered <= {1, 2}
    assert 1 in peer.covered
    assert peer.received[-1] == "Connection.Close"


async def test_a_delivery_of_no_events_is_acknowledged(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    await new_session().open()
    peer = await deliveries_of(broker, inbox, 2)
    inbox.deliveries[0].expect(0)
    inbox.deliveries[1].expect(2)
    await peer.until_acknowledged(1)
    inbox.deliveries[1].event_settled()
    assert peer.outstanding == {2}
    inbox.deliveries[1].event_settled()
    await peer.until_acknowledged(2)


async def test_settling_from_within_the_delivery(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    """As quarantine does for what is no event."""
    inbox.settling = True
    await new_session(prefetch=1).open()
    peer = await deliveries_of(broker, inbox, 50)
    await peer.until_acknowledged(*range(1, 51))


async def test_a_broker_that_reads_late_gets_them_in_order(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    """Acknowledgements pile up in the socket and in the library's queue of ten frames."""
    session = new_session(prefetch=400)
    await session.open()
    peer = await broker.consumer()
    seen: list[int] = []
    gate = asyncio.Event()

    async def late(_peer: Peer, ack: commands.Basic.Ack) -> None:
        await gate.wait()
        seen.append(ack.delivery_tag or 0)
        peer.take_ack(ack)

    broker.script["Basic.Ack"] = late
    for number in range(1, 41):
        peer.deliver(Message())
        inbox.settle((await inbox.until(number))[-1])
    gate.set()
    await peer.until_acknowledged(*range(1, 41))
    assert seen == sorted(seen)
