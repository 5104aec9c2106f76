"""A real OTLP receiver over HTTP: decodes what it is sent with OpenTelemetry's own protobuf types."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATH = "/v1/traces"


class OtlpReceiver:
    """Takes spans, or behaves as `faults` say: HTTP statuses of the next answers, or "hang"."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.requests = 0
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.resource: dict[str, Any] = {}
        self.faults: list[int | str] = []
        self.retry_after = "0"
        self.rejected = 0
        self.endpoint = ""
        self._news = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests += 1
        self.headers.append(dict(request.headers))
        fault = self.faults.pop(0) if self.faults else None
        if fault == "hang":
            await asyncio.sleep(60)
        if isinstance(fault, int):
            self._news.set()
            return web.Response(status=fault, headers={"Retry-After": self.retry_after})
        self._take(body)
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans = self.rejected
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")

    def _take(self, body: bytes) -> None:
        self.raw.append(body)
        sent = ExportTraceServiceRequest.FromString(body)
        for resource in sent.resource_spans:
            self.resource = values(resource.resource)
            for scope in resource.scope_spans:
                self.spans += scope.spans
        self._news.set()

    async def until(self, enough: Callable[["OtlpReceiver"], bool], timeout_s: float = 20.0) -> None:
        """Return when a condition holds; it is looked at with each request."""
        async with asyncio.timeout(timeout_s):
            while not enough(self):
                self._news.clear()
                await self._news.wait()

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def values(holder: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in holder.attributes}


@asynccontextmanager
async def otlp_receiver() -> AsyncIterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    application = web.Application()
    application.router.add_post(PATH, receiver.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.endpoint = f"http://127.0.0.1:{port}{PATH}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
