"""The stream of overviews: bounded in number and time, and it says why it ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from api_site import api_settings, running_api

from consumers.api.callers import Access, Caller
from consumers.api.streams import OverviewStreams
from consumers.web.requests import Refused
from pipeline.clock import SystemClock


class Shown:
    """Stands for the reader: counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def encoded(self) -> bytes:
        self.asked += 1
        return b'{"n": %d}' % self.asked

    async def stop(self) -> None:
        """End."""


def caller(subject: str = "ada", left_s: float = 600) -> Caller:
    return Caller(
        subject=subject, access=Access.READ, expires_at=int(SystemClock().now().timestamp() + left_s)
    )


def streams(**changes: Any) -> OverviewStreams:
    return OverviewStreams(api_settings(**changes), Shown(), SystemClock())  # type: ignore[arg-type]


async def events(stream: AsyncIterator[bytes]) -> list[tuple[str, Any]]:
    """Return what is sent until the end."""
    found = []
    async for chunk in stream:
        fields = dict(line.split(": ", 1) for line in chunk.decode().strip().split("\n"))
        found.append((fields.get("event", ""), json.loads(fields["data"]) if "data" in fields else fields))
    return found


async def test_a_stream_shows_the_overview_and_ends_when_its_time_is_over() -> None:
    found = await events(streams(stream_s=0.1).stream(caller()))
    assert found == [("", {"retry": "3000"}), ("overview", {"n": 1}), ("end", {"reason": "time"})]


async def test_a_stream_ends_with_its_token() -> None:
    assert (await events(streams().stream(caller(left_s=-1))))[-1] == ("end", {"reason": "token"})


async def test_draining_ends_every_stream_and_takes_no_new_one() -> None:
    opened = streams()
    running = [asyncio.create_task(events(opened.stream(caller(str(n))))) for n in range(3)]
    while opened.open_count < 3:  # noqa: ASYNC110  # they count themselves when they run
        await asyncio.sleep(0)
    await opened.drain()
    assert [(await one)[-1] for one in running] == [("end", {"reason": "stopping"})] * 3
    assert opened.open_count == 0
    with pytest.raises(Refused) as refused:
        opened.stream(caller())
    assert refused.value.status_code == 503
    await opened.stop()


async def test_streams_are_bounded_for_all_and_for_each() -> None:
    opened = streams(streams_max=3, streams_each_max=2)
    running = []
    for subject in ("ada", "ada", "bob"):
        running.append(opened.stream(caller(subject)))
        await anext(running[-1])
    with pytest.raises(Refused) as refused:
        opened.stream(caller("cyd"))
    assert refused.value.status_code == 503
    await running[2].aclose()  # type: ignore[attr-defined]
    with pytest.raises(Refused) as refused:
        opened.stream(caller("ada"))
    assert refused.value.status_code == 429
    assert repr(opened) == "OverviewStreams(2 open)"
    for stream in running:
        await stream.aclose()  # type: ignore[attr-defined]
    assert opened.open_count == 0


async def test_those_who_come_in_one_moment_are_not_more_either() -> None:
    opened = streams(streams_max=1)
    first, second = opened.stream(caller("ada")), opened.stream(caller("bob"))
    await anext(first)
    assert (await events(second))[-1] == ("end", {"reason": "busy"})
    await first.aclose()  # type: ignore[attr-defined]


async def test_those_of_one_subject_who_come_in_one_moment_are_not_more_either() -> None:
    opened = streams(streams_max=10, streams_each_max=1, stream_s=5)
    first, second, other = (opened.stream(caller(name)) for name in ("ada", "ada", "bob"))
    await anext(first)
    await anext(other)
    assert (await events(second))[-1] == ("end", {"reason": "busy"})
    assert await anext(other) == b'event: overview\ndata: {"n": 1}\n\n'
    for stream in (first, other):
        await stream.aclose()  # type: ignore[attr-defined]


async def test_a_page_left_open_for_long_holds_nothing_for_long() -> None:
    """A day's reconnecting, in small: each stream ends, the next one begins, and none is left."""
    async with running_api(stream_s=0.05) as api:
        for _ in range(30):
            reply = await api.request("GET", "/v1/overview/stream", headers={"Accept": "text/event-stream"})
            assert reply.headers["content-type"].startswith("text/event-stream")
            assert b'event: end\ndata: {"reason":"time"}' in reply.body
        assert [service for service in api.services if getattr(service, "open_count", 0)] == []


async def test_a_viewer_who_goes_away_is_forgotten() -> None:
    async with running_api(stream_s=30) as api:
        counting = next(one for one in api.services if isinstance(one, OverviewStreams))
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        head = f"GET /v1/overview/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token()}\r\n\r\n"
        writer.write(head.encode())
        await reader.readuntil(b"event: overview")
        assert counting.open_count == 1
        writer.close()
        async with asyncio.timeout(5):
            while counting.open_count:  # noqa: ASYNC110  # told by the kernel, in a while
                await asyncio.sleep(0.01)


async def test_a_viewer_who_takes_nothing_is_cut_off() -> None:
    """Its answers would pile up otherwise: 64 kB of them at most."""
    from litestar import get  # noqa: PLC0415
    from litestar.response import Stream  # noqa: PLC0415

    from consumers.api.routes import needs  # noqa: PLC0415

    ended = asyncio.Event()

    async def much() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0)  # lets the connection say that it is gone
        finally:
            ended.set()

    @get("/v1/much", **needs(Access.READ))
    async def much_route() -> Stream:
        return Stream(much())

    async with running_api(more_routes=[much_route], request_timeout_s=0.2) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1024)
        writer.write(
            f"GET /v1/much HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token()}\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(5):
            await ended.wait()
        writer.close()
