"""The lean publisher: what counts as confirmed was confirmed, and nothing waits for ever."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from conformance.messages import HEADER, Message, frame, short_text
from conformance.scripted_broker import ANSWERS, Peer, ScriptedBroker, close_channel, hang_up, reset, silence
from pamqp import commands

from consumers.lean.publisher import LeanPublisher
from consumers.lean.wire import property_bytes, route_of
from pipeline.errors import BrokerUnavailableError
from pipeline.settings import AmqpSettings

ROUTE = route_of("orders", "order.processed", mandatory=True)
PROPERTIES = property_bytes(content_type="application/json", message_id="m-1")
WINDOW = 5
SOON_S = 2.0


@pytest.fixture
async def publisher(broker: ScriptedBroker, settings: AmqpSettings) -> AsyncIterator[LeanPublisher]:
    opened = LeanPublisher(settings, "test publisher", WINDOW)
    await opened.open()
    yield opened
    await opened.close()


async def publish(publisher: LeanPublisher, broker: ScriptedBroker, count: int) -> Peer:
    [peer] = broker.peers
    before = len(peer.published)
    for number in range(count):
        await publisher.publish(ROUTE, PROPERTIES, b"%d" % number)
    await peer.until(lambda: len(peer.published) == before + count, f"{count} publishes")
    return peer


def ack(peer: Peer, tag: int, *, multiple: bool = False) -> None:
    peer.method(commands.Basic.Ack(tag, multiple=multiple))


def nack(peer: Peer, tag: int, *, multiple: bool = False) -> None:
    peer.method(commands.Basic.Nack(tag, multiple=multiple, requeue=False))


def give_back(peer: Peer, body: bytes = b"") -> None:
    """Return a message, with its content, as for a mandatory one without a queue."""
    message = Message(body=body)
    peer.method(commands.Basic.Return(312, "NO_ROUTE", "orders", "order.processed"))
    peer.send(message.header_frame(1) + message.body_frames(1, 100))


@pytest.mark.parametrize("size", [0, 1, 4088, 4089, 50_000])
async def test_a_message_arrives_whole(broker: ScriptedBroker, settings: AmqpSettings, size: int) -> None:
    broker.frame_max = 4096
    publisher = LeanPublisher(settings, "test publisher", WINDOW)
    await publisher.open()
    body = bytes(at % 251 for at in range(size))
    assert await publisher.publish(ROUTE, PROPERTIES, body) == 1
    [peer] = broker.peers
    await peer.until(lambda: bool(peer.published) and len(peer.published[0][2]) == size, "the body")
    method, header, found = peer.published[0]
    assert found == body
    assert (method.exchange, method.routing_key, method.mandatory) == ("orders", "order.processed", True)
    assert (header.properties.message_id, header.properties.delivery_mode) == ("m-1", 2)
    assert header.body_size == size
    ack(peer, 1)
    await publisher.settled(SOON_S)
    await publisher.close()


async def test_many_are_published_and_confirmed_through_a_small_window(
    publisher: LeanPublisher, broker: ScriptedBroker
) -> None:
    [peer] = broker.peers
    plain = ANSWERS["Basic.Publish"]

    def confirming(peer: Peer, frame: commands.Basic.Publish) -> None:
        plain(peer, frame)
        ack(peer, len(peer.published))

    broker.script["Basic.Publish"] = confirming
    await publisher.publish_all(((ROUTE, PROPERTIES, b"%d" % n) for n in range(10 * WINDOW)), SOON_S)
    assert (publisher.unconfirmed, publisher.confirmed, len(peer.published)) == (0, 50, 50)


@pytest.mark.parametrize(
    ("count", "problem"), [(WINDOW - 1, "no confirm in"), (WINDOW + 1, "takes nothing for")]
)
async def test_a_broker_that_confirms_nothing_is_not_waited_for_for_ever(
    publisher: LeanPublisher, count: int, problem: str
) -> None:
    """As RabbitMQ does while its alarm for memory or disk space lasts."""
    with pytest.raises(BrokerUnavailableError, match=problem):
        async with asyncio.timeout(SOON_S):
            await publisher.publish_all([(ROUTE, PROPERTIES, b"x")] * count, 0.05)


async def test_confirms_in_any_form_and_order(publisher: LeanPublisher, broker: ScriptedBroker) -> None:
    peer = await publish(publisher, broker, 4)
    assert publisher.unconfirmed == 4
    ack(peer, 3)
    ack(peer, 2, multiple=True)
    await peer.until(lambda: publisher.unconfirmed == 1, "three confirms")
    with pytest.raises(BrokerUnavailableError, match="no confirm in"):
        await publisher.settled(0.05)
    ack(peer, 4)
    await publisher.settled(SOON_S)
    assert (publisher.confirmed, publisher.refused, publisher.unconfirmed) == (4, 0, 0)
    peer = await publish(publisher, broker, 2)
    ack(peer, 6, multiple=True)
    await publisher.settled(SOON_S)
    assert publisher.confirmed == 6


async def test_a_single_confirm_within_a_later_multiple(
    publisher: LeanPublisher, broker: ScriptedBroker
) -> None:
    peer = await publish(publisher, broker, 5)
    for tag in (2, 4):
        ack(peer, tag)
    ack(peer, 5, multiple=True)
    await publisher.settled(SOON_S)
    assert (publisher.confirmed, publisher.unconfirmed) == (5, 0)


async def test_a_refused_message_is_told_once(publisher: LeanPublisher, broker: ScriptedBroker) -> None:
    peer = await publish(publisher, broker, 4)
    ack(peer, 1)
    nack(peer, 3, multiple=True)
    ack(peer, 4)
    with pytest.raises(BrokerUnavailableError, match="2 messages refused"):
        await publisher.settled(SOON_S)
    assert publisher.confirmed == 2
    peer = await publish(publisher, broker, 1)
    ack(peer, 5)
    await publisher.settled(SOON_S)


@pytest.mark.parametrize("body", [b"", b"returned"])
async def test_a_returned_message_is_refused_although_confirmed(
    publisher: LeanPublisher, broker: ScriptedBroker, body: bytes
) -> None:
    peer = await publish(publisher, broker, 2)
    give_back(peer, body)
    ack(peer, 2, multiple=True)
    with pytest.raises(BrokerUnavailableError, match="1 messages refused"):
        await publisher.settled(SOON_S)
    assert publisher.unconfirmed == 0


async def test_a_return_with_undecodable_properties(publisher: LeanPublisher, broker: ScriptedBroker) -> None:
    peer = await publish(publisher, broker, 1)
    peer.method(commands.Basic.Return(312, "NO_ROUTE", "orders", "order.processed"))
    odd = b"\x20\x00\x00\x00\x00\x03" + short_text("a") + b"?"
    peer.send(frame(HEADER, 1, b"\x00\x3c\x00\x00" + bytes(8) + odd))
    ack(peer, 1)
    with pytest.raises(BrokerUnavailableError, match="refused"):
        await publisher.settled(SOON_S)


async def test_the_window_is_kept(publisher: LeanPublisher, broker: ScriptedBroker) -> None:
    peer = await publish(publisher, broker, WINDOW)
    waiting = asyncio.create_task(publisher.publish(ROUTE, PROPERTIES, b"next"))
    nack(peer, 2)
    await peer.until(lambda: publisher.unconfirmed == WINDOW - 1, "the refusal")
    assert not waiting.done()  # the window counts from the lowest tag without a confirm
    ack(peer, 1)
    assert await waiting == WINDOW + 1
    ack(peer, WINDOW + 1, multiple=True)
    with pytest.raises(BrokerUnavailableError, match="1 messages refused"):
        await publisher.settled(SOON_S)


async def test_the_window_is_kept_among_many_publishers(
    publisher: LeanPublisher, broker: ScriptedBroker
) -> None:
    peer = await publish(publisher, broker, WINDOW)
    waiting = [asyncio.create_task(publisher.publish(ROUTE, PROPERTIES, b"")) for _ in range(3 * WINDOW)]
    await asyncio.sleep(0)  # every one of them waits now
    for confirmed in range(1, 3 * WINDOW + 1):
        ack(peer, confirmed)
        await peer.until(lambda at=confirmed: publisher.confirmed == at, f"confirm {confirmed}")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert publisher.unconfirmed <= WINDOW
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("loss", [hang_up, reset, silence, close_channel(404, "NOT_FOUND - no exchange")])
async def test_a_loss_wakes_everybody(publisher: LeanPublisher, broker: ScriptedBroker, loss) -> None:
    peer = await publish(publisher, broker, WINDOW)
    waiting = asyncio.create_task(publisher.publish(ROUTE, PROPERTIES, b""))
    settling = asyncio.create_task(publisher.settled(10))
    await asyncio.sleep(0)
    loss(peer, None)
    async with asyncio.timeout(4):  # silence takes two and a half heartbeats
        for task in (waiting, settling):
            with pytest.raises(BrokerUnavailableError):
                await task
    with pytest.raises(BrokerUnavailableError):
        await publisher.publish(ROUTE, PROPERTIES, b"")
    assert publisher.confirmed == 0


@pytest.fixture
async def stuck(
    broker: ScriptedBroker, settings: AmqpSettings
) -> AsyncIterator[tuple[LeanPublisher, asyncio.Task[int]]]:
    """A publisher whose broker does not read, and the publish that waits for it: the socket is full."""
    gate = asyncio.Event()

    async def unread(peer: Peer, publish: commands.Basic.Publish) -> None:
        await gate.wait()
        ANSWERS["Basic.Publish"](peer, publish)

    broker.script["Basic.Publish"] = unread
    publisher = LeanPublisher(settings, "test publisher", 100_000)
    await publisher.open()
    for _ in range(1000):
        publishing = asyncio.create_task(publisher.publish(ROUTE, PROPERTIES, bytes(100_000)))
        done, _ = await asyncio.wait([publishing], timeout=0.2)  # that it stands still, only time can show
        if not done:
            break
    yield publisher, publishing
    publishing.cancel()
    await asyncio.wait([publishing])
    gate.set()
    await publisher.close()


async def test_a_publish_waits_while_the_broker_takes_nothing(stuck, broker: ScriptedBroker) -> None:
    publisher, publishing = stuck
    assert not publishing.done()
    assert not publisher.lost.is_set()
    broker.peers[0].transport.abort()
    async with asyncio.timeout(SOON_S):
        await asyncio.wait([publishing])
        await publisher.lost.wait()


async def test_a_loss_wakes_who_waits_for_the_socket(stuck, broker: ScriptedBroker) -> None:
    publisher, publishing = stuck
    publisher._window = publisher.unconfirmed + 1
    broker.peers[0].transport.abort()
    async with asyncio.timeout(1):
        await publisher.lost.wait()
        outcomes = await asyncio.gather(
            publishing,
            publisher.publish(ROUTE, PROPERTIES, b"the next"),
            publisher.settled(10),
            return_exceptions=True,
        )
    assert [type(outcome) for outcome in outcomes] == [BrokerUnavailableError] * 3


@pytest.mark.parametrize("answer", [hang_up, reset, silence, close_channel(540, "NOT_IMPLEMENTED")])
async def test_confirm_mode_refused(broker: ScriptedBroker, settings: AmqpSettings, answer) -> None:
    broker.script["Confirm.Select"] = answer
    publisher = LeanPublisher(settings, "test publisher", WINDOW)
    with pytest.raises(BrokerUnavailableError):
        async with asyncio.timeout(SOON_S):
            await publisher.open()
    await broker.peers[0].until_gone()
    await publisher.close()
