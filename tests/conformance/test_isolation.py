"""What no library can read costs the library twice, and is then taken by the lean reader, one at a time."""

import asyncio

from conformance.conftest import NewConsumer
from conformance.inbox import Inbox
from conformance.messages import UNDECODABLE, Message
from conformance.scripted_broker import ANSWERS, Peer, ScriptedBroker
from pamqp import commands

from pipeline.errors import EventError
from pipeline.ingest.delivery import Delivery

POISON = Message(body=b"poison", raw_properties=UNDECODABLE["a value of an unknown type"])


class WorkQueue:
    """What the broker keeps of a queue: everything without an acknowledgement is delivered, and again."""

    def __init__(self, broker: ScriptedBroker, *messages: Message) -> None:
        self.left = list(messages)
        self._broker = broker
        self._sent: dict[tuple[Peer, int], Message] = {}
        self._serving: Peer | None = None
        broker.script |= {
            "Basic.Consume": self._consume,
            "Basic.Ack": self._acknowledge,
            "Basic.Cancel": self._cancel,
        }

    def _consume(self, peer: Peer, frame: commands.Basic.Consume) -> None:
        ANSWERS["Basic.Consume"](peer, frame)
        self._serving = peer
        self._sent.clear()
        self._fill(peer)

    def _cancel(self, peer: Peer, frame: commands.Basic.Cancel) -> None:
        self._serving = None
        ANSWERS["Basic.Cancel"](peer, frame)

    def _fill(self, peer: Peer) -> None:
        if self._serving is not peer:
            return
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


def messages(count: int) -> list[Message]:
    return [Message(body=b"%d" % number) for number in range(count)]


def readable(delivery: Delivery) -> bool:
    try:
        _ = delivery.properties
    except EventError:
        return False
    return True


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


async def test_isolation_takes_nothing_more_once_the_one_at_fault_was_found(
    broker: ScriptedBroker, new_consumer: NewConsumer, inbox: Inbox
) -> None:
    """Else it would not end as long as there is always another one to settle."""
    queue = WorkQueue(broker, POISON, *messages(3))
    await new_consumer("aio-pika").start()
    isolated = await broker.consumer(3)
    deliveries = await inbox.until(1)
    await isolated.until(lambda: "Basic.Cancel" in isolated.received, "the end of deliveries")
    inbox.settle(*deliveries)
    await isolated.until_gone()
    assert len(inbox.deliveries) == 1
    assert (await broker.consumer(4)).prefetch == 10
    inbox.settle(*(await inbox.until(4))[1:])
    await broker.news.until(lambda: not queue.left, "an empty queue")


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
