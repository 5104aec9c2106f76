"""The lean client's connections, byte by byte: which reply belongs to which request, and when to let go."""

import asyncio

import pytest
from scripted_site import CREATED, Site, created, provider_of, reply, send, serving, settings_of

from pipeline.errors import LeaseEndedError, OutcomeUnknownError, ThrottledError
from pipeline.notifications.notification import Sms
from pipeline.notifications.providers.twilio import TwilioProvider
from pipeline.notifications.providers.twilio_reply import REPLY_BYTES_MAX

OTHER = "SM" + "0d" * 16


async def test_a_connection_is_used_again() -> None:
    async with serving(created(CREATED), created(OTHER), created("SM" + "0e" * 16)) as site:
        provider = provider_of(site)
        assert [await send(provider), await send(provider)] == [CREATED, OTHER]
        assert site.connections == 1
        assert site.requests[0] == site.requests[1]
        await provider.close()


async def test_a_reply_that_comes_too_late_is_nobodys() -> None:
    async with serving([b"", created(CREATED)], created(OTHER)) as site:
        site.pause_s = 0.4
        provider = provider_of(site)
        with pytest.raises(OutcomeUnknownError, match="no answer in time"):
            await send(provider)
        assert await send(provider) == OTHER
        assert site.connections == 2
        await provider.close()


async def test_a_send_that_is_cancelled_takes_its_connection_with_it() -> None:
    async with serving(created(CREATED), created(OTHER)) as site:
        site.hold = asyncio.Event()
        provider = provider_of(site, timeout_s=5.0)
        task = asyncio.create_task(send(provider))
        while not site.requests:  # noqa: ASYNC110  # the other side has no signal to wait for
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        site.hold.set()
        assert await send(provider) == OTHER
        assert site.connections == 2
        await provider.close()


async def test_a_second_reply_to_one_request_is_not_the_next_ones() -> None:
    stray = created("SM" + "ff" * 16)
    async with serving(created(CREATED) + stray, created(OTHER)) as site:
        provider = provider_of(site)
        assert await send(provider) == CREATED
        assert await send(provider) == OTHER
        assert site.connections == 2
        await provider.close()


async def test_a_reply_that_comes_between_requests_is_not_the_next_ones() -> None:
    stray = created("SM" + "ff" * 16)
    async with serving([created(CREATED), stray], created(OTHER)) as site:
        provider = provider_of(site)
        assert await send(provider) == CREATED
        while site.open:  # noqa: ASYNC110  # the connection is closed from our side when it comes
            await asyncio.sleep(0.001)
        assert await send(provider) == OTHER
        assert site.connections == 2
        await provider.close()


async def test_a_reply_about_another_recipient_is_not_ours() -> None:
    async with serving(created(CREATED, to="+14155550199")) as site:
        provider = provider_of(site)
        with pytest.raises(OutcomeUnknownError, match="another recipient") as caught:
            await send(provider)
        assert "4155550" not in str(caught.value)
        await provider.close()


