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
from console_answers import answer_to
from console_overview import overview_at

from consumers.console.routes import POLICY, console_files

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


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
        return answer_to(path) or _problem(404, "no such thing")

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
