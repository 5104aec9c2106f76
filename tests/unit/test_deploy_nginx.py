"""nginx's configurations, run by a real nginx on loopback where Debian's package is installed."""

import asyncio
import io
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from deployment import DEPLOY

NGINX = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else "")
CERTIFICATES = DEPLOY / "docker" / "make-certificates.sh"
HOOKS, TWILIO = "hooks.postorder.test", "twilio.postorder.test"

pytestmark = pytest.mark.skipif(not NGINX, reason="needs nginx: apt-get install nginx-light")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tls").mkdir()
    subprocess.run(
        ["sh", CERTIFICATES, tmp_path / "tls", tmp_path / "tls", HOOKS, TWILIO], check=True, timeout=30
    )
    for name in ("limits.conf", "proxy.conf", "postorder.conf"):
        place(DEPLOY / "nginx" / name, tmp_path)
    place(DEPLOY / "docker" / "edge.conf", tmp_path)
    return tmp_path


def place(source: Path, folder: Path, **changes: str) -> Path:
    """Copy a configuration to where the test's nginx can use it."""
    text = source.read_text()
    for old, new in {
        "/etc/nginx/postorder/": f"{folder}/",
        "/etc/postorder/tls": f"{folder}/tls",
        "/var/log/nginx": str(folder),
        "pid /tmp/nginx.pid": f"pid {folder}/nginx.pid",
        "_path /tmp/": f"_path {folder}/",
        "error_log /dev/stderr": f"error_log {folder}/error.log",
        "access_log /dev/stdout": f"access_log {folder}/access.log",
        **changes,
    }.items():
        text = text.replace(old, new)
    path = folder / source.name
    path.write_text(text)
    return path


