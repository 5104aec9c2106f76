"""nginx in front of the API and the console: the same way in the composition and on a host."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from deployment import DEPLOY
from nginx_edge import OPS, Answer, Edge, checked, make_certificates, needs_nginx, place_all, running_edge

from consumers.api.overview_routes import STREAM_PATH
from pipeline.settings import ApiSettings

pytestmark = needs_nginx


class Streams:
    """A listener that says one thing at once and the next when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path != STREAM_PATH:
            return web.Response(status=204)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await stream.write(b"data: 1\n\n")
        await self.go_on.wait()
        await stream.write(b"data: 2\n\n")
        return stream


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
async def edge(tmp_path: Path, tls: Path, streams: Streams) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path, tls, streams.answer) as found:
        yield found


def test_the_configuration_of_the_api_is_one_that_nginx_takes(tmp_path: Path, tls: Path) -> None:
    place_all(tmp_path, tls)
    found = checked(tmp_path, "postorder.conf", "postorder-api.conf")
    assert found.returncode == 0, found.stderr
    assert "[warn]" not in found.stderr.replace("could not open error log", "")


async def test_everything_is_passed_on_as_it_is(edge: Edge) -> None:
    assert await edge.ask("GET", "/", OPS) == 204
    assert (
        await edge.ask("GET", "/v1/orders/gid:%2F%2Fshop%2F1?token=x", OPS, Authorization="Bearer x") == 204
    )
    assert await edge.ask("POST", "/v1/quarantine/redrive", OPS, data=b"x" * 16_000) == 204
    root, order, redrive = edge.seen
    assert (root.path, redrive.method) == ("/", "POST")
    assert order.raw_path == "/v1/orders/gid:%2F%2Fshop%2F1?token=x"
    assert order.headers["Authorization"] == "Bearer x"
    assert await edge.ask("POST", "/v1/quarantine/redrive", OPS, data=b"x" * 17_000) == 413
    assert len(edge.seen) == 3


async def test_the_caller_is_who_speaks_to_nginx_whatever_is_claimed(edge: Edge) -> None:
    claims = {"X_Forwarded_For": "1.2.3.4", "Forwarded": "for=1.2.3.4", "X_Forwarded_Host": "evil.test"}
    assert await edge.ask("GET", "/v1/overview", OPS, **claims) == 204
    passed_on = edge.seen[0].headers
    assert passed_on["X-Forwarded-For"] == "127.0.0.1"
    assert passed_on["Host"] == OPS
    assert not {"Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto"} & set(passed_on)


async def busy(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=503)


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=204)


@pytest.mark.parametrize("on_host", [False, True], ids=["composition", "host"])
@pytest.mark.parametrize(("answer", "status"), [(busy, 503), (cut, 502)], ids=["busy", "cut"])
async def test_what_changes_something_is_sent_once_and_a_look_to_the_next_instance_too(
    tmp_path: Path, tls: Path, answer: Answer, status: int, *, on_host: bool
) -> None:
    async with running_edge(tmp_path, tls, answer, instances=2, on_host=on_host) as edge:
        for method, times in (("GET", 2), ("PUT", 1), ("DELETE", 1), ("POST", 1)):
            edge.seen.clear()
            assert await edge.ask(method, "/v1/limits/gid:%2F%2Fx?a=b", OPS, b"{}" * times) == status
            assert [(one.method, one.raw_path) for one in edge.seen] == [
                (method, "/v1/limits/gid:%2F%2Fx?a=b")
            ] * times


async def test_what_is_sent_once_comes_whole_and_only_from_the_networks_that_may_come_in(
    tmp_path: Path, tls: Path
) -> None:
    bodies: list[bytes] = []

    async def keep(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.read())
        return web.Response(status=204)

    async with running_edge(tmp_path, tls, keep, on_host=True) as edge:
        assert await edge.ask("PUT", "/v1/limits/x", OPS, b"x" * 16_000, Authorization="Bearer x") == 204
        assert await edge.ask("PUT", "/v1/limits/x", OPS, b"x" * 17_000) == 413
        assert edge.seen[0].headers["X-Forwarded-For"] == "127.0.0.1"
        assert edge.seen[0].headers["Authorization"] == "Bearer x"
    assert bodies == [b"x" * 16_000]
    nobody = {"allow 127.0.0.0/8;": ""}
    async with running_edge(tmp_path, tls, keep, on_host=True, changes=nobody) as edge:
        assert [await edge.ask(method, "/v1/limits/x", OPS) for method in ("GET", "PUT")] == [403, 403]
    assert len(bodies) == 1


async def test_a_stream_comes_as_it_goes(edge: Edge, streams: Streams) -> None:
    async with asyncio.timeout(10), edge.asking("GET", STREAM_PATH, OPS) as answer:
        assert await answer.content.readuntil(b"\n\n") == b"data: 1\n\n"
        streams.go_on.set()
        assert await answer.content.read() == b"data: 2\n\n"
    assert await edge.ask("POST", STREAM_PATH, OPS) == 403


def test_what_nginx_allows_is_what_the_api_allows() -> None:
    passed_on = (DEPLOY / "nginx/proxy-api.conf").read_text()
    settings = ApiSettings()
    assert f"client_max_body_size {settings.body_bytes_max // 1024}k;" in passed_on
    limits = (DEPLOY / "nginx/limits.conf").read_text()
    assert f"zone=api_per_address:10m rate={settings.address_requests_per_s}r/s;" in limits
    for path in (DEPLOY / "nginx/postorder-api.conf", DEPLOY / "docker/edge.conf"):
        text = path.read_text()
        assert f"zone=api_per_address burst={settings.address_requests_burst} nodelay;" in text
        assert f"location = {STREAM_PATH} {{" in text
        assert "include /etc/nginx/postorder/proxy-api.conf;" in text
