"""The listener under bad clients and bad weather: slow ones, too many, gone ones, a store that is away."""

import asyncio

import pytest
from public_site import Site, parse_reply, running_site

HEAD = b"POST /twilio/inbound HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"


async def connect(site: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", site.port)


def counted(site: Site, kind: str, outcome: str) -> float:
    return site.metrics.callbacks.labels(kind, outcome)._value.get()


def under_way(site: Site) -> float:
    return site.metrics.callbacks_under_way.collect()[0].samples[0].value


# --- slow, many, gone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /twilio/inbound HTTP/1.1\r\nHost: x\r\n",
        b"POST",
        HEAD + b"Content-Length: 10\r\n\r\nabc",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
    ids=["head", "line", "body", "chunks"],
)
async def test_who_does_not_finish_a_request_is_answered_408(sent: bytes) -> None:
    async with running_site(request_timeout_s=0.2, idle_timeout_s=60) as site:
        assert parse_reply(await site.raw(sent)).status == 408


@pytest.mark.parametrize("part", ["head", "body"])
async def test_a_byte_now_and_then_does_not_prolong_it(part: str) -> None:
    async with running_site(request_timeout_s=0.3, idle_timeout_s=60) as site:
        reader, writer = await connect(site)
        writer.write(HEAD if part == "head" else HEAD + b"Content-Length: 1000\r\n\r\n")
        async with asyncio.timeout(5):
            answer = asyncio.ensure_future(reader.read())
            while not answer.done():
                writer.write(b"X-A: b\r\n" if part == "head" else b"x")
                await asyncio.wait([answer], timeout=0.05)
        assert parse_reply(answer.result()).status == 408
        writer.close()


async def test_who_says_nothing_is_closed() -> None:
    async with running_site(idle_timeout_s=1) as site:
        assert await site.raw(timeout_s=5) == b""
        assert counted(site, "connection", "refused") == 0


