"""The prefetch changes while messages are taken: nothing is lost, nothing is acknowledged wrongly."""

import asyncio
import time

from conformance.conftest import NewConsumer, NewSession
from conformance.inbox import Inbox
from conformance.messages import Message
from conformance.scripted_broker import ANSWERS, Peer, ScriptedBroker
from pamqp import commands

from pipeline.ingest.pressure import Pressure


async def test_tags_and_acknowledgements_go_on(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    session = new_session(prefetch=100)
    await session.open()
    peer = await broker.consumer()
    peer.deliver(Message(body=b"1"), Message(body=b"2"))
    first = await inbox.until(2)
    await session.set_prefetch(7)
    assert peer.prefetch == 7
    assert peer.received.count("Basic.Consume") == 2
    assert peer.received.count("Basic.Cancel") == 1
    peer.deliver(Message(body=b"3"))
    third = (await inbox.until(3))[2]
    inbox.settle(*first, third)
    await peer.until_acknowledged(1, 2, 3)
    assert len(broker.peers) == 1


async def test_what_comes_while_the_consumer_changes_is_delivered(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    def late(peer: Peer, frame: commands.Basic.Cancel) -> None:
        peer.deliver(Message(body=b"on its way"))
        ANSWERS["Basic.Cancel"](peer, frame)

    broker.script["Basic.Cancel"] = late
    session = new_session()
    await session.open()
    peer = await broker.consumer()
    await session.set_prefetch(7)
    [delivery] = await inbox.until(1)
    assert delivery.body == b"on its way"
    inbox.settle(delivery)
    await peer.until_acknowledged(1)
    broker.script.clear()


async def test_a_drain_in_the_middle_leaves_no_consumer(
    broker: ScriptedBroker, new_session: NewSession
) -> None:
    released = asyncio.Event()

    async def late(peer: Peer, frame: commands.Basic.Cancel) -> None:
        broker.news.tell()
        await released.wait()
        ANSWERS["Basic.Cancel"](peer, frame)

    broker.script["Basic.Cancel"] = late
    session = new_session()
    await session.open()
    peer = await broker.consumer()
    changing = asyncio.create_task(session.set_prefetch(7))
    await peer.until(lambda: "Basic.Cancel" in peer.received, "the consumer's end")
    draining = asyncio.create_task(session.cancel())
    await asyncio.sleep(0)
    released.set()
    await asyncio.gather(changing, draining)
    assert peer.received.count("Basic.Consume") == 1
    assert peer.received.count("Basic.Cancel") == 1


async def test_a_broker_that_does_not_answer_costs_the_session_and_the_next_goes_by_the_new_number(
    broker: ScriptedBroker, new_consumer: NewConsumer, reader: str
) -> None:
    broker.script["Basic.Cancel"] = lambda _peer, _frame: None
    consumer = new_consumer(reader, prefetch=10)
    await consumer.start()
    await broker.consumer()
    await broker.news.until(lambda: consumer.consuming, "consuming")
    await asyncio.wait_for(consumer.set_prefetch(7), 5)
    second = await broker.consumer(2)
    assert second.prefetch == 7
    assert consumer.prefetch == 7


async def test_set_while_connecting_it_counts_from_the_beginning(
    broker: ScriptedBroker, new_consumer: NewConsumer, reader: str
) -> None:
    released = asyncio.Event()

    async def late(peer: Peer, frame: commands.Queue.Declare) -> None:
        await released.wait()
        ANSWERS["Queue.Declare"](peer, frame)

    broker.script["Queue.Declare"] = late
    consumer = new_consumer(reader, prefetch=10)
    await consumer.start()
    await broker.news.until(lambda: any("Basic.Qos" in p.received for p in broker.peers), "connecting")
    await consumer.set_prefetch(7)
    released.set()
    peer = await broker.consumer()
    await peer.until(
        lambda: peer.prefetch == 7 and peer.received.count("Basic.Consume") == 2, "the new number"
    )


async def test_under_pressure_the_lean_reader_hears_the_answer_and_rests_again(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox
) -> None:
    pressure = Pressure(high=2)
    consumer = new_consumer("lean", pressure=pressure)
    await consumer.start()
    peer = await broker.consumer()
    await broker.news.until(lambda: consumer.consuming, "consuming")
    pressure.add(2)
    began = time.monotonic()
    await consumer.set_prefetch(7)
    assert time.monotonic() - began < 0.4  # not the time-out of a request
    assert peer.prefetch == 7
    peer.deliver(Message())
    await asyncio.sleep(0.1)
    assert inbox.deliveries == []
    pressure.remove(2)
    await inbox.until(1)