ANSWERS = {
    "interim replies": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    + created(),
    "a byte at a time": [bytes((byte,)) for byte in created()],
    "chunks": b'HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n29\r\n{"sid": "'
    + CREATED.encode()[:32]
    + b"\r\n4\r\n"
    + CREATED.encode()[32:]
    + b'"}\r\n0\r\n\r\n',
    "a body that ends with the connection": [
        b"HTTP/1.1 201 Created\r\n\r\n" + created().partition(b"\r\n\r\n")[2],
        None,
    ],
    "HTTP/1.0": created().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "the last reply of a connection": reply(created().partition(b"\r\n\r\n")[2], "Connection: close"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_replies_that_are_in_order(name: str) -> None:
    async with serving(ANSWERS[name], created(OTHER)) as site:
        site.pause_s = 0.0
        provider = provider_of(site, timeout_s=2.0)
        assert await send(provider) == CREATED
        assert await send(provider) == OTHER
        await provider.close()


BROKEN = {
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "two lengths": b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": b"HTTP/1.1 201 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    "a negative length": b"HTTP/1.1 201 Created\r\nContent-Length: -1\r\n\r\n{}",
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    "endless headers": b"HTTP/1.1 201 Created\r\n" + b"X: " + b"x" * 5_000_000,
    "endless interim replies": b"HTTP/1.1 100 Continue\r\n\r\n" * 200_000,
    "shorter than it says": [reply(b'{"sid": "', length=500), None],
    "nothing at all": None,
    "half a head": [b"HTTP/1.1 201 Cre", None],
}


@pytest.mark.parametrize("name", BROKEN)
async def test_replies_that_are_not(name: str) -> None:
    async with serving(BROKEN[name], created(OTHER)) as site:
        provider = provider_of(site)
        with pytest.raises(OutcomeUnknownError):
            await send(provider)
        assert await send(provider) == OTHER
        assert site.connections == 2
        await provider.close()


@pytest.mark.parametrize("client", ["lean", "sdk"])
async def test_a_reply_is_read_no_further_than_its_largest_size(client: str) -> None:
    body = b"HTTP/1.1 201 Created\r\nContent-Length: 6000000\r\n\r\n" + b" " * (REPLY_BYTES_MAX + 1)
    async with serving(body, created(OTHER)) as site:
        provider = provider_of(site, client=client, timeout_s=5.0)
        with pytest.raises(OutcomeUnknownError, match="too large"):
            await send(provider)
        assert await send(provider) == OTHER
        await provider.close()


async def test_what_the_other_side_has_closed_is_not_written_to() -> None:
    async with serving([created(CREATED), None], created(OTHER)) as site:
        provider = provider_of(site)
        assert await send(provider) == CREATED
        while site.open:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert await send(provider) == OTHER
        await provider.close()


async def test_an_old_connection_is_renewed() -> None:
    async with serving(created(CREATED), created(OTHER)) as site:
        provider = provider_of(site, connection_idle_s=0.02)
        await send(provider)
        await asyncio.sleep(0.03)
        await send(provider)
        assert site.connections == 2
        await provider.close()


async def test_no_more_connections_than_allowed_and_the_rest_waits() -> None:
    replies = [created("SM" + f"{number:032x}") for number in range(9)]
    async with serving(*replies) as site:
        site.hold = asyncio.Event()
        provider = provider_of(site, concurrency=3, concurrency_min=1, timeout_s=5.0, connect_timeout_s=5.0)
        tasks = [asyncio.create_task(send(provider)) for _ in range(8)]
        while len(site.requests) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert "3 open, 0 idle, 5 waiting" in repr(provider._client)
        tasks[4].cancel()
        site.hold.set()
        sids = await asyncio.gather(*tasks, return_exceptions=True)
        assert len({sid for sid in sids if isinstance(sid, str)}) == 7
        assert site.connections == 3
        await provider.close()


async def test_who_waits_for_a_connection_in_vain_has_sent_nothing() -> None:
    async with serving(created(CREATED)) as site:
        site.hold = asyncio.Event()
        provider = provider_of(site, concurrency=1, concurrency_min=1, timeout_s=2.0, connect_timeout_s=0.05)
        first = asyncio.create_task(send(provider))
        while not site.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        with pytest.raises(ThrottledError, match="no connection in time"):
            await send(provider)
        site.hold.set()
        assert await first == CREATED
        assert len(site.requests) == 1
        await provider.close()


async def test_the_time_is_looked_at_when_the_connection_is_there() -> None:
    """It takes until after `send_before` to get one: then nothing may be written."""
    now = 100.0
    async with serving(created(CREATED), created(OTHER)) as site:
        site.hold = asyncio.Event()
        one = settings_of(site, concurrency=1, concurrency_min=1, timeout_s=2.0)
        provider = TwilioProvider(one, monotonic=lambda: now)
        first = asyncio.create_task(send(provider))
        while not site.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        second = asyncio.create_task(
            provider.send(Sms(effect_id="1", to="+14155550123", body="x", send_before=101.0))
        )
        await asyncio.sleep(0.01)
        now = 102.0
        site.hold.set()
        assert await first == CREATED
        with pytest.raises(LeaseEndedError):
            await second
        assert len(site.requests) == 1
        assert await send(provider) == OTHER  # the connection is as good as before
        assert site.connections == 1
        await provider.close()


async def test_connections_that_close_at_once_take_no_room() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    site = Site()
    site.port = server.sockets[0].getsockname()[1]
    provider = provider_of(site, concurrency=1, concurrency_min=1)
    for _ in range(5):
        with pytest.raises((ThrottledError, OutcomeUnknownError), match=r"closed|lost|no connection: "):
            await send(provider)
    await asyncio.sleep(0)
    assert "0 open, 0 idle, 0 waiting" in repr(provider._client)
    await provider.close()
    server.close()
    await server.wait_closed()