@pytest.mark.parametrize("first", [b"", b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["new", "used"])
async def test_empty_lines_keep_no_connection_open(first: bytes) -> None:
    async with running_site(idle_timeout_s=1) as site:
        reader, writer = await connect(site)
        writer.write(first)
        async with asyncio.timeout(5):
            if first:
                await reader.readuntil(b"}")
            writer.write(b"\r\n")
            assert await reader.read() == b""
        writer.close()


async def test_a_head_without_end_is_cut_off() -> None:
    async with running_site(head_bytes_max=16_384) as site:
        reader, writer = await connect(site)
        ended = asyncio.ensure_future(reader.read())
        writer.write(b"GET / HTTP/1.1\r\nX-Endless: ")
        sent = 0
        while not ended.done() and sent < 1_000_000:
            writer.write(b"x" * 8192)
            sent += 8192
            await asyncio.wait([ended], timeout=0.02)
        assert sent < 1_000_000
        await asyncio.wait([ended])
        if ended.exception() is None:  # else it was reset before its answer was read
            assert parse_reply(ended.result()).status == 431
        assert counted(site, "connection", "refused") == 1
        writer.close()


async def test_an_answer_before_the_end_of_the_body_stays_the_only_one() -> None:
    async with running_site(request_timeout_s=0.2, idle_timeout_s=60) as site:
        answers = await site.raw(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert answers.count(b"HTTP/1.1") == 1
        assert parse_reply(answers).status == 404


async def test_more_connections_than_allowed_are_closed() -> None:
    async with running_site(connections_max=3) as site:
        kept = [await connect(site) for _ in range(3)]
        for one in kept:  # until the three are known to the server
            assert (await ask_on(*one)).startswith(b"HTTP/1.1 404")
        assert not await is_served(site)
        assert counted(site, "connection", "too_many_connections") == 1
        kept[0][1].close()
        async with asyncio.timeout(5):
            while not await is_served(site):  # the server hears of it a moment later
                pass
        for _, writer in kept[1:]:
            writer.close()


async def ask_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    return head


async def is_served(site: Site) -> bool:
    try:
        return (await site.raw(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).startswith(
            b"HTTP/1.1 404"
        )
    except ConnectionError:
        return False


async def test_more_requests_than_allowed_are_answered_503() -> None:
    async with running_site(requests_max=2) as site:
        site.taken.go.clear()
        waiting = []
        for _ in range(2):
            site.taken.arrived.clear()
            waiting.append(asyncio.ensure_future(site.status_callback()))
            await site.taken.arrived.wait()
        refused = await site.status_callback()
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert counted(site, "status", "unavailable") == 1
        site.taken.go.set()
        assert [(await one).status for one in waiting] == [204, 204]
        assert (await site.status_callback()).status == 204


async def test_who_leaves_early_does_no_harm() -> None:
    async with running_site() as site:
        for cut in (10, 60, 120, 200):
            _, writer = await connect(site)
            writer.write((HEAD + b"Content-Length: 500\r\n\r\n" + b"a" * 400)[:cut])
            await writer.drain()
            writer.transport.abort()
        assert (await site.status_callback()).status == 204


@pytest.mark.parametrize("dawdles", [False, True], ids=["hangs up", "dawdles"])
async def test_who_leaves_in_the_middle_of_a_body_is_no_failure_of_ours(*, dawdles: bool) -> None:
    async with running_site(request_timeout_s=0.2 if dawdles else 60) as site:
        _, writer = await connect(site)
        writer.write(HEAD + b"X-Twilio-Signature: x\r\nContent-Length: 1000\r\n\r\nabc")
        async with asyncio.timeout(5):
            while not under_way(site):  # noqa: ASYNC110  # a gauge
                await asyncio.sleep(0)
            if not dawdles:
                writer.transport.abort()
            while under_way(site):  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)
        assert (counted(site, "inbound", "left"), counted(site, "inbound", "failed")) == (1, 0)
        writer.close()


async def test_who_leaves_before_the_answer_is_taken_in_all_the_same() -> None:
    async with running_site() as site:
        site.taken.go.clear()
        calling = asyncio.ensure_future(site.status_callback())
        await site.taken.arrived.wait()
        calling.cancel()
        await asyncio.wait([calling])
        site.taken.go.set()
        assert (await site.status_callback(MessageStatus="delivered")).status == 204
        assert [word.status for word in site.taken.words] == ["sent", "delivered"]


async def test_a_thousand_requests_at_once_on_one_connection_are_not_queued_up() -> None:
    async with running_site() as site:
        try:
            answers = await site.raw(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        except ConnectionError:
            answers = b""
        assert answers.count(b"HTTP/1.1 404") <= 20
        assert (await site.status_callback()).status == 204


async def test_requests_one_after_the_other_are_answered_in_order() -> None:
    async with running_site() as site:
        sent = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /x/ HTTP/1.1\r\nHost: x\r\n\r\n" * 2
        last = f"GET /unsubscribe/{site.token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        answers = (await site.raw(sent + last)).split(b"HTTP/1.1 ")[1:]
        assert [answer[:3] for answer in answers] == [b"404", b"404", b"404", b"200"]


# --- ending -------------------------------------------------------------------------------------------------


async def test_a_drain_answers_what_is_under_way_and_takes_nothing_new() -> None:
    async with running_site() as site:
        site.taken.go.clear()
        idle_reader, idle_writer = await connect(site)
        await ask_on(idle_reader, idle_writer)
        calling = asyncio.ensure_future(site.status_callback())
        await site.taken.arrived.wait()
        draining = asyncio.ensure_future(site.listener.drain())
        async with asyncio.timeout(5):
            assert await idle_reader.read() == b""  # an idle connection is closed at once
        with pytest.raises(ConnectionError):
            await site.status_callback()
        assert not draining.done()
        site.taken.go.set()
        assert (await calling).status == 204
        await asyncio.wait_for(draining, 5)
        idle_writer.close()
