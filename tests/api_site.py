"""The API on a free port, on shards that are there or not; and requests to it."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from public_site import Reply, parse_reply
from raw_http import answered

from consumers.api.callers import Access
from consumers.api.services import api_services
from consumers.api.tokens import make_token
from consumers.web.server import Listener
from pipeline.clock import SystemClock
from pipeline.lifecycle import Service, Tasks
from pipeline.observability.api_metrics import ApiMetrics
from pipeline.observability.registry import MetricRegistry
from pipeline.settings import ApiSettings, Settings, ShardSettings
from pipeline.storage.cluster import Cluster

SECRET, SECRET_BEFORE = "s" * 40, "p" * 40


class Api:
    """A running API."""

    def __init__(self, settings: Settings, listener: Listener, services: list[Service]) -> None:
        self.settings = settings
        self.port = listener.port
        self.services = services

    def token(self, access: Access = Access.READ, *, subject: str = "tester", lifetime_s: int = 600) -> str:
        return make_token(
            self.settings.api, subject=subject, access=access, lifetime_s=lifetime_s, clock=SystemClock()
        )

    async def raw(self, *chunks: bytes, timeout_s: float = 10.0) -> bytes:
        """Send bytes, and return all that comes until the connection is closed."""
        return await answered(self.port, *chunks, timeout_s=timeout_s)

    async def request(
        self,
        method: str,
        target: str,
        *,
        access: Access | None = Access.READ,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        data: Any = None,
    ) -> Reply:
        """Send one request and return its answer. `data` goes as JSON."""
        given = {"Host": "api.shop.example", "Connection": "close", **(headers or {})}
        if access is not None:
            given.setdefault("Authorization", f"Bearer {self.token(access)}")
        if data is not None:
            body = json.dumps(data).encode()
            given.setdefault("Content-Type", "application/json")
        if body is not None:
            given.setdefault("Content-Length", str(len(body)))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        return parse_reply(await self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")))

    async def get(self, target: str, access: Access = Access.READ) -> Any:
        """Return what a good request is answered."""
        reply = await self.request("GET", target, access=access)
        assert reply.status == 200, reply
        return json.loads(reply.body)

    async def send(self, method: str, target: str, data: Any, access: Access = Access.OPERATE) -> Any:
        """Return what a good request with a body is answered."""
        reply = await self.request(method, target, access=access, data=data)
        assert reply.status == 200, reply
        return json.loads(reply.body)


def problem_of(reply: Reply) -> dict[str, Any]:
    """Return an error answer's fields, after checking its shape."""
    assert reply.headers["content-type"] == "application/problem+json", reply
    found = json.loads(reply.body)
    assert set(found) <= {"type", "title", "status", "detail"}, found
    assert found["status"] == reply.status
    return found


def api_settings(**changes: Any) -> ApiSettings:
    """Settings that let tests ask as often as they like."""
    generous = ApiSettings(
        secret=SECRET,
        secret_previous=SECRET_BEFORE,
        requests_per_s=10_000,
        requests_burst=10_000,
        address_requests_per_s=10_000,
        address_requests_burst=10_000,
    )
    return msgspec.structs.replace(generous, **changes)


@asynccontextmanager
async def running_api(
    settings: Settings | None = None,
    cluster: Cluster | None = None,
    *,
    more_routes: Sequence[Any] = (),
    **changes: Any,
) -> AsyncIterator[Api]:
    """Run an API; afterwards check that nothing has crashed. Without `settings`: on no shards that answer."""
    crashes: list[BaseException] = []
    if settings is None:
        nowhere = ShardSettings(name="shard0", primary="postgresql://u@127.0.0.1:1/d")
        settings = Settings(shards=(nowhere,))
    settings = msgspec.structs.replace(settings, api=api_settings(**changes))
    services = api_services(
        settings,
        cluster or Cluster(settings),
        metrics=ApiMetrics(MetricRegistry()),
        clock=SystemClock(),
        new_tasks=lambda: Tasks(lambda _name, error: crashes.append(error)),
        more_routes=more_routes,
    )
    for service in services:
        await service.start()
    listener = next(service for service in services if isinstance(service, Listener))
    try:
        yield Api(settings, listener, services)
    finally:
        for service in reversed(services):
            await service.stop()
    assert crashes == []
