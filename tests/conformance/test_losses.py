"""wait_lost() returns after every kind of loss, and what died with the connection stays dead."""

import asyncio
import struct

import pytest
from conformance.conftest import NewSession
from conformance.inbox import Inbox
from conformance.messages import BODY, METHOD, Message, frame
from conformance.scripted_broker import Answer, Peer, ScriptedBroker, close_channel, close_connection, say
from pamqp import commands

SOON_S = 1.5  # aiormq takes a second to close after an error of its own
LEAN_SILENCE_S = 4.0  # heartbeats are every second; the lean reader gives up after two and a half
LIBRARY_SILENCE_S = 9.0  # aiormq after six, and looks every second


def half_a_message(peer: Peer, _frame: object) -> None:
    stream = peer.stream(Message(body=b"x" * 100))
    peer.send(stream[: len(stream) // 2])


def reset_in_mid_frame(peer: Peer, _frame: object) -> None:
    half_a_message(peer, None)
    asyncio.get_running_loop().call_soon(peer.reset)


def end_in_mid_frame(peer: Peer, _frame: object) -> None:
    half_a_message(peer, None)
    peer.hang_up()


def no_content_header(peer: Peer, _frame: object) -> None:
    message = Message()
    peer.send(message.method_frame(1, peer.consumer_tag, 3) + message.body_frames(1, 100))


def wrong_frame_end(peer: Peer, _frame: object) -> None:
    stream = peer.stream(Message())
    peer.send(stream[:-1] + b"\x00")


def more_body_than_announced(peer: Peer, _frame: object) -> None:
    peer.send(peer.stream(Message(body=b"abc")) + frame(BODY, 1, b"more"))


def one_message_into_the_next(peer: Peer, _frame: object) -> None:
    """The first announces eight bytes and has four; then comes another."""
    first, second = Message(body=b"12345678"), Message(body=b"abc")
    peer.send(peer.stream(first, piece_max=4)[:-12] + peer.stream(second))


def cancel(peer: Peer, _frame: object) -> None:
    peer.method(commands.Basic.Cancel(consumer_tag=peer.consumer_tag, nowait=True))


LOSSES: dict[str, Answer] = {
    "end": lambda peer, _: peer.hang_up(),
    "end in mid-frame": end_in_mid_frame,
    "reset": lambda peer, _: peer.reset(),
    "reset in mid-frame": reset_in_mid_frame,
    "shutdown": close_connection(320, "CONNECTION_FORCED - broker forced connection closure"),
    "frame error": close_connection(501, "FRAME_ERROR"),
    "channel error": close_channel(406, "PRECONDITION_FAILED - unknown delivery tag 9"),
    "acknowledgement time-out": close_channel(406, "PRECONDITION_FAILED - delivery ack on channel timed out"),
    "queue deleted": cancel,
    "unknown frame type": say(frame(9, 1, b"1234")),
    "unknown method": say(frame(METHOD, 1, struct.pack(">I", 0x003C00FF))),
    "method cut short": say(frame(METHOD, 0, struct.pack(">IB", 0x000A0032, 1))),
    "wrong frame end": wrong_frame_end,
    "no content header": no_content_header,
    "one message into the next": one_message_into_the_next,
}
DEFECTS = {
    ("lean", "unknown method"): "pamqp's own error escapes data_received(): the event loop reports a crash",
    ("lean", "method cut short"): "pamqp's own error escapes data_received(): the event loop reports a crash",
    ("lean", "one message into the next"): "the pieces of a message cut short become part of the next one",
    ("aio-pika", "queue deleted"): "nobody listens to aiormq's on_consumer_cancel_callbacks",
}


async def two_open_deliveries(broker: ScriptedBroker, inbox: Inbox) -> Peer:
    peer = await broker.consumer()
    peer.deliver(Message(body=b"1"), Message(body=b"2"))
    await inbox.until(2)
    return peer


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_loss_is_noticed_and_nothing_is_sent_after_it(  # noqa: PLR0917  # fixtures go by name
    broker: ScriptedBroker,
    new_session: NewSession,
    inbox: Inbox,
    reader: str,
    loss: str,
    loop_errors: list[str],
) -> None:
    session = new_session()
    await session.open()
    peer = await two_open_deliveries(broker, inbox)
    LOSSES[loss](peer, None)
    async with asyncio.timeout(SOON_S):
        why = await session.wait_lost()
    assert why
    assert "\n" not in why
    inbox.settle(*inbox.deliveries)
    async with asyncio.timeout(SOON_S):
        await session.close()
    await peer.until_gone()
    assert peer.acks == []
    assert len(broker.peers) == 1
    assert [delivery.body for delivery in inbox.deliveries] in ([b"1", b"2"], [b"1", b"2", b"abc"])
    assert loop_errors == []


@pytest.mark.parametrize("reader", ["lean"], indirect=True)
@pytest.mark.parametrize("size", [131_073, 2**31])
async def test_lean_takes_no_frame_above_the_agreed_size(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, size: int
) -> None:
    session = new_session()
    await session.open()
    peer = await two_open_deliveries(broker, inbox)
    peer.send(struct.pack(">BHI", BODY, 1, size))
    async with asyncio.timeout(SOON_S):
        assert "agreed size" in await session.wait_lost()


@pytest.mark.parametrize("reader", ["lean"], indirect=True)
async def test_lean_takes_no_body_longer_than_announced(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    session = new_session()
    await session.open()
    peer = await two_open_deliveries(broker, inbox)
    more_body_than_announced(peer, None)
    async with asyncio.timeout(SOON_S):
        await session.wait_lost()
    assert [delivery.body for delivery in inbox.deliveries] == [b"1", b"2", b"abc"]


async def test_a_silent_broker_is_noticed_and_a_living_one_left_alone(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, reader: str
) -> None:
    """Half a message is outstanding on the first, nothing on the second; the last has nothing to deliver."""
    sessions = [new_session() for _ in range(3)]
    for number, session in enumerate(sessions, start=1):
        await session.open()
        await broker.consumer(number)
    first, second, living = broker.peers
    first.deliver(Message())
    await inbox.until(1)
    half_a_message(first, None)
    first.fall_silent()
    second.fall_silent()
    # The library has no limit for a frame: it waits for gigabytes, until its own look at the clock.
    endless = new_session()
    await endless.open()
    (await broker.consumer(4)).send(b"\x08HTTP/1.1 400 Bad Request\r\n\r\n")
    async with asyncio.timeout(LEAN_SILENCE_S if reader == "lean" else LIBRARY_SILENCE_S):
        assert all([await session.wait_lost() for session in (*sessions[:2], endless)])
    inbox.settle(*inbox.deliveries)
    living.deliver(Message(body=b"alive"))
    assert (await inbox.until(2))[-1].body == b"alive"
    assert "Heartbeat" in living.received
    async with asyncio.timeout(SOON_S):
        await asyncio.gather(*(session.close() for session in sessions))
    assert [peer.acks for peer in broker.peers] == [[], [], [], []]


@pytest.mark.parametrize("reader", ["lean"], indirect=True)
@pytest.mark.parametrize("loss", ["end", "reset"])
async def test_a_loss_is_noticed_while_reading_is_paused(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, loss: str
) -> None:
    session = new_session()
    await session.open()
    peer = await two_open_deliveries(broker, inbox)
    session.pause(True)  # noqa: FBT003  # the contract has it so
    LOSSES[loss](peer, None)
    async with asyncio.timeout(LEAN_SILENCE_S):
        await session.wait_lost()  # our heartbeats find out


async def test_blocked_and_flow_are_no_loss(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    inbox.settling = True
    session = new_session()
    await session.open()
    peer = await broker.consumer()
    peer.method(commands.Connection.Blocked("low on memory"), channel=0)
    peer.deliver(Message())
    await peer.until_acknowledged(1)
    peer.method(commands.Connection.Unblocked(), channel=0)
    peer.method(commands.Channel.Flow(active=False))
    peer.method(commands.Channel.Flow(active=True))
    peer.deliver(Message())
    await peer.until_acknowledged(1, 2)


async def test_a_new_session_gets_the_same_messages_and_its_own_tags(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    first, second = new_session(), new_session()
    await first.open()
    lost = await two_open_deliveries(broker, inbox)
    lost.reset()
    await first.wait_lost()
    await first.close()
    await second.open()
    peer = await broker.consumer(2)
    peer.deliver(Message(body=b"1"), Message(body=b"2"))
    deliveries = await inbox.until(4)
    inbox.settle(deliveries[0], deliveries[1])  # of the lost session
    inbox.settle(deliveries[3])
    await second.close()
    await peer.until_gone()
    assert (lost.acks, peer.covered) == ([], {2})