def test_the_configuration_for_a_host_is_one_that_nginx_takes(folder: Path) -> None:
    main = folder / "main.conf"
    main.write_text(
        f"pid {folder}/nginx.pid; error_log stderr; events {{}} http {{ include {folder}/postorder.conf; }}"
    )
    found = subprocess.run(
        [NGINX, "-t", "-c", main, "-p", folder], capture_output=True, text=True, timeout=20, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "[warn]" not in found.stderr.replace("could not open error log", "")


class Edge:
    """The composition's nginx in front of one listener."""

    def __init__(self, port: int, folder: Path, seen: list[web.Request]) -> None:
        self.port = port
        self.folder = folder
        self.seen = seen
        self._context = ssl.create_default_context(cafile=folder / "tls" / "ca.crt")

    async def ask(self, method: str, path: str, host: str = HOOKS, data: bytes = b"", **headers: str) -> int:
        """Return the status; headers are given with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with (
            aiohttp.ClientSession(headers={**named, "Host": host}) as session,
            session.request(
                method,
                f"https://127.0.0.1:{self.port}{path}",
                data=io.BytesIO(data) if data else None,
                ssl=self._context,
                server_hostname=HOOKS,
            ) as answer,
        ):
            return answer.status


@asynccontextmanager
async def listening(seen: list[web.Request]) -> AsyncIterator[int]:
    async def take(request: web.Request) -> web.Response:
        seen.append(request)
        await request.read()
        return web.Response(status=204)

    application = web.Application(client_max_size=4 * 2**20)
    application.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture
async def edge(folder: Path) -> AsyncIterator[Edge]:
    port, seen = free_port(), []
    async with listening(seen) as upstream:
        configuration = place(
            DEPLOY / "docker" / "edge.conf",
            folder,
            **{
                "listen 8443": f"listen 127.0.0.1:{port}",
                "http://public:8080": f"http://127.0.0.1:{upstream}",
                "http://twilio-emulator:2580": f"http://127.0.0.1:{upstream}",
            },
        )
        # No master: a test's nginx is one process, and has no other user to become.
        process = await asyncio.create_subprocess_exec(
            *(NGINX, "-c", str(configuration), "-p", str(folder), "-g", "daemon off; master_process off;")
        )
        try:
            await answers(port, process)
            yield Edge(port, folder, seen)
        finally:
            process.terminate()
            await process.wait()


async def answers(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(10):
        while True:
            assert process.returncode is None
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)  # nginx has no signal that says it listens
                continue
            writer.close()
            return


async def test_what_is_reached_from_outside_and_what_is_not(edge: Edge) -> None:
    assert await edge.ask("POST", "/twilio/status/abc", data=b"MessageSid=SM1") == 204
    assert await edge.ask("GET", "/unsubscribe/abc") == 204
    assert await edge.ask("POST", "/mail/bounces", data=b"x" * 1_000_000) == 204
    assert await edge.ask("POST", "/webhooks/shopify", data=b"x" * 1_000_000) == 204
    assert len(edge.seen) == 4
    refused = {
        ("POST", "/twilio/status/abc", "elsewhere.test"): 421,
        ("GET", "/metrics", HOOKS): 404,
        ("GET", "/v1/orders/1", HOOKS): 404,
        ("GET", "/_control/messages", TWILIO): 404,
        ("DELETE", "/unsubscribe/abc", HOOKS): 403,
        ("TRACE", "/unsubscribe/abc", HOOKS): 405,
        ("GET", "/mail/bounces", HOOKS): 403,
        ("GET", "/webhooks/shopify", HOOKS): 403,
    }
    for (method, path, host), status in refused.items():
        assert await edge.ask(method, path, host) == status, (method, path)
    assert await edge.ask("POST", "/twilio/inbound", data=b"x" * 70_000) == 413
    assert await edge.ask("POST", "/mail/bounces", data=b"x" * 2_200_000) == 413
    assert await edge.ask("GET", "/unsubscribe/" + "a" * 20_000) == 414
    assert len(edge.seen) == 4


async def test_nobody_is_believed_about_where_a_request_comes_from(edge: Edge) -> None:
    claims = {"X_Forwarded_For": "1.2.3.4", "Forwarded": "for=1.2.3.4", "X_Forwarded_Host": "evil.test"}
    assert await edge.ask("GET", "/unsubscribe/abc", **claims) == 204
    passed_on = edge.seen[0].headers
    assert not {name.replace("_", "-") for name in claims} & set(passed_on)
    assert passed_on["Host"] == HOOKS
    assert len(passed_on["X-Request-ID"]) == 32


async def test_links_are_not_logged(edge: Edge) -> None:
    """A link of unsubscribing is a capability: who reads logs must not have it."""
    assert await edge.ask("GET", "/unsubscribe/SECRET?token=SECRET", Referer="https://SECRET") == 204
    log = (edge.folder / "access.log").read_text()
    assert '"path":"/unsubscribe"' in log
    assert "SECRET" not in log


async def test_links_are_not_logged_when_something_goes_wrong_either(edge: Edge) -> None:
    """nginx's log of errors quotes the whole request: what concerns one is in the log of requests alone."""
    assert await edge.ask("POST", "/twilio/status/SECRET?token=SECRET", data=b"x" * 70_000) == 413
    assert "SECRET" not in (edge.folder / "error.log").read_text()
    assert '"status":413' in (edge.folder / "access.log").read_text()


@pytest.mark.parametrize("name", ["postorder.conf", "postorder-api.conf"])
def test_each_server_keeps_requests_out_of_the_log_of_errors(name: str) -> None:
    """In the server itself: Debian's nginx.conf names a log of its own, which counts in every other place."""
    servers = (DEPLOY / "nginx" / name).read_text().split("\nserver {")[1:]
    assert servers
    assert all("\n    error_log /var/log/nginx/postorder-error.log emerg;\n" in one for one in servers)


@pytest.mark.parametrize(
    ("ciphers", "taken"), [("ECDHE-ECDSA-AES128-GCM-SHA256", True), ("ECDHE-ECDSA-AES128-SHA", False)]
)
async def test_only_authenticated_encryption_with_forward_secrecy_is_taken(
    edge: Edge, ciphers: str, *, taken: bool
) -> None:
    """TLS 1.0 and 1.1 have no such ciphers; Debian's OpenSSL refuses them besides."""
    context = ssl.create_default_context(cafile=edge.folder / "tls" / "ca.crt")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    opening = asyncio.open_connection("127.0.0.1", edge.port, ssl=context, server_hostname=HOOKS)
    if not taken:
        with pytest.raises(ssl.SSLError):
            await opening
        return
    _, writer = await opening
    assert writer.get_extra_info("cipher")[0] == ciphers
    writer.close()
    await writer.wait_closed()
