"""The ops port: what it says of a process that starts, runs, hangs, drains; and what it says to others."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import pytest

from consumers.ops.port import OpsPort
from consumers.ops.server import REQUESTS_MAX, OpsServer
from consumers.roles import Role
from pipeline.errors import SettingsError
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.observability.readiness import Cause, Phase, Readiness
from pipeline.settings import OpsSettings


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


def ask(port: int, path: str, method: str = "GET", timeout_s: float = 5.0) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return Reply(reply.status, dict(reply.getheaders()), reply.read().decode())
    finally:
        connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Process:
    """What the port tells of."""

    def __init__(self, **settings: Any) -> None:
        self.port = free_port()
        self.metrics, self.readiness, self.crashes = Metrics(), Readiness(), []
        self.ops = OpsPort(
            OpsSettings(metrics_port=self.port, **settings),
            self.metrics,
            self.readiness,
            roles=[Role.ORDERS],
            tasks=Tasks(lambda name, error: self.crashes.append((name, error))),
        )

    async def ask(self, path: str, method: str = "GET") -> Reply:
        return await asyncio.to_thread(ask, self.port, path, method)


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Process]:
    process = Process(**settings)
    process.ops.start()
    try:
        yield process
    finally:
        await process.ops.close()
    assert process.crashes == []


async def test_metrics_are_served() -> None:
    async with running() as process:
        process.metrics.claims.labels("sms").inc()
        reply = await process.ask("/metrics?name[]=x")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert 'postorder_claims_total{channel="sms"} 1.0' in reply.body
    assert 'postorder_role{role="order-processed"} 1.0' in reply.body


async def test_a_process_that_starts_runs_and_drains() -> None:
    async with running() as process:
        starting = await process.ask("/readyz")
        await process.readiness.start()
        ready = await process.ask("/readyz")
        process.readiness.checks.append(
            lambda: [Cause("primary", "connection refused", what="shard0", is_blocking=False)]
        )
        impaired = await process.ask("/readyz")
        process.readiness.checks.append(lambda: [Cause("broker", "no session", what="order-processed")])
        cut_off = await process.ask("/readyz")
        unready = "postorder_ready 0.0" in (await process.ask("/metrics")).body
        process.readiness.phase = Phase.DRAINING
        draining, scraped = await process.ask("/readyz"), await process.ask("/metrics")
        live = await process.ask("/livez")
    assert (starting.status, starting.lines[0]["cause"]) == (503, "starting")
    assert (ready.status, ready.lines) == (200, [{"ready": True}])
    away = {"cause": "primary", "detail": "connection refused", "what": "shard0", "is_blocking": False}
    assert (impaired.status, impaired.lines) == (200, [away])
    assert (cut_off.status, [line["cause"] for line in cut_off.lines]) == (503, ["primary", "broker"])
    assert unready
    assert (draining.status, [line["cause"] for line in draining.lines]) == (503, ["draining"])
    assert (scraped.status, live.status) == (200, 200)


async def test_a_loop_that_hangs_is_told_of_while_it_hangs() -> None:
    async with running(loop_stalled_s=0.6) as process:
        assert (await process.ask("/livez")).status == 200
        seen: list[Reply] = []

        def look() -> None:
            time.sleep(0.9)
            seen.append(ask(process.port, "/livez"))
            seen.append(ask(process.port, "/metrics"))

        thread = threading.Thread(target=look)
        thread.start()
        time.sleep(1.5)  # noqa: ASYNC251  # this is the hang
        await asyncio.to_thread(thread.join)
        stuck, scraped = seen
        assert (stuck.status, stuck.lines[0]["cause"]) == (503, "event_loop")
        assert stuck.lines[0]["event_loop_idle_s"] > 0.6
        assert scraped.status == 200
        await asyncio.sleep(0.3)
        assert (await process.ask("/livez")).status == 200
        assert process.metrics.loop_lag.read()[1] > 1


async def test_what_is_no_question_gets_a_clear_answer() -> None:
    async with running() as process:
        for path in ("/", "/metrics/", "/readyz%00", "/../etc/passwd", "/" + "x" * 5000):
            reply = await process.ask(path)
            assert (reply.status, list(reply.lines[0])) == (404, ["problem"]), path
            assert "passwd" not in reply.body
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"):
            reply = await process.ask("/metrics", method)
            assert (reply.status, reply.lines) == (405, [{"problem": "Method Not Allowed"}]), method
        head = await process.ask("/metrics", "HEAD")
        assert (head.status, head.body) == (200, "")
        assert int(head.headers["Content-Length"]) > 1000
        assert head.headers["Server"].strip() == "postorder"


async def test_a_metric_that_cannot_be_read_does_not_end_the_port() -> None:
    async with running() as process:
        process.metrics.buffered.set_function(lambda: 1 // 0)
        broken = await process.ask("/metrics")
        live = await process.ask("/livez")
    assert (broken.status, broken.lines) == (500, [{"problem": "this cannot be told: see the log"}])
    assert live.status == 200


async def test_callers_that_never_end_their_question_keep_nobody_out_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.ops.server.REQUEST_S", 1.0)
    async with running() as process:
        slow = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(REQUESTS_MAX)]
        dripping = asyncio.create_task(drip(slow))
        try:
            refused = await until(lambda: ask(process.port, "/livez"), lambda reply: reply.status == 503)
            assert refused.lines == [{"problem": "too many requests at once"}]
            answered = await until(lambda: ask(process.port, "/livez"), lambda reply: reply.status == 200)
            assert answered.lines[0]["live"]
        finally:
            dripping.cancel()
            for one in slow:
                one.close()


async def drip(sockets: list[socket.socket]) -> None:
    """Send a letter now and then, so that no pause is long."""
    while True:
        for one in sockets:
            with suppress(OSError):  # cut, which is what is waited for
                one.send(b"G")
        await asyncio.sleep(0.2)


async def until(look: Any, is_so: Any, timeout_s: float = 10.0) -> Reply:
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                if is_so(reply := await asyncio.to_thread(look)):
                    return reply
            except OSError:
                pass  # refused before the question was read
            await asyncio.sleep(0.05)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_port_that_cannot_be_had_is_a_problem_of_the_settings(host: str, taken: int) -> None:
    with pytest.raises(SettingsError, match=f"ops.metrics_port: cannot listen on {host}:{taken}: \\w+"):
        OpsServer(host, taken, lambda _path, _accept: None)


async def test_without_a_port_the_loop_is_watched_all_the_same() -> None:
    metrics = Metrics()
    looks: list[int] = []
    metrics.looks.append(lambda: looks.append(1))
    ops = OpsPort(OpsSettings(), metrics, Readiness(), roles=[], tasks=Tasks(lambda *_: None))
    ops.start()
    await asyncio.sleep(0.6)
    await ops.close()
    assert metrics.loop_lag.read()[0][-1][1] >= 2
