"""The consumer above the sessions: it comes back after every loss, and isolates what no library can read."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from conformance.inbox import Inbox, News
from conformance.messages import UNDECODABLE, Message
from conformance.scripted_broker import ANSWERS, Peer, ScriptedBroker, close_channel, close_connection
from pamqp import commands

from consumers.amqp import QueueConsumer
from pipeline.clock import Clock, SystemClock
from pipeline.errors import EventError
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.pressure import Pressure
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.settings import AmqpSettings

NewConsumer = Callable[..., QueueConsumer]
POISON = Message(body=b"poison", raw_properties=UNDECODABLE["a value of an unknown type"])


class HurriedClock(SystemClock):
    """Waits, but not long: what is tested is that there is a next time, not when."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(min(delay_s, 0.01))


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


class WorkQueue:
    """What the broker keeps of a queue: everything without an acknowledgement is delivered, and again."""

    def __init__(self, broker: ScriptedBroker, *messages: Message) -> None:
        self.left = list(messages)
        self._broker = broker
        self._sent: dict[tuple[Peer, int], Message] = {}
        self._serving: Peer | None = None
        broker.script |= {"Basic.Consume": self._consume, "Basic.Ack": self._acknowledge}

    def _consume(self, peer: Peer, frame: commands.Basic.Consume) -> None:
        ANSWERS["Basic.Consume"](peer, frame)
        self._serving = peer
        self._sent.clear()
        self._fill(peer)

    def _fill(self, peer: Peer) -> None:
        waiting = [message for message in self.left if message not in self._sent.values()]
        for message in waiting[: peer.prefetch - len(peer.outstanding)]:
            before = set(peer.outstanding)
            peer.deliver(message)
            [tag] = peer.outstanding - before
            self._sent[peer, tag] = message

    def _acknowledge(self, peer: Peer, frame: commands.Basic.Ack) -> None:
        before = set(peer.outstanding)
        peer.take_ack(frame)
        for tag in before - peer.outstanding:
            if (message := self._sent.pop((peer, tag), None)) is not None:
                self.left.remove(message)
        self._fill(peer)


@pytest.fixture
async def new_consumer(
    broker: ScriptedBroker, settings: AmqpSettings, inbox: Inbox
) -> AsyncIterator[NewConsumer]:
    crashes: list[str] = []
    made: list[QueueConsumer] = []

    def make(
        reader: str, *, pressure: Pressure | None = None, prefetch: int = 10, clock: Clock | None = None
    ) -> QueueConsumer:
        made.append(
            QueueConsumer(
                "order-processed",
                settings=msgspec.structs.replace(settings, reader=reader),
                deliver=inbox.take,
                pressure=pressure or Pressure(high=1000),
                metrics=Metrics(),
                clock=clock or HurriedClock(),
                tasks=Tasks(lambda name, error: crashes.append(f"{name}: {error!r}")),
                prefetch=prefetch,
            )
        )
        return made[-1]

    yield make
    for consumer in made:
        await consumer.stop()
    assert crashes == []


def messages(count: int) -> list[Message]:
    return [Message(body=b"%d" % number) for number in range(count)]


def readable(delivery: Delivery) -> bool:
    try:
        _ = delivery.properties
    except EventError:
        return False
    return True


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


async def test_isolation_after_two_decode_losses_and_back(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox
) -> None:
    first, *rest = messages(6)
    queue = WorkQueue(broker, first, POISON, *rest)
    inbox.settling = True
    await new_consumer("aio-pika").start()
    await broker.news.until(lambda: not queue.left, "an empty queue", 10)
    reading = [peer.prefetch for peer in broker.peers]
    assert reading[:3] == [10, 10, 1]  # the library twice, then one at a time
    peer = await broker.consumer(4)
    assert peer.prefetch == 10
    bodies = [delivery.body for delivery in inbox.deliveries]
    assert set(bodies) == {b"poison", *(message.body for message in (first, *rest))}
    assert bodies.count(b"poison") == 1
    assert [readable(delivery) for delivery in inbox.deliveries].count(False) == 1
    peer.deliver(Message(body=b"after"))
    await peer.until_acknowledged(max(peer.outstanding, default=peer._tag))


async def test_isolation_waits_until_the_one_at_fault_is_settled(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox
) -> None:
    queue = WorkQueue(broker, POISON)
    await new_consumer("aio-pika").start()
    [delivery] = await inbox.until(1)
    isolated = await broker.consumer(3)
    assert isolated.prefetch == 1
    await asyncio.sleep(0.1)  # ten times the look at it
    assert not isolated.gone
    inbox.settle(delivery)
    await isolated.until_gone()
    assert (await broker.consumer(4)).prefetch == 10
    assert queue.left == []


async def test_several_at_fault_are_all_got_rid_of(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox
) -> None:
    strays = [Message(body=b"poison %d" % at, raw_properties=POISON.raw_properties) for at in range(4)]
    pairs = zip(messages(4), strays, strict=True)
    queue = WorkQueue(broker, *(message for pair in pairs for message in pair))
    inbox.settling = True
    await new_consumer("aio-pika").start()
    await broker.news.until(lambda: not queue.left, "an empty queue", 10)
    assert {delivery.body for delivery in inbox.deliveries} >= {stray.body for stray in strays}


async def test_isolation_ends_without_a_culprit(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox
) -> None:
    """It went elsewhere meanwhile: after a window's worth of healthy messages the library reads again."""
    inbox.settling = True
    await new_consumer("aio-pika", prefetch=5).start()
    for number in (1, 2):
        peer = await broker.consumer(number)
        peer.deliver(POISON)
        await peer.until_gone()
    WorkQueue(broker, *messages(8))
    isolated = await broker.consumer(3)
    assert isolated.prefetch == 1
    assert (await broker.consumer(4)).prefetch == 5
