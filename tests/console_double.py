"""The console in front of an API that says what a test wants: what a real one says seldom, or late."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aiohttp import web

from consumers.api.limit_routes import LimitState
from consumers.api.overview import (
    Kpis,
    LimitNow,
    Overview,
    PoolNow,
    Problem,
    ProcessNow,
    ShardNow,
    Stage,
    UnknownNow,
)
from consumers.api.overview_routes import ring_of
from consumers.console.routes import POLICY, console_files
from consumers.shards_report import MoveView
from consumers.topology import QueueDepth
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.reader import Replication

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
SET_AT = datetime(2026, 11, 21, 18, 30, tzinfo=UTC)


def overview_at(at: datetime, wave: float = 1.0, **changes: Any) -> Overview:
    """A busy installation of three shards, one of which is coming. `wave`: how busy, 1 being usual."""
    per_s = 420 * wave
    stages = (
        Stage(name="broker", per_s=per_s, waiting=round(1300 * wave)),
        Stage(name="intake", per_s=per_s, waiting=round(2600 * wave), fill=min(1.0, 0.13 * wave)),
        Stage(name="shards", per_s=per_s, waiting=round(410 * wave)),
        Stage(name="outbox", per_s=per_s * 0.9, waiting=round(900 * wave)),
        Stage(name="sms", per_s=per_s / 2, waiting=round(96 * wave), fill=min(1.0, 0.85 * wave)),
        Stage(name="email", per_s=per_s / 2, waiting=round(33 * wave), fill=min(1.0, 0.3 * wave)),
    )
    replica = Replication("replica", "streaming", "sync", 18_432, 0.004)
    far = Replication("replica", "streaming", "sync", 84_000_000, 14.2)
    shards = (
        ShardNow(
            name="shard0",
            weight=1,
            slots=1500,
            is_reachable=True,
            epoch=7,
            replicas=(replica,),
            events_per_min=round(9100 * wave),
            due=410,
            unknown=2,
            held=1,
        ),
        ShardNow(
            name="shard1",
            weight=1,
            slots=1500,
            is_reachable=True,
            epoch=7,
            is_settled=False,
            replicas=(far,),
            events_per_min=round(9000 * wave),
            due=480,
            held=2,
        ),
        ShardNow(name="shard2", weight=1, slots=1096, is_reachable=False),
    )
    pools = (
        PoolNow(
            channel="sms",
            provider="twilio",
            processes=2,
            in_flight=48,
            waiting=96,
            limit=60,
            floor=4,
            ceiling=128,
            rate_per_s=100,
            circuit="closed",
            typical_s=0.085,
        ),
        PoolNow(
            channel="email",
            provider="smtp",
            processes=2,
            in_flight=12,
            waiting=21,
            limit=40,
            floor=2,
            ceiling=64,
            rate_per_s=0,
            circuit="half_open",
            typical_s=0.021,
        ),
    )
    process = ProcessNow(
        process_id="node-a:4242:1",
        roles=("orders", "notifications"),
        started_at=SET_AT,
        age_s=1.1,
        epoch=7,
        held=2600,
        held_max=20_000,
        prefetch=4000,
        loop_lag_s=0.006,
        cpu_cores=0.82,
        rss_bytes=212_000_000,
        workers=2,
        bottleneck="provider",
        decision="the provider is the limit: no more workers",
    )
    silent = msgspec.structs.replace(process, process_id="node-b:77:1", age_s=14.0, workers=0, decision="")
    known = {
        "kpis": Kpis(
            orders=round(12_600 * wave),
            invoices=round(10_080 * wave),
            sms=round(12_100 * wave),
            email=round(12_300 * wave),
        ),
        "moves": (
            MoveView(
                move_id="m-1",
                source="shard0",
                target="shard2",
                slots=240,
                moved=61,
                step="copy",
                state="running",
                started_at="2026-11-21T18:40:00+00:00",
            ),
        ),
        "limits": (
            LimitNow(key="twilio.rate_per_s", value=100, set_by="api ada", set_at=SET_AT, left_s=1800.0),
        ),
        "unknown": UnknownNow(sms=2, email=0, oldest_s=340.0),
        "problems": (
            Problem(about="shard2", what="no answer in 2 s"),
            Problem(about="broker", what="no answer in 2 s"),
        ),
        "held": 3,
    }
    return Overview(
        at=at,
        epoch=7,
        stages=stages,
        queues=(
            QueueDepth("order-processed", round(800 * wave), 2),
            QueueDepth("invoice-generated", round(500 * wave), 2),
        ),
        shards=shards,
        pools=pools,
        processes=(process, silent),
        process_count=2,
        unclaimed_s=0.4,
        **{**known, **changes},
    )


class ScriptedApi:
    """What it says next, and what it was asked. Times go on as `speed` says, for a day in seconds."""

    def __init__(self) -> None:
        self.role, self.subject = "operate", "ada"
        self.token = "good"
        self.expires_in_s = 3600.0
        self.pause_s = 0.1
        self.changes: dict[str, Any] = {}
        self.stream_status = 200
        self.overview_status = 200
        self.end_reason = ""
        self.break_off = asyncio.Event()
        self.asked: Counter[str] = Counter()
        self.sent_at: list[float] = []
        self.urls: list[str] = []
        self.streams, self.sent = 0, 0
        self.at = datetime.now(UTC)
        self.step = timedelta(seconds=1)
        self.url = ""
        self.ring_shards = 3

    def overview(self) -> bytes:
        self.at += self.step
        wave = 1 + 0.4 * math.sin(self.at.timestamp() / 40)
        return msgspec.json.encode(overview_at(self.at, wave, **self.changes))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v1/")
        self.asked[path] += 1
        self.sent_at.append(time.monotonic())
        self.urls.append(str(request.rel_url))
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _problem(401, "token: expired")
        if path == "overview/stream":
            return await self._stream(request)
        answer = self._answer(path)
        return (
            web.Response(body=answer, content_type="application/json")
            if isinstance(answer, bytes)
            else answer
        )

    def _answer(self, path: str) -> Any:
        match path:
            case "me":
                expires_at = int(time.time() + self.expires_in_s)
                return msgspec.json.encode(
                    {"subject": self.subject, "access": self.role, "expires_at": expires_at}
                )
            case "overview":
                return (
                    self.overview()
                    if self.overview_status == 200
                    else _problem(self.overview_status, "not now")
                )
            case "ring":
                owners = tuple(f"shard{(slot * 7 // 50) % self.ring_shards}" for slot in range(4096))
                return msgspec.json.encode(ring_of(ShardMap(epoch=7, owners=owners)))
            case "limits":
                state = LimitState(
                    key="twilio.rate_per_s",
                    unit="per second",
                    floor=1,
                    ceiling=200,
                    normal=0,
                    value=100,
                    set_by="api ada",
                    set_at=SET_AT,
                    left_s=1800.0,
                )
                return msgspec.json.encode({"limits": [state]})
        return _problem(404, "no such thing")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self.stream_status != 200:
            return _problem(self.stream_status, "too many streams of one subject")
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        self.streams += 1
        try:
            while not self.break_off.is_set():
                self.sent += 1
                await answer.write(b"event: overview\ndata: " + self.overview() + b"\n\n")
                if self.end_reason:
                    told = msgspec.json.encode({"reason": self.end_reason})
                    await answer.write(b"event: end\ndata: " + told + b"\n\n")
                    return answer
                await asyncio.sleep(self.pause_s)
        except ConnectionError:  # the page has gone
            return answer
        finally:
            self.streams -= 1
        assert request.transport is not None
        request.transport.abort()
        return answer


def _problem(status: int, detail: str) -> web.Response:
    body = msgspec.json.encode({"type": "about:blank", "title": "No", "status": status, "detail": detail})
    return web.Response(status=status, body=body, content_type="application/problem+json")


@asynccontextmanager
async def scripted_api() -> AsyncIterator[ScriptedApi]:
    """Run one on a free port."""
    api, files = ScriptedApi(), console_files()

    async def page(request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        if name not in files:
            return _problem(404, "no such file")
        headers = {"content-security-policy": POLICY}
        return web.Response(
            body=files[name], content_type=_TYPES[name.rpartition(".")[2]], charset="utf-8", headers=headers
        )

    application = web.Application()
    application.router.add_get("/console", page)
    application.router.add_get("/console/{name}", page)
    application.router.add_route("*", "/v1/{path:.*}", api.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}/console"
    try:
        yield api
    finally:
        api.break_off.set()
        await runner.cleanup()
