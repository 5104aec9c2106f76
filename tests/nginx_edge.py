"""A real nginx, of Debian's package, with the configurations of deploy/, on loopback before a listener."""

import asyncio
import io
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import aiohttp
import pytest
from aiohttp import web
from deployment import DEPLOY, run_program

NGINX = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else "")
HOOKS, OPS, TWILIO = "hooks.postorder.test", "ops.postorder.test", "twilio.postorder.test"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

needs_nginx = pytest.mark.skipif(not NGINX, reason="needs nginx: apt-get install nginx-light")


def make_certificates(folder: Path) -> Path:
    """Return a folder with the authority's and the server's files, as the composition makes them."""
    names = [HOOKS, OPS, TWILIO]
    command = ["sh", DEPLOY / "docker/make-certificates.sh", folder, folder, *names]
    subprocess.run(command, check=True, timeout=30)
    return folder


def place(source: Path, folder: Path, tls: Path, **changes: str) -> Path:
    """Copy a configuration to where the test's nginx can use it."""
    text = source.read_text()
    for old, new in {
        "/etc/nginx/postorder/": f"{folder}/",
        "/etc/postorder/tls": str(tls),
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


def place_all(folder: Path, tls: Path) -> None:
    """Copy what is for nginx on a host, and what the composition takes of it."""
    for source in (DEPLOY / "nginx").glob("*.conf"):
        place(source, folder, tls)


def checked(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """What nginx says of configurations that are included inside `http`, as Debian's nginx.conf does."""
    main = folder / "main.conf"
    included = "".join(f"include {folder / name}; " for name in names)
    main.write_text(f"pid {folder}/nginx.pid; error_log stderr; events {{}} http {{ {included}}}")
    return run_program(NGINX, "-t", "-c", main, "-p", folder, timeout_s=20)


class Edge:
    """The composition's nginx in front of one listener, which takes the place of every other."""

    def __init__(self, port: int, folder: Path, tls: Path, seen: list[web.Request]) -> None:
        self.port = port
        self.folder = folder
        self.tls = tls
        self.seen = seen
        self._context = ssl.create_default_context(cafile=tls / "ca.crt")

    @asynccontextmanager
    async def asking(
        self, method: str, path: str, host: str = HOOKS, data: bytes = b"", **headers: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask; headers are given with underscores."""
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
            yield answer

    async def ask(self, method: str, path: str, host: str = HOOKS, data: bytes = b"", **headers: str) -> int:
        """Return the status."""
        async with self.asking(method, path, host, data, **headers) as answer:
            return answer.status


@asynccontextmanager
async def running_edge(
    folder: Path,
    tls: Path,
    answer: Answer | None = None,
    *,
    instances: int = 1,
    on_host: bool = False,
    changes: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Edge]:
    """Run it. `answer`: what each listener does besides noting the request.

    `on_host`: with the configuration of the API for a host in place of the composition's. `changes`: to the
    texts of the configuration.
    """
    place_all(folder, tls)
    port, seen = _free_port(), []
    async with AsyncExitStack() as listening:
        ports = [await listening.enter_async_context(_listening(seen, answer)) for _ in range(instances)]
        servers = "".join(f"server 127.0.0.1:{one} max_fails=0; " for one in ports)
        configuration = (_on_host if on_host else _in_composition)(folder, tls, port, servers, changes)
        # No master: a test's nginx is one process, and has no other user to become.
        process = await asyncio.create_subprocess_exec(
            *(NGINX, "-c", str(configuration), "-p", str(folder), "-g", "daemon off; master_process off;")
        )
        try:
            await _answers(port, process)
            yield Edge(port, folder, tls, seen)
        finally:
            process.terminate()
            await process.wait()


def _in_composition(folder: Path, tls: Path, port: int, servers: str, changes: Mapping[str, str]) -> Path:
    return place(
        DEPLOY / "docker" / "edge.conf",
        folder,
        tls,
        **{
            **changes,
            "http {": f"http {{ upstream listeners {{ {servers}}}",
            "listen 8443": f"listen 127.0.0.1:{port}",
            "http://public:8080": "http://listeners",
            "http://api:8090": "http://listeners",
            "http://twilio-emulator:2580": "http://listeners",
        },
    )


def _on_host(folder: Path, tls: Path, port: int, servers: str, changes: Mapping[str, str]) -> Path:
    every = {
        **changes,
        "listen 8443": f"listen 127.0.0.1:{port}",
        "listen [::]:8443 ssl http2;": "",
        "server 127.0.0.1:8090 max_fails=3 fail_timeout=5s;": servers,
    }
    place(DEPLOY / "nginx" / "postorder-api.conf", folder, tls, **every)
    main = folder / "main.conf"
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main.write_text(
        f"pid {folder}/nginx.pid; error_log stderr; events {{}} "
        f"http {{ {temporary}include {folder}/limits.conf; include {folder}/postorder-api.conf; }}"
    )
    return main


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@asynccontextmanager
async def _listening(seen: list[web.Request], answer: Answer | None) -> AsyncIterator[int]:
    async def take(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        await request.read()
        return await answer(request) if answer else web.Response(status=204)

    application = web.Application(client_max_size=4 * 2**20)
    application.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _answers(port: int, process: asyncio.subprocess.Process) -> None:
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
