"""open() ends in time with one clear line, whatever the broker does at whatever step."""

import asyncio
import socket

import msgspec
import pytest
from conformance.conftest import QUEUE, READERS, KnownDefect, NewSession
from conformance.inbox import Inbox
from conformance.messages import METHOD, frame
from conformance.scripted_broker import (
    ANSWERS,
    Answer,
    Peer,
    ScriptedBroker,
    close_channel,
    close_connection,
    hang_up,
    reset,
    say,
    silence,
)
from pamqp import commands

from pipeline.errors import BrokerUnavailableError
from pipeline.settings import AmqpSettings

CONNECTING = ("connect", "Connection.StartOk", "Connection.Open")
CHANNEL_STEPS = ("Channel.Open", "Basic.Qos", "Queue.Declare", "Basic.Consume")
WAYS: dict[str, Answer] = {
    "silence": silence,
    "end": hang_up,
    "reset": reset,
    "another protocol": say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "another version": say(b"AMQP\x00\x01\x00\x00"),
    "an unknown method": say(frame(METHOD, 0, b"\x00\x0a\x00\xff")),
    "a broken table": say(frame(METHOD, 0, b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\xff\x01a?\x00\x00")),
    "shutdown": close_connection(320, "CONNECTION_FORCED - broker forced connection closure"),
}
TIMEOUT_S = 0.2
REQUESTS = 2  # a request and the goodbye after it may each take the time-out


def assert_one_clear_line(error: BaseException, broker: ScriptedBroker) -> None:
    text = str(error)
    where = f"broker at 127.0.0.1:{broker.port}: "
    assert text.startswith(where)
    assert "\n" not in text
    assert len(text) <= 200
    assert text.removeprefix(where).strip(" :") not in ("", "None")


@pytest.fixture
def settings(settings: AmqpSettings) -> AmqpSettings:
    return msgspec.structs.replace(settings, connect_timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("step", [*CONNECTING, *CHANNEL_STEPS])
@pytest.mark.parametrize("way", WAYS)
async def test_open_fails_in_time_and_leaves_nothing(  # noqa: PLR0917  # fixtures go by name
    broker: ScriptedBroker,
    new_session: NewSession,
    reader: str,
    step: str,
    way: str,
    loop_errors: list[str],
) -> None:
    broker.script[step] = WAYS[way]
    session = new_session()
    with pytest.raises(BrokerUnavailableError) as caught:
        async with asyncio.timeout(REQUESTS * TIMEOUT_S + 0.3):
            await session.open()
    assert_one_clear_line(caught.value, broker)
    [peer] = broker.peers
    await peer.until_gone()
    assert not peer.consuming
    assert loop_errors == []


@pytest.mark.parametrize("step", CHANNEL_STEPS)
async def test_a_channel_closed_while_opening(
    broker: ScriptedBroker, new_session: NewSession, step: str
) -> None:
    broker.script[step] = close_channel(405, "RESOURCE_LOCKED - queue in exclusive use")
    with pytest.raises(BrokerUnavailableError) as caught:
        await new_session().open()
    assert_one_clear_line(caught.value, broker)
    await broker.peers[0].until_gone()


REFUSALS = {
    "login": ("Connection.StartOk", close_connection(403, "ACCESS_REFUSED - Login was refused"), "password"),
    "queue": ("Queue.Declare", close_channel(404, "NOT_FOUND - no queue"), "run `postorder topology apply`"),
    "queue gone meanwhile": ("Basic.Consume", close_channel(404, "NOT_FOUND - no queue"), "topology apply"),
    "silence": ("Connection.Open", silence, "no answer in 0.2 s: is it running?"),
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_the_line_says_what_to_do(broker: ScriptedBroker, new_session: NewSession, what: str) -> None:
    step, answer, advice = REFUSALS[what]
    broker.script[step] = answer
    with pytest.raises(BrokerUnavailableError, match=advice):
        await new_session().open()


async def test_missing_rights_are_no_wrong_password(
    broker: ScriptedBroker, new_session: NewSession, reader: str
) -> None:
    broker.script["Basic.Consume"] = close_channel(403, "ACCESS_REFUSED - read access refused for user 'u'")
    with pytest.raises(BrokerUnavailableError) as caught:
        await new_session().open()
    assert "password" not in str(caught.value)


async def test_nobody_listens(reader: str, settings: AmqpSettings, inbox: Inbox) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"amqp://guest@127.0.0.1:{free.getsockname()[1]}/"
    session = READERS[reader](QUEUE, msgspec.structs.replace(settings, url=url), inbox.take, 10)
    with pytest.raises(BrokerUnavailableError, match="connection refused: is it running"):
        await session.open()
    await session.close()


async def test_a_listener_that_accepts_nobody(reader: str, settings: AmqpSettings, inbox: Inbox) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"amqp://guest@127.0.0.1:{full.getsockname()[1]}/"
        session = READERS[reader](QUEUE, msgspec.structs.replace(settings, url=url), inbox.take, 10)
        with pytest.raises(BrokerUnavailableError, match="no answer in"):
            async with asyncio.timeout(REQUESTS * TIMEOUT_S):
                await session.open()
        await session.close()


async def test_an_answer_in_time_is_waited_for(broker: ScriptedBroker, new_session: NewSession) -> None:
    async def later(peer: Peer, frame: commands.Queue.Declare) -> None:
        await asyncio.sleep(TIMEOUT_S / 2)  # slowness is what is tested
        ANSWERS["Queue.Declare"](peer, frame)

    broker.script["Queue.Declare"] = later
    session = new_session(prefetch=7)
    await session.open()
    peer = await broker.consumer()
    assert (peer.prefetch, session.open_deliveries) == (7, 0)


async def test_a_connection_blocked_from_the_start_still_consumes(
    broker: ScriptedBroker, new_session: NewSession, reader: str, known_defect: KnownDefect
) -> None:
    """A broker short of memory takes no publishes; consuming is what helps it."""

    if reader == "aio-pika":
        known_defect("the library's: aiormq opens no channel on a blocked connection, and the time runs out")

    def blocked(peer: Peer, _frame: object) -> None:
        peer.method(commands.Connection.OpenOk(), channel=0)
        peer.method(commands.Connection.Blocked("low on memory"), channel=0)

    broker.script["Connection.Open"] = blocked
    await new_session().open()
    await broker.consumer()


@pytest.mark.parametrize("step", ["connect", "Connection.Open", "Channel.Open", "Basic.Consume"])
async def test_a_cancelled_open_leaves_no_connection(
    broker: ScriptedBroker, new_session: NewSession, reader: str, step: str
) -> None:
    """As when a consumer is stopped while it connects."""
    reached = asyncio.Event()
    broker.script[step] = lambda _peer, _frame: reached.set()
    opening = asyncio.create_task(new_session().open())
    await reached.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await broker.peers[0].until_gone(patience_s=0.5)
