"""The consumer above the sessions: it comes back after every loss, and not too often."""

import asyncio
import random

import pytest
from conformance.conftest import NewConsumer
from conformance.inbox import Inbox, News
from conformance.messages import Message
from conformance.scripted_broker import ANSWERS, Peer, ScriptedBroker, close_channel, close_connection
from pamqp import commands

from pipeline.clock import SystemClock
from pipeline.ingest.pressure import Pressure


class HeldClock(SystemClock):
    """Tells of each wait, and lets it end when a test says so. Time passes at a test's word as well."""

    def __init__(self, news: News) -> None:
        self.waits_s: list[float] = []
        self.ahead_s = 0.0
        self._news = news
        self._ended = asyncio.Semaphore(0)

    def monotonic(self) -> float:
        return self.ahead_s

    async def sleep(self, delay_s: float) -> None:
        self.waits_s.append(delay_s)
        self._news.tell()
        await self._ended.acquire()

    def end_wait(self) -> None:
        self._ended.release()


LOSSES = {
    "reset": Peer.reset,
    "shutdown": lambda peer: close_connection(320, "CONNECTION_FORCED")(peer, None),
    "channel error": lambda peer: close_channel(406, "PRECONDITION_FAILED")(peer, None),
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_after_each_loss_comes_a_new_session(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox, reader: str, loss: str
) -> None:
    consumer = new_consumer(reader)
    await consumer.start()
    for number in range(1, 4):
        peer = await broker.consumer(number)
        peer.deliver(Message(body=b"%d" % number))
        await inbox.until(number)
        LOSSES[loss](peer)
        await peer.until_gone()
    peer = await broker.consumer(4)
    peer.deliver(Message(body=b"4"))
    deliveries = await inbox.until(4)
    assert [delivery.body for delivery in deliveries] == [b"1", b"2", b"3", b"4"]
    inbox.settle(*deliveries[:3])  # of sessions that are gone
    await consumer.stop()
    await peer.until_gone()
    assert [at.acks for at in broker.peers] == [[], [], [], []]


async def opened(broker: ScriptedBroker, inbox: Inbox, number: int) -> Peer:
    """Return the n-th connection that consumes, once the consumer takes messages from it."""
    peer = await broker.consumer(number)
    seen = len(inbox.deliveries)
    peer.deliver(Message())
    await inbox.until(seen + 1)
    return peer


@pytest.fixture
def longest_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 1.0)


@pytest.mark.usefixtures("longest_waits")
async def test_a_broker_that_lets_in_and_cuts_at_once_is_asked_less_and_less(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox, reader: str
) -> None:
    clock = HeldClock(broker.news)
    await new_consumer(reader, clock=clock).start()
    for number in range(1, 7):
        (await opened(broker, inbox, number)).hang_up()
        await broker.news.until(lambda n=number: len(clock.waits_s) == n, f"wait number {number}")
        assert len(broker.peers) == number
        clock.end_wait()
    assert clock.waits_s == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.usefixtures("longest_waits")
async def test_after_a_session_that_lasted_comes_the_next_at_once(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox, reader: str
) -> None:
    clock = HeldClock(broker.news)
    await new_consumer(reader, clock=clock).start()
    (await opened(broker, inbox, 1)).hang_up()
    await broker.news.until(lambda: clock.waits_s == [0.5], "a wait")
    clock.end_wait()
    peer = await opened(broker, inbox, 2)
    clock.ahead_s += 1.0
    peer.hang_up()
    (await opened(broker, inbox, 3)).hang_up()
    await broker.news.until(lambda: clock.waits_s == [0.5, 0.5], "a wait as short as the first")


async def test_a_restart_that_was_asked_for_is_done_at_once(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox, reader: str
) -> None:
    clock = HeldClock(broker.news)
    consumer = new_consumer(reader, clock=clock)
    await consumer.start()
    for number in (1, 2):
        await opened(broker, inbox, number)
        await consumer.restart()
    await opened(broker, inbox, 3)
    assert clock.waits_s == []


async def test_between_sessions_nothing_is_consumed(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox, reader: str
) -> None:
    consumer = new_consumer(reader)
    await consumer.start()
    peer = await broker.consumer()
    peer.deliver(Message())
    await inbox.until(1)
    assert consumer.consuming
    broker.script["connect"] = lambda late, _: late.hang_up()
    peer.reset()
    await broker.news.until(lambda: len(broker.peers) >= 3, "two attempts in vain")
    assert not consumer.consuming


async def test_a_broker_that_is_away_is_waited_for(
    broker: ScriptedBroker, new_consumer: NewConsumer, reader: str
) -> None:
    broker.script["Queue.Declare"] = close_channel(404, "NOT_FOUND - no queue")
    consumer = new_consumer(reader)
    await consumer.start()
    await broker.news.until(lambda: len(broker.peers) >= 3, "three attempts")
    assert not consumer.consuming
    del broker.script["Queue.Declare"]
    await broker.consumer()


async def test_drain_takes_nothing_more_and_still_acknowledges(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox, reader: str
) -> None:
    consumer = new_consumer(reader)
    await consumer.start()
    peer = await broker.consumer()
    peer.deliver(Message(), Message())
    await inbox.until(2)
    await consumer.drain()
    assert "Basic.Cancel" in peer.received
    assert not consumer.consuming
    inbox.settle(inbox.deliveries[1])
    await consumer.stop()
    await peer.until_gone()
    assert (peer.covered, peer.outstanding, len(broker.peers)) == ({2}, {1}, 1)
    await consumer.stop()


async def test_drain_while_connecting(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox, reader: str
) -> None:
    """A shutdown right after a loss: what comes then would only be delivered again."""
    drained = asyncio.Event()

    async def late(peer: Peer, frame: commands.Queue.Declare) -> None:
        await drained.wait()
        ANSWERS["Queue.Declare"](peer, frame)

    broker.script["Queue.Declare"] = late
    consumer = new_consumer(reader)
    await consumer.start()
    await broker.news.until(lambda: any("Basic.Qos" in p.received for p in broker.peers), "connecting")
    await consumer.drain()
    drained.set()
    [peer] = broker.peers
    await peer.until(lambda: peer.gone or "Basic.Consume" in peer.received, "the end of opening")
    await peer.until(lambda: peer.gone or "Basic.Cancel" in peer.received, "no consumer is left", 0.5)


async def test_stop_while_connecting_leaves_no_connection(
    broker: ScriptedBroker, new_consumer: NewConsumer, reader: str
) -> None:
    broker.script["Queue.Declare"] = lambda _peer, _frame: None
    consumer = new_consumer(reader)
    await consumer.start()
    await broker.news.until(lambda: any("Queue.Declare" in p.received for p in broker.peers), "connecting")
    await consumer.stop()
    await broker.news.until(lambda: broker.peers[0].gone, "the client's end", 0.5)


async def test_pressure_pauses_the_lean_reader_and_every_later_one(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox
) -> None:
    pressure = Pressure(high=2)
    consumer = new_consumer("lean", pressure=pressure)
    await consumer.start()
    peer = await broker.consumer()
    await broker.news.until(lambda: consumer.consuming, "consuming")
    pressure.add(2)
    peer.deliver(Message())
    await asyncio.sleep(0.05)  # that nothing comes, only time can show
    assert inbox.deliveries == []
    peer.reset()
    peer = await broker.consumer(2)
    await asyncio.sleep(0.05)
    peer.deliver(Message(body=b"later"))
    await asyncio.sleep(0.05)
    assert inbox.deliveries == []
    pressure.remove(1)
    [delivery] = await inbox.until(1)
    assert delivery.body == b"later"
