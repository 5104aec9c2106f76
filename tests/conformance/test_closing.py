"""cancel(), close() and pause(): they end in time, and lose no acknowledgement."""

import asyncio

import pytest
from conformance.conftest import NewSession
from conformance.inbox import Inbox
from conformance.messages import Message
from conformance.scripted_broker import Peer, ScriptedBroker
from pamqp import commands

from consumers.session import Session

TIMEOUT_S = 0.5  # as in the settings
BOUND_S = 3 * TIMEOUT_S  # the last acknowledgements, the goodbye, and some air
LEAN_ONLY = pytest.mark.parametrize("reader", ["lean"], indirect=True)


async def opened(broker: ScriptedBroker, session: Session, inbox: Inbox, deliveries: int = 0) -> Peer:
    await session.open()
    peer = await broker.consumer()
    peer.deliver(*[Message()] * deliveries)
    await inbox.until(deliveries)
    return peer


def unanswered(_peer: Peer, _frame: object) -> None:
    """Take a request and do nothing about it."""


async def test_cancel_stops_deliveries_and_still_acknowledges(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    def cancelled(peer: Peer, frame: commands.Basic.Cancel) -> None:
        assert frame.consumer_tag == peer.consumer_tag
        peer.deliver(Message(body=b"on its way already"))
        peer.method(commands.Basic.CancelOk(frame.consumer_tag))

    broker.script["Basic.Cancel"] = cancelled
    session = new_session()
    peer = await opened(broker, session, inbox, 2)
    await session.cancel()
    deliveries = await inbox.until(3)
    assert len(deliveries) == session.open_deliveries == 3
    inbox.settle(*deliveries)
    await peer.until_acknowledged(1, 2, 3)
    await session.close()
    await peer.until_gone()
    assert peer.said_goodbye
    assert peer.received[-1] == "Connection.Close"


async def test_cancel_ends_in_time_without_an_answer(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    broker.script["Basic.Cancel"] = unanswered
    session = new_session()
    peer = await opened(broker, session, inbox, 1)
    async with asyncio.timeout(BOUND_S):
        await session.cancel()
        inbox.settle(*inbox.deliveries)
        await session.close()
    await peer.until_gone()


async def test_cancel_after_a_loss(broker: ScriptedBroker, new_session: NewSession, inbox: Inbox) -> None:
    session = new_session()
    peer = await opened(broker, session, inbox)
    peer.reset()
    await session.wait_lost()
    await session.cancel()
    await session.close()
    await session.cancel()


async def test_a_loss_during_cancel(broker: ScriptedBroker, new_session: NewSession, inbox: Inbox) -> None:
    broker.script["Basic.Cancel"] = lambda peer, _: peer.reset()
    session = new_session()
    await opened(broker, session, inbox, 1)
    async with asyncio.timeout(BOUND_S):
        await session.cancel()
        await session.wait_lost()
        await session.close()


async def test_close_works_at_any_time_and_twice(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    session = new_session()
    await session.close()
    session = new_session()
    peer = await opened(broker, session, inbox, 1)
    inbox.settle(*inbox.deliveries)
    await session.close()
    await session.close()
    await peer.until_gone()
    assert peer.covered == {1}
    assert peer.received.count("Connection.Close") == 1


async def test_two_may_close_at_once(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, reader: str
) -> None:
    """As when a loss and a shutdown meet."""
    session = new_session()
    peer = await opened(broker, session, inbox, 1)
    inbox.settle(*inbox.deliveries)
    await asyncio.gather(session.close(), session.close())
    await peer.until_gone()
    assert peer.covered == {1}
    assert peer.received.count("Connection.Close") == 1


async def test_close_wakes_who_waits_for_the_loss(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    session = new_session()
    await opened(broker, session, inbox)
    waiting = asyncio.create_task(session.wait_lost())
    await asyncio.sleep(0)
    await session.close()
    async with asyncio.timeout(BOUND_S):
        assert isinstance(await waiting, str)


async def test_close_ends_in_time_without_an_answer(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    broker.script["Connection.Close"] = unanswered
    session = new_session()
    peer = await opened(broker, session, inbox, 2)
    inbox.settle(inbox.deliveries[0])
    async with asyncio.timeout(BOUND_S):
        await session.close()
    await peer.until_gone()
    assert peer.covered == {1}


async def test_a_close_that_is_cancelled_closes_all_the_same(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    """As when a shutdown's deadline passes: nobody closes it a second time."""
    broker.script["Connection.Close"] = unanswered
    session = new_session()
    peer = await opened(broker, session, inbox, 1)
    inbox.settle(*inbox.deliveries)
    closing = asyncio.create_task(session.close())
    await peer.until(lambda: "Connection.Close" in peer.received, "the goodbye")
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    async with asyncio.timeout(TIMEOUT_S / 2):
        await session.wait_lost()
        await peer.until_gone()
    assert peer.covered == {1}


async def test_close_of_a_silent_connection(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    session = new_session()
    peer = await opened(broker, session, inbox, 1)
    peer.fall_silent()
    inbox.settle(*inbox.deliveries)
    async with asyncio.timeout(BOUND_S):
        await session.close()
    await peer.until_gone()


async def test_nothing_runs_on_after_close(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    before = asyncio.all_tasks()
    session = new_session()
    peer = await opened(broker, session, inbox, 3)
    inbox.settle(*inbox.deliveries)
    await session.close()
    await peer.until_gone()
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    if left:
        await asyncio.wait(left, timeout=1)
    assert {task for task in left if not task.done()} == set()


# --- back-pressure ------------------------------------------------------------------------------------------


CHUNK = Message(body=b"x" * 60_000)
UNREAD_MAX = 64 * 1024 * 1024  # far above what the sockets' buffers hold


async def fill(peer: Peer) -> int:
    """Deliver until the sockets are full; return how many messages that took."""
    count = 0
    while peer.transport.get_write_buffer_size() < 1_000_000:
        peer.deliver(CHUNK)
        count += 1
        assert count * len(CHUNK.body) < UNREAD_MAX, "the reader goes on reading"
        await asyncio.sleep(0)
    return count


@pytest.mark.parametrize("reader", ["aio-pika"], indirect=True)
async def test_a_socket_that_takes_no_acknowledgement_ends_the_session(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library waits for its buffer to drain for as long as the connection lives."""

    async def blocked(_channel: object, *_arguments: object, **_options: object) -> None:
        await asyncio.Event().wait()

    session = new_session()
    await opened(broker, session, inbox, 1)
    monkeypatch.setattr("aiormq.channel.Channel.basic_ack", blocked)
    inbox.settle(*inbox.deliveries)
    async with asyncio.timeout(BOUND_S):
        assert "acknowledgement" in await session.wait_lost()
        await session.close()


@LEAN_ONLY
async def test_a_paused_reader_leaves_messages_with_the_broker(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    inbox.settling = True
    session = new_session(prefetch=5000)
    peer = await opened(broker, session, inbox)
    session.pause(True)  # noqa: FBT003  # the contract has it so
    session.pause(True)  # noqa: FBT003
    count = await fill(peer)
    assert inbox.deliveries == []
    session.pause(False)  # noqa: FBT003
    deliveries = await inbox.until(count)
    assert {len(delivery.body) for delivery in deliveries} == {len(CHUNK.body)}
    await peer.until_acknowledged(*range(1, count + 1))


@LEAN_ONLY
async def test_a_paused_reader_can_be_cancelled_and_closed(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    session = new_session(prefetch=5000)
    peer = await opened(broker, session, inbox)
    session.pause(True)  # noqa: FBT003
    peer.deliver(CHUNK, CHUNK)
    async with asyncio.timeout(TIMEOUT_S):
        await session.cancel()
    await inbox.until(2)
    inbox.settle(*inbox.deliveries)
    session.pause(True)  # noqa: FBT003
    async with asyncio.timeout(TIMEOUT_S):
        await session.close()
    await peer.until_gone()
    assert (peer.covered, peer.said_goodbye) == ({1, 2}, True)


@LEAN_ONLY
async def test_a_flood_that_pauses_the_reader_does_not_stop_its_cancel(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    """What lay in the socket comes in before the answer, and raises the pressure again."""
    session = new_session(prefetch=5000)
    peer = await opened(broker, session, inbox)
    session.pause(True)  # noqa: FBT003
    peer.deliver(CHUNK)
    cancelling = asyncio.create_task(session.cancel())
    await inbox.until(1)
    session.pause(True)  # noqa: FBT003
    async with asyncio.timeout(TIMEOUT_S / 2):
        await cancelling
    await session.close()


async def test_pausing_what_is_not_open(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    session = new_session()
    session.pause(True)  # noqa: FBT003
    session = new_session()
    peer = await opened(broker, session, inbox)
    peer.reset()
    await session.wait_lost()
    session.pause(True)  # noqa: FBT003
    session.pause(False)  # noqa: FBT003
    await session.close()
    session.pause(False)  # noqa: FBT003
